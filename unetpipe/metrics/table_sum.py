"""Add up contingency tables as chunks come in, each voxel's pair sorted a few times."""

from __future__ import annotations

from unetpipe.metrics.contingency import ContingencyTable


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
        """Add the table of one chunk."""
        self._pending.append(table)
        self._num_pending += table.counts.size
        if self._num_pending > self._sum.counts.size:
            self.table()

    def table(self) -> ContingencyTable:
        """Return the table of all chunks so far."""
        if self._pending:
            self._sum = ContingencyTable.merged([self._sum, *self._pending])
            self._pending, self._num_pending = [], 0
        return self._sum
