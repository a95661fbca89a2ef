"""What a page says first: scores of test sections, over all volumes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.stages.reported import (
    SHAPE,
    metrics_of,
    plan_of,
    prediction_of,
    row,
    segmentation_of,
)
from unetpipe.records.metrics import Metrics, Row
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import Manifest
from unetpipe.report.page.pooled import pool_scores
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.report.page.summary import highlights, summarise
from unetpipe.report.page.templates import render
from unetpipe.tiling.unet_spec import UNetSpec


def known_or_not(predictor, score):
    """Return a row of F1; None: it is not defined."""
    if score is not None:
        return row(predictor, "f1", score, best=None)
    nothing = {"threshold": None, "score": None}
    return row(predictor, "f1", 0.5, best=None, chosen=nothing, per_section=None)


def lead(run):
    """Return the paragraph that a page begins with."""
    volumes = {one.volume: SimpleNamespace(shape=SHAPE) for one in run.results}
    summary = summarise(replace(run, volumes=volumes))
    return render("summary.html", {"summary": summary}).decode()


def run_of(**roles_by_volume) -> Run:
    """Return a run of volumes with F1 of objects by role."""
    results = []
    for volume, scores in roles_by_volume.items():
        tables = [
            {
                "role": role,
                "sections": [2, 3],
                "rows": [known_or_not("unet", score)],
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


def test_scores_of_sections_that_chose_the_network_are_said_to_flatter():
    run = run_of(a={"validate": 0.9})
    (card,) = highlights(run)
    assert (
        card["where"] == "a, validate sections, which chose it, so these scores flatter"
    )
    text = lead(run)
    assert "those sections chose the network, so this flatters" in text
    text = lead(run_of(a={"test": 0.5}))
    assert "flatters" not in text


@pytest.mark.parametrize(
    ("of_otsu", "mean"), [((0.2, 0.6, 0.1), 0.4), ((0.2, None, 0.1), None)]
)
def test_a_baseline_is_averaged_over_the_volumes_of_the_network(of_otsu, mean):
    run = run_of(a={"test": 0.9}, b={"test": 0.5}, c={"test": None})
    results = []
    for result, score in zip(run.results, of_otsu, strict=True):
        (table,) = result.metrics.objects
        rows = (*table.rows, Row.model_validate(known_or_not("Otsu", score)))
        objects = (table.model_copy(update={"rows": rows}),)
        metrics = result.metrics.model_copy(update={"objects": objects})
        results.append(replace(result, metrics=metrics))
    pooled = pool_scores(replace(run, results=tuple(results))).rows["f1"]
    assert pooled["unet"].score == pytest.approx(0.7)
    assert ("Otsu" in pooled) == (mean is not None)
    assert mean is None or pooled["Otsu"].score == pytest.approx(mean)


def test_without_scores_nothing_is_said():
    assert pool_scores(run_of(a={})) is None
    assert highlights(run_of()) == []
