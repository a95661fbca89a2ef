"""One table of all blocks' components: what touches is one, holes are filled.

::

    block 0  1 1 . 2 | 1 1  block 1      ids 1, 2 and 3 (= 1 of block 1)
                                         2 and 3 touch: one object

Ids of the result are consecutive, in the order of the objects' first voxels (z, then
y, then x): they do not depend on the blocks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetpipe.segmentation.block_labels import HOLE, Pairs
from unetpipe.segmentation.runs import FIRST, HIGH, LOW, NOWHERE, VOXELS, Sums, add_sums
from unetpipe.segmentation.thresholds import Connectivity
from unetpipe.tiling.boxes import Zyx


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a volume.

    Attributes
    ----------
    table : uint64 array, shape (components + 1,)
        Final id of each component, counted through all blocks from 1; 0: background.
    kinds : uint8 array, shape (objects,)
        Class of each object.
    sums : Sums, shape (objects, columns)
        Of each object, filled holes included.
    """

    table: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    sums: Sums


def join_components(
    kinds: NDArray[np.uint8],
    sums: Sums,
    pairs: Pairs,
    *,
    volume_shape: Zyx,
    connectivity: Connectivity,
    smallest: int,
    largest_hole: int,
) -> Objects:
    """Return the objects that all blocks' components make up.

    A hole is background of at most ``largest_hole`` voxels that touches no face of
    the volume (with "2d": of the section) and only one object. Filling it therefore
    never joins objects.

    Parameters
    ----------
    kinds : uint8 array, shape (components,)
        Class of each component of all blocks, or ``HOLE``.
    sums : Sums, shape (components, columns)
        Of each component.
    pairs : uint64 array, shape (n, 2)
        Components that touch, counted from 1.
    volume_shape : (z, y, x)
        Shape of the volume.
    connectivity : "2d" or "3d"
        Whether the volume's first and last section are faces.
    smallest : int
        Objects of fewer voxels, their holes included, are dropped.
    largest_hole : int
        Voxels of the largest hole that is filled.
    """
    size = len(kinds)
    one, two = (pairs.T.astype(np.int64) - 1).reshape(2, -1)
    alike = kinds[one] == kinds[two]
    links = coo_array(
        (np.ones(int(alike.sum()), bool), (one[alike], two[alike])), shape=(size, size)
    )
    count, roots = connected_components(links, directed=False)
    totals = add_sums(sums, roots, count)
    root_kinds = np.zeros(count, np.uint8)
    root_kinds[roots] = kinds
    if largest_hole:
        filled = _fill(
            root_kinds,
            totals,
            roots[one[~alike]],
            roots[two[~alike]],
            _beyond(totals, volume_shape, connectivity) | (totals[:, 0] > largest_hole),
        )
        roots = filled[roots]
        totals = add_sums(sums, roots, count)
    keep = (root_kinds != HOLE) & (totals[:, VOXELS] >= max(smallest, 1))
    order = np.argsort(np.where(keep, totals[:, FIRST], NOWHERE), kind="stable")
    order = order[: int(keep.sum())]
    final = np.zeros(count, np.uint64)
    final[order] = np.arange(1, len(order) + 1, dtype=np.uint64)
    table = np.concatenate([np.zeros(1, np.uint64), final[roots]])
    return Objects(table, root_kinds[order], totals[order])


def _fill(
    kinds: NDArray[np.uint8],
    totals: Sums,
    one: NDArray[np.intp],
    two: NDArray[np.intp],
    is_open: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return which component each one belongs to, once holes are filled."""
    count = len(kinds)
    holes = np.concatenate([one, two])
    around = np.concatenate([two, one])
    is_edge = (kinds[holes] == HOLE) & (kinds[around] != HOLE)
    holes, around = holes[is_edge], around[is_edge]
    lowest, highest = np.full(count, count), np.full(count, -1)
    np.minimum.at(lowest, holes, around)
    np.maximum.at(highest, holes, around)
    is_filled = (kinds == HOLE) & (lowest == highest) & ~is_open
    belongs = np.arange(count)
    belongs[is_filled] = lowest[is_filled]
    return belongs


def _beyond(
    totals: Sums, volume_shape: Zyx, connectivity: Connectivity
) -> NDArray[np.bool_]:
    """Return what touches a face of the volume."""
    axes = range(0 if connectivity == "3d" else 1, 3)
    touches = np.zeros(len(totals), bool)
    for axis in axes:
        touches |= totals[:, LOW + axis] == 0
        touches |= totals[:, HIGH + axis] == volume_shape[axis]
    return touches
