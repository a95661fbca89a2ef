"""Threshold curves, thinning, the challenge's protocol and class overlaps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.oracles import score_stack
from tests.metrics.sections import thin_borders
from unetpipe.errors import DataError, GeometryError
from unetpipe.metrics.curves import ThresholdCurve, accumulated_thresholds
from unetpipe.metrics.isbi import collect_isbi_curves, score_isbi_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.metrics.thinning import label_components

masks = arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7)))
classes = arrays(np.uint8, (5, 6), elements=st.integers(0, 2))


def random_stack(num_sections=3, size=24):
    rng = np.random.default_rng(3)
    cells = rng.random((num_sections, size, size)) > 0.3
    noise = 0.35 * rng.standard_normal(cells.shape)
    return np.clip(cells + noise, 0, 1), cells


def assert_equal(some, others):
    for name in some.__slots__:
        one, two = getattr(some, name), getattr(others, name)
        np.testing.assert_array_equal(one.per_section, two.per_section)
        np.testing.assert_array_equal(one.pooled, two.pooled)


def test_thresholds_are_added_up_like_the_published_ones():
    assert accumulated_thresholds(0.9).size == 10
    assert accumulated_thresholds(1.0)[-1] == 0.9999999999999999
    assert accumulated_thresholds(1.0)[3] == 0.30000000000000004


def test_scoring_section_by_section_equals_scoring_the_stack():
    probability, cells = random_stack()
    whole = score_stack(probability, cells)
    streamed = collect_isbi_curves(
        score_isbi_section(p, c) for p, c in zip(probability, cells, strict=True)
    )
    assert_equal(whole, streamed)
    assert whole.rand_error.per_section.shape == (3, 11)


def test_counts_are_pooled_and_thinned_scores_are_averaged():
    probability, cells = random_stack()
    sections = [
        score_isbi_section(p, c) for p, c in zip(probability, cells, strict=True)
    ]
    curves = collect_isbi_curves(sections)
    both, truth, result = sum(section.rand for section in sections)[5]
    assert curves.rand_error.at(0.5) == pytest.approx(1 - 2 * both / (truth + result))
    assert curves.v_rand.at(0.5) == pytest.approx(curves.v_rand.sections_at(0.5).mean())
    found, invented, missed, _ = sum(section.pixels for section in sections)[5]
    precision, recall = found / (found + invented), found / (found + missed)
    assert curves.pixel_error.at(0.5) == pytest.approx(
        1 - 2 * precision * recall / (precision + recall)
    )


def test_a_section_without_cells_is_undefined_and_left_out_of_the_mean():
    probability, cells = random_stack(2)
    cells[1] = False
    curves = score_stack(probability, cells)
    assert math.isnan(curves.v_rand.sections_at(0.5)[1])
    assert curves.v_rand.at(0.5) == curves.v_rand.sections_at(0.5)[0]
    assert math.isfinite(curves.pixel_error.at(0.5))


def test_a_section_rightly_predicted_empty_has_no_pixel_error():
    curves = score_stack(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool))
    assert (curves.pixel_error.pooled == 0).all()
    assert (curves.pixel_disagreement.pooled == 0).all()


def test_cutting_a_cell_costs_the_split_score_and_joining_cells_the_merge_score():
    whole = np.ones((1, 5, 9), bool)
    halves = whole.copy()
    halves[:, :, 4] = False
    cut = score_stack(halves.astype(float), whole)
    assert cut.v_rand_split.at(0.5) < 0.6
    assert cut.v_rand_merge.at(0.5) == 1
    joined = score_stack(whole.astype(float), halves)
    assert joined.v_rand_split.at(0.5) == 1
    assert joined.v_rand_merge.at(0.5) == 0.5


def test_a_probability_equal_to_the_threshold_is_background():
    half = np.full((1, 2, 2), 0.5)
    curves = score_stack(half, np.ones((1, 2, 2), bool))
    assert curves.pixel_disagreement.at(0.5) == 1
    assert curves.pixel_disagreement.at(0.4) == 0


def test_stored_bytes_score_like_the_floats_they_came_from():
    probability, cells = random_stack()
    stored = np.round(255 * probability).astype(np.uint8)
    in_32_bits = score_stack(stored.astype(np.float32) / np.float32(255), cells)
    in_64_bits = score_stack(stored / 255, cells)
    assert_equal(in_32_bits, in_64_bits)


def test_a_stack_without_cells_has_no_best_threshold():
    probability, cells = random_stack(1)
    curves = score_stack(probability, np.zeros_like(cells))
    assert np.isnan(curves.v_rand.best()).all()
    assert np.isnan(curves.v_rand.per_section).all()
    assert curves.pixel_error.pooled.size == 11


def test_the_best_score_is_the_highest_or_for_errors_the_lowest():
    thresholds, scores = np.array([0.1, 0.2, 0.3]), np.array([[0.5, 0.7, 0.7]])
    curve = ThresholdCurve.macro("v_rand", thresholds, scores)
    assert curve.best() == (0.3, 0.7), "of a draw that nearest to 0.5"
    curve = ThresholdCurve.macro("error", thresholds, scores, higher_is_better=False)
    assert curve.best() == (0.1, 0.5)


def test_a_threshold_that_was_not_computed_is_refused():
    curve = ThresholdCurve.macro("v_rand", np.array([0.1]), np.array([[0.5]]))
    with pytest.raises(DataError, match=r"0\.55.*\[0\.1\]"):
        curve.at(0.55)


@pytest.mark.parametrize(
    ("probability", "cells", "message"),
    [
        (np.full((2, 2), 200, np.uint8), np.ones((2, 2)), "uint8"),
        (np.full((2, 2), 1.5), np.ones((2, 2)), "1.5"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), "nan"),
        (np.full((2, 2), 0.5), np.array([[1, 2], [3, 0]]), "binary mask"),
    ],
)
def test_input_that_is_no_probability_or_no_mask_is_refused(
    probability, cells, message
):
    with pytest.raises(DataError, match=message):
        score_isbi_section(probability, cells)


def test_stacks_and_misfits_are_refused_as_sections():
    with pytest.raises(GeometryError, match="one section"):
        score_isbi_section(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))
    with pytest.raises(GeometryError, match="crop"):
        score_isbi_section(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(DataError, match="no section"):
        collect_isbi_curves([])


@given(masks)
def test_thinning_grows_cells_and_neither_loses_nor_invents_any(mask):
    thinned = thin_borders(mask)
    assert (thinned >= 0).all()
    if mask.any():
        assert (thinned[mask] == label_components(mask)[mask]).all()
        assert set(np.unique(thinned[thinned > 0])) == set(np.unique(thinned[mask]))


def test_a_thick_border_becomes_a_line_of_one_voxel():
    mask = np.ones((6, 11), bool)
    mask[:, 3:8] = False
    np.testing.assert_array_equal(
        thin_borders(mask), np.repeat([[1] * 5 + [0] + [2] * 5], 6, axis=0)
    )


@given(masks)
def test_grown_cells_never_touch(mask):
    thinned = thin_borders(mask)
    for here, there in (
        (thinned[1:], thinned[:-1]),
        (thinned[:, 1:], thinned[:, :-1]),
    ):
        assert ((here == there) | (here == 0) | (there == 0)).all()


def test_components_touch_by_edges_only():
    assert label_components(np.eye(3, dtype=bool)).max() == 3


@given(classes, classes, st.integers(0, 5))
def test_confusion_matrices_of_chunks_add_up(truth, result, cut):
    whole = confusion_matrix(truth, result, 3)
    parts = confusion_matrix(truth[:cut], result[:cut], 3) + confusion_matrix(
        truth[cut:], result[cut:], 3
    )
    np.testing.assert_array_equal(parts, whole)
    assert whole[1, 2] == ((truth == 1) & (result == 2)).sum()


@given(classes, classes)
def test_class_scores_follow_their_set_definitions(truth, result):
    scores = class_scores(confusion_matrix(truth, result, 3))
    for k in range(3):
        t, r = truth == k, result == k
        both, either = (t & r).sum(), (t | r).sum()
        expected = both / either if either else math.nan
        assert scores.iou[k] == pytest.approx(expected, nan_ok=True)
        expected = 2 * both / (t.sum() + r.sum()) if either else math.nan
        assert scores.dice[k] == pytest.approx(expected, nan_ok=True)
        expected = both / r.sum() if r.any() else math.nan
        assert scores.precision[k] == pytest.approx(expected, nan_ok=True)
        expected = both / t.sum() if t.any() else math.nan
        assert scores.recall[k] == pytest.approx(expected, nan_ok=True)


def test_a_class_that_does_not_occur_has_no_score():
    truth = np.array([0, 0, 1, 1])
    scores = class_scores(confusion_matrix(truth, np.array([0, 0, 1, 0]), 3))
    expected = pytest.approx([4 / 5, 2 / 3, math.nan], nan_ok=True)
    assert scores.dice.tolist() == expected
    assert scores.num_truth.tolist() == [2, 2, 0]


def test_unlabelled_voxels_do_not_count():
    truth, result = np.array([0, 1, 255]), np.array([0, 1, 1])
    matrix = confusion_matrix(truth, result, 2, unlabelled=truth == 255)
    assert matrix.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match="unlabelled"):
        confusion_matrix(truth, result, 2)
