"""A watershed whose seeds no block decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from unetpipe.segmentation.components import label_components
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


def seen(rule, halo, shape, roi):
    box = roi.grow(halo).intersect(whole_volume(shape))
    return box, roi.relative_to(box.start).slices


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    block=st.tuples(*[st.integers(2, 13)] * 3),
    connectivity=st.sampled_from(["2d", "3d"]),
    distance=st.sampled_from([1.0, 2.5, 4.0]),
    reach=st.integers(1, 6),
    size=st.sampled_from([(1, 1, 1), (50, 4, 4), (2, 1, 1.5)]),
)
def test_seeds_do_not_depend_on_blocks(
    seed, block, connectivity, distance, reach, size
):
    mask = disks((6, 30, 34), seed)
    region = mask | (disks((6, 30, 34), seed + 1))
    rule = SeedRule(connectivity, distance, reach, size)
    expected = rule.seeds(mask, region)
    for index in iterate_grid(whole_volume(mask.shape), block):
        roi = grid_cell(index, block, mask.shape)
        box, inside = seen(rule, rule.halo, mask.shape, roi)
        found = rule.seeds(mask[box.slices], region[box.slices])[inside]
        assert np.array_equal(found, expected[roi.slices])


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (2.0, 1.0, 1.5)])
def test_depth_is_the_distance_to_the_background_in_the_shortest_edge(size):
    mask = disks((9, 40, 40), 3, count=60)
    mask[2:7, 5:35, 5:35] = True
    rule = SeedRule("3d", 5.0, 3, size)
    exact = distance_transform_edt(mask, sampling=size)
    expected = np.rint(np.minimum(exact, 6.0) * STEPS_PER_VOXEL)
    assert np.abs(rule.depth(mask) - expected).max() <= 1


def test_two_disks_with_a_neck_are_two_objects():
    y, x = np.ogrid[:21, :41]
    mask = ((y - 10) ** 2 + (x - 10) ** 2 < 81) | ((y - 10) ** 2 + (x - 29) ** 2 < 81)
    mask[9:12, 10:30] = True
    mask = mask[None]
    rule = SeedRule("2d", 4.0, 16, (1, 1, 1))
    seeds = rule.seeds(mask, mask).astype(np.uint64)
    seeds[..., 20:] *= 2
    flooded = rule.flood(rule.height(mask, np.zeros(mask.shape, np.uint8)), mask, seeds)
    assert np.array_equal(flooded > 0, mask)
    left, right = flooded[0, 10, 10], flooded[0, 10, 29]
    assert (left, right) == (1, 2)
    assert abs(np.count_nonzero(flooded == 1) - np.count_nonzero(flooded == 2)) < 25


def test_a_long_thin_process_is_an_object_of_its_own():
    mask = np.zeros((1, 30, 80), bool)
    mask[0, 5:25, :20] = True
    mask[0, 14:16, 20:] = True
    rule = SeedRule("2d", 4.0, 10, (1, 1, 1))
    seeds = rule.seeds(mask, mask)
    assert seeds[0, 15, 10]
    assert not seeds[0, 15, 22]
    assert seeds[0, 15, 40:].all()


@pytest.mark.parametrize("connectivity", ["2d", "3d"])
def test_floods_of_blocks_equal_that_of_the_whole_almost_everywhere(connectivity):
    shape, block = (6, 64, 64), (3, 16, 24)
    mask = disks(shape, 5, count=120)
    region = disks(shape, 6, count=120) | mask
    stored = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    rule = SeedRule(connectivity, 2.0, 8, (1, 1, 1))
    seeds = rule.seeds(mask, region)
    ids = label_components(seeds, connectivity)[0].astype(np.uint64)
    height = rule.height(mask, stored)
    expected = rule.flood(height, region, ids)
    assert len(np.unique(expected)) > 20
    found = np.zeros_like(expected)
    for index in iterate_grid(whole_volume(shape), block):
        roi = grid_cell(index, block, shape)
        box, inside = seen(rule, rule.flood_halo, shape, roi)
        flooded = rule.flood(height[box.slices], region[box.slices], ids[box.slices])
        found[roi.slices] = flooded[inside]
    assert np.array_equal(found > 0, expected > 0), "what is flooded is exact"
    assert np.array_equal(found[seeds], expected[seeds])
    share = np.count_nonzero(found != expected) / np.count_nonzero(expected)
    assert share < 0.01
