"""What a user may set about predictions."""

import pytest

from unetpipe.config import PredictionConfig, check_config
from unetpipe.errors import ConfigError
from unetpipe.tiling.orientations import choose_orientations


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (1, (0,)),
        (4, (0, 1, 2, 3)),
        (7, tuple(range(7))),
        (8, tuple(range(8))),
        ([6, 0], (0, 6)),
    ],
)
def test_orientations_are_counted_or_listed(average, expected):
    config = check_config({"prediction": {"average": average}}).prediction
    assert choose_orientations(config.average) == expected


@pytest.mark.parametrize("average", [0, 2, 9, [], [1, 1], [8], [-1]])
def test_other_averages_are_refused(average):
    with pytest.raises(ConfigError, match=r"average"):
        check_config({"prediction": {"average": average}})


def test_an_empty_box_names_its_axis():
    box = [[0, 4], [9, 9], [0, 7]]
    with pytest.raises(ConfigError, match="roi is 9 to 9 along y, which is empty"):
        check_config({"prediction": {"roi": box}})


@pytest.mark.parametrize("box", [[[0, 4], [0, 9]], [[-1, 4], [0, 9], [0, 7]], [0, 4]])
def test_a_box_has_start_and_stop_along_three_axes(box):
    with pytest.raises(ConfigError, match=r"prediction\.roi"):
        check_config({"prediction": {"roi": box}})


def test_values_survive_the_way_through_the_workflow():
    config = PredictionConfig(average=(1, 5), roi=((0, 1), (2, 3), (4, 5)), mask="m")
    assert PredictionConfig(**config.model_dump(mode="json")) == config


def test_each_part_of_the_rule_for_objects_may_be_chosen_by_itself():
    for key in (
        *("method", "seeds", "seed_distance_vox", "seed_reach_vox"),
        "smallest_object_vox",
        "seed_threshold",
    ):
        assert getattr(check_config({}).segmentation, key) == "auto"
        for method in ("components", "watershed"):
            chosen = {"method": method, key: "auto"}
            assert getattr(check_config({"segmentation": chosen}).segmentation, key)
