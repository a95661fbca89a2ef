"""How often each pair of ids meets: the table behind every score on partitions.

Only pairs that occur are stored, so ids up to 2^64 - 1 cost no memory, and tables of
boxes add up to the table of the whole volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from unetpipe.errors import DataError, GeometryError

Ids = NDArray[np.uint64]
Counts = NDArray[np.int64]

# Up to here pairs are put into rows and columns instead of being sorted.
MOST_SMALL_IDS = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class ContingencyTable:
    """Sparse counts of (truth id, result id) pairs, sorted and without repeats.

    Attributes
    ----------
    truth_ids : uint64 array, shape (pairs,)
        Id in the reference; 0 is background.
    result_ids : uint64 array, shape (pairs,)
        Id in the segmentation under test; 0 is background.
    counts : int64 array, shape (pairs,)
        Voxels that carry both ids, always positive.

    Examples
    --------
    Boxes add up to the whole:

    >>> truth = np.array([1, 1, 2, 2])
    >>> result = np.array([5, 5, 5, 0])
    >>> whole = ContingencyTable.from_arrays(truth, result)
    >>> whole.counts
    array([2, 1, 1])
    >>> left = ContingencyTable.from_arrays(truth[:2], result[:2])
    >>> right = ContingencyTable.from_arrays(truth[2:], result[2:])
    >>> left + right == whole
    True
    """

    truth_ids: Ids
    result_ids: Ids
    counts: Counts

    @classmethod
    def from_arrays(
        cls,
        truth: NDArray[Any],
        result: NDArray[Any],
        *,
        where: NDArray[np.bool_] | None = None,
    ) -> ContingencyTable:
        """Count the pairs of ids of two label arrays.

        Parameters
        ----------
        truth, result : integer or bool arrays of one shape
            Instance ids, 0 to 2^64 - 1; 0 is background.
        where : bool array of the same shape, optional
            Count only these voxels.

        Raises
        ------
        GeometryError
            If the shapes differ: align the volumes first.
        DataError
            If an array holds fractions or negative ids.
        """
        if truth.shape != result.shape:
            raise GeometryError(
                f"truth has shape {truth.shape}, result {result.shape}; "
                "crop or align them to the same voxels"
            )
        if where is not None:
            truth, result = truth[where], result[where]
        if not truth.size:
            return cls.empty()
        # Label images consist of runs; counting them leaves far fewer pairs to sort.
        ids, other = truth.ravel(), result.ravel()
        changes = (ids[1:] != ids[:-1]) | (other[1:] != other[:-1])
        starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
        lengths = np.diff(starts, append=ids.size)
        return cls(
            *_merge_pairs(
                _as_ids(ids[starts], "truth"), _as_ids(other[starts], "result"), lengths
            )
        )

    @classmethod
    def from_pairs(
        cls, truth_ids: ArrayLike, result_ids: ArrayLike, counts: ArrayLike
    ) -> ContingencyTable:
        """Rebuild a table from stored columns; repeated pairs are added up."""
        return cls(
            *_merge_pairs(
                _as_ids(np.asarray(truth_ids), "truth_ids"),
                _as_ids(np.asarray(result_ids), "result_ids"),
                np.asarray(counts, np.int64),
            )
        )

    @classmethod
    def empty(cls) -> ContingencyTable:
        """Make the table of no voxels, the start of a sum."""
        return cls(
            np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64)
        )

    @classmethod
    def merged(cls, tables: Iterable[ContingencyTable]) -> ContingencyTable:
        """Add up the tables of many boxes with one sort."""
        parts = [cls.empty(), *tables]
        return cls(
            *_merge_pairs(
                np.concatenate([part.truth_ids for part in parts]),
                np.concatenate([part.result_ids for part in parts]),
                np.concatenate([part.counts for part in parts]),
            )
        )

    def __add__(self, other: ContingencyTable) -> ContingencyTable:
        return ContingencyTable.merged([self, other])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContingencyTable):
            return NotImplemented
        return (
            np.array_equal(self.truth_ids, other.truth_ids)
            and np.array_equal(self.result_ids, other.result_ids)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def num_voxels(self) -> int:
        """All voxels counted, background included."""
        return int(self.counts.sum())

    def truth_sizes(self) -> tuple[Ids, Counts]:
        """List the reference ids, ascending, and the voxels of each."""
        return _sum_by_id(self.truth_ids, self.counts)

    def result_sizes(self) -> tuple[Ids, Counts]:
        """List the result ids, ascending, and the voxels of each."""
        return _sum_by_id(self.result_ids, self.counts)

    def foreground_of_truth(self) -> ContingencyTable:
        """Keep the pairs inside reference objects: truth id not 0."""
        return self.select(self.truth_ids != 0)

    def select(self, keep: NDArray[np.bool_]) -> ContingencyTable:
        """Keep the pairs for which ``keep``, bool of shape (pairs,), is True."""
        return ContingencyTable(
            self.truth_ids[keep], self.result_ids[keep], self.counts[keep]
        )


class TableSum:
    """A running sum of contingency tables.

    Tables are kept until they hold as many pairs as the sum, then merged with one
    sort: many small tables cost n log n, not n for each.

    Examples
    --------
    >>> total = TableSum()
    >>> for count in (1, 2, 3):
    ...     total.add(ContingencyTable.from_pairs([1], [7], [count]))
    >>> total.table().num_voxels
    6
    """

    def __init__(self) -> None:
        self._sum = ContingencyTable.empty()
        self._pending: list[ContingencyTable] = []
        self._num_pending = 0

    def add(self, table: ContingencyTable) -> None:
        """Add the table of one box."""
        self._pending.append(table)
        self._num_pending += table.counts.size
        if self._num_pending > self._sum.counts.size:
            self.table()

    def table(self) -> ContingencyTable:
        """Return the table of all boxes so far."""
        if self._pending:
            self._sum = ContingencyTable.merged([self._sum, *self._pending])
            self._pending, self._num_pending = [], 0
        return self._sum


def _as_ids(labels: NDArray[Any], name: str) -> Ids:
    """Return the labels as one row of uint64, or say why they are no labels."""
    if labels.dtype.kind not in "biu":
        raise DataError(
            f"{name} has dtype {labels.dtype}; "
            "pass integer instance ids, not probabilities"
        )
    if labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0:
        raise DataError(
            f"{name} holds the negative id {labels.min()}; "
            "ids start at 0 (background), mask unknown voxels with `where`"
        )
    return labels.ravel().astype(np.uint64)


def _merge_pairs(truth: Ids, result: Ids, counts: Counts) -> tuple[Ids, Ids, Counts]:
    """Sort pairs by truth, then result, and add the counts of equal ones."""
    if not truth.size:
        return truth, result, counts
    shape = (int(truth.max()) + 1, int(result.max()) + 1)
    if max(shape) <= MOST_SMALL_IDS:
        table = coo_array((counts, (truth, result)), shape=shape).tocsr()
        table.sum_duplicates()
        rows = np.repeat(np.arange(shape[0], dtype=np.uint64), np.diff(table.indptr))
        return rows, table.indices.astype(np.uint64), table.data
    if shape[0] * shape[1] < 2**64:  # one key is faster to sort
        order = np.argsort(truth * np.uint64(shape[1]) + result)
    else:
        order = np.lexsort((result, truth))
    truth, result, counts = truth[order], result[order], counts[order]
    is_first = (truth[1:] != truth[:-1]) | (result[1:] != result[:-1])
    starts = np.concatenate(([0], np.flatnonzero(is_first) + 1))
    return truth[starts], result[starts], np.add.reduceat(counts, starts)


def _sum_by_id(ids: Ids, counts: Counts) -> tuple[Ids, Counts]:
    """Add up the counts of each id; ids come out ascending."""
    if not ids.size:
        return ids, counts
    order = np.argsort(ids)
    ids, counts = ids[order], counts[order]
    starts = np.concatenate(([0], np.flatnonzero(ids[1:] != ids[:-1]) + 1))
    return ids[starts], np.add.reduceat(counts, starts)
