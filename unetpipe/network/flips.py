"""Which labels a reduced precision flips: compared with fp32 at spread places."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.network.predictor import TilePredictor
from unetpipe.tiling.assembly import source_roi_of_tiles
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, grid_shape, whole_volume
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import Statistic
from unetpipe.tiling.quantised import threshold_mask

# Labels are compared at a block's worth of tiles, or at so many tiles and voxels if
# that is more than such a part of the volume.
ENOUGH_PLACES = 4
ENOUGH_VOXELS = 2**20
ENOUGH_SHARE = 0.01
# Spreads points evenly in three dimensions, any number of them (Roberts 2018).
SPREAD = (0.8191725134, 0.6710436067, 0.5497004779)


def spread_flip_tiles(grids: TileGrids, within: Roi) -> Iterator[Roi]:
    """Yield tiles of a box, the central one first, then evenly spread, none twice.

    They are clipped to the volume.
    """
    counts = grid_shape(grids.volume_shape, grids.stride)
    low = as_zyx(a // s for a, s in zip(within.start, grids.stride, strict=True))
    high = as_zyx(
        min(-(-b // s), n)
        for b, s, n in zip(within.stop, grids.stride, counts, strict=True)
    )
    lengths = [max(1, b - a) for a, b in zip(low, high, strict=True)]
    seen: set[Zyx] = set()
    for i in range(8 * prod(lengths)):
        index = as_zyx(
            a + int((0.5 + i * step) % 1 * n)
            for a, n, step in zip(low, lengths, SPREAD, strict=True)
        )
        if index in seen:
            continue
        seen.add(index)
        start = as_zyx(i * s for i, s in zip(index, grids.stride, strict=True))
        stop = as_zyx(a + s for a, s in zip(start, grids.stride, strict=True))
        yield Roi(start, stop).intersect(whole_volume(grids.volume_shape))


def num_flip_tiles(grids: TileGrids) -> int:
    """Return at how many tiles labels are compared."""
    per_block = prod(b // s for b, s in zip(grids.block, grids.stride, strict=True))
    enough = max(
        ENOUGH_PLACES,
        ceil(ENOUGH_SHARE * grids.num_tiles),
        ceil(ENOUGH_VOXELS / prod(grids.stride)),
    )
    return min(per_block, enough, grids.num_tiles)


@dataclass(frozen=True, slots=True)
class RegionPredictor:
    """Predicts any box of a stored volume, tile by tile.

    Attributes
    ----------
    read : function
        Returns the voxels (c, z, y, x) of a box of the volume.
    mean, std : float arrays, shape (c,)
        Intensity statistics of the whole volume.
    """

    read: Callable[[Roi], NDArray[Any]]
    mean: Statistic
    std: Statistic

    def __call__(
        self, predictor: TilePredictor, grids: TileGrids, region: Roi
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return probabilities and classes as they would be stored."""
        tiles = tuple(grids.tiles(region))
        seen = source_roi_of_tiles(tiles, predictor.halo, grids.volume_shape)
        return predictor.predict_block(
            self.read(seen),
            seen.start,
            region,
            grids,
            mean=self.mean,
            std=self.std,
        )


def flip_fractions(
    predict: RegionPredictor,
    reduced: tuple[TilePredictor, TileGrids],
    exact: tuple[TilePredictor, TileGrids],
    places: Sequence[Roi],
    threshold: float,
) -> list[float]:
    """Return for each place the share of voxels whose label the precision flips.

    A label is: above the threshold, or with more classes the most probable class.
    """
    return [
        _flip_fraction(
            predict(*reduced, place), predict(*exact, place), threshold=threshold
        )
        for place in places
    ]


def choose_flip_tiles(
    grids: TileGrids, within: Roi, is_empty: Callable[[Roi], bool]
) -> list[Roi]:
    """Return where to compare labels: evenly spread tiles that hold something."""
    wanted = num_flip_tiles(grids)
    tiles = islice(spread_flip_tiles(grids, within), 4 * wanted)
    return list(islice((t for t in tiles if not is_empty(t)), wanted))


def _flip_fraction(
    one: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
    two: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
    *,
    threshold: float,
) -> float:
    if one[1] is not None and two[1] is not None:
        return float(np.mean(one[1] != two[1]))
    masks = [threshold_mask(stored[:1], threshold) for stored, _ in (one, two)]
    return float(np.mean(masks[0] != masks[1]))
