"""Number the connected components of labels that do not fit into memory.

The partition is the same for any blocks; the ids are not, and mean nothing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.block_files import BlockFiles
from unetpipe.segmentation.block_labels import label_block
from unetpipe.segmentation.components import Connectivity
from unetpipe.segmentation.merging import FinalIds, LabelledBlocks
from unetpipe.tiling.boxes import Roi, Zyx

Mask = NDArray[np.bool_]


class StoredComponents:
    """Components of a volume, or of each of its sections; runs of blocks on the disk.

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
        connectivity: Connectivity = "2d" if sections_apart else "3d"
        files = BlockFiles(folder, "components")
        self._blocks = LabelledBlocks(files, shape, block, connectivity)
        self._read_mask = read_mask
        self._ids: dict[int, FinalIds] = {}

    def read(self, roi: Roi) -> NDArray[np.uint64]:
        """Return the ids in a box of a unit that is numbered, 0 between components."""
        ids = self._blocks.paint(roi, self._ids[self._unit(roi)])
        return ids

    def number(self, roi: Roi) -> None:
        """Give ids to the unit that a box lies in, unless it has some."""
        unit = self._unit(roi)
        if unit not in self._ids:
            self._ids[unit] = self._number(unit)

    def forget_before(self, roi: Roi) -> None:
        """Forget the units before that of a box."""
        for unit in [unit for unit in self._ids if unit < self._unit(roi)]:
            del self._ids[unit]

    def _unit(self, roi: Roi) -> int:
        """Return the layer of blocks that a box lies in, or 0 for the one volume."""
        is_apart = self._blocks.connectivity == "2d"
        return roi.start[0] // self._blocks.block[0] if is_apart else 0

    def _number(self, unit: int) -> FinalIds:
        """Label the unit's blocks one by one, and return what all are called."""
        layers, rows, columns = self._blocks.counts
        size = rows * columns * (1 if self._blocks.connectivity == "2d" else layers)
        blocks = range(unit * size, (unit + 1) * size)
        for number in blocks:
            roi = self._blocks.roi(number)
            mask = np.ascontiguousarray(self._read_mask(roi)).view(np.uint8)
            labelled = label_block(
                mask,
                np.zeros_like(mask),
                roi,
                self._blocks.volume_shape,
                self._blocks.connectivity,
                num_foreground=0,
            )
            self._blocks.save(number, labelled)
        merged = self._blocks.merge(blocks, smallest=0, largest_hole=0)
        return FinalIds(merged.objects.table, merged.offsets, blocks.start)
