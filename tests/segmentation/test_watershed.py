"""A watershed whose seeds no block decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from unetpipe.segmentation.watershed import STEPS_PER_VOXEL, SeedRule
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume


def disks(shape, seed, *, count=40, radius=(3, 7)):
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[1], : shape[2]]
    mask = np.zeros(shape, bool)
    for _ in range(count):
        z = rng.integers(0, shape[0])
        cy, cx = rng.integers(0, shape[1]), rng.integers(0, shape[2])
        r = rng.uniform(*radius)
        mask[z] |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
    return mask


@pytest.mark.slow
@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    block=st.tuples(*[st.integers(3, 17)] * 3),
    connectivity=st.sampled_from(["2d", "3d"]),
    kind=st.sampled_from(["cores", "depth", "probability", "learnt"]),
    distance=st.sampled_from([1.0, 2.5, 4.0]),
    reach=st.integers(1, 6),
    size=st.sampled_from([(1, 1, 1), (50, 4, 4), (2, 1, 1.5)]),
)
def test_objects_do_not_depend_on_blocks(
    seed, block, connectivity, kind, distance, reach, size
):
    """A block may not see that two pieces are one object: that the merge finds out."""
    shape = (5, 24, 28)
    mask = disks(shape, seed, count=20)
    region = mask | disks(shape, seed + 1, count=20)
    stored = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    stored = np.where(mask, stored | 128, stored // 2)
    rule = SeedRule(connectivity, distance, reach, size, kind, 0.7)
    core = np.where(disks(shape, seed + 2, count=20), 255, stored).astype(np.uint8)
    seen = mask, region, stored, core
    expected, expected_seeds = rule.cut(*seen)
    for index in iterate_grid(whole_volume(shape), block):
        roi = grid_cell(index, block, shape)
        box = roi.grow(rule.halo).intersect(whole_volume(shape))
        inside = roi.relative_to(box.start).slices
        found = rule.cut(*(array[box.slices] for array in seen))
        for one, whole in zip(found, (expected, expected_seeds), strict=True):
            pieces = np.stack([one[inside], whole[roi.slices]]).reshape(2, -1)
            assert np.array_equal(pieces[0] > 0, pieces[1] > 0)
            pairs = np.unique(pieces, axis=1)
            assert len(np.unique(pairs[0])) == pairs.shape[1], "each of one object"


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (2.0, 1.0, 1.5)])
def test_depth_is_the_distance_to_the_background_in_the_shortest_edge(size):
    mask = disks((9, 40, 40), 3, count=60)
    mask[2:7, 5:35, 5:35] = True
    rule = SeedRule("3d", 5.0, 3, size)
    exact = distance_transform_edt(mask, sampling=size)
    expected = np.rint(np.minimum(exact, rule.deepest) * STEPS_PER_VOXEL)
    assert np.abs(rule.depth(mask) - expected).max() <= 1


def two_disks(left=9, right=9):
    """Two discs that touch, with a neck."""
    y, x = np.ogrid[:31, :61]
    one = (y - 15) ** 2 + (x - 15) ** 2 < left**2
    two = (y - 15) ** 2 + (x - 15 - left - right) ** 2 < right**2
    mask = one | two
    mask[14:17, 15 : 15 + left + right] = True
    return mask[None]


def objects_of(mask, rule):
    return rule.objects(np.where(mask, 200, 10).astype(np.uint8), 0.5, 0.5)


@pytest.mark.parametrize(("kind", "distance"), [("cores", 4.0), ("depth", 4.0)])
def test_two_disks_with_a_neck_are_two_objects(kind, distance):
    mask = two_disks()
    found = objects_of(mask, SeedRule("2d", distance, 16, (1, 1, 1), kind))
    assert np.array_equal(found > 0, mask)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert found[0, 15, 15] != found[0, 15, 33]
    assert abs(np.count_nonzero(found == 1) - np.count_nonzero(found == 2)) < 25


def test_a_large_and_a_small_disk_part_at_their_neck():
    """Not midway between their centres, 14 and 6 from it."""
    mask = two_disks(14, 6)
    found = objects_of(mask, SeedRule("2d", 4.0, 32, (1, 1, 1), "depth"))
    assert sorted(np.unique(found)) == [0, 1, 2]
    row = found[0, 15]
    assert abs(int(np.flatnonzero(row == row[35])[0]) - 29) <= 1


def test_cores_of_one_depth_cannot_tell_what_peaks_of_depth_can():
    """Seeds of two sizes: no depth of cores keeps the small disk and cuts the neck."""
    mask = two_disks(14, 5)
    mask[0, 11:20, 25:32] = True  # a neck of 9 beside a disk of 9
    for distance in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0):
        rule = SeedRule("2d", distance, 32, (1, 1, 1), "cores")
        assert len(np.unique(objects_of(mask, rule))) == 2


def test_what_is_equally_deep_has_one_seed():
    mask = np.zeros((1, 24, 50), bool)
    mask[0, 2:22, 2:22] = mask[0, 2:22, 28:48] = True  # four deepest voxels each
    rule = SeedRule("2d", 3.0, 40, (1, 1, 1), "depth")
    assert objects_of(mask, rule).max() == 2


def test_a_long_thin_process_is_an_object_of_its_own():
    mask = np.zeros((1, 30, 80), bool)
    mask[0, 5:25, :20] = True
    mask[0, 14:16, 20:] = True
    rule = SeedRule("2d", 4.0, 10, (1, 1, 1))
    _, seeds = rule.cut(mask, mask, np.where(mask, 200, 0).astype(np.uint8))
    assert seeds[0, 15, 10]
    assert not seeds[0, 15, 22]
    assert seeds[0, 15, 40:].all()
