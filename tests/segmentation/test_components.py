"""Components that do not depend on how the volume was cut."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpipe.segmentation.thresholds import (
    choose_classes,
    face_pairs,
    fill_choices,
    label_components,
    merge_ids,
)
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume
from unetpipe.tiling.quantised import as_probability, threshold_mask


def blockwise(mask, block, connectivity, smallest=0):
    """Label block by block, merge across faces, relabel."""
    ids, sizes, offset = np.zeros(mask.shape, np.uint64), [np.zeros(1, np.int64)], 0
    pairs = [np.zeros((0, 2), np.uint64)]
    for index in iterate_grid(whole_volume(mask.shape), block):
        roi = grid_cell(index, block, mask.shape)
        labels, count = label_components(mask[roi.slices], connectivity)
        ids[roi.slices] = np.where(labels > 0, labels + np.uint64(offset), 0)
        sizes.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        for axis in range(0 if connectivity == "3d" else 1, 3):
            if roi.start[axis]:
                before = list(roi.slices)
                before[axis] = slice(roi.start[axis] - 1, roi.start[axis])
                after = np.take(ids[roi.slices], [0], axis=axis)
                pairs.append(face_pairs(ids[tuple(before)], after))
        offset += count
    table = merge_ids(offset, np.concatenate(pairs), np.concatenate(sizes), smallest)
    return table[ids]


def whole(mask, connectivity):
    if connectivity == "3d":
        return cc3d.connected_components(mask, connectivity=6)
    return label_components(mask, "2d")[0]


def same_partition(one, two):
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    density=st.sampled_from([0.2, 0.5, 0.6, 0.8]),
    block=st.tuples(*[st.integers(1, 5)] * 3),
    connectivity=st.sampled_from(["2d", "3d"]),
)
def test_any_block_size_gives_the_same_partition(seed, density, block, connectivity):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < density
    found = blockwise(mask, block, connectivity)
    assert same_partition(found, whole(mask, connectivity))
    assert set(np.unique(found)) - {0} == set(range(1, int(found.max()) + 1))


def test_an_object_that_winds_through_many_blocks_is_one_object():
    mask = np.zeros((1, 21, 21), bool)
    mask[0, ::4] = True
    mask[0, :, 0] = mask[0, :, 20] = False
    mask[0, 0:17:8, 20] = True
    for row in range(0, 20, 4):  # a serpentine
        mask[0, row : row + 5, 19 if row % 8 == 0 else 1] = True
    assert blockwise(mask, (1, 3, 3), "2d").max() == 1


def test_objects_that_touch_only_at_corners_stay_apart():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :2] = mask[0, 2:, 2:] = True
    assert blockwise(mask, (1, 2, 2), "2d").max() == 2


def test_objects_of_sections_are_not_joined_in_2d():
    mask = np.ones((3, 2, 2), bool)
    assert blockwise(mask, (2, 1, 2), "2d").max() == 3
    assert blockwise(mask, (2, 1, 2), "3d").max() == 1


def test_small_objects_are_dropped_by_their_whole_size_not_their_size_in_a_block():
    mask = np.zeros((1, 1, 12), bool)
    mask[..., 0:2] = mask[..., 4:8] = True  # 4 voxels, cut in two by blocks of 6
    found = blockwise(mask, (1, 1, 6), "2d", smallest=3)
    assert np.unique(found).tolist() == [0, 1]
    assert (found[..., 4:8] == 1).all()


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_the_mask_is_what_the_metrics_threshold(threshold):
    stored = np.arange(256, dtype=np.uint8)
    mask = threshold_mask(stored, threshold)
    assert np.array_equal(mask, as_probability(stored) > np.float64(threshold))
    assert not mask[0]
    assert mask.sum() == pytest.approx(255 * (1 - threshold), abs=1.5)


NOTHING_SET = {"threshold": None, "smallest_object_vox": "auto"}


@pytest.mark.parametrize(
    ("settings", "thresholds", "filled", "source"),
    [
        (NOTHING_SET, {}, (0.5, 0, None), "default: none was chosen in validation"),
        (
            NOTHING_SET,
            {"segmentation": 0.35, "seg": 0.35, "smallest_object_vox": 64.0},
            (0.35, 64, None),
            "validation rows",
        ),
        (
            {"threshold": 0.9, "smallest_object_vox": 7},
            {"segmentation": 0.35, "smallest_object_vox": 64.0},
            (0.9, 7, None),
            "configuration",
        ),
        (
            NOTHING_SET,
            {"class_1": 0.4, "class_2": 0.2},
            (0.5, 0, {1: 0.4, 2: 0.2}),
            "default: none was chosen in validation",
        ),
    ],
)
def test_what_the_configuration_leaves_open_comes_from_validation(
    settings, thresholds, filled, source
):
    found, where = fill_choices(settings, thresholds)
    names = ("threshold", "smallest_object_vox", "class_thresholds")
    assert tuple(found[name] for name in names) == filled
    assert where == source


def test_a_class_needs_its_own_threshold_and_the_largest_excess_wins():
    probability = np.array(
        [[[[0, 200, 100, 40]]], [[[255, 30, 80, 100]]], [[[0, 25, 75, 115]]]], np.uint8
    )
    # thresholds 0.5 = 127.5 and 0.2 = 51 of 255
    classes = choose_classes(probability, {1: 0.5, 2: 0.2})
    assert classes.tolist() == [[[1, 0, 2, 2]]]
    assert choose_classes(probability, {2: 0.2}).tolist() == [[[0, 0, 2, 2]]]


def test_pairs_of_ids_beyond_32_bits_are_found_like_others():
    before = np.array([0, 1, 1, 2, 2], np.uint64)
    after = np.array([5, 0, 3, 4, 4], np.uint64)
    expected = [[1, 3], [2, 4]]
    assert face_pairs(before, after).tolist() == expected
    far = np.uint64(2**40)
    beyond = face_pairs(np.where(before > 0, before + far, 0), after)
    assert beyond.tolist() == [[1 + 2**40, 3], [2 + 2**40, 4]]
