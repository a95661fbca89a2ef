"""How fast blocks could come and go, were the device done at once.

A device that gives the voxels back as they are: what is left is reading, decoding,
assembling, quantised voxels into blocks, encoding, hashing, writing. A GPU waits for
these where it is faster; per second of a processor they grow with their number.
"""

import shutil
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import Prediction, save_model, store_volume
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import read_record
from unetpipe.storage import volumes
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling import assembly
from unetpipe.tiling.boxes import Roi, whole_volume
from unetpipe.tiling.mirroring import (
    mirror_index,
    mirror_into,
)
from unetpipe.tiling.unet_spec import UNetSpec


def measure(settings: Settings) -> list[Figure]:
    """Measure the engine around an instant device, and its slowest steps, in turn."""
    folder = settings.folder / "host"
    shape = settings.choose(
        quick=(8, 100, 120), cpu=(64, 2048, 2048), cuda=(64, 4096, 4096)
    )
    side = settings.choose(quick=64, cpu=2048)
    torch.manual_seed(0)
    prediction = Prediction(
        folder / "prediction",
        ingest=store_volume(folder / "volume", shape),
        model=save_model(folder / "model", UNet(UNetSpec(base_channels=1))),
        settings=settings,
        device="cpu",
        precision="fp32",
        stride=(1, side, side),
        batch_tiles=1,
    )
    image = open_volume(Path(read_record(prediction.ingest)["image"]["store"]))
    part = Roi((0, 0, 0), (min(8, shape[0]), *shape[1:]))
    halo = prediction.geometry.input_shape[1] - side
    tile = Roi((0, -halo // 2, -halo // 2), (1, side + halo // 2, side + halo // 2))
    voxels = read_stored_roi(image, part)
    out = np.empty((1, *tile.shape), voxels.dtype)
    spent: dict[str, list[float]] = {"engine": [], "as before": []}
    seconds = interleave(
        {
            "engine": partial(_predict, prediction, spent["engine"]),
            "as before": partial(_predict_as_before, prediction, spent["as before"]),
            "read": lambda: read_stored_roi(image, part),
            "read by zarr": lambda: np.asarray(image[(..., *part.slices)]),
            "slices": lambda: mirror_into(out, voxels, (0, 0, 0), tile, part.shape),
            "indices": lambda: _by_index(out, voxels, (0, 0, 0), tile, part.shape),
        },
        settings.choose(quick=1, cpu=5),
    )
    shutil.rmtree(folder)
    num = whole_volume(shape).num_voxels
    rates = sorted(num / cpu / 1e6 for cpu in spent["engine"])
    rate, basis = rates[len(rates) // 2], f"{prediction.describe()}"
    return [
        Figure(
            "host around an instant device",
            rate,
            basis=f"Mvoxel/s a second of a processor; {basis}",
            details={"seconds": seconds, "processor seconds": spent},
        ),
        Figure(
            "the same over one index a voxel and zarr's reader",
            median_ratio(spent["as before"], spent["engine"]),
            "x",
            basis="seconds of processors",
            at_least=1.5,
        ),
        Figure(
            "reading over zarr's reading",
            median_ratio(seconds["read by zarr"], seconds["read"]),
            "x",
            basis="one thread over several",
            at_least=1.5,
        ),
        Figure(
            "mirrored tiles by slices over one index a voxel",
            median_ratio(seconds["indices"], seconds["slices"]),
            "x",
            basis=f"a corner's tile of {side} voxels",
            at_least=5.0,
        ),
    ]


def _instantly(
    self: TilePredictor, tiles: Tensor, stride: tuple[int, ...], **_: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the voxels that a tile keeps, as they are."""
    kept = tiles
    for axis, (before, length) in enumerate(
        zip(self.halo.before, stride, strict=True), start=2
    ):
        kept = kept.narrow(axis, before, length)
    return kept.contiguous(), torch.ones(len(tiles), dtype=torch.bool)


def _predict(prediction: Prediction, spent: list[float]) -> None:
    prediction.plan()
    with mock.patch.object(TilePredictor, "quantised", _instantly):
        began = time.process_time()
        prediction.predict()
        spent.append(time.process_time() - began)
    shutil.rmtree(prediction.home)


@contextmanager
def _as_before():
    with (
        mock.patch.object(volumes, "_decodable", return_value=None),
        mock.patch.object(assembly, "mirror_into", _by_index),
    ):
        yield


def _predict_as_before(prediction: Prediction, spent: list[float]) -> None:
    with _as_before():
        _predict(prediction, spent)


def _by_index(out, source, origin, roi, shape) -> None:
    """Fill a mirrored box by one index a voxel, as NumPy offers."""
    z, y, x = (
        mirror_index(a, b, n) - o
        for a, b, n, o in zip(roi.start, roi.stop, shape, origin, strict=True)
    )
    inside = whole_volume(shape)
    if roi.intersect(inside) == roi:
        out[...] = source[(..., *roi.relative_to(origin).slices)]
    else:
        out[...] = source[..., z[:, None, None], y[:, None], x]
