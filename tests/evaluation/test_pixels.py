"""Overlap, calibration and threshold rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.oracles import as_columns, score_stack
from unetpipe.evaluation.pixels import PixelCounts, class_score_rows
from unetpipe.evaluation.score_rows import (
    METRICS,
    find_metric,
    make_score_row,
    plain_scores,
    score_definitions,
)
from unetpipe.evaluation.thresholds import (
    ThresholdScores,
    describe_curve,
    threshold_rows,
)
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.records.metrics import Score

SHAPE = (2, 4, 6)
stored_maps = arrays(np.uint8, SHAPE)
truths = arrays(np.uint8, SHAPE, elements=st.integers(0, 1))
masks = arrays(np.bool_, SHAPE)


def count(stored, truth, unknown, *, num_classes=2, cut=None):
    counts = PixelCounts(num_classes)
    for z in range(len(stored)):
        for rows in (np.s_[:cut], np.s_[cut:]) if cut else (np.s_[:],):
            counts.add(z, stored[z][rows], truth[z][rows], unknown[z][rows])
    return counts


@given(stored_maps, truths, masks, st.sampled_from([0.2, 0.5, 51 / 255]))
def test_a_mask_is_scored_as_it_would_be_from_whole_arrays(
    stored, truth, unknown, threshold
):
    unknown[0, 0, 0] = unknown[1, 0, 0] = False
    counts = count(stored, truth, unknown, cut=2)
    mask = stored > threshold * 255  # 51 is 0.2, and not above it
    expected = [
        confusion_matrix(t, m, 2, unlabelled=u)
        for t, m, u in zip(truth, mask, unknown, strict=True)
    ]
    np.testing.assert_array_equal(counts.confusion(threshold), expected)


def test_rows_tell_each_class_each_section_and_an_interval():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (4, 8, 8))
    result = np.where(rng.random(truth.shape) < 0.8, truth, 0)
    unknown = np.zeros(truth.shape, bool)
    counts = count(result, truth, unknown, num_classes=3)
    rows = {
        row.metric: row
        for row in class_score_rows("unet", counts.confusion(None), None)
    }
    assert len(rows) == 4 * 3 + 1
    annotated = class_scores(confusion_matrix(truth, result, 3)).dice[1:]
    assert rows["dice_mean"].score == pytest.approx(annotated.mean())
    row = rows["iou_class_2"]
    pooled = class_scores(confusion_matrix(truth, result, 3))
    assert row.chosen.threshold is None
    assert row.chosen.score == pytest.approx(pooled.iou[2])
    assert list(row.per_section) == [
        pytest.approx(class_scores(confusion_matrix(t, r, 3)).iou[2])
        for t, r in zip(truth, result, strict=True)
    ]
    low, high = row.interval
    assert low < row.chosen.score < high
    assert (row.interval_of, row.n, row.num_sections) == ("chosen", 4, 4)
    assert rows["precision_class_2"].chosen.score == 1


def test_a_class_that_never_occurs_has_no_score():
    nothing = np.zeros((2, 3, 3), np.uint8)
    confusion = count(nothing, nothing, nothing > 0).confusion(0.5)
    rows = {row.metric: row for row in class_score_rows("unet", confusion, 0.5)}
    assert rows["dice_class_1"].chosen.score is None
    assert rows["dice_class_1"].interval is None
    assert rows["dice_class_0"].chosen.score == 1


def test_sections_without_annotation_are_not_counted():
    truth = np.ones(SHAPE, np.uint8)
    unknown = np.zeros(SHAPE, bool)
    unknown[1] = True
    assert count(255 * truth, truth, unknown).numbers == [0]


def test_the_constant_map_is_the_commonest_class():
    truth = np.array([[[1, 1, 0]], [[1, 1, 1]]], np.uint8)
    counts = count(np.zeros_like(truth), truth, np.zeros(truth.shape, bool))
    np.testing.assert_array_equal(
        counts.confusion_of_constant(), [[[0, 1], [0, 2]], [[0, 0], [0, 3]]]
    )


def test_calibration_is_told_class_by_class():
    truth = np.array([[0, 1, 2, 2]], np.uint8)
    known = np.zeros(truth.shape, bool)
    counts = PixelCounts(3)
    counts.add(0, truth, truth, known)
    for class_ in range(3):
        counts.add_probability(class_, np.full(truth.shape, 51, np.uint8), truth, known)
    entries = list(counts.describe_calibration("test"))
    assert [entry.class_ for entry in entries] == [0, 1, 2]
    assert entries[2].share[3] == 0.5
    assert entries[2].expected_error == pytest.approx(0.3)
    assert entries[2].probability[0] is None


def test_calibration_at_a_temperature_follows_that_of_what_is_stored():
    truth = np.array([[1, 1, 1, 0]], np.uint8)
    counts = PixelCounts(2)
    counts.add(0, np.full((1, 4), 230, np.uint8), truth, np.zeros((1, 4), bool))
    stored, scaled = counts.describe_calibration("test", 2.0)
    assert (stored.temperature, scaled.temperature) == (None, 2.0)
    assert stored.expected_error == pytest.approx(230 / 255 - 0.75)
    assert scaled.expected_error == pytest.approx(0.753 - 0.75, abs=1e-3)
    assert list(counts.describe_calibration("test")) == [stored]


def test_dice_over_stored_levels_is_that_of_each_mask():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, SHAPE).astype(np.uint8)
    stored = rng.integers(0, 256, SHAPE).astype(np.uint8)
    counts = count(stored, truth, np.zeros(SHAPE, bool))
    curve = next(iter(counts.describe_curves("test")))
    expected = class_scores(confusion_matrix(truth, stored > 100, 2)).dice[1]
    assert curve.metric == "dice_class_1"
    assert curve.scores[100] == pytest.approx(expected)
    assert curve.thresholds[100] == pytest.approx(100 / 255)


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(3)
    cells = rng.random((5, 24, 24)) > 0.3
    probability = np.clip(cells + 0.35 * rng.standard_normal(cells.shape), 0, 1)
    scores = ThresholdScores(warping="all")
    for z, (p, c) in enumerate(zip(probability, cells, strict=True)):
        scores.add(z, *as_columns(p, c))
    return scores.curves(), score_stack(probability.astype(np.float32), cells)


def test_threshold_rows_show_the_chosen_beside_the_best(scored):
    curves, whole = scored
    rows = {r.metric: r for r in threshold_rows("unet", curves, {"v_rand": 0.2})}
    row = rows["v_rand"]
    best = whole.v_rand.best()
    assert row.best == Score(threshold=best.threshold, score=best.score)
    assert row.chosen == Score(threshold=0.2, score=whole.v_rand.at(0.2))
    assert row.chosen.score < row.best.score
    assert list(row.per_section) == whole.v_rand.sections_at(0.2).tolist()
    assert row.interval[0] < row.chosen.score < row.interval[1]
    assert row.interval_of == "chosen"


def test_without_a_chosen_threshold_the_interval_is_of_the_best(scored):
    curves, _ = scored
    rows = {r.metric: r for r in threshold_rows("unet", curves, {})}
    assert set(rows) == set(curves)
    for metric, row in rows.items():
        assert row.chosen is row.per_section is row.score is None
        assert row.interval_of == "best", metric
        assert row.interval[0] <= row.best.score <= row.interval[1]
        assert row.n == row.num_sections == 5


def test_a_curve_is_described_by_its_pooled_scores(scored):
    curve = scored[0]["pixel_error"]
    described = describe_curve("test", "unet", curve)
    assert list(described.scores) == curve.pooled.tolist()
    assert described.thresholds[1] == 0.1


def test_rows_hold_nothing_but_json():
    row = make_score_row(
        "unet", "v_info", best=(np.nan, np.nan), per_section=[np.nan, 1], num_sections=2
    )
    assert row.best == Score(threshold=None, score=None)
    assert row.per_section == (None, 1)
    assert row.interval is row.interval_of is row.chosen is None
    assert plain_scores(np.array([[1.0, np.nan]])) == [[1.0, None]]


def test_the_mean_over_classes_leaves_out_what_nobody_annotated():
    truth = np.array([[[0, 0, 1, 1]]])
    result = np.array([[[0, 2, 1, 1]]])
    counts = count(result, truth, np.zeros(truth.shape, bool), num_classes=3)
    rows = {
        row.metric: row
        for row in class_score_rows("unet", counts.confusion(None), None)
    }
    assert rows["dice_class_2"].score == 0
    assert rows["dice_mean"].score == 1


def test_every_metric_is_defined_with_its_direction_and_source():
    for name, metric in METRICS.items():
        assert len(metric.definition) > 10, name
        assert "doi:10." in metric.reference or name in ("f1", "precision", "recall")
        assert metric.better == (
            "lower" if "error" in name or name.startswith("vi_") else "higher"
        )
    assert find_metric("iou_class_3").definition.endswith("class 3")
    with pytest.raises(KeyError):
        find_metric("nonsense")


def test_definitions_are_told_once_with_version_and_source():
    told = score_definitions(["vi_split", "dice_class_1", "vi_split"])
    assert list(told) == ["vi_split", "dice_class_1"]
    assert told["vi_split"].unit == "nats"
    assert told["dice_class_1"].to_json() == {
        "definition": find_metric("dice").definition + "; class 1",
        "better": "higher",
        "reference": "Dice 1945, doi:10.2307/1932409",
        "unit": "1",
        "version": 1,
    }
