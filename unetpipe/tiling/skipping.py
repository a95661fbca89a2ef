"""Which tiles are predicted: a box, a mask, and grey values decide.

What is left out stays 0. The rules look at single tiles of the volume's one grid, so
they do not depend on blocks or parts, and no kept tile changes a bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.tiling.boxes import AXES, Roi, Zyx, grid_shape
from unetpipe.tiling.grids import TileGrids

OUTSIDE_ROI = "outside the roi"
OUTSIDE_MASK = "outside the mask"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class TileSelection:
    """The rules of one prediction.

    Attributes
    ----------
    roi : Roi or None
        Tiles that touch it are predicted.
    kept : bool array, shape of the tile grid, or None
        Tiles that the mask touches.
    empty_value : float or None
        A tile is empty if at most ``empty_fraction`` of its voxels are brighter, in any
        channel, in grey values as stored.
    empty_fraction : float
        0: no voxel at all.
    """

    roi: Roi | None = None
    kept: NDArray[np.bool_] | None = None
    empty_value: float | None = None
    empty_fraction: float = 0.0

    def excluded(self, tile: Roi) -> str | None:
        """Return why a tile is left out, as far as its place tells."""
        if self.roi is not None and not tile.intersect(self.roi).num_voxels:
            return OUTSIDE_ROI
        if self.kept is not None:
            index = tuple(a // n for a, n in zip(tile.start, tile.shape, strict=True))
            if not self.kept[index]:
                return OUTSIDE_MASK
        return None

    def is_empty(self, voxels: NDArray[Any]) -> bool:
        """Tell whether a tile's own voxels, (c, z, y, x), hold nothing."""
        if self.empty_value is None:
            return False
        is_bright = (voxels > self.empty_value).any(axis=0)
        return bool(np.count_nonzero(is_bright) <= self.empty_fraction * is_bright.size)


def tiles_in_mask(
    sections: Iterable[NDArray[np.bool_]],
    mask_shape: Zyx,
    grids: TileGrids,
) -> NDArray[np.bool_]:
    """Return which tiles a mask touches.

    A mask may be coarser than the volume, like a level of its pyramid: a voxel of the
    mask then stands for so many voxels of the volume that its length, rounded up, is
    the mask's. Where several factors fit, a tile counts if it is touched under any, so
    nothing is lost. A mask of one section is for all sections.

    Parameters
    ----------
    sections : iterable of bool arrays, shape (y, x)
        The mask's sections in order.
    mask_shape : (z, y, x)
        Of the mask.
    grids : TileGrids
        The tile grid.

    Returns
    -------
    bool array, shape of the tile grid

    Raises
    ------
    DataError
        If no whole factor fits along an axis; names axis and lengths.
    """
    spans = [_spans(grids, mask_shape, axis) for axis in range(3)]
    counts = grid_shape(grids.volume_shape, grids.stride)
    kept = np.zeros(counts, bool)
    for z, section in enumerate(sections):
        rows = np.stack([section[a:b].any(axis=0) for a, b in spans[1]])
        before = np.zeros((len(rows), mask_shape[2] + 1), np.int64)
        np.cumsum(rows, axis=1, out=before[:, 1:])
        starts, stops = spans[2].T
        touched = before[:, stops] > before[:, starts]
        kept[(spans[0][:, 0] <= z) & (z < spans[0][:, 1])] |= touched
    return kept


def _spans(grids: TileGrids, mask_shape: Zyx, axis: int) -> NDArray[np.int64]:
    """Return first and last mask voxel (exclusive) of each tile along an axis."""
    length, size = grids.volume_shape[axis], mask_shape[axis]
    stride = grids.stride[axis]
    smallest = -(-length // size)
    largest = (length - 1) // (size - 1) if size > 1 else length
    if smallest > largest or size > length:
        raise DataError(
            f"the mask has {size} voxels along {AXES[axis]}, the volume {length}: no "
            f"whole factor fits; use a mask of {length}, or a level of its pyramid"
        )
    starts = np.arange(0, length, stride)
    stops = np.minimum(starts + stride, length)
    return np.stack(
        [starts // largest, np.minimum(-(-stops // smallest), size)], axis=1
    )
