"""What it costs to run again: a finished part, and one that stopped half-way."""

import shutil
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import Prediction, save_model, store_volume
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec


def measure(settings: Settings) -> list[Figure]:
    """Time a part in one go, again, and after half of its receipts are gone."""
    spec = UNetSpec(base_channels=settings.choose(quick=1, cpu=16))
    shape = settings.choose(
        quick=(2, 64, 64), cpu=(8, 1024, 1024), cuda=(64, 2048, 2048)
    )
    folder = settings.folder / "resume"
    torch.manual_seed(0)
    prediction = Prediction(
        folder / "prediction",
        ingest=store_volume(folder / "volume", shape),
        model=save_model(folder / "model", UNet(spec)),
        settings=settings,
    )
    prediction.predict()  # warms up
    whole, again, halves = [], [], []
    for _ in range(settings.rounds):
        prediction.plan()
        whole.append(time_once(prediction.predict))
        again.append(time_once(prediction.predict))
        receipts = sorted(Path(prediction.record["receipts"]).rglob("*.json"))
        for receipt in receipts[len(receipts) // 2 :]:
            receipt.unlink()
        rest = (len(receipts) - len(receipts) // 2) / len(receipts)
        halves.append(time_once(prediction.predict) - rest * whole[-1])
    num_shards = len(receipts)
    shutil.rmtree(folder)
    return [
        Figure(
            "finished part, run again",
            median(a / w for a, w in zip(again, whole, strict=True)),
            basis=f"time over that of the part; {num_shards} shards are hashed; "
            f"{prediction.describe()}, width {spec.base_channels}",
            details={"whole": whole, "again": again, "halves": halves},
        ),
        Figure(
            "half-finished part",
            median(h / w for h, w in zip(halves, whole, strict=True)),
            basis="time beyond that of the missing half, over that of the part",
        ),
    ]
