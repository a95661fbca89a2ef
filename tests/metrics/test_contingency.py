"""Contingency tables and the scores computed from them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error as skimage_adapted_rand_error
from skimage.metrics import variation_of_information

from unetpipe.errors import DataError, GeometryError
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.rand import information_scores, rand_scores

SHAPE = (6, 7)
labels = arrays(np.int64, SHAPE, elements=st.integers(0, 4))
segments = arrays(np.int64, SHAPE, elements=st.integers(1, 4))
HUGE_IDS = np.array([0, 2**62, 2**62 + 1, 7, 2**63 - 1])


def brute_force_pairs(truth, result):
    """Pairs of voxels together in both, in the truth and in the result."""
    inside = truth.ravel() != 0
    t, r = truth.ravel()[inside], result.ravel()[inside].copy()
    r[r == 0] = -np.arange(1, (r == 0).sum() + 1)  # each one its own cluster
    same_truth, same_result = t[:, None] == t, r[:, None] == r
    return (same_truth & same_result).sum(), same_truth.sum(), same_result.sum()


@given(labels, labels, st.integers(0, SHAPE[0]))
def test_chunks_add_up_to_the_whole(truth, result, cut):
    whole = ContingencyTable.from_arrays(truth, result)
    parts = [
        ContingencyTable.from_arrays(truth[rows], result[rows])
        for rows in (slice(None, cut), slice(cut, None))
    ]
    assert parts[0] + parts[1] == whole
    assert ContingencyTable.merged(parts[::-1]) == whole
    assert whole.num_voxels == truth.size


@given(labels, labels)
def test_counts_are_those_of_counting_one_by_one(truth, result):
    table = ContingencyTable.from_arrays(truth, result)
    rows = zip(table.truth_ids, table.result_ids, table.counts, strict=True)
    counted = {(int(t), int(r)): int(count) for t, r, count in rows}
    expected: dict[tuple[int, int], int] = {}
    for pair in zip(truth.ravel().tolist(), result.ravel().tolist(), strict=True):
        expected[pair] = expected.get(pair, 0) + 1
    assert counted == expected
    ids, sizes = table.truth_sizes()
    assert [ids.tolist(), sizes.tolist()] == [
        part.tolist() for part in np.unique(truth, return_counts=True)
    ]
    ids, sizes = table.result_sizes()
    assert [ids.tolist(), sizes.tolist()] == [
        part.tolist() for part in np.unique(result, return_counts=True)
    ]


@given(labels, labels)
def test_huge_ids_score_like_small_ones(truth, result):
    small = ContingencyTable.from_arrays(truth, result)
    huge = ContingencyTable.from_arrays(HUGE_IDS[truth], HUGE_IDS[result])
    assert sorted(huge.counts) == sorted(small.counts)
    assert set(huge.truth_ids.tolist()) == set(HUGE_IDS[truth].ravel().tolist())
    assert rand_scores(huge) == rand_scores(small)


def test_ids_beyond_the_signed_range_are_kept():
    ids = np.array([2**64 - 1, 2**64 - 1, 2**64 - 2], np.uint64)
    table = ContingencyTable.from_arrays(ids, ids)
    assert table.truth_ids.tolist() == [2**64 - 2, 2**64 - 1]
    assert table.counts.tolist() == [1, 2]


def test_pairs_are_sorted_even_where_both_ids_do_not_fit_one_key():
    table = ContingencyTable.from_pairs(
        [2**24, 1, 0, 2**24], [0, 0, 2**40 - 1, 0], [1, 2, 3, 4]
    )
    assert table.truth_ids.tolist() == [0, 1, 2**24]
    assert table.counts.tolist() == [3, 2, 5]


@given(labels, labels)
def test_rand_counts_equal_counting_every_pair_of_voxels(truth, result):
    scores = rand_scores(ContingencyTable.from_arrays(truth, result))
    assert (scores.both, scores.truth, scores.result) == brute_force_pairs(
        truth, result
    )


@given(labels, labels, st.permutations([1, 2, 3, 4]))
def test_scores_ignore_names_and_directions(truth, result, names):
    renamed = np.array([0, *names])[result]
    before = ContingencyTable.from_arrays(truth, result)
    for after in (
        ContingencyTable.from_arrays(truth, renamed),
        ContingencyTable.from_arrays(truth[::-1], result[::-1]),
        ContingencyTable.from_arrays(truth.T, result.T),
    ):
        assert rand_scores(after) == rand_scores(before)
        assert information_scores(after).f_score == pytest.approx(
            information_scores(before).f_score, abs=1e-12, nan_ok=True
        )


@given(segments, segments)
def test_errors_are_zero_exactly_for_equal_partitions(truth, result):
    table = ContingencyTable.from_arrays(truth, result)
    is_same = (
        table.counts.size == table.truth_sizes()[0].size == table.result_sizes()[0].size
    )
    assert (rand_scores(table).error == 0) == is_same
    assert (information_scores(table).variation < 1e-12) == is_same


@given(segments, st.permutations([1, 2, 3, 4]))
def test_a_renamed_copy_has_no_error(truth, names):
    table = ContingencyTable.from_arrays(truth, np.array([0, *names])[truth])
    assert rand_scores(table).error == 0
    assert information_scores(table).variation == pytest.approx(0, abs=1e-12)
    assert information_scores(table).f_score == pytest.approx(1)


@given(labels, labels)
def test_scores_stay_in_range(truth, result):
    table = ContingencyTable.from_arrays(truth, result)
    rand, information = rand_scores(table), information_scores(table)
    if not truth.any():
        assert math.isnan(rand.error)
        assert math.isnan(information.f_score)
        return
    for score in (rand.precision, rand.recall, rand.f_score, information.f_score):
        assert 0 <= score <= 1
    assert 0 <= information.split <= math.log(truth.size)
    assert 0 <= information.merge <= math.log(truth.size)


@given(segments, segments)
def test_variation_of_information_is_symmetric(truth, result):
    forth, back = (
        information_scores(ContingencyTable.from_arrays(*pair), foreground_only=False)
        for pair in ((truth, result), (result, truth))
    )
    assert forth.variation == pytest.approx(back.variation, abs=1e-12)
    assert forth.split == pytest.approx(back.merge, abs=1e-12)


@given(labels, labels)
def test_variation_of_information_agrees_with_skimage(truth, result):
    scores = information_scores(
        ContingencyTable.from_arrays(truth, result), foreground_only=False
    )
    split, merge = variation_of_information(truth, result)
    assert scores.split_bits == pytest.approx(split, abs=1e-12)
    assert scores.merge_bits == pytest.approx(merge, abs=1e-12)


@given(segments, segments)
def test_rand_agrees_with_skimage_without_pairs_of_a_voxel_with_itself(truth, result):
    scores = rand_scores(ContingencyTable.from_arrays(truth, result))
    n = truth.size
    # skimage returns precision and recall exchanged: scikit-image issue 6485.
    error, recall, precision = skimage_adapted_rand_error(truth, result)
    both, in_truth, in_result = scores.both - n, scores.truth - n, scores.result - n
    assert 1 - 2 * both / (in_truth + in_result) == pytest.approx(error)
    assert both / in_truth == pytest.approx(recall)
    assert both / in_result == pytest.approx(precision)


def test_cutting_costs_recall_and_joining_costs_precision():
    whole, halves = np.ones(8, int), np.repeat([1, 2], 4)
    cut = ContingencyTable.from_arrays(whole, halves)
    joined = ContingencyTable.from_arrays(halves, whole)
    assert (rand_scores(cut).precision, rand_scores(cut).recall) == (1.0, 0.5)
    assert (rand_scores(joined).precision, rand_scores(joined).recall) == (0.5, 1.0)
    assert information_scores(cut).split_bits == pytest.approx(1)
    assert information_scores(cut).merge == 0
    assert information_scores(joined).merge == pytest.approx(math.log(2))
    assert rand_scores(cut).error == pytest.approx(1 / 3)


def test_one_object_against_one_object_is_undefined_but_scores_one():
    scores = information_scores(ContingencyTable.from_pairs([1], [3], [5]))
    assert scores.f_score == 1
    assert not scores.is_defined


def test_voxels_outside_the_mask_are_not_counted():
    truth, result = np.array([1, 1, 2]), np.array([4, 5, 5])
    where = np.array([True, False, True])
    table = ContingencyTable.from_arrays(truth, result, where=where)
    assert table == ContingencyTable.from_pairs([1, 2], [4, 5], [1, 1])


def test_repeated_pairs_are_added_up():
    table = ContingencyTable.from_pairs([2, 1, 2], [1, 1, 1], [3, 4, 5])
    assert table.counts.tolist() == [4, 8]


def test_probabilities_negative_ids_and_other_shapes_are_refused():
    ids = np.array([1, 2])
    with pytest.raises(DataError, match="float64"):
        ContingencyTable.from_arrays(ids, np.array([0.5, 0.5]))
    with pytest.raises(DataError, match="-1"):
        ContingencyTable.from_arrays(np.array([-1, 2]), ids)
    with pytest.raises(GeometryError, match="shape"):
        ContingencyTable.from_arrays(ids, ids[:1])


def test_without_foreground_the_variation_of_information_is_undefined():
    table = ContingencyTable.from_pairs([0], [3], [7])
    scores = information_scores(table)
    for value in (scores.split, scores.merge, scores.mutual, scores.variation):
        assert math.isnan(value)
