"""Through the objects of a volume, each cut out by its box and measured by itself.

::

    block   -> the objects whose box begins in it      any block, any order, any part
    window  -> voxels around a block, read once        most boxes lie in it whole
    object  -> its row                                 by its box alone

so that an object counts once, and its row does not depend on blocks or parts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.measurement.columns import UNITS
from unetpipe.measurement.neighbours import nearest_distance
from unetpipe.measurement.shapes import Shape
from unetpipe.measurement.sums import GreySums, ObjectSums
from unetpipe.records.measurements import Column
from unetpipe.storage.volumes import read_stored_roi
from unetpipe.tiling.boxes import (
    AXES,
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    range_of_part,
    whole_volume,
)

LARGEST_BOX = 2**24  # voxels of a box that is held as a whole
PIECE = 2**22  # voxels of a piece of a larger one, at least a section of it
INTENSITIES: Mapping[str, Callable[[Any], float]] = {
    "intensity_mean": lambda sums: sums.mean,
    "intensity_min": lambda sums: sums.low,
    "intensity_max": lambda sums: sums.high,
    "intensity_std": lambda sums: sums.std,
    "intensity_sum": lambda sums: float(sums.total),
}
SHAPES = UNITS.keys() - {"touches_border", "neighbour_distance"}


class Crops:
    """Voxels of boxes of one array, most of them out of a window that was read once.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self._window = Roi((0, 0, 0), (0, 0, 0))
        self._voxels: NDArray[Any] | None = None

    def move(self, window: Roi) -> None:
        """Read another window."""
        self._voxels = None  # so that two never lie in memory
        self._window, self._voxels = window, read_stored_roi(self._array, window)

    def read(self, box: Roi) -> NDArray[Any]:
        """Return the voxels of a box."""
        if self._voxels is None or box.intersect(self._window) != box:
            return read_stored_roi(self._array, box)
        return self._voxels[(..., *box.relative_to(self._window.start).slices)]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a volume: 1, 2, ..., where they lie, and how they are measured.

    Attributes
    ----------
    boxes : int64 array, shape (objects, 6)
        Start and stop of z, of y, of x.
    ids : zarr array, (z, y, x)
    image : zarr array, (c, z, y, x)
    channels : dict
        Name -> number of each channel that is measured.
    block : (z, y, x)
        What is read at once.
    voxel_size_nm : (z, y, x)
    is_flat : bool
        Whether each object lies in one section, and is measured there.
    reach_nm : float
        How far the nearest neighbour is looked for.
    columns : tuple of Column
        What is measured.
    largest_box : int
        Voxels of a box that is held as a whole.
    """

    boxes: NDArray[np.int64]
    ids: zarr.Array[Any]
    image: zarr.Array[Any]
    channels: dict[str, int]
    block: Zyx
    voxel_size_nm: tuple[float, float, float]
    is_flat: bool
    reach_nm: float
    columns: tuple[Column, ...]
    largest_box: int = LARGEST_BOX

    def box(self, number: int) -> Roi:
        """Return the box of an object."""
        row = self.boxes[number - 1].tolist()
        return Roi(as_zyx(row[0::2]), as_zyx(row[1::2]))

    def is_too_large(self, number: int) -> bool:
        """Return whether only its sums are measured, and no shape."""
        return self.box(number).num_voxels > self.largest_box

    def by_block(self, part: int, num_parts: int) -> Iterator[list[int]]:
        """Yield the objects of each block of a part: their boxes begin there."""
        starts = self.boxes[:, 0::2] // np.array(self.block)
        blocks, owner = np.unique(starts, axis=0, return_inverse=True)
        owner = owner.reshape(-1)  # NumPy 2.0.0 keeps an axis
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=len(blocks)))
        for block in range_of_part(len(blocks), part, num_parts):
            first = ends[block - 1] if block else 0
            yield (order[first : ends[block]] + 1).tolist()


def measure_blocks_of_part(
    objects: Objects, part: int = 0, num_parts: int = 1
) -> Iterator[tuple[int, list[float]]]:
    """Yield the number of each object of a part, and its row of ``objects.columns``."""
    ids, image = Crops(objects.ids), Crops(objects.image)
    for numbers in objects.by_block(part, num_parts):
        window = _window(objects, numbers)
        ids.move(window)
        if objects.channels:
            image.move(window)
        for number in numbers:
            yield number, _measure(objects, number, ids, image)


def _window(objects: Objects, numbers: list[int]) -> Roi:
    """Return what to read for some boxes: all of them, or what is left of a limit."""
    boxes = objects.boxes[np.array(numbers) - 1]
    start = as_zyx(boxes[:, 0::2].min(axis=0))
    stop = as_zyx(boxes[:, 1::2].max(axis=0))
    limit = as_zyx(a + n + n // 2 for a, n in zip(start, objects.block, strict=True))
    return Roi(start, as_zyx(map(min, stop, limit)))


def _measure(objects: Objects, number: int, ids: Crops, image: Crops) -> list[float]:
    """Return the row of one object."""
    box = objects.box(number)
    sums = ObjectSums(len(objects.channels))
    chosen = list(objects.channels.values())
    mask = np.zeros((0, 0, 0), bool)
    for piece in _pieces(box, objects.largest_box):
        mask = ids.read(piece) == number
        grey = image.read(piece)[chosen] if chosen else np.empty((0, *mask.shape))
        sums.add(mask, grey, piece.start)
    shape = None
    if not objects.is_too_large(number):
        cut, spacing = mask, objects.voxel_size_nm
        shape = Shape(cut[0], spacing[1:]) if objects.is_flat else Shape(cut, spacing)
    row = _Row(objects, number, sums, shape, ids)
    return [row.value(column) for column in objects.columns]


@dataclass(frozen=True, slots=True)
class _Row:
    """What is known of one object; its shape is None if its box is too large."""

    objects: Objects
    number: int
    sums: ObjectSums
    shape: Shape | None
    ids: Crops

    def value(self, column: Column) -> float:
        """Return what a column holds."""
        name, size = column.property, self.objects.voxel_size_nm
        if name == "area":
            return self.sums.count * prod(size[1:] if self.objects.is_flat else size)
        if name == "touches_border":
            return float(self._touches_border())
        if name == "neighbour_distance":
            return self._neighbour_distance()
        if name in SHAPES:
            return self.shape.measure(name) if self.shape else np.nan
        if name == "centroid":
            axis = AXES.index(column.axis or "")
            return self.sums.centroid()[axis] * size[axis]
        grey = self._grey(column)
        if name == "centroid_weighted":
            axis = AXES.index(column.axis or "")
            return grey.centre()[axis] * size[axis]
        return INTENSITIES[name](grey)

    def _grey(self, column: Column) -> GreySums:
        names = list(self.objects.channels)
        return self.sums.channels[names.index(column.channel or "")]

    def _touches_border(self) -> bool:
        box, shape = self.objects.box(self.number), self.objects.ids.shape
        axes = (1, 2) if self.objects.is_flat else (0, 1, 2)
        return any(box.start[a] == 0 or box.stop[a] == shape[a] for a in axes)

    def _neighbour_distance(self) -> float:
        if self.shape is None:
            return np.nan
        box = self.objects.box(self.number)
        within = whole_volume(as_zyx(self.objects.ids.shape))
        if self.objects.is_flat:
            (_, height, width), z = within.stop, box.start[0]
            within = Roi((z, 0, 0), (z + 1, height, width))
        size, reach = self.objects.voxel_size_nm, self.objects.reach_nm
        return nearest_distance(self.ids.read, self.number, box, within, size, reach)


def _pieces(box: Roi, largest: int) -> list[Roi]:
    """Return a box, or if it is too large what it is cut into: by sections, by rows."""
    if box.num_voxels <= largest:
        return [box]
    _, height, width = box.shape
    step = min(height, max(1, PIECE // width))
    cell = as_zyx((max(1, PIECE // (height * width)), step, width))
    local = whole_volume(box.shape)
    return [
        Roi(
            as_zyx(a + b for a, b in zip(inside.start, box.start, strict=True)),
            as_zyx(a + b for a, b in zip(inside.stop, box.start, strict=True)),
        )
        for index in iterate_grid(local, cell)
        if (inside := grid_cell(index, cell, box.shape))
    ]
