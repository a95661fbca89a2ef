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
NOWHERE = np.iinfo(np.int64).max
Sums = NDArray[np.int64]


def encode_runs(labels: NDArray[np.uint32]) -> Runs:
    """Return the runs of equal labels, without those of 0.

    Parameters
    ----------
    labels : uint32 array of any shape, contiguous
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
    sums: Sums = no_sums(count)
    values = np.ascontiguousarray(stored).reshape(-1)
    _sum(runs, values, stored.shape, origin, volume_shape, sums)
    return sums


def no_sums(count: int) -> Sums:
    """Return the sums of components without a voxel."""
    sums = np.zeros((count, len(COLUMNS)), np.int64)
    sums[:, LOW : LOW + 3] = NOWHERE
    sums[:, FIRST] = NOWHERE
    return sums


def add_sums(parts: Sums, owners: NDArray[np.intp], count: int) -> Sums:
    """Return the sums of ``count`` owners, each of the rows of ``parts`` it owns."""
    total = no_sums(count)
    for column, name in enumerate(COLUMNS):
        merge: np.ufunc = np.add
        if name == "first" or name.startswith("start"):
            merge = np.minimum
        elif name.startswith("stop"):
            merge = np.maximum
        merge.at(total[:, column], owners, parts[:, column])
    return total


@numba.njit(cache=True, nogil=True)
def _encode(rows):  # type: ignore[no-untyped-def]
    """Count the runs, then write them down."""
    height, width = rows.shape
    count = 0
    for y in range(height):
        last = np.uint32(0)
        for x in range(width):
            value = rows[y, x]
            if value != last:
                count += value != 0
                last = value
    runs = np.empty((count, 3), np.uint32)
    found = 0
    for y in range(height):
        last, begins = np.uint32(0), 0
        for x in range(width):
            value = rows[y, x]
            if value != last:
                if last != 0:
                    runs[found, 0] = y * width + begins
                    runs[found, 1] = x - begins
                    runs[found, 2] = last
                    found += 1
                last, begins = value, x
        if last != 0:
            runs[found, 0] = y * width + begins
            runs[found, 1] = width - begins
            runs[found, 2] = last
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
    for run in range(len(runs)):
        start, length = np.int64(runs[run, 0]), np.int64(runs[run, 1])
        row, x = start // shape[2], start % shape[2]
        z = row // shape[1] + origin[0]
        y = row % shape[1] + origin[1]
        x += origin[2]
        of = sums[np.int64(runs[run, 2]) - 1]
        total = np.int64(0)
        for place in range(start, start + length):
            total += stored[place]
        of[0] += length
        of[1] += length
        of[2] += total
        of[3] += z * length
        of[4] += y * length
        of[5] += x * length + length * (length - 1) // 2
        of[6] = min(of[6], z)
        of[7] = min(of[7], y)
        of[8] = min(of[8], x)
        of[9] = max(of[9], z + 1)
        of[10] = max(of[10], y + 1)
        of[11] = max(of[11], x + length)
        of[12] = min(of[12], (z * volume_shape[1] + y) * volume_shape[2] + x)
