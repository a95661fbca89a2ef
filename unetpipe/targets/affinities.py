"""Affinities: which voxels are of one cell, pair by pair, for each of some offsets.

::

    cells             1 1 1 2 2 . . 3 3      . background
    offset 0 0 -1     ? 1 1 0 1 0 0 0 1      1 voxel and neighbour are of one cell
    offset 0 0 -3     ? ? ? 0 0 0 0 0 0      ? the other one is not seen

Nothing has to be left out between cells that touch, and what is thin keeps its pairs.
Pairs with background are not alike; of pairs with a voxel that nobody annotated nothing
is known.

Notes
-----
Turaga et al. 2010, doi:10.1162/neco.2009.10-08-881; long range: Lee et al. 2017,
arXiv:1706.00120.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.targets.weight_map import UNLABELLED, balance_classes
from unetpipe.tiling.boxes import Halo, Roi, Zyx, as_zyx

UNKNOWN = -1  # id of voxels that nobody annotated, or that are not seen
LARGEST_SLAB = 2**24  # voxels of labels that are looked at together


def pair_slices(offset: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where voxels lie whose partner is seen, and where the partners lie.

    Examples
    --------
    >>> ids = np.array([4, 4, 7])
    >>> here, there = pair_slices([-1])
    >>> (ids[here] == ids[there]).tolist()
    [True, False]
    """
    here = tuple(slice(max(0, -n), -n if n > 0 else None) for n in offset)
    there = tuple(slice(max(0, n), n if n < 0 else None) for n in offset)
    return here, there


def learn_affinities(
    ids: NDArray[np.integer[Any]], offsets: Sequence[Zyx]
) -> NDArray[np.uint8]:
    """Return whether pairs of voxels are of one cell.

    Parameters
    ----------
    ids : integer array, shape (z, y, x)
        One a cell, 0 background, ``UNKNOWN`` unlabelled.
    offsets : sequence of (z, y, x)
        Where the other voxel lies.

    Returns
    -------
    uint8 array, shape (offsets, z, y, x)
        1 of one cell, 0 not, 255 unknown.
    """
    found = np.full((len(offsets), *ids.shape), UNLABELLED, np.uint8)
    for affinity, offset in zip(found, offsets, strict=True):
        here, there = pair_slices(offset)
        one, other = ids[here], ids[there]
        is_known = (one != UNKNOWN) & (other != UNKNOWN)
        is_alike = (one == other) & (one != 0)
        affinity[here] = np.where(is_known, is_alike, UNLABELLED)
    return found


def read_affinity_ids(stack: Stack, roi: Roi) -> NDArray[np.int64]:
    """Read the ids of a box, mirrored beyond the faces of the stack: (z, y, x)."""
    volume = stack.volume
    assert volume.instances is not None
    ids = stack.read(volume.instances, roi).astype(np.int64)
    is_unknown = stack.read(volume.target, roi) == UNLABELLED
    if volume.unlabelled is not None:
        is_unknown |= ids == volume.unlabelled
    return np.where(is_unknown, UNKNOWN, ids)


def count_affinity_pairs(
    volumes: Sequence[AnnotatedVolume], ndim: int, offsets: Sequence[Zyx]
) -> NDArray[np.int64]:
    """Return how many pairs of voxels are not of one cell, and are: (offsets, 2)."""
    counts = np.zeros((len(offsets), 2), np.int64)
    reach = as_zyx(max(abs(o[axis]) for o in offsets) for axis in range(3))
    for stack in (stack for volume in volumes for stack in volume.stacks(ndim)):
        for slab in _slabs(stack):
            seen = slab.grow(Halo(reach, reach)).intersect(stack.whole)
            found = learn_affinities(read_affinity_ids(stack, seen), offsets)
            inside = found[(slice(None), *slab.relative_to(seen.start).slices)]
            for count, affinity in zip(counts, inside, strict=True):
                count += [np.count_nonzero(affinity == alike) for alike in (0, 1)]
    return counts


def balance_pairs(counts: NDArray[np.int64], power: float = 1.0) -> NDArray[np.float32]:
    """Weigh pairs by inverse frequency, each offset by itself: shape (offsets, 2)."""
    return np.stack([balance_classes(of_offset, power) for of_offset in counts])


def _slabs(stack: Stack) -> Iterator[Roi]:
    """Yield boxes of annotated voxels, of few enough sections to be held."""
    for box in stack.boxes:
        depth, height, width = box.shape
        step = max(1, LARGEST_SLAB // (height * width))
        for z in range(0, depth, step):
            start, stop = box.start[0] + z, min(box.start[0] + z + step, box.stop[0])
            yield Roi((start, *box.start[1:]), (stop, *box.stop[1:]))
