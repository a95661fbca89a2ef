"""Real forward passes before a prediction: which tile fits, and how fast it is."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from unetpipe.config import PredictionConfig
from unetpipe.errors import ResourceError
from unetpipe.network.devices import activation_budget, is_out_of_memory
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.openvino_network import OpenVinoUNet, torch_precision
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.transfer import Arrays, choose_lane
from unetpipe.network.unet import UNet
from unetpipe.runtime.machine import GIB, peak_rss_bytes
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.orientations import check_stride
from unetpipe.tiling.tile_size import (
    CPU_MEMORY_GB,
    LARGEST_MAP_VALUES,
    TileCandidate,
    project_tile,
    rank_tiles,
)

log = logging.getLogger(__name__)

NUM_TIMED = 2
# Choosing algorithms, recording a graph, replaying it; then until clocks have risen.
NUM_FIRST_ON_GPU, SECONDS_TIMED_ON_GPU = 3, 1.0
NUM_RECORDED = 10
# A batch for a GPU; more voxels at once no longer make it faster, but need memory.
FULL_BATCH_VOXELS = 2**22
LARGEST_BATCH = 16


@dataclass(frozen=True, slots=True)
class Measured:
    """What forward passes of one tile shape took."""

    seconds_per_tile: float
    peak_bytes: int


def choose_tile_batch(
    candidate: TileCandidate, budget_bytes: float, device: str
) -> int:
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


@dataclass(frozen=True, slots=True)
class ChosenTile:
    """The tile that runs, what it took, and what became of the others.

    Attributes
    ----------
    predictor : TilePredictor
        That ran it.
    candidate : TileCandidate
        The tile.
    batch : int
        Tiles in one forward pass.
    measured : Measured
        What the passes took.
    voxels_per_second : float
        Kept voxels of the volume.
    budget_bytes : int
        Memory that activations may take.
    outcomes : list of (TileCandidate, str)
        The first candidates, and what came of each.
    """

    predictor: TilePredictor
    candidate: TileCandidate
    batch: int
    measured: Measured
    voxels_per_second: float
    budget_bytes: int
    outcomes: list[tuple[TileCandidate, str]]


@dataclass(frozen=True, slots=True)
class _Tried:
    """A tile that was chosen with a network."""

    network: UNet | Ensemble | OpenVinoUNet
    chosen: ChosenTile


# Of the volumes of this process, by all that decides the choice but the network.
_tried: dict[tuple[Zyx, str, str, tuple[int, ...], str], _Tried] = {}


@dataclass(frozen=True, slots=True)
class TileTrials:
    """Tries which tile runs on a device, the most useful first.

    Attributes
    ----------
    shape : (z, y, x)
        Of the volume.
    network : UNet, Ensemble or OpenVinoUNet
        With its weights.
    device : torch.device
        Where to compute.
    precision : str
        That the device has arithmetic for.
    orientations : tuple of int
        That are averaged.
    prediction : PredictionConfig
        Memory bound, stride and batch, if somebody has chosen them.
    """

    shape: Zyx
    network: UNet | Ensemble | OpenVinoUNet
    device: torch.device
    precision: str
    orientations: tuple[int, ...]
    prediction: PredictionConfig

    def choose_tile(self) -> "ChosenTile":
        """Return the predictor, the tile and batch that run, and what they took.

        What this process has tried for another volume of the same shape, with the same
        network object, is not tried again.

        Raises
        ------
        ResourceError
            If no legal tile fits the memory; the message says what was tried.
        """
        known = [one for one in _tried.values() if one.network is self.network]
        if len(known) < len(_tried):
            _tried.clear()
        asked = self.prediction.model_dump_json(exclude={"mask", "roi"})
        key = (self.shape, str(self.device), self.precision, self.orientations, asked)
        if key not in _tried:
            _tried[key] = _Tried(self.network, self._try_tiles())
        return _tried[key].chosen

    def _try_tiles(self) -> "ChosenTile":
        budget = self._budget_bytes()
        ranked = self._ranked()
        fitting = [c for c in ranked if c.tile_bytes <= budget]
        if self.prediction.stride is not None:
            fitting = ranked  # somebody knows better than the projection
        if not fitting:
            smallest = min(c.tile_bytes for c in ranked)
            raise ResourceError(
                f"no tile fits {budget / GIB:g} GiB of memory, the smallest needs "
                f"{smallest / GIB:.3g}; raise prediction.memory_gb or use a network "
                "of fewer base_channels"
            )
        predictor = self._predictor(is_compiled=self.prediction.compile)
        if predictor.is_compiled and not self._works(predictor, fitting[-1]):
            predictor = self._predictor()
        channels = self.network.spec.in_channels
        wanted = self.prediction.batch_tiles
        batches = (
            choose_tile_batch(c, budget, self.device.type)
            if wanted == "auto"
            else wanted
            for c in fitting
        )
        candidate, batch, measured, failed = first_that_runs(
            zip(fitting, batches, strict=True),
            lambda c, n: measure_tile(predictor, c.stride, channels, n),
        )
        tried = {c.stride: "out of memory" for c in failed}
        tried[candidate.stride] = "chosen"
        kept = prod(self.shape) / (
            plan_grids(self.shape, candidate.stride, self.network.spec).num_tiles
        )
        seen = [
            c for i, c in enumerate(ranked) if i < NUM_RECORDED or c.stride in tried
        ]
        return ChosenTile(
            predictor,
            candidate,
            batch,
            measured,
            voxels_per_second=kept / measured.seconds_per_tile,
            budget_bytes=int(budget),
            outcomes=[(c, tried.get(c.stride, _fits(c, budget))) for c in seen],
        )

    def _budget_bytes(self) -> float:
        wanted = self.prediction.memory_gb
        if wanted != "auto":
            return wanted * GIB
        if self.device.type == "cpu":
            return CPU_MEMORY_GB * GIB
        return activation_budget(self.device)

    def _ranked(self, precision: str | None = None) -> list[TileCandidate]:
        spec, stride = self.network.spec, self.prediction.stride
        precision = precision or self.precision
        kind, wanted = self.device.type, self.prediction.batch_tiles
        least = 1 if wanted == "auto" else wanted
        if stride is None:
            return rank_tiles(
                self.shape,
                spec,
                precision=precision,
                device=kind,
                orientations=self.orientations,
                batch_tiles=least,
            )
        check_stride(stride, spec.pooling_grid, self.orientations)
        candidate = project_tile(
            stride,
            self.shape,
            spec,
            precision=precision,
            device=kind,
            orientations=self.orientations,
        )
        if kind == "cuda" and candidate.map_values * least > LARGEST_MAP_VALUES:
            log.warning(
                "prediction.stride %s makes feature maps of %.2g values, with "
                "prediction.batch_tiles %s; beyond 2^31 convolutions of a GPU are slow "
                "or want absurd memory: choose less",
                *(stride, candidate.map_values * least, self.prediction.batch_tiles),
            )
        return [candidate]

    def grids_for_fp32(self, grids: TileGrids) -> TileGrids:
        """Return tiles for the comparison; fp32 may need smaller ones."""
        spec, budget = self.network.spec, self._budget_bytes()
        ranked = self._ranked("fp32")
        if any(c.stride == grids.stride and c.tile_bytes <= budget for c in ranked):
            return grids
        fitting = [c for c in ranked if c.tile_bytes <= budget] or ranked[-1:]
        return plan_grids(self.shape, fitting[0].stride, spec)

    def _predictor(self, *, is_compiled: bool = False) -> TilePredictor:
        return TilePredictor(
            self.network,
            precision=torch_precision(self.network, self.precision),
            device=self.device,
            orientations=self.orientations,
            is_compiled=is_compiled,
            autotune=self.prediction.autotune,
        )

    def _works(self, predictor: TilePredictor, candidate: TileCandidate) -> bool:
        """Tell whether torch.compile works here, on a small tile."""
        try:
            measure_tile(predictor, candidate.stride, self.network.spec.in_channels, 1)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.warning(
                "torch.compile does not work here (%s: %s); predicting without",
                type(error).__name__,
                str(error).partition("\n")[0],
            )
            return False
        return True


def _fits(candidate: TileCandidate, budget: float) -> str:
    return "not tried" if candidate.tile_bytes <= budget else "too large"
