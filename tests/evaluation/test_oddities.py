"""What of a volume's scores looks like a mistake is told."""

import pytest

from unetpipe.evaluation.oddities import find_oddities
from unetpipe.records.metrics import ObjectTable, Sizes


@pytest.mark.parametrize(
    ("truth", "result", "told"),
    [
        ((0, 0, 9, 0, 0, 0, 0), (0, 1, 7, 0, 0, 1, 0), False),
        ((0, 0, 9, 0, 0, 0, 0), (0, 1, 7, 0, 0, 0, 1), True),
        ((0,) * 7, (0, 0, 0, 0, 0, 0, 1), False),
    ],
)
def test_objects_that_no_true_one_comes_near_are_told(truth, result, told):
    table = ObjectTable.model_construct(
        role="test",
        sections=(0,),
        rows=(),
        sizes={"unet": Sizes(truth=truth, result=result)},
    )
    found = find_oddities((), (table,))
    assert (
        any("8 times the size of any annotated one" in text for text in found) == told
    )
