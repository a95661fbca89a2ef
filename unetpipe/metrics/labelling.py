"""Components of a section, found column by column, and the pairs of ids they make.

Union-find over columns: a component gets a number where it is first met, numbers that
turn out to be one component are joined, and in the end all are numbered in the order of
their first voxels, row by row. What is kept in memory are columns and components.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.columns import Bool, Columns, Truth
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.scratch import Scratch

Labels = NDArray[np.int32]
Numbers = NDArray[np.int32]

UNTOUCHED = -1  # background
OUTSIDE = -3  # the frame

_FREE = -1
_LEAST_PAIRS = 1 << 10


def framed_labels(columns: Columns, scratch: Scratch) -> Labels:
    """Return a working array for labels, shape (x + 2, y + 2)."""
    labels: Labels = scratch.zeros(columns.framed, np.int32)
    labels[[0, -1]] = OUTSIDE
    for piece in columns.pieces(scratch):
        labels[piece.start + 1 : piece.stop + 1, [0, -1]] = OUTSIDE
    return labels


def label_columns(
    columns: Columns,
    mask: Callable[[slice], Bool],
    labels: Labels,
    *scratches: Scratch,
) -> Numbers:
    """Label the 4-connected components of a mask.

    Parameters
    ----------
    columns : Columns
    mask : function
        Returns some columns of it.
    labels : int32 array, shape (x + 2, y + 2)
        Gets provisional numbers from 1, ``UNTOUCHED`` outside the mask.
    *scratches : Scratch
        Where labels and mask lie.

    Returns
    -------
    int32 array
        Id of each provisional number: from 1, in the order of first voxels by y, then
        x; the last entry is the number of components.
    """
    numbers = np.zeros(1 << 12, np.int32)
    first = np.zeros(1 << 12, np.int64)
    count = 0
    for piece in columns.pieces(*scratches):
        inside = mask(piece)
        most = count + (inside.size + 1) // 2 + inside.shape[0] + 2
        if most > numbers.size:
            most = min(max(most, numbers.size * 5 // 4), columns.size + 2)
            most = max(most, numbers.size)
            numbers, first = _longer(numbers, most), _longer(first, most)
        count = _label(inside, labels, piece.start, numbers, first, count)
    roots = _find_roots(numbers, first, count)
    ids = np.zeros(count + 2, np.int32)
    ids[roots[np.argsort(first[roots])]] = np.arange(1, roots.size + 1)
    ids[: count + 1] = ids[numbers[: count + 1]]
    ids[-1] = roots.size
    return ids


def label_truth(truth: Truth) -> Labels:
    """Return ids of a truth's cells, int32 (x + 2, y + 2); 0 or less outside."""
    labels = framed_labels(truth.columns, truth.scratch)
    ids = label_columns(
        truth.columns, lambda piece: truth.cells[piece], labels, truth.scratch
    )
    for piece in truth.columns.pieces(truth.scratch):
        _apply(labels, piece.start + 1, piece.stop + 1, ids)
    return labels


class PairCounts:
    """Counts how often ids of truth and result meet, in one table of both."""

    def __init__(self) -> None:
        self._keys = np.full(_LEAST_PAIRS, _FREE, np.int64)
        self._counts = np.zeros(_LEAST_PAIRS, np.int64)
        self._used = 0

    def add(
        self, truth: Labels, result: Labels, piece: slice, ids: Numbers | None = None
    ) -> None:
        """Count some columns inside the truth's cells.

        Parameters
        ----------
        truth, result : int32 arrays, shape (x + 2, y + 2)
            Ids; 0 and less are background.
        piece : slice
            Range of x.
        ids : int32 array, optional
            ``result`` holds provisional numbers, and gets these ids.
        """
        x, stop = piece.start + 1, piece.stop + 1
        numbers = np.empty(0, np.int32) if ids is None else ids
        while x < stop:
            if 2 * (self._used + truth.shape[1]) > self._keys.size:
                self._grow(truth.shape[1])
            x, self._used = _count(
                truth, result, x, stop, numbers, self._keys, self._counts, self._used
            )

    def table(self) -> ContingencyTable:
        """Return all pairs so far."""
        kept = self._keys != _FREE
        keys = self._keys[kept]
        return ContingencyTable.from_pairs(
            keys >> 32, keys & 0xFFFFFFFF, self._counts[kept]
        )

    def _grow(self, height: int) -> None:
        old = self._keys, self._counts
        size = self._keys.size
        while size < 4 * (self._used + height):
            size *= 2
        self._keys, self._counts = np.full(size, _FREE, np.int64), np.zeros(size, int)
        _insert_all(*old, self._keys, self._counts)


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    longer = np.zeros(size, array.dtype)
    longer[: array.size] = array
    return longer


@numba.njit(cache=True, nogil=True)
def _root(numbers: Numbers, one: int) -> int:  # pragma: no cover
    while numbers[one] != one:
        numbers[one] = numbers[numbers[one]]
        one = numbers[one]
    return one


@numba.njit(cache=True, nogil=True)
def _label(
    inside: Bool,
    labels: Labels,
    start: int,
    numbers: Numbers,
    first: NDArray[np.int64],
    count: int,
) -> int:  # pragma: no cover
    """Return the last number given, after numbering columns from ``start`` on."""
    width, height = labels.shape[0] - 2, inside.shape[1]
    for column in range(inside.shape[0]):
        x = start + column + 1
        for y in range(1, height + 1):
            if not inside[column, y - 1]:
                labels[x, y] = UNTOUCHED
                continue
            above, left = labels[x, y - 1], labels[x - 1, y]
            if above > 0:
                labels[x, y] = above
                if left > 0 and left != above and labels[x - 1, y - 1] <= 0:
                    a, b = _root(numbers, above), _root(numbers, left)
                    numbers[max(a, b)] = min(a, b)
            elif left > 0:
                labels[x, y] = left
            else:
                count += 1
                numbers[count] = count
                first[count] = (y - 1) * width + x - 1
                labels[x, y] = count
    return count


@numba.njit(cache=True, nogil=True)
def _find_roots(
    numbers: Numbers, first: NDArray[np.int64], count: int
) -> NDArray[np.int64]:  # pragma: no cover
    """Point each number at its root, and each root at its first voxel; list roots."""
    num_roots = 0
    for one in range(1, count + 1):
        numbers[one] = numbers[numbers[one]]
        root = numbers[one]
        if root == one:
            num_roots += 1
        else:
            first[root] = min(first[root], first[one])
    roots = np.empty(num_roots, np.int64)
    num_roots = 0
    for one in range(1, count + 1):
        if numbers[one] == one:
            roots[num_roots] = one
            num_roots += 1
    return roots


@numba.njit(cache=True, nogil=True)
def _apply(
    labels: Labels, start: int, stop: int, ids: Numbers
) -> None:  # pragma: no cover
    for x in range(start, stop):
        for y in range(1, labels.shape[1] - 1):
            if labels[x, y] > 0:
                labels[x, y] = ids[labels[x, y]]


@numba.njit(cache=True, nogil=True)
def _insert(
    keys: NDArray[np.int64], counts: NDArray[np.int64], key: int, count: int
) -> int:  # pragma: no cover
    """Add to the count of a key; return 1 if it is new."""
    mask = keys.size - 1
    place = ((key * 0x9E3779B1) ^ (key >> 32) * 0x85EBCA6B) & mask
    while keys[place] != key:
        if keys[place] == _FREE:
            keys[place], counts[place] = key, count
            return 1
        place = (place + 1) & mask
    counts[place] += count
    return 0


@numba.njit(cache=True, nogil=True)
def _insert_all(
    old_keys: NDArray[np.int64],
    old_counts: NDArray[np.int64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:  # pragma: no cover
    for place in range(old_keys.size):
        if old_keys[place] != _FREE:
            _insert(keys, counts, old_keys[place], old_counts[place])


@numba.njit(cache=True, nogil=True)
def _count(
    truth: Labels,
    result: Labels,
    x: int,
    stop: int,
    ids: Numbers,
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    used: int,
) -> tuple[int, int]:  # pragma: no cover
    """Count columns until the table may be full; return where, and pairs in it."""
    height = truth.shape[1] - 2
    while x < stop and 2 * (used + height) <= keys.size:
        last_truth, last_result, length = 0, 0, 0
        for y in range(1, height + 1):
            found = result[x, y]
            if ids.size and found > 0:
                found = ids[found]
                result[x, y] = found
            one = truth[x, y]
            if one == last_truth and found == last_result:
                length += 1
                continue
            if last_truth > 0:
                key = int(last_truth) << 32 | max(int(last_result), 0)
                used += _insert(keys, counts, key, length)
            last_truth, last_result, length = one, found, 1
        if last_truth > 0:
            key = int(last_truth) << 32 | max(int(last_result), 0)
            used += _insert(keys, counts, key, length)
        x += 1
    return x, used
