"""Fingerprints: only what computes counts."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import unetpipe
from unetpipe.code_version import code_versions

PACKAGE = Path(unetpipe.__file__).parent
Edit = Callable[[str, Callable[[str], str]], None]

PROBE = """
import sys
from unetpipe.code_version import code_versions
for name, version in code_versions(sys.argv[1]).items():
    print(name, version)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the package that a test may edit."""
    copy = tmp_path / "unetpipe"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def versions(package: Path, module: str) -> dict[str, str]:
    """Fingerprint a module of a copied package, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(line.split() for line in run.stdout.splitlines())


def edited(package: Path, name: str, old: str, new: str) -> set[str]:
    """Edit a module; return the modules whose fingerprint changed."""
    before = versions(package, "unetpipe.tiling")
    path = package / name
    text = path.read_text()
    assert text.count(old) >= 1, f"{name} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))
    after = versions(package, "unetpipe.tiling")
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def test_the_fingerprint_names_all_modules_that_compute() -> None:
    assert set(code_versions("unetpipe.tiling")) == {
        "unetpipe.geometry",
        "unetpipe.tiling",
        "unetpipe.unet_spec",
    }


def test_modules_that_only_talk_do_not_count() -> None:
    names = code_versions("unetpipe.inference")
    assert "unetpipe.model" in names
    assert not {"unetpipe.errors", "unetpipe.logs", "unetpipe.config"} & set(names)


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"unetpipe\.nothing is no module"):
        code_versions("unetpipe.nothing")


FUNCTION = "def round_up(length: int, multiple: int) -> int:\n"
DOCSTRING = '    """Return the smallest multiple'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(FUNCTION, "# why\n" + FUNCTION, id="a comment"),
        pytest.param(DOCSTRING, '    """Give the smallest multiple', id="a docstring"),
        pytest.param(
            "AXES =",
            "import logging\n\n_log = logging.getLogger(__name__)\n\nAXES =",
            id="a logger",
        ),
        pytest.param(
            "    return -(-length",
            '    _log.info("rounding %s", length)\n    return -(-length',
            id="a first log line",
        ),
        pytest.param(
            "    return -(-length",
            '    if length > 9:\n        _log.info("large")\n    return -(-length',
            id="a log line under a condition",
        ),
        pytest.param(
            "    return -(-length",
            '    warnings.warn("odd", stacklevel=2)\n    return -(-length',
            id="a warning",
        ),
    ],
)
def test_talk_leaves_the_fingerprint(package: Path, old: str, new: str) -> None:
    assert edited(package, "geometry.py", old, new) == set()


def test_the_text_of_an_error_leaves_the_fingerprint(package: Path) -> None:
    old = 'raise GeometryError(f"ndim is {self.ndim}; use 2 or 3")'
    new = 'raise GeometryError("ndim must be 2 or 3")'
    assert edited(package, "unet_spec.py", old, new) == set()


def test_a_real_edit_two_imports_away_changes_exactly_that_module(
    package: Path,
) -> None:
    changed = edited(package, "geometry.py", "-(-length", "0 - (-length")
    assert changed == {"unetpipe.geometry"}


def test_a_condition_that_acts_counts(package: Path) -> None:
    old = "    return -(-length"
    new = "    if print(length):\n        pass\n    return -(-length"
    assert edited(package, "geometry.py", old, new) == {"unetpipe.geometry"}


def test_the_configuration_module_leaves_the_fingerprint_of_a_stage(
    package: Path,
) -> None:
    stage = package / "stages" / "probe.py"
    stage.write_text(
        "from unetpipe.config import Config\nfrom unetpipe import tiling\n"
    )
    before = versions(package, "unetpipe.stages.probe")
    for name in ("__init__", "training"):
        path = package / "config" / f"{name}.py"
        path.write_text(path.read_text() + "\nNEW_DEFAULT = 3\n")
    assert versions(package, "unetpipe.stages.probe") == before
    assert "unetpipe.tiling" in before


def test_what_was_found_is_kept_and_a_damaged_memory_is_made_anew(
    package: Path,
) -> None:
    first = versions(package, "unetpipe.tiling")
    (kept,) = (package / "__pycache__").glob("code_version.*.json")
    kept.write_text(kept.read_text().replace(first["unetpipe.tiling"], "01234567"))
    assert versions(package, "unetpipe.tiling")["unetpipe.tiling"] == "01234567"
    for damaged in ("", "[1]", "null"):
        kept.write_text(damaged)
        assert versions(package, "unetpipe.tiling") == first
    shutil.rmtree(package / "__pycache__")
    (package / "__pycache__").write_text("a disk that refuses")
    assert versions(package, "unetpipe.tiling") == first


EDITS_ITSELF = """
from pathlib import Path
from unetpipe import code_version
path = Path(code_version.__file__)
path.write_text(path.read_text().replace("hexdigest()[:8], *", "hexdigest()[:9], *"))
code_version.code_versions("unetpipe.tiling")
"""


def test_what_code_finds_that_is_edited_while_it_runs_is_not_the_new_code_s(
    package: Path,
) -> None:
    subprocess.run(
        [sys.executable, "-c", EDITS_ITSELF],
        env={"PYTHONPATH": str(package.parent)},
        check=True,
    )
    assert {len(v) for v in versions(package, "unetpipe.tiling").values()} == {9}
