"""Components of one block, and what of them has to leave it: sums and faces."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.geometry import Roi, Zyx
from unetpipe.runs import OWN, STORED, Runs, Sums, encode_runs, sum_runs
from unetpipe.segmentation import Connectivity, face_pairs, label_components

# The kind of a component is the class of its voxels, or:
HOLE = 255

Pairs = NDArray[np.uint64]


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
    """

    runs: Runs
    kinds: NDArray[np.uint8]
    sums: Sums
    inside: Pairs
    faces: dict[tuple[int, int], Runs] = field(default_factory=dict)
    num_foreground: int = 0

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.kinds)


def label_block(
    values: NDArray[Any],
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
    values : bool or uint8 array, shape (z, y, x)
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
    labels, count = label_components(values, connectivity)
    runs = encode_runs(labels)
    kinds = np.zeros(count, np.uint8)
    # The first run of an id wins, because it is written last.
    kinds[runs[::-1, 2].astype(np.int64) - 1] = values.reshape(-1)[runs[::-1, 0]]
    sums = sum_runs(runs, count, stored, roi.start, volume_shape)
    sums[kinds == HOLE, OWN] = sums[kinds == HOLE, STORED] = 0
    inside = np.zeros((0, 2), np.uint64)
    if largest_hole:
        small = np.concatenate(
            [[False], (kinds == HOLE) & (sums[:, 0] <= largest_hole)]
        )
        inside = _around_holes(labels, small, connectivity)
    return LabelledBlock(
        runs, kinds, sums, inside, plane_runs(labels, connectivity), num_foreground
    )


def plane_runs(
    labels: NDArray[np.uint32], connectivity: Connectivity
) -> dict[tuple[int, int], Runs]:
    """Return the runs of the first and last plane along each axis that connects."""
    return {
        (axis, side): encode_runs(np.take(labels, -side, axis=axis))
        for axis in range(0 if connectivity == "3d" else 1, 3)
        for side in (0, 1)
    }


def _around_holes(
    labels: NDArray[np.uint32], is_small: NDArray[np.bool_], connectivity: Connectivity
) -> Pairs:
    """Return which components touch small holes."""
    found = [np.zeros((0, 2), np.uint64)]
    for axis in range(0 if connectivity == "3d" else 1, 3):
        length = labels.shape[axis]
        before = np.take(labels, range(length - 1), axis=axis)
        after = np.take(labels, range(1, length), axis=axis)
        edge = (before != after) & (is_small[before] | is_small[after])
        found.append(face_pairs(before[edge], after[edge]))
    return np.unique(np.concatenate(found), axis=0)


def face_name(axis: int, side: int) -> str:
    """Return what a face is called on disk."""
    return f"face_{'zyx'[axis]}_{('first', 'last')[side]}"
