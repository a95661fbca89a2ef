"""One network by torch and by OpenVINO, in every precision that the processor has."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.inputs import Prediction, draw_sections, save_model, store_volume
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio
from unetpipe.network.openvino_network import openvino_precisions
from unetpipe.network.quantisation import quantise
from unetpipe.network.unet import UNet
from unetpipe.records.calibration import Calibration
from unetpipe.records.circumstances import Circumstances
from unetpipe.runtime.files import hash_file, read_record
from unetpipe.tiling.unet_spec import UNetSpec

NUM_PATCHES = 4
# What each is measured against, and the least that it should be.
AGAINST = {
    "openvino fp32": ("torch fp32", None),
    "openvino bf16": ("torch bf16", None),
    "openvino int8": ("torch fp32", 4.0),
}
INT8_OVER_BF16 = 2.3


def measure(settings: Settings) -> list[Figure]:
    """Predict a volume from Zarr to Zarr by each, in turn."""
    if settings.is_cuda:
        raise CannotRun("OpenVINO computes on processors")
    if not all(map(importlib.util.find_spec, ("openvino", "nncf"))):
        raise CannotRun("openvino is not installed")
    spec = UNetSpec(base_channels=settings.choose(quick=2, cpu=64))
    shape = settings.choose(quick=(1, 60, 60), cpu=(3, 776, 776))
    folder = settings.folder / "backends"
    torch.manual_seed(0)
    network = UNet(spec)
    model = save_model(folder / "model", network)
    ingest = store_volume(folder / "volume", shape)
    _calibrate(network, model, settings)
    predictions = {
        f"{backend} {precision}": Prediction(
            folder / f"{backend}-{precision}",
            ingest=ingest,
            model=model,
            settings=settings,
            backend=backend,
            precision=precision,
            calibrated=(model,) if precision == "int8" else (),
            largest_score_loss=1.0,
        )
        for backend, precision in _wanted(settings)
    }
    actions = {name: _action(one) for name, one in predictions.items()}
    seconds = interleave(actions, settings.rounds)
    figures = list(_figures(seconds, predictions, spec))
    shutil.rmtree(folder)
    return figures


def _wanted(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield backends and precisions; an emulated one would say nothing."""
    has_bf16 = settings.precision == "bf16"
    for precision in ("fp32", *(["bf16"] * has_bf16)):
        yield "torch", precision
    for precision in ("fp32", "bf16", "int8"):
        if precision in openvino_precisions():
            yield "openvino", precision


def _calibrate(network: UNet, model: Path, settings: Settings) -> None:
    """Quantise a network by patches of the volume, as ``calibrate_network`` does."""
    side = settings.choose(quick=204, cpu=412)
    section = next(draw_sections((1, side, side))).astype(np.float32)
    grey: NDArray[np.float32] = (section - section.mean()) / section.std()
    turned = [np.rot90(grey, number) for number in range(NUM_PATCHES)]
    patches = [np.ascontiguousarray(one[None, None]) for one in turned]
    (model / "int8.safetensors").write_bytes(quantise(network, patches))
    Calibration(
        weights_sha256=read_record(model / "model.json")["weights_sha256"],
        quantised_sha256=hash_file(model / "int8.safetensors"),
        patch=(1, side, side),
        num_patches=len(patches),
        rows=(),
        circumstances=Circumstances.here(),
    ).write(model / "calibration.json")


def _action(prediction: Prediction) -> Callable[[], None]:
    def predict() -> None:
        prediction.plan()
        prediction.predict()
        shutil.rmtree(prediction.home)

    return predict


def _figures(
    seconds: dict[str, list[float]],
    predictions: dict[str, Prediction],
    spec: UNetSpec,
) -> Iterator[Figure]:
    for name, (base, least) in AGAINST.items():
        if name not in seconds or base not in seconds:
            continue
        one = predictions[name]
        flips = read_record(one.folder / "probe.json")["flip_fraction"]
        yield Figure(
            f"{name} over {base}",
            median_ratio(seconds[base], seconds[name]),
            "x",
            basis=f"Zarr to Zarr, {median(seconds[base]):.3g} s and "
            f"{median(seconds[name]):.3g} s; width {spec.base_channels}, "
            f"{one.describe()}; {100 * flips:.2g} % of labels flip (random weights)",
            at_least=least,
            details={"seconds": seconds, "flip_fraction": flips},
        )
    if "torch bf16" in seconds:
        yield Figure(
            "openvino int8 over torch bf16",
            median_ratio(seconds["torch bf16"], seconds["openvino int8"]),
            "x",
            basis="the same runs",
            at_least=INT8_OVER_BF16,
        )
