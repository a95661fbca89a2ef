"""Number the connected components of labels that do not fit into memory.

::

    | 1 1 . 2 |        | 1 1 . 2 | 3 . 4 |       | 1 1 . 2 | 2 . 4 |
    block by block  ->  ids are counted on    ->  what touches across a face is one

The partition is the same for any blocks; the ids are not, and mean nothing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.thresholds import (
    Connectivity,
    face_pairs,
    label_components,
    merge_ids,
)
from unetpipe.storage.volumes import create_volume, open_volume, read_roi, store_shard
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    whole_volume,
)

Mask = NDArray[np.bool_]
CHUNK = 128


class StoredComponents:
    """Components of a volume, or of each of its sections, in a store of their own.

    A *unit* is what is numbered at once: one layer of blocks, or the volume.

    Parameters
    ----------
    folder : Path
        To be created; whoever asks for components removes it.
    shape : (z, y, x)
        Of the volume.
    block : (z, y, x)
        What is labelled at once.
    sections_apart : bool
        Voxels connect within sections only.
    read_mask : callable
        Returns the mask of a box: bool (z, y, x).
    """

    def __init__(
        self,
        folder: Path,
        *,
        shape: Zyx,
        block: Zyx,
        sections_apart: bool,
        read_mask: Callable[[Roi], Mask],
    ) -> None:
        self.shape, self.block, self.sections_apart = shape, block, sections_apart
        chunk = as_zyx(np.gcd(n, CHUNK) for n in block)
        create_volume(
            folder,
            shape=shape,
            dtype=np.uint64,
            chunk=chunk,
            shard=block,
            voxel_size_nm=(1.0, 1.0, 1.0),
            is_labels=True,
        )
        self._ids = open_volume(folder, mode="r+")
        self._read_mask = read_mask
        self._tables: dict[int, NDArray[np.uint64]] = {}

    def read(self, roi: Roi) -> NDArray[np.uint64]:
        """Return the ids in a box of a unit that is numbered, 0 between components."""
        ids: NDArray[np.uint64] = self._tables[self._unit(roi)][
            read_roi(self._ids, roi)
        ]
        return ids

    def number(self, roi: Roi) -> None:
        """Give ids to the unit that a box lies in, unless it has some."""
        unit = self._unit(roi)
        if unit not in self._tables:
            self._tables[unit] = self._number(unit)

    def forget_before(self, roi: Roi) -> None:
        """Forget the units before that of a box."""
        for unit in [unit for unit in self._tables if unit < self._unit(roi)]:
            del self._tables[unit]

    def _unit(self, roi: Roi) -> int:
        """Return the layer of blocks that a box lies in, or 0 for the one volume."""
        return roi.start[0] // self.block[0] if self.sections_apart else 0

    def _number(self, unit: int) -> NDArray[np.uint64]:
        """Write ids block by block, and return the final one of each."""
        box = whole_volume(self.shape)
        if self.sections_apart:
            layer = as_zyx((self.block[0], *self.shape[1:]))
            box = grid_cell((unit, 0, 0), layer, self.shape)
        connectivity: Connectivity = "2d" if self.sections_apart else "3d"
        pairs, count = [np.zeros((0, 2), np.uint64)], 0
        for index in iterate_grid(box, self.block):
            roi = grid_cell(index, self.block, self.shape)
            labels, found = label_components(self._read_mask(roi), connectivity)
            ids = np.where(labels > 0, labels.astype(np.uint64) + np.uint64(count), 0)
            store_shard(self._ids, index, ids)
            pairs += self._touching(ids, roi, box)
            count += found
        sizes = np.ones(count + 1, np.int64)
        return merge_ids(count, np.concatenate(pairs), sizes, 0)

    def _touching(
        self, ids: NDArray[np.uint64], roi: Roi, box: Roi
    ) -> list[NDArray[np.uint64]]:
        """Return the pairs across the faces to the blocks before this one."""
        found = []
        for axis in range(1 if self.sections_apart else 0, 3):
            if roi.start[axis] == box.start[axis]:
                continue
            start, stop = list(roi.start), list(roi.stop)
            start[axis], stop[axis] = roi.start[axis] - 1, roi.start[axis]
            before = read_roi(self._ids, Roi(as_zyx(start), as_zyx(stop)))
            found.append(face_pairs(before, np.take(ids, [0], axis=axis)))
        return found
