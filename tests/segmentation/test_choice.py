"""Threshold and smallest size are those that make the best objects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetpipe.metrics.cell_tracking import match_seg_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.segmentation.choice import (
    SEED_DISTANCES,
    THRESHOLDS,
    Cut,
    ObjectRule,
    ObjectSearch,
)
from unetpipe.segmentation.components import label_components
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.tiling.quantised import threshold_mask


def two_cells():
    """Two cells of 4 x 4, joined by a bridge of 120/255, with specks beside them."""
    truth = np.zeros((1, 6, 20), np.uint32)
    truth[0, 1:5, 1:5], truth[0, 1:5, 7:11] = 3, 9
    stored = np.where(truth > 0, 200, 0).astype(np.uint8)
    stored[0, 2, 5:7] = 120
    stored[0, 1, 14] = stored[0, 4, 14] = 255  # two specks of one voxel
    return stored, truth, np.zeros(truth.shape, bool)


def search(*images, smallest=None, connectivity="2d", **more):
    found = ObjectSearch(ObjectRule(connectivity, smallest, **more))
    for image in images:
        found.add(*image)
    return found


def test_the_threshold_cuts_the_bridge_and_the_size_drops_the_specks():
    choice = search(two_cells()).best("f1")
    # 120/255 = 0.47 joins the cells; 0.5 is nearest to 0.5 above it.
    assert (choice.threshold, choice.smallest_object_vox) == (0.5, 4)
    assert (choice.seg, choice.f1) == (1.0, 1.0)


def test_a_fixed_size_is_kept():
    choice = search(two_cells(), smallest=0).best("f1")
    assert (choice.threshold, choice.smallest_object_vox) == (0.5, 0)
    assert (choice.seg, choice.f1) == (1.0, pytest.approx(4 / 6))


def test_seg_asks_only_about_the_annotated_cells():
    stored, truth, _ = two_cells()
    unknown = truth == 9
    unknown[0, :, 12:] = True
    choice = search((stored, truth, unknown), smallest=0).best("seg")
    assert (choice.threshold, choice.seg) == (0.5, 1.0)
    assert choice.f1 == 1.0  # what lies where nobody annotated is not false


def test_seg_asks_nothing_about_what_nobody_annotated_of_a_cell():
    """The rim of a field of view cuts cells; what is found beyond it is not wrong."""
    stored, truth, unknown = two_cells()
    unknown[0, :, :4] = True  # of the first cell one column of four is annotated
    choice = search((stored, truth, unknown), smallest=0).best("seg")
    assert (choice.threshold, choice.seg) == (0.5, 1.0)


def test_one_section_without_background_changes_no_rule_where_another_has_some():
    """A cell that fills all that is annotated of a section, cut by the rim."""
    stored, truth, unknown = two_cells()
    unknown[0, :, :4] = True
    full = np.ones_like(truth), np.full_like(stored, 220), np.zeros_like(unknown)
    full[2][..., :4], full[1][..., :6] = True, 150
    found = search((stored, truth, unknown), (full[1], full[0], full[2]), smallest=0)
    choice = found.best("seg")
    assert (choice.threshold, choice.seg) == (0.5, 1.0)


def test_without_known_background_seg_sees_cells_that_are_too_large():
    """Where nothing but cells is annotated, what goes beyond them is too large."""
    stored, truth, _ = two_cells()
    stored[0, 1:5, 11:14] = 160
    choice = search((stored, truth, truth == 0), smallest=0).best("seg")
    assert (choice.threshold, choice.seg) == (0.7, 1.0)


def test_without_known_background_only_seg_is_defined():
    stored, truth, _ = two_cells()
    found = search((stored, truth, truth == 0))
    assert found.best("seg").seg == 1.0
    assert np.isnan(found.best("seg").f1)
    assert found.best("f1") is None


def test_frames_that_nobody_annotated_change_nothing():
    stored, truth, unknown = two_cells()
    more = stored * 0, truth, np.ones_like(unknown)
    assert search(two_cells(), more).best("seg") == search(two_cells()).best("seg")


def test_without_objects_seg_is_undefined_and_an_empty_result_is_right():
    stored, truth, unknown = two_cells()
    found = search((stored * 0, truth * 0, unknown))
    assert found.best("seg") is None
    assert found.best("f1").f1 == 1.0


def test_sizes_that_could_drop_true_objects_are_not_tried():
    stored, truth, unknown = two_cells()
    choice = search((stored * 0, truth, unknown)).best("f1")
    assert (choice.f1, choice.smallest_object_vox) == (0.0, 4)
    found = search(two_cells())
    allowed = sorted({each.smallest_object_vox for each in found._allowed()})
    assert allowed == [0, 4, 8]  # half of 16 voxels


@pytest.mark.parametrize(
    ("num_small", "side", "chosen"), [(0, 40, 256), (1, 40, 256), (3, 6, 8), (3, 2, 0)]
)
def test_what_is_far_smaller_than_true_objects_is_dropped_though_none_was_seen(
    num_small, side, chosen
):
    """Validation sections are few: the specks lie in others."""
    truth = np.zeros((1, 460, 240), np.uint32)
    for k in range(50):  # 40 x 40, of which some are smaller
        y, x = 45 * (k // 5), 45 * (k % 5)
        edge = side if k < num_small else 40
        truth[0, y : y + edge, x : x + edge] = k + 1
    stored = np.where(truth > 0, 200, 0).astype(np.uint8)
    choice = search((stored, truth, np.zeros(truth.shape, bool))).best("f1")
    assert (choice.f1, choice.smallest_object_vox) == (1.0, chosen)


def test_across_sections_an_object_may_be_one():
    truth = np.ones((2, 3, 3), np.uint32)
    image = np.full((2, 3, 3), 255, np.uint8), truth, np.zeros(truth.shape, bool)
    assert search(image, connectivity="3d")._truth_sizes[0].tolist() == [18]
    assert [s.tolist() for s in search(image)._truth_sizes] == [[9], [9]]


@settings(max_examples=15, deadline=None)
@given(
    hnp.arrays(np.uint8, (1, 5, 6), elements=st.sampled_from([0, 100, 140, 255])),
    hnp.arrays(np.uint8, (1, 5, 6), elements=st.integers(0, 3)),
)
def test_scores_are_those_of_the_metrics_at_the_choice(stored, truth):
    choice = search((stored, truth, np.zeros(truth.shape, bool)), smallest=2).best("f1")
    ids, _ = label_components(threshold_mask(stored, choice.threshold), "2d")
    sizes = np.bincount(ids.ravel())
    kept = np.where(sizes[ids] >= 2, ids, 0)
    table = ContingencyTable.from_arrays(truth, kept)
    assert choice.f1 == pytest.approx(match_instances(table).f1)
    np.testing.assert_allclose(choice.seg, match_seg_references(table).seg)


def test_thresholds_lie_between_0_and_1():
    assert THRESHOLDS[0] == 0.1
    assert THRESHOLDS[4] == 0.5
    assert THRESHOLDS[-1] == 0.9


def dumb_bells():
    """Two discs of radius 10 that touch in a neck of 7, as probable as the discs."""
    y, x = np.mgrid[:40, :60]
    left, right = ((y - 20) ** 2 + (x - c) ** 2 <= 100 for c in (20, 38))
    truth = np.zeros((1, 40, 60), np.uint32)
    truth[0, left], truth[0, right & ~left] = 4, 7
    stored = np.where(truth > 0, 230, 10).astype(np.uint8)
    return stored, truth, np.zeros(truth.shape, bool)


@pytest.mark.slow
def test_a_watershed_is_cut_where_validation_says():
    stored, truth, unknown = dumb_bells()
    joined = search((stored, truth, unknown)).best("seg")
    assert joined.seg <= 0.5  # components cannot tell the discs apart
    cut = search(
        (stored, truth, unknown),
        method="watershed",
        seed_distance_vox=None,
        seeds="auto",
    ).best("seg")
    assert cut.cut.distance in SEED_DISTANCES[cut.cut.seeds]
    assert cut.seg > 0.95
    assert cut.smallest_object_vox == 64  # a quarter of a disc


@pytest.mark.parametrize("distance", [3.0, 6.0])
def test_scores_of_a_watershed_are_those_of_the_objects_it_makes(distance):
    stored, truth, unknown = dumb_bells()
    found = search(
        (stored, truth, unknown),
        smallest=5,
        method="watershed",
        seed_distance_vox=distance,
        flood_threshold=0.2,
    )
    choice = found.best("f1")
    assert choice.cut == Cut("cores", distance)
    rule = SeedRule("2d", distance, 16, (1.0, 1.0, 1.0))
    ids = rule.objects(stored, choice.threshold, 0.2)
    sizes = np.bincount(ids.ravel())
    ids = np.where(sizes[ids] < 5, 0, ids)
    table = ContingencyTable.from_arrays(truth, ids)
    assert choice.f1 == pytest.approx(match_instances(table).f1)
    assert choice.seg == pytest.approx(match_seg_references(table).seg)


def test_a_watershed_floods_all_foreground_whatever_the_flood_threshold():
    _, truth, unknown = dumb_bells()
    faint = np.where(truth > 0, 100, 10).astype(np.uint8)  # 0.39 of 1
    given = {"method": "watershed", "smallest": 5, "seed_distance_vox": 6.0}
    choice = search((faint, truth, unknown), **given, flood_threshold=0.5).best("seg")
    assert choice == search((faint, truth, unknown), **given).best("seg")
    assert (choice.threshold, choice.seg > 0.9) == (0.3, True)


def test_depths_are_measured_in_voxels_of_the_section():
    image = dumb_bells()
    rule = ObjectRule("2d", 0, "watershed", None)
    plain, flat = ObjectSearch(rule), ObjectSearch(rule)
    plain.add(*image)
    flat.add(*image, voxel_size=(1.0, 190.0, 190.0))
    assert plain.best("seg") == flat.best("seg")


def test_objects_where_nobody_annotated_anything_are_not_counted():
    stored, truth, unknown = two_cells()
    wide = np.concatenate([stored, stored, stored], axis=2)
    nothing = np.zeros_like(truth)
    ids = np.concatenate([truth, nothing, nothing], axis=2)
    beyond = np.concatenate([unknown, ~unknown, ~unknown], axis=2)
    whole, part = search(two_cells()).best("f1"), search((wide, ids, beyond)).best("f1")
    assert (part.num_found, part.num_true) == (whole.num_found, whole.num_true)
