"""What a page shows of a training."""

from types import SimpleNamespace

import pytest

from unetpipe.records.model import TrainedFrom
from unetpipe.report.page.views import _tell_colours, _what_chose


@pytest.mark.parametrize(
    ("recipe", "metric", "said"),
    [
        ({"foreground_fraction": 0.0}, "v_rand", "mean of V-Rand and Dice"),
        ({"foreground_fraction": 0.0}, "f1", "F1 of objects"),
        ({}, "v_rand", "V-Rand"),  # version 0.1
    ],
)
def test_the_course_has_the_name_of_what_chose(recipe, metric, said) -> None:
    described = SimpleNamespace(recipe=TrainedFrom.model_validate(recipe))
    assert _what_chose(SimpleNamespace(description=described), metric) == said


@pytest.mark.parametrize(
    ("names", "count", "said"),
    [
        ((), 1, ""),
        (
            ("Phase", "DAPI", "GFP"),
            3,
            "Pictures show the channels Phase, DAPI, GFP in red, green and blue.",
        ),
        ((), 3, "Pictures show the three channels in red, green and blue."),
        (("DAPI", "GFP"), 2, "Pictures show the first of 2 channels, DAPI, in grey."),
    ],
)
def test_pictures_say_which_channels_they_show(names, count, said) -> None:
    volume = SimpleNamespace(channel_names=names, num_channels=count)
    assert _tell_colours(volume) == said
