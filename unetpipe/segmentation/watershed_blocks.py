"""A block of a seeded watershed: its objects, and which are those of other blocks.

::

    block 0 | block 1        The seed of the object on the left lies in block 1, within
    a a a a | a A A b b      reach: block 0 names a voxel of it there, and the merge
    . . . . | . . . B b      looks up what block 1 calls that voxel.
"""

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.block_labels import LabelledBlock, Links, connected_axes
from unetpipe.segmentation.classes import ClassSource
from unetpipe.segmentation.runs import encode_runs, sum_runs
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    grid_cell,
    grid_number,
    grid_shape,
    iterate_grid,
    whole_volume,
)


def cut_block_by_watershed(
    source: ClassSource, rule: SeedRule, roi: Roi, block: Zyx, volume_shape: Zyx
) -> LabelledBlock:
    """Return a block's objects, as the whole volume has them.

    Parameters
    ----------
    source : ClassSource
        Mask and region of each class.
    rule : SeedRule
        Where seeds lie, and how far they flood.
    roi : Roi
        The block's voxels.
    block, volume_shape : (z, y, x)
        Of all blocks, and of the volume.
    """
    whole = whole_volume(volume_shape)
    seen = roi.grow(rule.halo).intersect(whole)
    near = roi.grow(rule.flood_halo).intersect(whole)
    classes, stored, region = source.read_region(seen)
    core = source.read_core(seen) if rule.kind == "learnt" else None
    objects = np.zeros(seen.shape, np.uint32)
    seeds, kinds, count = np.zeros_like(objects), [np.zeros(1, np.uint8)], 0
    for class_ in source.object_classes(region):
        found, cores = rule.cut(classes == class_, region == class_, stored, core)
        for total, more in ((objects, found), (seeds, cores)):
            np.copyto(total, more + np.uint32(count), where=more > 0)
        kinds.append(np.full(int(cores.max(initial=0)), class_, np.uint8))
        count += len(kinds[-1])
    inside = roi.relative_to(seen.start).slices
    known, labels = _compact(objects[inside], count)
    runs = encode_runs(labels)
    axes = connected_axes(rule.connectivity)
    faces = [(axis, side) for axis in axes for side in (0, 1)]
    cut = near.relative_to(seen.start).slices
    return LabelledBlock(
        runs=runs,
        kinds=np.concatenate(kinds)[known],
        sums=sum_runs(runs, len(known), stored[inside], roi.start, volume_shape),
        inside=np.zeros((0, 2), np.uint64),
        # What touches across a face may be another object.
        faces=dict.fromkeys(faces, np.zeros((0, 3), np.uint32)),
        num_foreground=source.num_foreground(classes[inside], stored[inside]),
        links=_find_links(seeds[cut], known, near, roi, (block, volume_shape)),
    )


def _compact(
    objects: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the ids that occur, without 0, and the array numbered by them from 1."""
    known = np.unique(objects[objects > 0])
    table = np.zeros(count + 1, np.uint32)
    table[known] = np.arange(1, len(known) + 1)
    return known, table[objects]


def _find_links(
    seeds: NDArray[np.uint32],
    known: NDArray[np.uint32],
    near: Roi,
    roi: Roi,
    grid: tuple[Zyx, Zyx],
) -> Links:
    """Return where in other blocks the seeds of a block's objects lie.

    Parameters
    ----------
    seeds : uint32 array, shape of ``near``
        Ids of the seeds.
    known : uint32 array
        Those whose objects have voxels in the block.
    near, roi : Roi
        What is seen of the seeds, and the block.
    grid : (z, y, x), (z, y, x)
        Shape of blocks, and of the volume.
    """
    block, volume_shape = grid
    counts = grid_shape(volume_shape, block)
    links = [np.zeros((0, 3), np.int64)]
    for index in iterate_grid(near, block):
        other = grid_cell(index, block, volume_shape)
        if other == roi:
            continue
        shared = other.intersect(near)
        ids, first = np.unique(
            seeds[shared.relative_to(near.start).slices], return_index=True
        )
        places = np.searchsorted(known, ids)
        is_ours = np.isin(ids, known)
        at = np.unravel_index(first[is_ours], shared.shape)
        begin = shared.relative_to(other.start).start
        voxels = np.ravel_multi_index(
            tuple(a + b for a, b in zip(at, begin, strict=True)), other.shape
        )
        number = np.full(len(voxels), grid_number(index, counts))
        links.append(np.stack([places[is_ours] + 1, number, voxels], axis=1))
    return np.concatenate(links)
