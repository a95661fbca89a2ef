"""Sections are ranked by the metric that chose the network."""

import pytest

from unetpipe.evaluation.tables import leading_metrics, rank_sections
from unetpipe.records.metrics import OURS, Row, Score, Table


def table(metric, scores):
    row = Row.model_construct(
        predictor=OURS,
        metric=metric,
        per_section=scores,
        chosen=Score(threshold=0.5, score=0.5),
    )
    sections = tuple(range(len(scores)))
    return Table.model_construct(role="test", sections=sections, rows=(row,))


@pytest.mark.parametrize(
    ("chose", "ranked"),
    [("f1", [1, 0, 2]), ("seg", [1, 0, 2]), ("dice", [2, 0, 1]), (None, [2, 0, 1])],
)
def test_what_chose_the_network_ranks_its_sections(chose, ranked):
    voxels = [table("dice_class_1", (0.5, 0.2, 0.9))]
    objects = [table("f1", (0.5, 0.7, None))]
    found = rank_sections(voxels, objects, leading_metrics(chose))
    assert found == [z for z in ranked if chose not in ("f1", "seg") or z != 2]
