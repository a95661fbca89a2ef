"""Mutex watershed and agglomeration: as plainly written, alike for any blocks."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.segmentation.drawn import OFFSETS, draw_affinities
from unetpipe.segmentation.agglomeration import agglomerate, sum_edges
from unetpipe.segmentation.block_files import BlockFiles
from unetpipe.segmentation.merging import FinalIds, LabelledBlocks
from unetpipe.segmentation.mutex import MutexRule
from unetpipe.segmentation.mutex_blocks import cut_block_by_mutex, make_objects
from unetpipe.tiling.boxes import Roi, whole_volume


def cut_plainly(affinities, region, offsets):
    """A mutex watershed as its paper has it: sets of voxels, pairs of sets."""
    pairs = []
    for k, offset in enumerate(offsets):
        attracts = sum(map(abs, offset)) == 1
        for voxel in np.ndindex(region.shape):
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            sides = zip(other, region.shape, strict=True)
            is_inside = all(0 <= a < n for a, n in sides)
            if is_inside and region[voxel] and region[other]:
                stored = int(affinities[(k, *voxel)])
                strength = stored if attracts else 255 - stored
                pairs.append((-strength, k, voxel, other, attracts))
    inside = [tuple(voxel) for voxel in np.argwhere(region).tolist()]
    sets = {voxel: frozenset([voxel]) for voxel in inside}
    forbidden = set()
    for _, _, one, two, attracts in sorted(pairs):
        first, second = sets[one], sets[two]
        if first is second or frozenset([first, second]) in forbidden:
            continue
        if not attracts:
            forbidden.add(frozenset([first, second]))
            continue
        union = first | second
        forbidden = {
            frozenset(union if part in (first, second) else part for part in pair)
            for pair in forbidden
        }
        for voxel in union:
            sets[voxel] = union
    found, numbers = np.zeros(region.shape, np.int64), {}
    for voxel in np.ndindex(region.shape):
        if region[voxel]:
            found[voxel] = numbers.setdefault(sets[voxel], len(numbers) + 1)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_mutex_watershed_is_that_of_its_paper(seed):
    stored, region = draw_affinities((4, 9, 11), seed)
    rule = MutexRule("3d", OFFSETS, (64, 64, 64))
    found = rule.fragments(stored[1:], region)
    plainly = cut_plainly(stored[1:], region, OFFSETS)
    assert found.max() > 3, "too easy to tell anything"
    np.testing.assert_array_equal(found, plainly)


def test_within_sections_pairs_across_them_count_nothing():
    stored, region = draw_affinities((4, 9, 9))
    rule = MutexRule("2d", OFFSETS, (64, 64, 64))
    found = rule.fragments(stored[1:], region)
    flat = MutexRule("2d", OFFSETS, (1, 64, 64))
    for z in range(4):
        alone = flat.fragments(stored[1:, z : z + 1], region[z : z + 1])[0]
        ids, same = np.unique(found[z], return_inverse=True)
        shift = 0 if ids[0] == 0 else 1
        np.testing.assert_array_equal(same.reshape(9, 9) + shift, alone)


def join_plainly(edges, voxels, threshold, smallest):
    """Average linkage: all means are looked at again after each step."""
    sums = {(int(a), int(b)): [int(n) for n in rest] for a, b, *rest in edges}
    sizes, parts = dict(enumerate(voxels)), {i: {i} for i in range(len(voxels))}

    def join(one, two):
        one, two = min(one, two), max(one, two)
        sizes[one] += sizes.pop(two)
        parts[one] |= parts.pop(two)
        for a, b in [pair for pair in sums if two in pair]:
            other, moved = (a if b == two else b), sums.pop((a, b))
            if other != one:
                key = (min(one, other), max(one, other))
                old = sums.get(key, [0, 0, 0])
                sums[key] = [m + n for m, n in zip(old, moved, strict=True)]

    while True:
        means = {p: s / n for p, (s, n, near) in sums.items() if near}
        best = max(means, key=means.get, default=None)
        if best is None or means[best] <= threshold * 255:
            break
        join(*best)
    while True:
        means = {p: s / n for p, (s, n, near) in sums.items() if near}
        small = {i: n for i, n in sizes.items() if n < smallest}
        small = [i for i in small if any(i in pair for pair in means)]
        if not small:
            break
        one = min(small, key=lambda i: sizes[i])
        join(*max((p for p in means if one in p), key=means.get))
    return {frozenset(part) for part in parts.values()}


@pytest.mark.parametrize("smallest", [0, 40])
@pytest.mark.parametrize("seed", range(6))
def test_fragments_are_joined_by_their_mean_as_plainly_written(seed, smallest):
    rng = np.random.default_rng(seed)
    count = 40
    ends = rng.integers(0, count, (150, 2))
    ends = ends[ends[:, 0] != ends[:, 1]]
    pairs = rng.integers(1, 1000, len(ends))
    sums = (pairs * rng.random(len(ends)) * 255).astype(int)
    near = rng.integers(0, 3, len(ends))
    edges = sum_edges([np.column_stack([ends, sums, pairs, near])])
    voxels = rng.permutation(np.arange(1, count + 1))
    found = agglomerate(edges, voxels, threshold=0.6, smallest=smallest)
    parts = {frozenset(np.flatnonzero(found == i).tolist()) for i in set(found)}
    assert parts == join_plainly(edges, voxels, 0.6, smallest)


def objects_by_blocks(stored, region, rule, shard, shards_a_block, folder, order):
    """What parts, order and blocks make of a volume."""
    shape = region.shape
    block = tuple(n * k for n, k in zip(shard, shards_a_block, strict=True))
    blocks = LabelledBlocks(BlockFiles(folder, "x"), shape, block, rule.connectivity)
    source = SimpleNamespace(
        read_affinities=lambda roi: (stored[(..., *roi.slices)], region[roi.slices]),
        num_foreground=lambda labels, _: np.count_nonzero(labels),
    )
    numbers = range(np.prod(blocks.counts))
    for number in order(numbers):
        roi = blocks.roi(number)
        blocks.save(number, cut_block_by_mutex(source, rule, roi, (shard, shape)))
    merged = blocks.merge(numbers, smallest=4, largest_hole=0, merge_threshold=0.55)
    ids = FinalIds(merged.objects.table, merged.offsets)
    return blocks.paint(whole_volume(shape), ids), merged.num_foreground


@pytest.mark.parametrize("connectivity", ["2d", "3d"])
def test_blocks_and_their_order_change_no_object(tmp_path, connectivity):
    stored, region = draw_affinities((11, 26, 30), 5)
    rule, shard = MutexRule(connectivity, OFFSETS, (4, 7, 6)), (6, 12, 12)
    one, counted = objects_by_blocks(
        stored, region, rule, shard, (2, 3, 3), tmp_path / "one", list
    )
    assert one.max() > 20
    assert ((one > 0) <= region).all()
    assert counted == region.sum()
    for name, shards, order in (("a", (1, 1, 1), reversed), ("b", (1, 2, 1), list)):
        other, again = objects_by_blocks(
            stored, region, rule, shard, shards, tmp_path / name, order
        )
        np.testing.assert_array_equal(one, other)
        assert again == counted
    merged = make_objects_of(stored, region, rule)
    alike = objects_by_blocks(
        stored, region, rule, region.shape, (1, 1, 1), tmp_path / "w", list
    )[0]
    is_kept = alike > 0
    pairs = np.unique(np.stack([alike[is_kept], merged[is_kept]]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def make_objects_of(stored, region, rule):
    return make_objects(stored, region, rule, [0.55], 4)[0.55]


def test_boxes_begin_anew_with_each_shard_and_cover_what_is_seen():
    rule = MutexRule("3d", OFFSETS, (4, 5, 8))
    boxes = list(rule.boxes(whole_volume((6, 14, 9)), (6, 7, 9), (6, 14, 9)))
    counts = np.zeros((6, 14, 9), int)
    for box in boxes:
        counts[box.slices] += 1
    assert (counts == 1).all()
    assert Roi((0, 7, 0), (4, 12, 8)) in boxes
    touched = list(rule.boxes(Roi((5, 6, 0), (6, 8, 1)), (6, 7, 9), (6, 14, 9)))
    assert touched == [Roi((4, 5, 0), (6, 7, 8)), Roi((4, 7, 0), (6, 12, 8))]
