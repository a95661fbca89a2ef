"""The names that users' notebooks import: they stay, and cost nothing."""

import subprocess
import sys

import pytest

import unetpipe

# Written by hand: a name that was once handed out is never taken away.
PROMISED = {
    *("ContingencyTable", "compute_border_term", "label_components", "load_trained"),
    *("match_instances", "open_image", "open_volume", "rand_scores", "read_record"),
    *("separate_touching", "threshold_mask"),
}


def test_every_name_that_was_promised_is_handed_out() -> None:
    assert set(unetpipe.NOTEBOOK) >= PROMISED
    assert set(dir(unetpipe)) >= PROMISED


@pytest.mark.parametrize("name", sorted(unetpipe.NOTEBOOK))
def test_a_public_name_is_the_one_that_its_module_defines(name: str) -> None:
    found = getattr(unetpipe, name)
    assert found.__name__ == name
    assert found.__module__ == unetpipe.NOTEBOOK[name]


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = unetpipe.nothing


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, unetpipe; "
        "print(sorted({'numpy', 'torch', 'zarr', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]"
