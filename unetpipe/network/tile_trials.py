"""Real forward passes before a prediction: what fits, how fast, which labels flip."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.errors import ResourceError
from unetpipe.network.devices import is_out_of_memory
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.transfer import Arrays, choose_lane
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.tiling.blocks import source_roi
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, grid_shape, whole_volume
from unetpipe.tiling.grids import PredictionGeometry
from unetpipe.tiling.intensity import Statistic
from unetpipe.tiling.quantised import threshold_mask
from unetpipe.tiling.tile_choice import LARGEST_MAP_VALUES, TileCandidate

log = logging.getLogger(__name__)

NUM_TIMED = 2
# Choosing algorithms, recording a graph, replaying it; then until clocks have risen.
NUM_FIRST_ON_GPU, SECONDS_TIMED_ON_GPU = 3, 1.0
# A batch for a GPU; more voxels at once no longer make it faster, but need memory.
FULL_BATCH_VOXELS = 2**22
LARGEST_BATCH = 16
# Labels are compared at a block's worth of tiles, or at so many tiles and voxels if
# that is more than such a part of the volume.
ENOUGH_PLACES = 4
ENOUGH_VOXELS = 2**20
ENOUGH_SHARE = 0.01
# Spreads points evenly in three dimensions, any number of them (Roberts 2018).
SPREAD = (0.8191725134, 0.6710436067, 0.5497004779)


@dataclass(frozen=True, slots=True)
class Measured:
    """What forward passes of one tile shape took."""

    seconds_per_tile: float
    peak_bytes: int


def choose_batch(candidate: TileCandidate, budget_bytes: float, device: str) -> int:
    """Return how many tiles to compute at once: 1 on a CPU, as many as fill a GPU."""
    if device == "cpu":
        return 1
    voxels = max(prod(shape) for shape in candidate.input_shapes)
    fitting = int(budget_bytes // candidate.tile_bytes)
    counted = LARGEST_MAP_VALUES // candidate.map_values
    return max(1, min(FULL_BATCH_VOXELS // voxels, fitting, counted, LARGEST_BATCH))


def first_that_runs(
    candidates: Iterable[tuple[TileCandidate, int]],
    measure: Callable[[TileCandidate, int], Measured],
) -> tuple[TileCandidate, int, Measured, list[TileCandidate]]:
    """Return the first candidate whose forward passes fit the memory.

    Parameters
    ----------
    candidates : iterable of (candidate, tiles in a batch)
        By falling preference. After one runs out of memory only smaller ones are tried.
    measure : function
        Runs the forward passes.

    Returns
    -------
    candidate, batch, measured, and those that ran out of memory

    Raises
    ------
    ResourceError
        If none fits.
    """
    failed: list[TileCandidate] = []
    limit: float = float("inf")
    for candidate, batch in candidates:
        if candidate.tile_bytes * batch >= limit:
            continue
        try:
            return candidate, batch, measure(candidate, batch), failed
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.warning(
                "tile stride %s ran out of memory; trying a smaller", candidate.stride
            )
        failed.append(candidate)
        limit = candidate.tile_bytes * batch
    raise ResourceError(
        f"no tile fits the memory, {len(failed)} were tried; raise "
        "prediction.memory_gb or use a network of fewer base_channels"
    )


def measure_tile(
    predictor: TilePredictor, stride: Zyx, num_channels: int, batch: int
) -> Measured:
    """Time forward passes of a batch of noise, after some that may run out of memory.

    Tiles come and go as the engine's do. On a GPU the first passes choose algorithms,
    and record what a compiled network replays; then its clocks rise. What a candidate
    before this one left there is forgotten.
    """
    device, is_cuda = predictor.device, predictor.device.type == "cuda"
    if predictor.is_compiled:
        torch._dynamo.reset()  # it keeps 8 shapes; for one more it would not compile
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    lane = choose_lane(device)
    shape = (batch, num_channels, *predictor.tile_shape(stride))
    tiles = lane.empty(shape, np.dtype(np.uint8))
    noise = np.random.default_rng(0)
    tiles.numpy()[...] = noise.integers(0, 256, shape, np.uint8)
    mean, std = (
        torch.full((num_channels,), value, device=device) for value in (128.0, 64.0)
    )

    def start() -> Callable[[], Arrays]:
        return lane.download(
            *predictor.quantised(lane.upload(tiles), stride, mean=mean, std=std)
        )

    for _ in range(NUM_FIRST_ON_GPU if is_cuda else 1):
        start()()
    began, count = time.monotonic(), 0
    under_way: deque[Callable[[], Arrays]] = deque()
    least_seconds = SECONDS_TIMED_ON_GPU if is_cuda else 0.0
    while count < NUM_TIMED or time.monotonic() - began < least_seconds:
        under_way.append(start())
        count += 1
        if len(under_way) > lane.lag:
            under_way.popleft()()
    for wait in under_way:
        wait()
    seconds = (time.monotonic() - began) / count / batch
    peak = torch.cuda.max_memory_allocated(device) if is_cuda else peak_rss_bytes()
    return Measured(seconds, peak)


def spread_tiles(geometry: PredictionGeometry, within: Roi) -> Iterator[Roi]:
    """Yield tiles of a box, the central one first, then evenly spread, none twice.

    They are clipped to the volume.
    """
    counts = grid_shape(geometry.volume_shape, geometry.stride)
    low = as_zyx(a // s for a, s in zip(within.start, geometry.stride, strict=True))
    high = as_zyx(
        min(-(-b // s), n)
        for b, s, n in zip(within.stop, geometry.stride, counts, strict=True)
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
        start = as_zyx(i * s for i, s in zip(index, geometry.stride, strict=True))
        stop = as_zyx(a + s for a, s in zip(start, geometry.stride, strict=True))
        yield Roi(start, stop).intersect(whole_volume(geometry.volume_shape))


def num_places(geometry: PredictionGeometry) -> int:
    """Return at how many tiles labels are compared."""
    per_block = prod(
        b // s for b, s in zip(geometry.block, geometry.stride, strict=True)
    )
    enough = max(
        ENOUGH_PLACES,
        ceil(ENOUGH_SHARE * geometry.num_tiles),
        ceil(ENOUGH_VOXELS / prod(geometry.stride)),
    )
    return min(per_block, enough, geometry.num_tiles)


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
        self, predictor: TilePredictor, geometry: PredictionGeometry, region: Roi
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return probabilities and classes as they would be stored."""
        tiles = tuple(geometry.tiles(region))
        seen = source_roi(tiles, predictor.halo, geometry.volume_shape)
        return predictor.predict_block(
            self.read(seen),
            seen.start,
            region,
            geometry,
            mean=self.mean,
            std=self.std,
        )


def flip_fractions(
    predict: RegionPredictor,
    reduced: tuple[TilePredictor, PredictionGeometry],
    exact: tuple[TilePredictor, PredictionGeometry],
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


def first_places(
    geometry: PredictionGeometry, within: Roi, is_empty: Callable[[Roi], bool]
) -> list[Roi]:
    """Return where to compare labels: evenly spread tiles that hold something."""
    wanted = num_places(geometry)
    tiles = islice(spread_tiles(geometry, within), 4 * wanted)
    return list(islice((t for t in tiles if not is_empty(t)), wanted))


def _flip_fraction(
    one: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
    two: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
    *,
    threshold: float,
) -> float:
    if one[1] is not None and two[1] is not None:
        return float(np.mean(one[1] != two[1]))
    masks = [threshold_mask(probability, threshold) for probability in (one[0], two[0])]
    return float(np.mean(masks[0] != masks[1]))
