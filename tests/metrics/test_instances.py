"""Instances, the Cell Tracking Challenge and intervals."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.oracles import (
    keep_objects_in_field,
    mean_average_precision,
    panoptic_quality,
    score_stack,
)
from tests.metrics.sections import warp_section
from unetpipe.config import FieldOfInterest
from unetpipe.errors import DataError, GeometryError
from unetpipe.metrics.bootstrap import bootstrap_curve, bootstrap_sums
from unetpipe.metrics.cell_tracking import (
    FIELD_BORDER_VOX,
    ReferenceMatches,
    field_border_vox,
    match_seg_references,
)
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import ThresholdCurve
from unetpipe.metrics.instances import match_instances, score_terms
from unetpipe.metrics.warping import collect_warping

labels = arrays(np.int64, (6, 7), elements=st.integers(0, 4))


def tabulate(truth, result):
    return ContingencyTable.from_arrays(truth, result)


def challenge_frame():
    """Five reference objects and four computed ones, 24 x 24."""
    truth, result = np.zeros((24, 24), int), np.zeros((24, 24), int)
    truth[1:11, 1:11] = 1
    truth[13:17, 1:6] = 2
    truth[13:17, 10:14] = 3
    truth[13:17, 16:18] = 4
    truth[13:17, 19:21] = 5
    result[1:11, 1:9] = 1
    result[13:15, 1:6] = 2  # exactly half of object 2: no match
    result[13:17, 16:21] = 7
    result[20:22, 20:22] = 9
    return truth, result


def test_two_challenge_frames_score_as_published():
    matches = match_seg_references(tabulate(*challenge_frame()))
    np.testing.assert_allclose(matches.jaccard, [0.8, 0, 0, 0.4, 0.4])
    both = ReferenceMatches.pooled([matches, matches])
    assert both.seg == pytest.approx(0.32, abs=1e-12)
    assert both.det == pytest.approx(0.46, abs=1e-12)
    assert (both.num_objects, both.num_missed) == (10, 4)
    assert (both.num_shared, both.num_false) == (2, 4)


def test_objects_left_out_of_sparse_gold_change_detection_but_not_seg():
    truth, result = challenge_frame()
    sparse = np.where(truth == 1, truth, 0)
    matches = match_seg_references(tabulate(sparse, result))
    assert matches.seg == pytest.approx(0.8)
    assert matches.num_false == 3


def test_a_result_worse_than_none_scores_zero_in_detection():
    truth, result = np.zeros(40, int), np.arange(40)
    truth[:2] = 1
    assert match_seg_references(tabulate(truth, result)).det == 0


def test_frames_without_reference_objects_are_undefined():
    nothing = np.zeros((3, 3), int)
    matches = match_seg_references(tabulate(nothing, nothing))
    assert math.isnan(matches.seg)
    assert math.isnan(matches.det)
    assert math.isnan(ReferenceMatches.pooled([]).seg)


@given(labels, labels)
def test_seg_follows_its_definition(truth, result):
    expected = []
    for i in set(truth[truth > 0].tolist()):
        inside = truth == i
        found = [
            (inside & (result == j)).sum() / (inside | (result == j)).sum()
            for j in set(result[result > 0].tolist())
            if (inside & (result == j)).sum() > 0.5 * inside.sum()
        ]
        expected.append(found[0] if found else 0.0)
    matches = match_seg_references(tabulate(truth, result))
    np.testing.assert_allclose(matches.jaccard, expected)


def test_only_objects_wholly_outside_the_field_are_removed():
    frame = np.zeros((2, 10, 10), np.uint16)
    frame[0, 0:2, 0:2] = 3  # outside
    frame[0, 8:10, 2:8] = 4
    frame[0, 2:8, 8:10] = 5
    frame[0, 0:4, 5:7] = 2**15  # reaches in
    frame[1, 5, 5] = 7  # inside; z has no border
    kept = keep_objects_in_field(frame, 2)
    assert kept.dtype == frame.dtype
    assert set(np.unique(kept).tolist()) == {0, 7, 2**15}
    np.testing.assert_array_equal(kept == 2**15, frame == 2**15)
    np.testing.assert_array_equal(keep_objects_in_field(frame, 0), frame)
    assert (frame == 3).sum() == 4, "the input was changed"


def test_a_field_border_beyond_the_frame_is_refused():
    with pytest.raises(GeometryError, match="50 voxels"):
        keep_objects_in_field(np.zeros((100, 200), int), 50)


def test_fields_are_those_of_the_challenge():
    assert field_border_vox("PhC-C2DH-U373") == 50
    assert field_border_vox("Fluo-N2DL-HeLa") == 25
    assert field_border_vox("Fluo-C3DH-A549") == 0


@given(labels, labels)
def test_instances_are_matched_by_iou_above_one_half(truth, result):
    ious = [
        ((truth == i) & (result == j)).sum() / ((truth == i) | (result == j)).sum()
        for i in set(truth[truth > 0].tolist())
        for j in set(result[result > 0].tolist())
    ]
    hits = [iou for iou in ious if iou > 0.5]
    num = len(set(truth[truth > 0].tolist())) + len(set(result[result > 0].tolist()))
    matches = match_instances(tabulate(truth, result))
    expected = 2 * len(hits) / num if num else 1
    assert matches.f1 == pytest.approx(expected)
    expected = 2 * sum(hits) / num if num else 1
    assert panoptic_quality(matches) == pytest.approx(expected)
    assert 0 <= matches.average_precision <= matches.precision_at(50) <= 1


@given(labels, labels, st.permutations([1, 2, 3, 4]))
def test_instance_scores_ignore_names_and_directions(truth, result, names):
    renamed = np.array([0, *names])[result]
    before = match_instances(tabulate(truth, result))
    for after in (
        match_instances(tabulate(truth, renamed)),
        match_instances(tabulate(truth[:, ::-1], result[:, ::-1])),
    ):
        assert after.average_precision == before.average_precision
        assert panoptic_quality(after) == pytest.approx(panoptic_quality(before))


@given(labels, labels)
def test_panoptic_quality_is_one_exactly_for_equal_objects(truth, result):
    table = tabulate(truth, result)
    is_same = ((table.truth_ids == 0) == (table.result_ids == 0)).all() and (
        table.counts.size == table.truth_sizes()[0].size == table.result_sizes()[0].size
    )
    assert (panoptic_quality(match_instances(table)) == 1) == is_same


@given(labels, st.permutations([1, 2, 3, 4]))
def test_a_renamed_copy_scores_one(truth, names):
    matches = match_instances(tabulate(truth, np.array([0, *names])[truth]))
    assert matches.average_precision == matches.f1 == 1
    assert panoptic_quality(matches) == 1


def test_an_iou_equal_to_the_threshold_is_no_hit():
    table = ContingencyTable.from_pairs([1, 0], [1, 1], [11, 9])  # IoU 0.55
    matches = match_instances(table)
    assert [matches.num_hits(percent) for percent in (50, 55, 60)] == [1, 0, 0]
    assert matches.average_precision == pytest.approx(0.1)


def test_average_precision_is_taken_image_by_image():
    full = match_instances(ContingencyTable.from_pairs([1, 2], [1, 2], [5, 5]))
    missed = match_instances(ContingencyTable.from_pairs([1], [0], [5]))
    empty = match_instances(ContingencyTable.from_pairs([0], [0], [9]))
    assert mean_average_precision([full, missed, empty]) == pytest.approx(2 / 3)
    sums = full.terms() + missed.terms()
    assert score_terms(sums)["f1"] == pytest.approx(4 / 5)
    assert math.isnan(mean_average_precision([]))


def test_panoptic_quality_is_detection_times_segmentation():
    truth, result = challenge_frame()
    matches = match_instances(tabulate(truth, result))
    assert matches.f1 == pytest.approx(2 / 9)
    assert panoptic_quality(matches) == pytest.approx(0.8 * 2 / 9)


def mean_of(values, **options):
    """The interval of a mean: each value and a one, summed and divided."""
    terms = np.column_stack([values, np.ones(len(values))])
    return bootstrap_sums(terms, lambda sums: sums[..., 0] / sums[..., 1], **options)


def test_intervals_repeat_with_their_seed_and_cover_the_mean():
    values = np.random.default_rng(1).random(50)
    interval = mean_of(values)
    assert interval == mean_of(values)
    assert interval != mean_of(values, seed=1)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.n == 50
    # The mean of many values is normal: +-1.96 standard errors.
    error = values.std() / math.sqrt(50)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_higher_levels_give_wider_intervals():
    values = np.arange(20.0)
    wide, narrow = (mean_of(values, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_single_units_have_no_interval():
    single = mean_of([0.5])
    assert (single.estimate, single.n) == (0.5, 1)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert math.isnan(mean_of([]).estimate)


def test_a_level_in_percent_is_refused():
    with pytest.raises(DataError, match=r"0\.95"):
        mean_of([1.0, 2.0], level=95)


def test_counts_are_pooled_within_each_draw():
    rng = np.random.default_rng(5)
    cells = rng.random((6, 16, 16)) > 0.3
    probability = np.clip(cells + 0.4 * rng.standard_normal(cells.shape), 0, 1)
    curves = score_stack(probability, cells)
    for curve in (curves.rand_error, curves.v_rand):
        interval = bootstrap_curve(curve, 0.5, num_resamples=200)
        sections = curve.sections_at(0.5)
        assert interval.estimate == curve.at(0.5)
        assert sections.min() <= interval.low < interval.high <= sections.max()
        assert interval.n == 6


def test_the_interval_of_an_undefined_score_is_undefined():
    curve = ThresholdCurve.macro("v_rand", np.array([0.5]), np.full((3, 1), np.nan))
    assert math.isnan(bootstrap_curve(curve, 0.5).estimate)
    truth = np.ones((5, 5), bool)
    truth[:, 2] = False
    maps = (truth * 1.0, np.zeros((5, 5)), truth * 1.0)  # the second is constant
    warping = collect_warping([warp_section(each, truth) for each in maps])
    assert math.isnan(warping.warping_error.at(0.5))
    assert math.isnan(bootstrap_curve(warping.warping_error, 0.5).estimate)


def test_the_configuration_knows_every_data_set_with_a_field_of_interest():
    assert set(get_args(FieldOfInterest)) == set(FIELD_BORDER_VOX)
