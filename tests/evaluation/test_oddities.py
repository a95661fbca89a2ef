"""What of a volume's scores looks like a mistake is told."""

import pytest

from unetpipe.evaluation.oddities import find_oddities
from unetpipe.records.metrics import ObjectTable, Row, Score, Sizes, Table


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


@pytest.mark.parametrize(
    ("others", "constant", "num_told"),
    [((), 0.99, 1), (("v_rand",), 0.99, 0), (("v_rand",), 0.9, 1)],
)
def test_a_map_of_foreground_alone_wins_nothing_where_cells_leave_no_background(
    others, constant, num_told
):
    rows = [
        Row.model_construct(
            predictor=predictor,
            metric=metric,
            chosen=Score.model_construct(score=score),
        )
        for metric in ("dice_class_1", *others)
        for predictor, score in (("unet", 0.87), ("constant", constant))
        if metric == "dice_class_1" or predictor == "unet"
    ]
    table = Table.model_construct(role="test", sections=(0,), rows=tuple(rows))
    assert len(find_oddities((table,), ())) == num_told
