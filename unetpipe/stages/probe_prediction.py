"""Rule probe_prediction: find the tile that fits, by real forward passes."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.config import PredictionConfig
from unetpipe.errors import ResourceError
from unetpipe.geometry import Roi, Zyx, as_zyx
from unetpipe.inference import TilePredictor, choose_device, load_network
from unetpipe.intensity import mirror_source, mirror_take, normalise
from unetpipe.machine import GIB, choose_threads, peak_rss_bytes
from unetpipe.records import circumstances, read_record, write_record
from unetpipe.tiling import candidate_strides, plan_geometry
from unetpipe.unet_spec import UNetSpec
from unetpipe.volumes import open_volume, read_roi

log = logging.getLogger(__name__)

BYTES_PER_VALUE = {"fp32": 4, "bf16": 2, "fp16": 2}
# ASSUME: on a CPU, feature maps of larger tiles fall out of the caches and lose more
# than their smaller halo gains (measured: 572 0.70, 1052 0.82, 1532 0.78 useful).
LARGEST_CPU_TILE_VOXELS = 1100**2
NUM_TIMED = 2


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: float
    peak_bytes: int
    flip_fraction: float


def probe_prediction(
    *,
    ingest: Path,
    model: Path,
    model_json: Path,
    prediction: PredictionConfig,
    record: Path,
) -> None:
    """Choose the tile for a volume and measure it on the volume's own voxels.

    Parameters
    ----------
    ingest : Path
        ``ingest.json`` of the volume.
    model, model_json : Path
        Weights and description of the network.
    prediction : PredictionConfig
        Memory bound, precision, threads.
    record : Path
        Where to write ``probe.json``: stride, threads, device, rate, peak memory, and
        the fraction of labels that the precision flips against fp32.

    Raises
    ------
    ResourceError
        If no legal tile fits the memory; the message says how much is needed.
    """
    began = time.monotonic()
    volume, description = read_record(ingest), read_record(model_json)
    spec = UNetSpec.from_json(description["spec"])
    device = choose_device(prediction.device)
    threads = choose_threads(prediction.threads)
    torch.set_num_threads(threads)
    predictor = TilePredictor(
        load_network(model, description),
        precision=prediction.precision,
        device=device,
    )
    shape = as_zyx(volume["shape"])
    for stride in _fitting_strides(shape, spec, prediction, device.type):
        tile = _central_tile(volume, spec, stride)
        try:
            measured = _measure(predictor, tile, stride)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            log.warning("tile stride %s ran out of memory; trying a smaller", stride)
            continue
        break
    else:
        raise ResourceError(
            f"no tile fits {prediction.memory_gb} GiB of memory; raise "
            "prediction.memory_gb or use a network of fewer base_channels"
        )
    geometry = plan_geometry(shape, stride, spec)
    kept_voxels = int(np.prod(shape)) / geometry.num_tiles
    write_record(
        record,
        {
            "stride": list(stride),
            "input_shape": list(geometry.input_shape),
            "threads": threads,
            "device": device.type,
            "precision": prediction.precision,
            "tile_efficiency": geometry.tile_efficiency(spec),
            "flop_per_tile": spec.flop(geometry.input_shape),
            "seconds_per_tile": measured.seconds,
            "voxels_per_second": kept_voxels / measured.seconds,
            "projected_activation_bytes": _activation_bytes(
                spec, stride, prediction.precision
            ),
            "peak_bytes": measured.peak_bytes,
            "flip_fraction": measured.flip_fraction,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    log.info(
        "tile keeps %s voxels of %s, %.2f s each, %.2f %% of labels flip in %s",
        stride,
        geometry.input_shape,
        measured.seconds,
        100 * measured.flip_fraction,
        prediction.precision,
    )


def _activation_bytes(spec: UNetSpec, stride: Zyx, precision: str) -> int:
    values = spec.peak_activation_values(spec.input_shape_for(stride))
    return values * BYTES_PER_VALUE[precision]


def _fitting_strides(
    shape: Zyx, spec: UNetSpec, prediction: PredictionConfig, device: str
) -> list[Zyx]:
    """Return strides by falling usefulness whose projected memory fits."""
    if prediction.stride is not None:
        return [prediction.stride]
    strides = candidate_strides(shape, spec)
    if device == "cpu":
        smaller = [
            s
            for s in strides
            if np.prod(spec.input_shape_for(s)) <= LARGEST_CPU_TILE_VOXELS
        ]
        strides = smaller or strides
    budget = prediction.memory_gb * GIB
    return [
        s for s in strides if _activation_bytes(spec, s, prediction.precision) <= budget
    ]


def _central_tile(
    volume: dict[str, Any], spec: UNetSpec, stride: Zyx
) -> NDArray[np.float32]:
    """Return the normalised tile in the middle of the volume: (1, c, z, y, x)."""
    shape = as_zyx(volume["shape"])
    start = as_zyx(
        max(0, (n - s) // 2) // s * s for n, s in zip(shape, stride, strict=True)
    )
    stop = as_zyx(a + s for a, s in zip(start, stride, strict=True))
    seen = Roi(start, stop).grow(spec.halo)
    source = mirror_source(seen, shape)
    image = read_roi(open_volume(Path(volume["image"]["store"])), source)
    mean, std = (
        np.array([channel[key] for channel in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    taken = mirror_take(image, source.start, seen, shape)
    return normalise(taken, mean=mean, std=std)[None]


def _measure(
    predictor: TilePredictor, tile: NDArray[np.float32], stride: Zyx
) -> _Measured:
    reduced = predictor.predict_tiles(tile, stride)  # warms up; may run out of memory
    began = time.monotonic()
    for _ in range(NUM_TIMED):
        predictor.predict_tiles(tile, stride)
    seconds = (time.monotonic() - began) / NUM_TIMED
    peak = peak_rss_bytes()
    if predictor.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(predictor.device)
    flips = 0.0
    if predictor.dtype != torch.float32:
        exact = TilePredictor(predictor.network, device=predictor.device)
        flips = _flip_fraction(reduced, exact.predict_tiles(tile, stride))
    return _Measured(seconds, peak, flips)


def _flip_fraction(
    one: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
    two: tuple[NDArray[np.uint8], NDArray[np.uint8] | None],
) -> float:
    """Return the share of voxels whose label differs (threshold 0.5, or argmax)."""
    if one[1] is not None and two[1] is not None:
        return float(np.mean(one[1] != two[1]))
    return float(np.mean((one[0] > 127) != (two[0] > 127)))


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "not enough memory" in str(error) or "can't allocate memory" in str(error)
    )
