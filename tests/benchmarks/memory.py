"""Peak memory and cost per voxel while volumes grow sixteenfold (law 4)."""

import shutil
from math import prod
from pathlib import Path
from typing import Any

import tifffile
import torch

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import Used, measure_fresh
from tests.benchmarks.inputs import describe_tiff, draw_sections, save_model
from tests.benchmarks.settings import Settings
from unetpipe.config import IngestConfig, PredictionConfig, SegmentationConfig
from unetpipe.ingestion.volume import VolumeOrder, VolumeStores
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import write_record
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec

STAGES = ("ingest_volume", "predict_part", "finish_prediction", "finish_segmentation")
# A tile of more than half the largest shard, more sections than the thickest shards
# need, and sections large enough for a pyramid: then blocks are alike in all three.
STRIDE: Zyx = (1, 544, 544)
GROWTH = (1, 4, 16)


def measure(settings: Settings) -> list[Figure]:
    """Run each stage in a fresh process on volumes of 1, 4 and 16 times the size."""
    shapes: list[Zyx] = settings.choose(
        quick=[(1, 64, 64)],
        cpu=[(64, 1088, 1088), (256, 1088, 1088), (1024, 1088, 1088)],
    )
    # Narrow, because its width changes neither blocks nor queues.
    spec = UNetSpec(base_channels=settings.choose(quick=1, cpu=2), depth=2)
    folder = settings.folder / "memory"
    torch.manual_seed(0)
    model = save_model(folder / "model", UNet(spec))
    used: dict[str, list[Used]] = {stage: [] for stage in STAGES}
    for number, shape in enumerate(shapes):
        stride = settings.choose(quick=(1, 32, 32), cpu=STRIDE)
        chain = Chain(folder / str(number), shape, model, stride, settings)
        for stage in STAGES:
            used[stage].append(chain.run(stage))
        shutil.rmtree(folder / str(number))
    return [
        figure for stage in STAGES for figure in _figures(stage, used[stage], shapes)
    ]


class Chain:
    """One volume, and the arguments of the stages that it passes."""

    def __init__(
        self, folder: Path, shape: Zyx, model: Path, stride: Zyx, settings: Settings
    ) -> None:
        self.folder, self.model, self.is_quick = folder, model, settings.is_quick
        self.prediction = PredictionConfig(
            parts=1,
            stride=stride,
            device=settings.device.type,
            threads=settings.threads,
        )
        folder.mkdir()
        self.row = self.draw(shape)
        manifest = {"root": str(folder), "kind": "folder", "files": []}
        write_record(folder / "manifest.json", manifest)

    def draw(self, shape: Zyx) -> dict[str, Any]:
        """Write the image; return the row of the sheet."""
        with tifffile.TiffWriter(self.folder / "image.tif", bigtiff=True) as file:
            file.write(draw_sections(shape), shape=shape, dtype="uint8")
        return describe_tiff("grown")

    def run(self, stage: str) -> Used:
        """Run a stage, and before it what it needs and nobody measures."""
        if stage == "predict_part":
            for earlier in ("probe_prediction", "plan_prediction"):
                self.measure(earlier)
        return self.measure(stage)

    def measure(self, stage: str) -> Used:
        """Run a stage alone."""
        # A quick check starts one process only: each takes a second to import torch.
        in_process = self.is_quick and stage != STAGES[0]
        return measure_fresh(
            f"unetpipe.stages.{stage}",
            stage,
            in_process=in_process,
            **self.arguments(stage),
        )

    def arguments(self, stage: str) -> dict[str, Any]:
        """Return what a stage takes."""
        home = self.folder
        prediction = self.prediction
        network = {
            "model": self.model / "model.safetensors",
            "model_json": self.model / "model.json",
        }
        ingest, plan = home / "ingest.json", home / "plan.json"
        arguments: dict[str, dict[str, Any]] = {
            "ingest_volume": {
                "manifest": home / "manifest.json",
                "order": VolumeOrder(
                    volume="grown",
                    rows=[self.row],
                    ingest=IngestConfig(),
                    num_classes=2,
                    palette=None,
                    pixel_sha256={},
                ),
                "stores": VolumeStores(
                    image=home / "image.ome.zarr",
                    labels=home / "labels.ome.zarr",
                    pyramids=home / "pyramids",
                    with_pyramid=True,
                    layers=None,
                ),
                "record": ingest,
            },
            "probe_prediction": {
                "ingest": ingest,
                **network,
                "prediction": prediction,
                "record": home / "probe.json",
            },
            "plan_prediction": {
                "ingest": ingest,
                "model_json": network["model_json"],
                "probe": home / "probe.json",
                "prediction": prediction,
                "folder": home,
                "record": plan,
            },
            "predict_part": {
                "plan": plan,
                **network,
                "part": 0,
                "record": home / "parts" / "0.json",
            },
            "finish_prediction": {
                "plan": plan,
                "parts": [home / "parts" / "0.json"],
                "marker": home / "probability.json",
                "record": home / "prediction.json",
            },
            "finish_segmentation": {
                "inputs": SegmentationInputs(
                    prediction=home / "prediction.json",
                    model_json=network["model_json"],
                    ingest=ingest,
                    settings=SegmentationConfig(),
                    folder=home,
                ),
                "parts": [],
                "record": home / "segmentation.json",
            },
        }
        return arguments[stage]


def _figures(stage: str, used: list[Used], shapes: list[Zyx]) -> list[Figure]:
    voxels = [prod(shape) for shape in shapes]
    peaks = [u.peak_bytes for u in used]
    cost = [1e9 * u.seconds / n for u, n in zip(used, voxels, strict=True)]
    details = {"shapes": shapes, "peak_bytes": peaks, "nanoseconds_per_voxel": cost}
    sizes = " ".join(f"{factor}x" for factor in GROWTH[: len(shapes)])
    listed = ", ".join(f"{peak / 2**20:.0f}" for peak in peaks)
    costs = ", ".join(f"{c:.3g}" for c in cost)
    return [
        Figure(
            f"{stage}: peak RSS",
            peaks[-1] / peaks[0],
            basis=f"largest over smallest volume; {sizes}: {listed} MiB",
            at_most=1.05,
            details=details,
        ),
        Figure(
            f"{stage}: cost per voxel",
            cost[-1] / cost[0],
            basis=f"largest over smallest volume; {sizes}: {costs} ns",
        ),
    ]
