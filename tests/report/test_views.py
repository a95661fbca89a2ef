"""What a page shows of a training."""

from types import SimpleNamespace

import pytest

from unetpipe.records.model import TrainedFrom
from unetpipe.report.page.views import _what_chose


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
