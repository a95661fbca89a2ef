"""What a page says first: scores of test sections, over all volumes."""

from pathlib import Path

import pytest

from tests.stages.reported import (
    SHAPE,
    metrics_of,
    plan_of,
    prediction_of,
    row,
    segmentation_of,
)
from unetpipe.records.metrics import Metrics
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import Manifest
from unetpipe.report.page.pooled import pool_scores
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.report.page.summary import highlights
from unetpipe.tiling.unet_spec import UNetSpec


def run_of(**roles_by_volume) -> Run:
    """Return a run of volumes with F1 of objects by role."""
    results = []
    for volume, scores in roles_by_volume.items():
        tables = [
            {
                "role": role,
                "sections": [2, 3],
                "rows": [row("unet", "f1", score, best=None)],
                "sizes": {},
                "field_border_vox": 0,
            }
            for role, score in scores.items()
        ]
        metrics = metrics_of(volume, objects=tables) if tables else None
        results.append(
            Result(
                "unet",
                volume,
                Path(),
                PredictionPlan.model_validate(plan_of(volume, Path("p"), SHAPE)),
                Prediction.model_validate(prediction_of(volume, Path("p"), SHAPE)),
                Segmentation.model_validate(segmentation_of(volume, Path(), Path())),
                metrics and Metrics.model_validate(metrics),
            )
        )
    network = Network("unet", Model(spec=UNetSpec(), weights_sha256="3"))
    manifest = Manifest(source="x", kind="folder", root=".", files=())
    return Run("made-up", manifest, {}, (), network, tuple(results))


def test_test_sections_come_before_validation_sections_of_an_earlier_volume():
    run = run_of(a={"validate": 0.9}, b={"test": 0.5})
    pooled = pool_scores(run)
    assert (pooled.role, pooled.volumes, pooled.where) == ("test", ("b",), "b")
    assert pooled.rows["f1"]["unet"].score == 0.5


def test_several_volumes_are_averaged_and_have_no_interval():
    run = run_of(a={"test": 0.9}, b={"test": 0.5})
    pooled = pool_scores(run)
    mean = pooled.rows["f1"]["unet"]
    assert mean.chosen.threshold == 0.4
    assert mean.chosen.score == pytest.approx(0.7)
    assert mean.interval is None
    (card,) = highlights(run)
    assert card["score"] == "0.7000"
    assert card["where"] == "mean over 2 volumes, test sections"


def test_without_scores_nothing_is_said():
    assert pool_scores(run_of(a={})) is None
    assert highlights(run_of()) == []
