"""What one image contributes to the scores of objects: a few tables of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics import (
    ContingencyTable,
    InstanceMatches,
    ReferenceMatches,
    TableSum,
    keep_results,
    match_instances,
    match_references,
)

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


class ImageTables:
    """The tables of one image: a section, or a volume whose objects span sections."""

    def __init__(self) -> None:
        self._known, self._void, self._markers = TableSum(), TableSum(), TableSum()
        self._in_field = np.empty(0, np.uint64)
        self.has_markers = False

    def add(self, truth: Labels, result: Labels, unknown: Mask, field: Mask) -> None:
        """Add a piece of the image; see :meth:`ObjectCounts.add`."""
        self._known.add(ContingencyTable.from_arrays(truth, result, where=~unknown))
        nothing = np.zeros_like(unknown)
        if unknown.any():
            self._void.add(ContingencyTable.from_arrays(nothing, result, where=unknown))
        # A table finds the ids faster than sorting all voxels.
        inside = ContingencyTable.from_arrays(nothing, result, where=field).result_ids
        self._in_field = np.union1d(self._in_field, inside)

    def add_markers(self, markers: Labels, result: Labels) -> None:
        """Add a piece that was added before, now with one marker in each cell."""
        self.has_markers = True
        self._markers.add(ContingencyTable.from_arrays(markers, result))

    @property
    def known(self) -> ContingencyTable:
        """Pairs of ids of the annotated voxels."""
        return self._known.table()

    @property
    def is_complete(self) -> bool:
        """Whether every voxel is annotated."""
        return not self._void.table().num_voxels

    def matches(self) -> InstanceMatches | None:
        """Match objects by IoU; None where no background is known to be background."""
        table = self.known
        if not self.is_complete and (table.truth_ids != 0).all():
            return None
        return match_instances(table, void=self._void.table())

    def references(self) -> ReferenceMatches:
        """Match reference objects as the Cell Tracking Challenge does for SEG."""
        whole = self.known + self._void.table()
        return match_references(keep_results(whole, self._in_field))

    def detections(self) -> ReferenceMatches | None:
        """Match markers, or the objects of a complete image, as it does for DET."""
        if self.has_markers:
            table = self._markers.table()
            return match_references(keep_results(table, self._in_field))
        return self.references() if self.is_complete else None
