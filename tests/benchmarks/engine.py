"""How close the engine comes to the machine's limit (DESIGN: useful efficiency)."""

import shutil
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from tests.benchmarks.figures import Figure
from tests.benchmarks.gpu_load import GpuLoad
from tests.benchmarks.inputs import Prediction, save_model, store_volume
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio, time_once
from unetpipe.network.predictor import DTYPES
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec

TERA = 1e12


def measure(settings: Settings) -> list[Figure]:
    """Measure a matrix product, forward passes and the engine in turn."""
    spec = UNetSpec(base_channels=settings.choose(quick=2, cpu=64))
    shape = settings.choose(
        quick=(1, 100, 120), cpu=(3, 2048, 2048), cuda=(64, 4096, 4096)
    )
    folder = settings.folder / "engine"
    torch.manual_seed(0)
    network = UNet(spec)
    prediction = Prediction(
        folder / "prediction",
        ingest=store_volume(folder / "volume", shape),
        model=save_model(folder / "model", network),
        settings=settings,
    )
    torch.set_num_threads(settings.threads)
    num_passes = settings.choose(quick=1, cpu=5, cuda=100)
    multiply, multiply_flop = matrix_product(settings)
    load = GpuLoad(is_wanted=settings.is_cuda)
    actions = {
        "matrix product": multiply,
        "bare": bare_loop(network, prediction, num_passes, settings),
        "engine": lambda: _predict(prediction, load),
    }
    for name in ("matrix product", "bare"):
        actions[name]()
    seconds = interleave(actions, settings.rounds)
    del network
    shutil.rmtree(folder)
    num_bare = num_passes * prediction.batch_tiles
    return _figures(settings, spec, prediction, seconds, multiply_flop, num_bare, load)


def matrix_product(settings: Settings) -> tuple[Callable[[], None], float]:
    """Return an action, of the size with most FLOP/s, and its FLOP."""
    sizes = settings.choose(
        quick=(128, 256), cpu=(1024, 2048, 4096), cuda=(4096, 8192, 16384)
    )
    dtype = DTYPES[settings.precision]
    rates = {}
    for size in sizes:
        multiply = _multiplication(size, 1, dtype, settings)
        multiply()
        rates[size] = 2 * size**3 / min(time_once(multiply) for _ in range(3))
    best = max(rates, key=lambda size: rates[size])
    wanted_seconds = settings.choose(quick=0.01, cpu=4.0, cuda=0.5)
    repeats = max(1, round(wanted_seconds * rates[best] / (2 * best**3)))
    return (
        _multiplication(best, repeats, dtype, settings),
        2.0 * best**3 * repeats,
    )


def bare_loop(
    network: UNet, prediction: Prediction, num_passes: int, settings: Settings
) -> Callable[[], None]:
    """Return an action: forward passes on tiles in memory, and nothing else.

    With what makes them fast: the engine's batches, channels last, cuDNN's choice.
    """
    layout = torch.channels_last
    network = network.eval().to(settings.device, memory_format=layout)
    geometry, batch = prediction.geometry, prediction.batch_tiles
    shape = (batch, network.spec.in_channels, *geometry.input_shape[1:])
    tiles = [
        torch.randn(shape).to(settings.device, memory_format=layout)
        for _ in range(min(num_passes, 4))
    ]
    dtype = DTYPES[settings.precision]

    def loop() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(settings.device.type, dtype, enabled=dtype != torch.float32),
            torch.backends.cudnn.flags(enabled=True, benchmark=True),
        ):
            for number in range(num_passes):
                network(tiles[number % len(tiles)])
        settings.synchronise()

    return loop


def _multiplication(
    size: int, repeats: int, dtype: torch.dtype, settings: Settings
) -> Callable[[], None]:
    a, b = (torch.randn(size, size).to(settings.device, dtype) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        settings.synchronise()

    return multiply


def _predict(prediction: Prediction, load: GpuLoad) -> None:
    prediction.plan()
    with load:
        prediction.predict()
    shutil.rmtree(prediction.home)


def _figures(
    settings: Settings,
    spec: UNetSpec,
    prediction: Prediction,
    seconds: dict[str, list[float]],
    multiply_flop: float,
    num_bare: int,
    load: GpuLoad,
) -> list[Figure]:
    geometry = prediction.geometry
    tile_flop = spec.flop(geometry.input_shape)
    tile_efficiency = geometry.tile_efficiency(spec)
    # Seconds for the FLOP of one tile: as a matrix product, as a bare forward.
    ideal = [s / multiply_flop * tile_flop for s in seconds["matrix product"]]
    bare = [s / num_bare for s in seconds["bare"]]
    engine = [s / geometry.num_tiles for s in seconds["engine"]]
    hardware, engine_efficiency = median_ratio(ideal, bare), median_ratio(bare, engine)
    useful = tile_efficiency * median_ratio(ideal, engine)
    rate = tile_flop / median(ideal) / TERA
    voxels = prediction.num_voxels / median(seconds["engine"])
    details: dict[str, Any] = {
        "geometry": geometry.to_json(),
        "base_channels": spec.base_channels,
        "precision": prediction.record["precision"],
        "batch_tiles": prediction.batch_tiles,
        "threads": prediction.record["threads"],
        "flip_fraction": prediction.record["flip_fraction"],
        "seconds": seconds,
        "num_bare_tiles": num_bare,
        "matrix_flop": multiply_flop,
        "matrix_tflop_per_second": rate,
        "voxels_per_second": voxels,
    }
    precision = prediction.record["precision"]
    figures = [
        Figure(
            "tile efficiency",
            tile_efficiency,
            basis=f"zero-halo FLOP over FLOP done; {prediction.describe()}",
            at_least=None if settings.is_cuda else 0.85,
            details=details,
        ),
        Figure(
            "hardware efficiency",
            hardware,
            basis=f"bare forward loop over {precision} matrix product ({rate:.3g} "
            f"TFLOP/s); width {spec.base_channels}",
            at_least=0.5 if settings.is_cuda else 0.9,
        ),
        Figure(
            "engine efficiency",
            engine_efficiency,
            basis=f"plan and part, Zarr to Zarr ({voxels / 1e6:.3g} Mvoxel/s), over "
            "bare forward loop",
            at_least=None if settings.is_cuda else 0.95,
        ),
        Figure(
            "useful efficiency",
            useful,
            basis="product of the three: zero-halo FLOP/s over matrix product",
            at_least=None if settings.is_cuda else 0.78,
        ),
    ]
    if settings.is_cuda:
        figures.append(
            Figure(
                "hardware efficiency, end to end",
                median_ratio(ideal, engine),
                basis="engine, Zarr to Zarr, over matrix product",
                at_least=0.5,
            )
        )
    if load.samples:
        figures.append(
            Figure(
                "GPU busy",
                load.mean,
                basis=f"mean of {len(load.samples)} samples by nvidia-smi",
                at_least=0.9,
            )
        )
    return figures
