"""Run-length encoding of labels: what a block keeps of itself until its ids are known.

::

    . . 3 3 3 . 7 7    ->    (start 2, length 3, id 3), (start 6, length 2, id 7)

Runs end with their row (x), so that each has one z and one y. Objects are much longer
than a voxel, so runs are small, quick to write, and quick to paint with other ids.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.uint32]

# What is summed of each component, all integers: any cut of a volume adds up to the
# same. Coordinates are of the volume; ``first`` counts its voxels in C order.
COLUMNS = (
    *("voxels", "own_voxels", "stored_sum"),
    *("sum_z", "sum_y", "sum_x"),
    *("start_z", "start_y", "start_x"),
    *("stop_z", "stop_y", "stop_x"),
    "first",
)
VOXELS, OWN, STORED, SUM, LOW, HIGH, FIRST = 0, 1, 2, 3, 6, 9, 12
SUM_Z, SUM_Y, SUM_X = SUM, SUM + 1, SUM + 2
LOW_Z, LOW_Y, LOW_X = LOW, LOW + 1, LOW + 2
HIGH_Z, HIGH_Y, HIGH_X = HIGH, HIGH + 1, HIGH + 2
NOWHERE = np.iinfo(np.int64).max
Sums = NDArray[np.int64]


def encode_runs(labels: NDArray[np.unsignedinteger]) -> Runs:
    """Return the runs of equal labels, without those of 0.

    Parameters
    ----------
    labels : uint8 or uint32 array of any shape
        Fewer than 2^32 voxels.

    Returns
    -------
    uint32 array, shape (runs, 3)
        Start (flat index), length and id, in rising order of starts.

    Examples
    --------
    >>> encode_runs(np.array([[0, 3, 3], [3, 0, 7]], np.uint32)).tolist()
    [[1, 2, 3], [3, 1, 3], [5, 1, 7]]
    """
    rows = np.ascontiguousarray(labels).reshape(-1, labels.shape[-1])
    runs: Runs = _encode(rows)
    return runs


def paint_runs(runs: Runs, table: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array that runs describe, each id replaced by its entry in a table."""
    painted = np.zeros(shape, table.dtype)
    _paint(runs, table, painted.reshape(-1))
    return painted


def runs_of_sections(runs: Runs, sections: slice, shape: tuple[int, ...]) -> Runs:
    """Return the runs of some sections of a block, as if there were no others."""
    area = shape[1] * shape[2]
    low, high = sections.start * area, sections.stop * area
    first, last = np.searchsorted(runs[:, 0], (low, high))
    chosen: Runs = runs[first:last].copy()
    chosen[:, 0] -= np.uint32(low)
    return chosen


def pack_runs(
    runs: Runs,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return gaps before runs, lengths and ids, each in the smallest integers.

    Examples
    --------
    >>> [a.tolist() for a in pack_runs(np.array([[1, 2, 3], [5, 1, 7]], np.uint32))]
    [[1, 2], [2, 1], [3, 7]]
    """
    starts, lengths, ids = runs.T
    gaps = starts.copy()
    gaps[1:] -= starts[:-1] + lengths[:-1]
    return _smallest(gaps), _smallest(lengths), _smallest(ids)


def unpack_runs(gaps: NDArray[Any], lengths: NDArray[Any], ids: NDArray[Any]) -> Runs:
    """Return the runs that were packed."""
    stops = np.cumsum(gaps + lengths.astype(np.uint32), dtype=np.uint32)
    return np.stack([stops - lengths, lengths, ids], axis=1, dtype=np.uint32)


def sum_runs(
    runs: Runs,
    count: int,
    stored: NDArray[np.uint8],
    origin: tuple[int, int, int],
    volume_shape: tuple[int, int, int],
) -> Sums:
    """Return the sums of each component of a block.

    Parameters
    ----------
    runs : Runs
        Of the block, ids 1 to ``count``.
    count : int
        Number of components.
    stored : uint8 array, shape (z, y, x)
        Stored probability of the block's voxels.
    origin : (z, y, x)
        Where the block begins in the volume.
    volume_shape : (z, y, x)
        Shape of the volume.

    Returns
    -------
    int64 array, shape (count, columns)
        ``COLUMNS`` of ids 1 to ``count``.
    """
    sums: Sums = empty_component_sums(count)
    values = np.ascontiguousarray(stored).reshape(-1)
    _sum(runs, values, stored.shape, origin, volume_shape, sums)
    return sums


def empty_component_sums(count: int) -> Sums:
    """Return the sums of components without a voxel."""
    sums = np.zeros((count, len(COLUMNS)), np.int64)
    sums[:, LOW : LOW + 3] = NOWHERE
    sums[:, FIRST] = NOWHERE
    return sums


def merge_components(parts: Sums, owners: NDArray[np.intp], count: int) -> Sums:
    """Return the sums of ``count`` objects, each of the components it is made of."""
    total = empty_component_sums(count)
    for column, name in enumerate(COLUMNS):
        merge: np.ufunc = np.add
        if name == "first" or name.startswith("start"):
            merge = np.minimum
        elif name.startswith("stop"):
            merge = np.maximum
        merge.at(total[:, column], owners, parts[:, column])
    return total


def _smallest(values: NDArray[np.uint32]) -> NDArray[Any]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


@numba.njit(cache=True, nogil=True)
def _encode(rows):  # type: ignore[no-untyped-def]
    """Count the runs, many voxels at once, then write them down."""
    height, width = rows.shape
    count = 0
    for y in range(height):
        row = rows[y]
        count += row[0] != 0
        for x in range(1, width):
            count += (row[x] != row[x - 1]) & (row[x] != 0)
    runs = np.empty((count, 3), np.uint32)
    edges = np.empty(width + 1, np.int64)
    found = 0
    for y in range(height):
        row = rows[y]
        edges[0] = 0
        num_edges = 1
        for x in range(1, width):  # without a branch, which would often be mistaken
            edges[num_edges] = x
            num_edges += row[x] != row[x - 1]
        edges[num_edges] = width
        for edge in range(num_edges):
            start = edges[edge]
            if row[start] != 0:
                runs[found, 0] = y * width + start
                runs[found, 1] = edges[edge + 1] - start
                runs[found, 2] = row[start]
                found += 1
    return runs


@numba.njit(cache=True, nogil=True)
def _paint(runs, table, painted):  # type: ignore[no-untyped-def]
    for run in range(len(runs)):
        value = table[runs[run, 2]]
        if value != 0:
            start = np.int64(runs[run, 0])
            painted[start : start + np.int64(runs[run, 1])] = value


@numba.njit(cache=True, nogil=True)
def _sum(runs, stored, shape, origin, volume_shape, sums):  # type: ignore[no-untyped-def]
    """Add run after run; as they come in rising order, few need comparing."""
    _, height, width = shape
    z, y, row = 0, 0, 0
    for run in range(len(runs)):
        start, length = np.int64(runs[run, 0]), np.int64(runs[run, 1])
        while start >= row + width:
            row += width
            y += 1
            if y == height:
                y, z = 0, z + 1
        total = 0
        for place in range(start, start + length):
            total += stored[place]
        own = sums[np.int64(runs[run, 2]) - 1]
        at_z, at_y, at_x = z + origin[0], y + origin[1], start - row + origin[2]
        if own[VOXELS] == 0:
            own[LOW_Z] = at_z
            own[FIRST] = (at_z * volume_shape[1] + at_y) * volume_shape[2] + at_x
        own[VOXELS] += length
        own[OWN] += length
        own[STORED] += total
        own[SUM_Z] += at_z * length
        own[SUM_Y] += at_y * length
        own[SUM_X] += at_x * length + length * (length - 1) // 2
        own[LOW_Y] = min(own[LOW_Y], at_y)
        own[LOW_X] = min(own[LOW_X], at_x)
        own[HIGH_Z] = at_z + 1
        own[HIGH_Y] = max(own[HIGH_Y], at_y + 1)
        own[HIGH_X] = max(own[HIGH_X], at_x + length)
