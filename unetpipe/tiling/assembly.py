"""From a block's voxels to its tiles, and from predicted tiles to the block.

Each tile is cut out of what was read once for the whole block; what lies beyond the
volume's faces is mirrored.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetpipe.tiling.boxes import Halo, Roi, Zyx, as_zyx
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import (
    Statistic,
    centre,
    needs_float64,
)
from unetpipe.tiling.mirroring import (
    mirror_into,
    mirror_source,
    mirror_take,
)


@dataclass(frozen=True, slots=True)
class BlockVoxels:
    """A block that waits to be predicted.

    Attributes
    ----------
    number : int
        Of the block in its volume.
    roi : Roi
        Its write ROI, clipped to the volume.
    tiles : tuple of Roi
        Tiles to predict; the voxels of all others stay 0.
    source : array, shape (c, z, y, x)
        The real voxels that these tiles see, as stored.
    origin : (z, y, x)
        Where ``source`` begins in the volume.
    skipped : dict
        Start of each tile that is not predicted -> why.
    """

    number: int
    roi: Roi
    tiles: tuple[Roi, ...]
    source: NDArray[Any]
    origin: Zyx
    skipped: dict[Zyx, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockPrediction:
    """A predicted block.

    Attributes
    ----------
    probability : uint8 array, shape (k, z, y, x)
        round(255 p); k is 1, the foreground, for two classes.
    classes : uint8 array, shape (z, y, x), or None
        The most probable class, taken before quantising; None for two classes.
    """

    number: int
    roi: Roi
    probability: NDArray[np.uint8]
    classes: NDArray[np.uint8] | None
    skipped: dict[Zyx, str]


def source_roi_of_tiles(tiles: tuple[Roi, ...], halo: Halo, volume_shape: Zyx) -> Roi:
    """Return the real voxels that some tiles see: each input chunk is read once."""
    start = as_zyx(min(t.start[axis] for t in tiles) for axis in range(3))
    stop = as_zyx(max(t.stop[axis] for t in tiles) for axis in range(3))
    return mirror_source(Roi(start, stop).grow(halo), volume_shape)


def transfer_dtype(stored: DTypeLike) -> np.dtype[Any]:
    """Return the type in which voxels travel to the device: as stored, if narrow."""
    dtype = np.dtype(stored).newbyteorder("=")
    return dtype if dtype.itemsize <= 2 else np.dtype(np.float32)


def assemble_tile(
    block: BlockVoxels,
    tile: Roi,
    halo: Halo,
    grids: TileGrids,
    out: NDArray[Any],
    mean: Statistic | None = None,
) -> None:
    """Fill ``out``, shape (c, z, y, x), with a tile and the halo around it.

    With a mean, shape (c,), it is taken away from what is stored in more than 16 bits;
    narrower values travel as they are.
    """
    seen = tile.grow(halo)
    if mean is None or not needs_float64(block.source.dtype):
        mirror_into(out, block.source, block.origin, seen, grids.volume_shape)
        return
    taken = mirror_take(block.source, block.origin, seen, grids.volume_shape)
    out[...] = centre(taken, mean)


class Canvas:
    """The block's result while its tiles come in, in any order.

    Parameters
    ----------
    block : BlockVoxels
        Its voxels are not kept.
    num_channels : int
        Stored probability channels.
    has_classes : bool
        Whether the most probable class is stored too.
    """

    def __init__(
        self, block: BlockVoxels, num_channels: int, *, has_classes: bool
    ) -> None:
        self.roi = block.roi
        self.number = block.number
        self._skipped = block.skipped
        self._num_missing = len(block.tiles)
        self._probability = np.zeros((num_channels, *block.roi.shape), np.uint8)
        self._classes = np.zeros(block.roi.shape, np.uint8) if has_classes else None

    @property
    def is_whole(self) -> bool:
        """Whether all tiles are in."""
        return self._num_missing == 0

    def paste(
        self,
        tile: Roi,
        probability: NDArray[np.uint8],
        classes: NDArray[np.uint8] | None,
    ) -> None:
        """Put in one tile, (k, *stride) and (*stride), clipped to the block."""
        target = tile.intersect(self.roi)
        inside = target.relative_to(tile.start).slices
        outside = target.relative_to(self.roi.start).slices
        self._probability[(slice(None), *outside)] = probability[(slice(None), *inside)]
        if self._classes is not None and classes is not None:
            self._classes[outside] = classes[inside]
        self._num_missing -= 1

    def finish(self) -> BlockPrediction:
        """Return the whole block."""
        assert self.is_whole
        return BlockPrediction(
            self.number, self.roi, self._probability, self._classes, self._skipped
        )
