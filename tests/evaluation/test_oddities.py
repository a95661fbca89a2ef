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
    ("metric", "better", "ours", "other", "is_told"),
    [
        ("ctc_det", "higher", 0.30, 0.64, True),
        ("ctc_det", "higher", 0.64, 0.30, False),
        ("average_precision", "higher", 0.2, 0.3, True),
        ("rand_error", "lower", 0.4, 0.3, True),
        ("rand_error", "lower", 0.3, 0.4, False),
    ],
)
def test_a_loss_in_any_score_of_a_card_is_told(metric, better, ours, other, is_told):
    rows = tuple(
        Row.model_construct(
            predictor=predictor,
            metric=metric,
            better=better,
            chosen=Score.model_construct(score=score),
        )
        for predictor, score in (("unet", ours), ("Otsu", other), ("Otsu", None))
    )
    table = Table.model_construct(role="test", sections=(0,), rows=rows)
    told = find_oddities((table,), ())
    assert [f"{other:.3f}, the network {ours:.3f}" in text for text in told] == (
        [True] * is_told
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
            better="higher",
            chosen=Score.model_construct(score=score),
        )
        for metric in ("dice_class_1", *others)
        for predictor, score in (("unet", 0.87), ("constant", constant))
        if metric == "dice_class_1" or predictor == "unet"
    ]
    table = Table.model_construct(role="test", sections=(0,), rows=tuple(rows))
    assert len(find_oddities((table,), ())) == num_told
