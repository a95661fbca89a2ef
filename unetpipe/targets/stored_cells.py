"""Number the connected components of labels that do not fit into memory.

The partition is the same for any blocks; the ids are not, and mean nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.block_files import BlockFiles
from unetpipe.segmentation.block_labels import label_block
from unetpipe.segmentation.components import Connectivity
from unetpipe.segmentation.merging import FinalIds, LabelledBlocks
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, parts_in, round_up, windows_around

GROUP_BITS = 48  # below: ids of a group of boxes; above: its number
Mask = NDArray[np.bool_]
ReadMask = Callable[[Roi], Mask]


class Components(Protocol):
    """Numbers components as they are needed."""

    def read(self, roi: Roi) -> NDArray[np.uint64]:
        """Return the ids in a box that is numbered."""

    def number(self, roi: Roi) -> None:
        """Give ids to all that a block may see, unless they have some."""

    def forget_before(self, roi: Roi) -> None:
        """Forget what no later block needs."""


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
        read_mask: ReadMask,
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


class ComponentsOfBoxes:
    """Components where only boxes hold any: those that touch together, others apart.

    Parameters
    ----------
    folder : Path
        To be created; whoever asks for components removes it.
    shape : (z, y, x)
        Of the volume.
    boxes : sequence of Roi
        What is annotated.
    depth : int
        Of the blocks that ask.
    read_mask : callable
        Returns the mask of a box of the volume.
    open_in : callable
        Opens the components of a volume: folder, shape, mask of a box of it.
    """

    def __init__(
        self,
        folder: Path,
        shape: Zyx,
        boxes: Sequence[Roi],
        depth: int,
        read_mask: ReadMask,
        open_in: Callable[[Path, Zyx, ReadMask], StoredComponents],
    ) -> None:
        self._groups: list[tuple[Roi, StoredComponents]] = []
        layers = [_whole_layers(box, depth) for box in boxes]
        for k, window in enumerate(windows_around(layers, (0, 1, 1), shape)):
            mask = partial(_mask_in, window.start, read_mask)
            opened = open_in(folder / str(k), window.shape, mask)
            self._groups.append((window, opened))

    def read(self, roi: Roi) -> NDArray[np.uint64]:
        """Return the ids in a box, 0 between components."""
        ids = np.zeros(roi.shape, np.uint64)
        for k, (around, group) in enumerate(self._groups):
            for shared in parts_in([around], roi):
                found = group.read(shared.relative_to(around.start))
                found[found > 0] += np.uint64(k << GROUP_BITS)
                ids[shared.relative_to(roi.start).slices] = found
        return ids

    def number(self, roi: Roi) -> None:
        """Give ids to all groups in the sections of a box, unless they have some."""
        for around, group in self._groups:
            sections = max(roi.start[0], around.start[0]), roi.stop[0]
            if sections[0] < min(sections[1], around.stop[0]):
                first = sections[0] - around.start[0]
                group.number(Roi((first, 0, 0), (first + 1, 1, 1)))

    def forget_before(self, roi: Roi) -> None:
        """Forget the units before that of a box."""
        for around, group in self._groups:
            group.forget_before(roi.relative_to(around.start))


def _whole_layers(box: Roi, depth: int) -> Roi:
    """Return a box that begins and ends with a layer of blocks, and one beside it."""
    (first, *low), (stop, *high) = box.start, box.stop
    start = max(0, first - 1) // depth * depth
    return Roi(as_zyx((start, *low)), as_zyx((round_up(stop + 1, depth), *high)))


def _mask_in(origin: Zyx, read_mask: ReadMask, roi: Roi) -> Mask:
    """Return the mask of a box that is counted from somewhere in the volume."""
    return read_mask(roi.relative_to(as_zyx(-n for n in origin)))
