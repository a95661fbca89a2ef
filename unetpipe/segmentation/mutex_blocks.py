"""A block of affinities: its fragments, and what their pairs of voxels say.

::

    block 0       | block 1       No fragment leaves its box, and no box its block.
    a a a b b b b | c c c d       Pairs of b and c are counted by the block that holds
              b . . . c           their voxel; it makes the boxes beside itself once
                                  more, and calls c by its first voxel.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.agglomeration import (
    ONE,
    TWO,
    Edges,
    agglomerate,
    edges_between,
    sum_edges,
)
from unetpipe.segmentation.block_labels import LabelledBlock, connected_axes
from unetpipe.segmentation.mutex import MutexRule
from unetpipe.segmentation.runs import encode_runs, sum_runs
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, whole_volume
from unetpipe.tiling.unet_spec import is_nearest_offset

Stored = NDArray[np.uint8]


class AffinitySource(Protocol):
    """Where a box of a prediction is read."""

    def read_affinities(self, roi: Roi) -> tuple[Stored, NDArray[np.bool_]]:
        """Return foreground and affinities as stored, and the voxels of objects."""

    def num_foreground(self, classes: Any, stored: Stored) -> int:
        """Return how many voxels of a box are foreground, whatever objects grow to."""


def cut_block_by_mutex(
    source: AffinitySource, rule: MutexRule, roi: Roi, grids: tuple[Zyx, Zyx]
) -> LabelledBlock:
    """Return a block's fragments, as the whole volume has them, and their edges.

    Parameters
    ----------
    source : AffinitySource
        Reads a box of the volume.
    rule : MutexRule
        How fragments are made.
    roi : Roi
        The block's voxels: whole shards.
    grids : (z, y, x), (z, y, x)
        Shape of the shards, in which boxes begin anew, and of the volume.
    """
    shard, volume_shape = grids
    seen = roi.grow(rule.halo).intersect(whole_volume(volume_shape))
    boxes = list(rule.boxes(seen, shard, volume_shape))
    wide = seen
    for box in boxes:
        wide = wide.around(box)
    stored, region = source.read_affinities(wide)
    names = _name_fragments(stored[1:], region, rule, boxes, wide, volume_shape)
    inside = roi.relative_to(wide.start).slices
    known, numbers = np.unique(names[inside], return_inverse=True)
    count = len(known) - (known[0] == 0)
    labels = numbers.reshape(roi.shape).astype(np.uint32) + np.uint32(known[0] != 0)
    runs, foreground = encode_runs(labels), np.ascontiguousarray(stored[0][inside])
    axes = connected_axes(rule.connectivity)
    faces = [(axis, side) for axis in axes for side in (0, 1)]
    return LabelledBlock(
        runs=runs,
        kinds=np.ones(count, np.uint8),
        sums=sum_runs(runs, count, foreground, roi.start, volume_shape),
        inside=np.zeros((0, 2), np.uint64),
        faces=dict.fromkeys(faces, np.zeros((0, 3), np.uint32)),
        num_foreground=source.num_foreground(labels, foreground),
        edges=_find_edges(names, stored[1:], rule, roi.relative_to(wide.start)),
    )


def make_objects(
    stored: Stored,
    region: NDArray[np.bool_],
    rule: MutexRule,
    thresholds: list[float],
    smallest: int,
) -> dict[float, NDArray[np.int64]]:
    """Return the objects of an image that is seen as a whole, for several thresholds.

    Parameters
    ----------
    stored : uint8 array, shape (1 + offsets, z, y, x)
        Foreground and affinities.
    region : bool array, shape (z, y, x)
        Voxels of objects.
    rule : MutexRule
    thresholds : list of float
        Mean affinities above which fragments are joined.
    smallest : int
        Objects of fewer voxels join the most alike one that they touch.
    """
    whole = whole_volume(as_zyx(region.shape))
    boxes = list(rule.boxes(whole, whole.shape, whole.shape))
    names = _name_fragments(stored[1:], region, rule, boxes, whole, whole.shape)
    edges = _find_edges(names, stored[1:], rule, whole)
    known, numbers, voxels = np.unique(
        names[region], return_inverse=True, return_counts=True
    )
    ranked = edges.copy()
    ranked[:, [ONE, TWO]] = np.searchsorted(known, edges[:, [ONE, TWO]])
    found = {}
    for threshold in thresholds:
        objects = np.zeros(region.shape, np.int64)
        if known.size:
            joined = agglomerate(ranked, voxels, threshold=threshold, smallest=smallest)
            objects[region] = joined[numbers.reshape(-1)] + 1
        found[threshold] = objects
    return found


def _name_fragments(
    affinities: Stored,
    region: NDArray[np.bool_],
    rule: MutexRule,
    boxes: list[Roi],
    wide: Roi,
    volume_shape: Zyx,
) -> NDArray[np.int64]:
    """Return fragments, named by their first voxels in the volume, from 1.

    Parameters
    ----------
    affinities : uint8 array, shape (offsets, z, y, x)
    region : bool array, shape (z, y, x)
    rule : MutexRule
    boxes : list of Roi
        Of the volume; others stay 0.
    wide : Roi
        The place of the arrays in the volume.
    volume_shape : (z, y, x)
    """
    names = np.zeros(region.shape, np.int64)
    _, height, width = volume_shape
    for box in boxes:
        here = box.relative_to(wide.start).slices
        found = rule.fragments(affinities[(slice(None), *here)], region[here])
        flat = found.reshape(-1)
        fragments, first = np.unique(flat, return_index=True)
        z, y, x = np.unravel_index(first, box.shape)
        z, y, x = (n + a for n, a in zip((z, y, x), box.start, strict=True))
        table = np.zeros(int(fragments[-1]) + 1, np.int64)
        table[fragments] = (z * height + y) * width + x + 1
        table[0] = 0
        names[here] = table[found]
    return names


def _find_edges(
    names: NDArray[np.int64], affinities: Stored, rule: MutexRule, inside: Roi
) -> Edges:
    """Return the edges of pairs whose first voxel lies in a box, by names.

    Parameters
    ----------
    names : int64 array, shape (z, y, x)
        Fragments.
    affinities : uint8 array, shape (offsets, z, y, x)
    rule : MutexRule
    inside : Roi
        The box, in the arrays; what its pairs reach is named too.
    """
    whole = whole_volume(as_zyx(names.shape))
    edges = []
    for k in rule.used:
        offset = rule.offsets[k]
        back = as_zyx(-n for n in offset)
        others = inside.relative_to(back).intersect(whole)
        own = others.relative_to(offset)
        edges.append(
            edges_between(
                names[own.slices],
                names[others.slices],
                affinities[(k, *own.slices)],
                is_nearest=is_nearest_offset(offset),
            )
        )
    return sum_edges(edges)
