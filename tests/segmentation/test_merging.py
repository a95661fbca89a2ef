"""Objects that do not depend on how the volume was cut: partition, ids, sums, holes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes

from tests.stages.segmented import by_first_voxel, components
from unetpipe.segmentation.block_labels import HOLE, label_block
from unetpipe.segmentation.components import pairs_of_runs
from unetpipe.segmentation.merging import join_components
from unetpipe.segmentation.runs import (
    OWN,
    VOXELS,
    encode_runs,
    merge_components,
    pack_runs,
    paint_runs,
    sum_runs,
    unpack_runs,
)
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume


def blockwise(values, block, connectivity="3d", smallest=0, largest_hole=0):
    """Label block by block, join, paint: final ids and their sums."""
    values = values.astype(np.uint8)
    stored = (np.arange(values.size).reshape(values.shape) % 251).astype(np.uint8)
    looked_at = np.where(values > 0, values, HOLE) if largest_hole else values
    blocks, offsets = {}, {}
    kinds, sums, pairs, total = [], [], [np.zeros((0, 2), np.uint64)], 0
    for index in iterate_grid(whole_volume(values.shape), block):
        roi = grid_cell(index, block, values.shape)
        found = label_block(
            looked_at[roi.slices].astype(np.uint8),
            stored[roi.slices],
            roi,
            values.shape,
            connectivity,
            num_foreground=int((values[roi.slices] > 0).sum()),
            largest_hole=largest_hole,
        )
        blocks[index], offsets[index] = (roi, found), total
        kinds.append(found.kinds)
        sums.append(found.sums)
        pairs.append(found.inside + np.uint64(total))
        for axis in range(0 if connectivity == "3d" else 1, 3):
            if index[axis] == 0:
                continue
            before = tuple(i - (a == axis) for a, i in enumerate(index))
            touching = pairs_of_runs(
                blocks[before][1].faces[axis, 1], found.faces[axis, 0]
            )
            pairs.append(touching + np.array([offsets[before], total], np.uint64))
        total += found.count
    objects = join_components(
        np.concatenate(kinds),
        np.concatenate(sums),
        np.concatenate(pairs),
        volume_shape=values.shape,
        connectivity=connectivity,
        smallest=smallest,
        largest_hole=largest_hole,
    )
    ids = np.zeros(values.shape, np.uint64)
    for index, (roi, found) in blocks.items():
        first = offsets[index]
        table = objects.table[first : first + found.count + 1].copy()
        table[0] = 0
        ids[roi.slices] = paint_runs(found.runs, table, roi.shape)
    return ids, objects, stored


cuts = {
    "seed": st.integers(0, 10**6),
    "block": st.tuples(*[st.integers(1, 5)] * 3),
    "connectivity": st.sampled_from(["2d", "3d"]),
}


@settings(max_examples=settings.default.max_examples)
@given(density=st.sampled_from([0.2, 0.5, 0.6, 0.8]), **cuts)
def test_any_block_gives_the_ids_of_the_whole_volume(
    seed, density, block, connectivity
):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < density
    found, objects, stored = blockwise(mask, block, connectivity)
    expected = components(mask, connectivity)
    assert np.array_equal(found, expected)
    # Sums of sums equal those of the whole, to the last bit.
    runs = encode_runs(expected.astype(np.uint32))
    count = int(expected.max())
    assert np.array_equal(
        objects.sums, sum_runs(runs, count, stored, (0, 0, 0), mask.shape)
    )


@settings(max_examples=settings.default.max_examples)
@given(**cuts)
def test_classes_stay_apart(seed, block, connectivity):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, rng.integers(1, 8, 3)).astype(np.uint8)
    found, objects, _ = blockwise(classes, block, connectivity)
    assert np.array_equal(found, components(classes, connectivity))
    for id_, kind in enumerate(objects.kinds, start=1):
        assert (classes[found == id_] == kind).all()


def filled(mask, largest, connectivity):
    """Fill, object by object, what one object alone encloses: slow and literal."""
    objects = components(mask, connectivity).astype(np.int64)
    background = components(~mask, connectivity).astype(np.int64)
    axes = (0, 1, 2) if connectivity == "3d" else (1, 2)
    for hole in range(1, background.max() + 1):
        where = np.argwhere(background == hole)
        faces = [
            (where[:, a] == 0).any() or (where[:, a] == mask.shape[a] - 1).any()
            for a in axes
        ]
        around = set()
        for place in where:
            for a in axes:
                for step in (-1, 1):
                    other = place.copy()
                    other[a] += step
                    if 0 <= other[a] < mask.shape[a]:
                        around.add(int(objects[tuple(other)]))
        around.discard(0)
        if len(where) <= largest and not any(faces) and len(around) == 1:
            objects[background == hole] = around.pop()
    return by_first_voxel(objects)


@settings(max_examples=settings.default.max_examples)
@given(largest=st.integers(1, 9), density=st.sampled_from([0.6, 0.75, 0.85]), **cuts)
def test_holes_are_filled_as_in_the_whole_volume(
    seed, largest, density, block, connectivity
):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(3, 9, 3)) < density
    found, objects, _ = blockwise(mask, block, connectivity, largest_hole=largest)
    assert np.array_equal(found, filled(mask, largest, connectivity))
    sizes = np.bincount(found.ravel().astype(np.int64))[1:]
    assert objects.sums[:, VOXELS].tolist() == sizes.tolist()
    own = np.bincount(found[mask].astype(np.int64))[1:]
    assert objects.sums[:, OWN].tolist() == own.tolist()


def test_a_hole_across_eight_blocks_is_one_hole():
    mask = np.ones((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = False
    found, _, _ = blockwise(mask, (3, 3, 3), largest_hole=8)
    assert (found == 1).all()
    assert binary_fill_holes(mask).all()
    found, _, _ = blockwise(mask, (3, 3, 3), largest_hole=7)
    assert np.array_equal(found > 0, mask)


def test_a_hole_between_two_objects_is_none():
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 0:2, 0:3] = mask[0, 0:3, 0:2] = True  # two hooks that touch at corners
    mask[0, 2:5, 3:5] = mask[0, 3:5, 2:5] = True
    mask[0, 2, 2] = False
    found, _, _ = blockwise(mask, (1, 2, 3), "2d", largest_hole=5)
    assert np.unique(found).tolist() == [0, 1, 2]
    assert found[0, 2, 2] == 0


def test_an_object_that_winds_through_more_than_twenty_blocks_is_one_object():
    mask = np.zeros((1, 25, 25), bool)
    mask[0, ::4] = True
    for row in range(0, 24, 4):  # a serpentine: down on the right, then on the left
        mask[0, row : row + 5, 24 if row % 8 == 0 else 0] = True
    found, objects, _ = blockwise(mask, (1, 3, 3), "2d")
    touched = {(y // 3, x // 3) for _, y, x in np.argwhere(mask)}
    assert len(touched) > 20
    assert len(objects.kinds) == 1
    assert np.array_equal(found > 0, mask)


def test_an_object_across_four_blocks_is_one_object():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, 1:5, 1:5] = True
    assert blockwise(mask, (1, 3, 3), "2d")[0].max() == 1


def test_objects_that_touch_only_at_corners_of_blocks_stay_apart():
    mask = np.zeros((4, 4, 4), bool)
    mask[:2, :2, :2] = mask[2:, 2:, 2:] = True
    mask[:2, 2:, 2:] = (
        True  # this one shares an edge with the first, a face with the last
    )
    assert blockwise(mask, (2, 2, 2))[0].max() == 2
    mask[:2, 2:, 2:] = False
    assert blockwise(mask, (2, 2, 2))[0].max() == 2


def test_objects_of_sections_are_not_joined_in_2d():
    mask = np.ones((3, 2, 2), bool)
    assert blockwise(mask, (2, 1, 2), "2d")[0].max() == 3
    assert blockwise(mask, (2, 1, 2), "3d")[0].max() == 1


def test_small_objects_are_dropped_by_their_whole_size_not_their_size_in_a_block():
    mask = np.zeros((1, 1, 12), bool)
    mask[..., 0:2] = mask[..., 4:8] = True  # 4 voxels, cut in two by blocks of 6
    found, _, _ = blockwise(mask, (1, 1, 6), "2d", smallest=3)
    assert np.unique(found).tolist() == [0, 1]
    assert (found[..., 4:8] == 1).all()


@settings(max_examples=settings.default.max_examples)
@given(seed=st.integers(0, 10**6), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_runs_describe_labels_exactly(seed, shape):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, shape).astype(np.uint32)
    runs = encode_runs(labels)
    table = np.arange(4, dtype=np.uint64)
    assert np.array_equal(paint_runs(runs, table, shape), labels)
    assert np.array_equal(unpack_runs(*pack_runs(runs)), runs)
    assert (runs[:, 0] // shape[2] == (runs[:, 0] + runs[:, 1] - 1) // shape[2]).all()


def test_runs_far_apart_are_packed_without_loss():
    runs = np.array([[70_000, 1, 300], [2**32 - 9, 8, 70_000]], np.uint32)
    packed = pack_runs(runs)
    assert [column.dtype for column in packed] == ["uint32", "uint8", "uint32"]
    assert np.array_equal(unpack_runs(*packed), runs)


def test_sums_beyond_32_bits_are_exact():
    far = np.zeros((2, 13), np.int64)
    far[:, 0] = 2**40
    far[:, 4] = 2**61
    total = merge_components(far, np.array([0, 0]), 1)
    assert total[0, 0] == 2**41
    assert total[0, 4] == 2**62


def test_components_of_many_blocks_keep_their_first_voxel_order():
    mask = np.zeros((1, 4, 8), bool)
    mask[0, 0, 7] = mask[0, 1, 0] = mask[0, 3, 4] = True  # blocks meet them otherwise
    found, _, _ = blockwise(mask, (1, 4, 4), "2d")
    assert [int(found[0, 0, 7]), int(found[0, 1, 0]), int(found[0, 3, 4])] == [1, 2, 3]
    assert pytest.approx(found.sum()) == 6
