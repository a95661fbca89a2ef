"""What adds up over chunks, what adds up over objects, and how sure a sum is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.oracles import (
    bootstrap_slowly,
    keep_objects_in_field,
    panoptic_quality,
)
from unetpipe.metrics.bootstrap import (
    bootstrap_best,
    bootstrap_sums,
)
from unetpipe.metrics.cell_tracking import keep_seg_results
from unetpipe.metrics.contingency import ContingencyTable, TableSum
from unetpipe.metrics.curves import ThresholdCurve
from unetpipe.metrics.instances import match_instances, score_terms
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.metrics.value_counts import (
    calibration_curve,
    confusion_above,
    count_values,
)

labels = arrays(np.int64, (6, 7), elements=st.integers(0, 4))
levels = arrays(np.uint8, (6, 7))
masks = arrays(np.bool_, (6, 7))


def tabulate(truth, result, where=None):
    return ContingencyTable.from_arrays(truth, result, where=where)


@given(st.lists(st.tuples(labels, labels), max_size=6))
def test_a_running_sum_equals_the_table_of_all_voxels(chunks):
    total = TableSum()
    for truth, result in chunks:
        total.add(tabulate(truth, result))
    whole = np.array(chunks, int).reshape(-1, 2, 6, 7)
    assert total.table() == tabulate(whole[:, 0], whole[:, 1])


def test_a_running_sum_goes_on_after_it_was_read():
    total = TableSum()
    assert total.table() == ContingencyTable.empty()
    for count in (1, 2):
        total.add(ContingencyTable.from_pairs([1], [7], [count]))
        total.table()
    assert total.table().counts.tolist() == [3]


@given(levels, masks, masks, st.integers(0, 255))
def test_counted_values_give_the_confusion_matrix_at_any_threshold(
    stored, truth, unknown, level
):
    counts = count_values(stored, truth, unknown=unknown)
    is_above = np.arange(256) > level
    expected = confusion_matrix(truth, stored > level, 2, unlabelled=unknown)
    np.testing.assert_array_equal(confusion_above(counts, is_above), expected)


@given(levels, masks)
def test_counted_values_of_chunks_add_up(stored, truth):
    parts = [
        count_values(stored[rows], truth[rows]) for rows in (slice(2), slice(2, 6))
    ]
    np.testing.assert_array_equal(sum(parts), count_values(stored, truth))


def test_calibration_is_the_mean_gap_between_promise_and_frequency():
    counts = np.zeros((2, 256), np.int64)
    counts[:, 51] = 3, 1  # 0.2 promised, 0.25 found
    counts[:, 255] = 2, 2  # 1.0 promised, 0.5 found
    result = calibration_curve(counts)
    assert result.expected_error == pytest.approx((4 * 0.05 + 4 * 0.5) / 8)
    assert (result.probability[3], result.share[3]) == (pytest.approx(0.2), 0.25)
    assert result.num_voxels.sum() == 8
    assert math.isnan(result.probability[0])
    assert math.isnan(calibration_curve(np.zeros((2, 256), np.int64)).expected_error)


@given(labels, labels)
def test_terms_add_up_to_the_scores_of_the_matches(truth, result):
    matches = match_instances(tabulate(truth, result))
    for by_object in (False, True):
        terms = matches.terms(by_object=by_object)
        scores = score_terms(terms.sum(axis=0))
        assert scores["f1"] == pytest.approx(matches.f1)
        assert scores["panoptic_quality"] == pytest.approx(panoptic_quality(matches))
        assert scores["average_precision"] == pytest.approx(matches.average_precision)


def test_void_voxels_neither_count_nor_condemn():
    """One true object found, one invented in the void, one half in it, one outside."""
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    result = np.array([5, 5, 5, 5, 6, 6, 7, 7, 5, 8, 8, 8])
    known = np.array([1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0], bool)
    matches = match_instances(
        tabulate(truth, result, known), void=tabulate(truth, result, ~known)
    )
    assert matches.union.tolist() == [4], "the void part of object 5 is no mistake"
    # 6 lies in the void alone, 8 mostly; 7 has half of its voxels outside
    assert (matches.num_truth, matches.num_result) == (1, 2)
    assert matches.f1 == pytest.approx(2 / 3)


@given(labels, labels, masks)
def test_without_void_nothing_changes(truth, result, known):
    table = tabulate(truth, result, known)
    plain = match_instances(table)
    void = match_instances(table, void=ContingencyTable.empty())
    assert (void.num_result, void.f1) == (plain.num_result, plain.f1)


@given(labels, labels)
def test_objects_outside_the_field_go_from_the_table_as_from_the_frame(truth, result):
    table = keep_seg_results(tabulate(truth, result), np.unique(result[1:-1, 1:-1]))
    assert table == tabulate(truth, keep_objects_in_field(result, 1))


def test_scores_of_many_confusion_matrices_are_those_of_each():
    matrices = np.arange(1, 19).reshape(2, 3, 3)
    both = class_scores(matrices)
    for name in ("iou", "dice", "precision", "recall", "num_truth", "num_result"):
        each = [getattr(class_scores(matrix), name) for matrix in matrices]
        np.testing.assert_array_equal(getattr(both, name), each)


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def test_sums_are_resampled_like_rows():
    rng = np.random.default_rng(5)
    terms = np.column_stack([rng.random(40), 1 + rng.random(40)])
    fast = bootstrap_sums(terms, ratio)
    low, high = bootstrap_slowly(terms, lambda rows: ratio(rows.sum(axis=0)))
    assert fast.estimate == pytest.approx(ratio(terms.sum(axis=0)))
    assert fast.low == pytest.approx(low, abs=0.1 * (high - low))
    assert fast.high == pytest.approx(high, abs=0.1 * (high - low))
    assert fast == bootstrap_sums(terms, ratio), "the same seed, the same interval"


def test_many_units_are_grouped_without_changing_the_spread():
    terms = np.column_stack([np.random.default_rng(1).random(20_000), np.ones(20_000)])
    interval = bootstrap_sums(terms, ratio)
    expected = 2 * 1.96 * terms[:, 0].std() / math.sqrt(len(terms))
    assert interval.n == 20_000
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("num_units", [0, 1])
def test_fewer_than_two_units_have_no_interval(num_units):
    interval = bootstrap_sums(np.ones((num_units, 2)), ratio)
    assert math.isnan(interval.low)
    assert interval.n == num_units


def test_the_freedom_to_choose_a_threshold_widens_the_interval_of_the_best():
    rng = np.random.default_rng(2)
    curve = ThresholdCurve.macro("v_rand", np.arange(20.0), rng.random((12, 20)))
    interval = bootstrap_best(curve)
    assert interval.estimate == curve.best().score
    assert interval.low > curve.pooled.mean(), "every draw takes the best of twenty"
    undefined = ThresholdCurve.macro("v_rand", np.arange(2.0), np.full((3, 2), np.nan))
    assert math.isnan(bootstrap_best(undefined).low)


def test_draws_of_undefined_sections_alone_are_left_out():
    scores = np.array([[0.5, 0.75], [np.nan, np.nan]])
    curve = ThresholdCurve.macro("v_rand", np.array([0.4, 0.5]), scores)
    interval = bootstrap_best(curve)
    assert (interval.low, interval.estimate, interval.high) == (0.75, 0.75, 0.75)


def test_the_best_of_an_error_is_its_lowest():
    errors = np.array([[[1.0, 4], [2, 4]], [[1, 4], [3, 4]]])
    curve = ThresholdCurve.micro("e", np.array([0.4, 0.5]), errors, ratio)
    assert bootstrap_best(curve).high == 0.25
