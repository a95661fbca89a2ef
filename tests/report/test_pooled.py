"""What a page says first: scores of test sections, over all volumes."""

import pytest

from tests.stages.reported import row
from unetpipe.report.page.pooled import pool_scores
from unetpipe.report.page.summary import highlights


def predicted(volume, **scores_by_role):
    tables = [
        {"role": role, "rows": [row("unet", "f1", score, best=None)]}
        for role, score in scores_by_role.items()
    ]
    return {"volume": volume, "metrics": {"tables": [], "objects": tables}}


def test_test_sections_come_before_validation_sections_of_an_earlier_volume():
    run = {"predicted": [predicted("a", validate=0.9), predicted("b", test=0.5)]}
    pooled = pool_scores(run)
    assert (pooled.role, pooled.volumes, pooled.where) == ("test", ["b"], "b")
    assert pooled.rows["f1"]["unet"]["chosen"]["score"] == 0.5


def test_several_volumes_are_averaged_and_have_no_interval():
    run = {"predicted": [predicted("a", test=0.9), predicted("b", test=0.5)]}
    pooled = pool_scores(run)
    mean = pooled.rows["f1"]["unet"]
    assert mean["chosen"] == {"threshold": 0.4, "score": pytest.approx(0.7)}
    assert mean["interval"] is None
    (card,) = highlights(run)
    assert card["score"] == "0.7000"
    assert card["where"] == "mean over 2 volumes, test sections"


def test_without_scores_nothing_is_said():
    assert pool_scores({"predicted": [{"volume": "a", "metrics": None}]}) is None
    assert highlights({"predicted": []}) == []
