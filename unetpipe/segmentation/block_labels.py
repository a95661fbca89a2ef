"""Components of one block, and what of them has to leave it: sums and faces."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.agglomeration import NO_EDGES, Edges
from unetpipe.segmentation.components import (
    Connectivity,
    face_pairs,
    label_runs,
    plane_runs,
)
from unetpipe.segmentation.runs import OWN, STORED, Runs, Sums, paint_runs, sum_runs
from unetpipe.tiling.boxes import Roi, Zyx

# The kind of a component is the class of its voxels, or:
HOLE = 255

Pairs = NDArray[np.uint64]
# Component, number of another block, voxel (flat index) there: the two are one object.
Links = NDArray[np.int64]
NO_LINKS: Links = np.zeros((0, 3), np.int64)


@dataclass(frozen=True, slots=True)
class LabelledBlock:
    """What is known of a block once its components are numbered from 1.

    Attributes
    ----------
    runs : Runs
        All its voxels that belong to a component.
    kinds : uint8 array, shape (count,)
        Class of each component, or ``HOLE``.
    sums : Sums
        Of each component.
    inside : uint64 array, shape (n, 2)
        Components of different kinds that touch, one of them a hole.
    faces : dict
        (axis, side) -> runs of the block's first (0) and last (1) plane.
    num_foreground : int
        Voxels of objects before any filter.
    links : int64 array, shape (n, 3)
        Which voxels of other blocks belong to components of this one, beside what
        touches across faces.
    edges : Edges
        Between fragments of affinities, called by their first voxels in the volume,
        from 1.
    """

    runs: Runs
    kinds: NDArray[np.uint8]
    sums: Sums
    inside: Pairs
    faces: dict[tuple[int, int], Runs] = field(default_factory=dict)
    num_foreground: int = 0
    links: Links = field(default_factory=NO_LINKS.copy)
    edges: Edges = field(default_factory=NO_EDGES.copy)

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.kinds)


def label_block(
    values: NDArray[np.uint8],
    stored: NDArray[np.uint8],
    roi: Roi,
    volume_shape: Zyx,
    connectivity: Connectivity,
    *,
    num_foreground: int,
    largest_hole: int = 0,
) -> LabelledBlock:
    """Return a block's components, numbered from 1, and what is known of them.

    Parameters
    ----------
    values : uint8 array, shape (z, y, x)
        Class of each voxel, ``HOLE`` where holes are looked for, 0 elsewhere. Voxels
        of different value never belong together.
    stored : uint8 array, shape (z, y, x)
        Stored probability of the class.
    roi : Roi
        The block's place in the volume.
    volume_shape : (z, y, x)
        Shape of the volume.
    connectivity : "2d" or "3d"
        Within each section, or across sections too; faces connect.
    num_foreground : int
        Voxels of objects in the block.
    largest_hole : int
        Background components of more voxels are no holes; 0: there are none at all.
    """
    axes = connected_axes(connectivity)
    runs, kinds = label_runs(values, across_sections=0 in axes)
    sums = sum_runs(runs, len(kinds), stored, roi.start, volume_shape)
    sums[kinds == HOLE, OWN] = sums[kinds == HOLE, STORED] = 0
    inside = np.zeros((0, 2), np.uint64)
    if largest_hole:
        small = np.concatenate(
            [[False], (kinds == HOLE) & (sums[:, 0] <= largest_hole)]
        )
        labels = paint_runs(runs, np.arange(len(small), dtype=np.uint32), roi.shape)
        inside = _around_holes(labels, small, axes)
    faces = plane_runs(runs, roi.shape, axes)
    return LabelledBlock(runs, kinds, sums, inside, faces, num_foreground)


def connected_axes(connectivity: Connectivity) -> range:
    """Return the axes along which voxels connect."""
    return range(0 if connectivity == "3d" else 1, 3)


def _around_holes(
    labels: NDArray[np.uint32], is_small: NDArray[np.bool_], axes: range
) -> Pairs:
    """Return which components touch small holes."""
    found = [np.zeros((0, 2), np.uint64)]
    for axis in axes:
        length = labels.shape[axis]
        before = np.take(labels, range(length - 1), axis=axis)
        after = np.take(labels, range(1, length), axis=axis)
        edge = (before != after) & (is_small[before] | is_small[after])
        found.append(face_pairs(before[edge], after[edge]))
    return np.unique(np.concatenate(found), axis=0)


def face_name(axis: int, side: int) -> str:
    """Return what a face is called on disk."""
    return f"face_{'zyx'[axis]}_{('first', 'last')[side]}"
