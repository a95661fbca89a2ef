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


def test_all_losses_of_a_role_are_one_sentence():
    def table(role, **scores):
        rows = tuple(
            Row.model_construct(
                predictor=predictor,
                metric=metric,
                better="higher",
                chosen=Score.model_construct(score=score),
            )
            for metric, both in scores.items()
            for predictor, score in zip(("unet", "Otsu"), both, strict=True)
        )
        return Table.model_construct(role=role, sections=(0,), rows=rows)

    voxels = table("test", dice_class_1=(0.8, 0.9)), table("validate", f1=(0.9, 0.8))
    objects = table("test", f1=(0.5, 0.6), ctc_seg=(0.7, 0.6))
    (told,) = find_oddities((*voxels, objects), ())
    assert told == (
        "in the test sections methods that need no training beat the network: smoothed "
        "Otsu has Dice of class 1 0.900, the network 0.800; smoothed Otsu has F1 of "
        "objects 0.600, the network 0.500; train longer, look at the probabilities and "
        "the threshold, or annotate more"
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
