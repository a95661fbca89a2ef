"""Every path of a run has one place, and names what cannot be called otherwise."""

import re

from unetpipe.config.layout import TAKEN_BY_NETWORK, TAKEN_IN_RUN, Layout


def test_every_path_of_a_run_lies_below_its_folders() -> None:
    paths = vars(Layout("a"))
    assert len(set(paths.values())) == len(paths)
    roots = ("results/a", "resources/a", "logs/a", "benchmarks/a")
    assert all(path.startswith(roots) for path in paths.values())


def test_a_module_moves_every_path() -> None:
    plain = vars(Layout("a"))
    assert vars(Layout("a", "below/{}".format)) == {
        name: f"below/{path}" for name, path in plain.items()
    }


def test_logs_and_benchmarks_are_named_like_the_rule() -> None:
    layout = Layout("a")
    log = layout.log("predict_part", "model", "volume", "part")
    assert log == "logs/a/predict_part/{model}/{volume}/{part}.log"
    assert layout.benchmark("report") == "benchmarks/a/report.tsv"


def test_what_lies_beside_networks_and_volumes_is_taken() -> None:
    assert re.fullmatch(TAKEN_IN_RUN, "volumes")
    assert re.fullmatch(TAKEN_IN_RUN, "catalogue.parquet")
    assert not re.fullmatch(TAKEN_IN_RUN, "unet")
    assert re.fullmatch(TAKEN_BY_NETWORK, "weights-1a2b3c4d")
    assert not re.fullmatch(TAKEN_BY_NETWORK, "weightsX")
