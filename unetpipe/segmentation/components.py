"""Connected components, of voxels and of runs, and what touches across faces.

Runs are joined row by row, not voxel by voxel:

::

    row 0   a a a . . b b      a touches c, c touches b: all three are one component,
    row 1   . . c c c c .      numbered by its first run, which is a
    row 2   d . . . . . .

Runs are few and each is looked at once for each neighbouring row: that takes half the
time of labelling every voxel and encoding the labels, and no memory for them.
"""

from typing import Any, Literal

import cc3d
import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.runs import Runs, encode_runs
from unetpipe.tiling.boxes import Zyx

Connectivity = Literal["2d", "3d"]


def label_components(
    mask: NDArray[Any], connectivity: Connectivity
) -> tuple[NDArray[np.uint32], int]:
    """Label the components of a block: ids from 1, faces connect.

    Parameters
    ----------
    mask : bool or uint8 array, shape (z, y, x)
        Foreground of the block, or classes: voxels of different classes stay apart.
    connectivity : "2d" or "3d"
        Within each section, or across sections too.

    Returns
    -------
    labels : uint32 array, shape (z, y, x)
    count : int
        Number of components; ids are 1 to count.
    """
    if connectivity == "3d":
        return _components(mask, 6)
    labels = np.zeros(mask.shape, np.uint32)
    count = 0
    for z, section in enumerate(mask):
        found, number = _components(section, 4)
        labels[z] = np.where(found > 0, found + np.uint32(count), 0)
        count += number
    return labels, count


def _components(
    mask: NDArray[Any], connectivity: Literal[4, 6]
) -> tuple[NDArray[np.uint32], int]:
    labels: Any
    labels, count = cc3d.connected_components(
        mask, connectivity=connectivity, return_N=True, out_dtype=np.uint32
    )
    return labels, int(count)


def face_pairs(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the pairs of ids that touch across the face between two blocks.

    Parameters
    ----------
    before, after : integer arrays of equal shape
        Ids of the last plane of one block and the first plane of the next.

    Returns
    -------
    uint64 array, shape (n, 2)
        Unique pairs; background does not count.
    """
    touching = (before > 0) & (after > 0)
    one, two = (ids[touching].astype(np.uint64) for ids in (before, after))
    if max(one.max(initial=0), two.max(initial=0)) < 2**32:  # sorts much faster
        both = np.unique((one << np.uint64(32)) | two)
        return np.stack([both >> np.uint64(32), both & np.uint64(2**32 - 1)], axis=1)
    return np.unique(np.stack([one, two], axis=1), axis=0)


def label_runs(
    values: NDArray[np.uint8], *, across_sections: bool
) -> tuple[Runs, NDArray[np.uint8]]:
    """Return the runs of a block with the ids of their components.

    Parameters
    ----------
    values : uint8 array, shape (z, y, x), contiguous
        0 is background; voxels of different values stay apart.
    across_sections : bool
        Whether voxels connect along z too, not in y and x only; faces connect.

    Returns
    -------
    runs : Runs
        Ids are 1 to count, in the order of the components' first voxels.
    kinds : uint8 array, shape (count,)
        Value of each component.

    Examples
    --------
    >>> values = np.array([[[7, 0, 7], [7, 7, 7], [0, 0, 9]]], np.uint8)
    >>> runs, kinds = label_runs(values, across_sections=True)
    >>> runs[:, 2].tolist(), kinds.tolist()
    ([1, 1, 1, 2], [7, 9])
    """
    _, height, width = values.shape
    runs = encode_runs(values)
    parents = np.arange(len(runs), dtype=np.uint32)
    _join(runs, parents, height, width, across_sections)
    is_first = parents == np.arange(len(runs), dtype=np.uint32)
    kinds = runs[is_first, 2].astype(np.uint8)
    _number(runs, parents)
    return runs, kinds


def plane_runs(runs: Runs, shape: Zyx, axes: range) -> dict[tuple[int, int], Runs]:
    """Return the runs of a block's first and last plane along some axes.

    Parameters
    ----------
    runs : Runs
        Of the block.
    shape : (z, y, x)
        Of the block.
    axes : range
        Across which planes are wanted.

    Returns
    -------
    dict
        (axis, side) -> runs of the first (0) and last (1) plane.
    """
    z, y, x = shape
    planes = [np.zeros((2, *sides), np.uint32) for sides in ((y, x), (z, x), (z, y))]
    _paint_planes(runs, shape, *planes)
    return {
        (axis, side): encode_runs(planes[axis][side])
        for axis in axes
        for side in (0, 1)
    }


def pairs_of_runs(before: Runs, after: Runs) -> NDArray[np.uint64]:
    """Return the pairs of ids that touch across the face between two blocks.

    Parameters
    ----------
    before, after : Runs
        Of the last plane of one block and the first plane of the next.

    Returns
    -------
    uint64 array, shape (n, 2)
        Unique pairs.
    """
    pairs = np.empty((len(before) + len(after), 2), np.uint64)
    pairs = pairs[: _overlap(before, after, pairs)]
    both = np.unique((pairs[:, 0] << np.uint64(32)) | pairs[:, 1])
    return np.stack([both >> np.uint64(32), both & np.uint64(2**32 - 1)], axis=1)


@numba.njit(cache=True, nogil=True)
def _join(runs, parents, height, width, across_sections):  # type: ignore[no-untyped-def]
    """Let all runs of a component have parents that lead to its first run."""
    firsts = np.zeros(height + 1, np.int64)  # run of each row of a section
    before = np.zeros(height + 1, np.int64)  # the same of the section before
    run, stop, section = 0, 0, height * width
    while run < len(runs):
        for y in range(height):
            firsts[y] = run
            stop += width
            while run < len(runs) and runs[run, 0] < stop:
                run += 1
            if y > 0:
                _link(runs, parents, firsts[y - 1], firsts[y], firsts[y], run, width)
            if across_sections:
                first, last = before[y], before[y + 1]
                _link(runs, parents, first, last, firsts[y], run, section)
        firsts[height] = run
        firsts, before = before, firsts


@numba.njit(cache=True, nogil=True)
def _link(runs, parents, one, one_stop, two, two_stop, distance):  # type: ignore[no-untyped-def]
    """Join what touches of two rows, the second so many voxels after the first."""
    while one < one_stop and two < two_stop:
        start = np.int64(runs[one, 0]) + distance
        stop = start + np.int64(runs[one, 1])
        other = np.int64(runs[two, 0])
        other_stop = other + np.int64(runs[two, 1])
        if start < other_stop and other < stop and runs[one, 2] == runs[two, 2]:
            first, second = _root(parents, one), _root(parents, two)
            parents[max(first, second)] = min(first, second)
        if stop < other_stop:
            one += 1
        else:
            two += 1


@numba.njit(cache=True, nogil=True)
def _overlap(before, after, pairs):  # type: ignore[no-untyped-def]
    """Write down the ids of runs that share a voxel; return how many pairs."""
    one, two, count = 0, 0, 0
    while one < len(before) and two < len(after):
        start = np.int64(before[one, 0])
        stop = start + np.int64(before[one, 1])
        other = np.int64(after[two, 0])
        other_stop = other + np.int64(after[two, 1])
        if start < other_stop and other < stop:
            pairs[count, 0], pairs[count, 1] = before[one, 2], after[two, 2]
            count += 1
        if stop < other_stop:
            one += 1
        else:
            two += 1
    return count


@numba.njit(cache=True, nogil=True)
def _root(parents, run):  # type: ignore[no-untyped-def]
    """Return the first run that is known of a component; shorten the way to it."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@numba.njit(cache=True, nogil=True)
def _number(runs, parents):  # type: ignore[no-untyped-def]
    """Replace values by ids; a parent is never after its run, so it has its id."""
    count = 0
    for run in range(len(runs)):
        if parents[run] == run:
            count += 1
            runs[run, 2] = count
        else:
            runs[run, 2] = runs[parents[run], 2]


@numba.njit(cache=True, nogil=True)
def _paint_planes(runs, shape, of_z, of_y, of_x):  # type: ignore[no-untyped-def]
    """Paint the first and last plane across each axis."""
    depth, height, width = shape
    z, y, row = 0, 0, 0
    for run in range(len(runs)):
        start, length = np.int64(runs[run, 0]), np.int64(runs[run, 1])
        while start >= row + width:
            row += width
            y += 1
            if y == height:
                y, z = 0, z + 1
        x, id_ = start - row, runs[run, 2]
        if z == 0:
            of_z[0, y, x : x + length] = id_
        if z == depth - 1:
            of_z[1, y, x : x + length] = id_
        if y == 0:
            of_y[0, z, x : x + length] = id_
        if y == height - 1:
            of_y[1, z, x : x + length] = id_
        if x == 0:
            of_x[0, z, y] = id_
        if x + length == width:
            of_x[1, z, y] = id_
