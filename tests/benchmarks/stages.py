"""Seconds and peak memory of every stage on one section that grows sixteenfold.

Each stage runs in a fresh process, on a small section first, which nobody measures, so
that all code is compiled; what grows faster than the section's voxels, or
whose memory grows with them, misses its target. The map that is scored is drawn,
because a network that has learnt nothing finds no objects.
"""

import os
import shutil
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import Used
from tests.benchmarks.inputs import describe_tiff, save_model
from tests.benchmarks.memory import Chain
from tests.benchmarks.settings import Settings
from tests.phantoms import draw_phantom
from tests.stages.reported import trained
from unetpipe.config import EvaluationConfig, WeightMapConfig
from unetpipe.evaluation.scored_volume import EvaluationInputs
from unetpipe.network.unet import UNet
from unetpipe.records.prediction import Prediction
from unetpipe.records.volume import IngestedVolume
from unetpipe.storage.volumes import open_volume, shard_shape, write_shard
from unetpipe.tiling.boxes import Zyx, grid_cell, iterate_grid, whole_volume
from unetpipe.tiling.unet_spec import UNetSpec

# In the order in which a run needs them; plan_prediction takes no voxel.
STAGES = (
    "ingest_volume",
    "compute_weight_map",
    "probe_prediction",
    "plan_prediction",
    "predict_part",
    "finish_prediction",
    "finish_segmentation",
    "evaluate_prediction",
    "report",
)
PATCH = 512  # the phantom that is laid side by side
VOXELS_A_CELL = 1700
DARK, BRIGHT = 75, 119  # membranes and cells, noise included
WITHOUT_VOXELS = ("plan_prediction",)


def measure(settings: Settings) -> list[Figure]:
    """Run all stages on sections of three sizes."""
    sides = settings.choose(quick=[96], cpu=[1024, 2048, 4096])
    spec = UNetSpec(base_channels=settings.choose(quick=1, cpu=2), depth=2)
    folder = settings.folder / "stages"
    torch.manual_seed(0)
    model = save_model(folder / "model", UNet(spec))
    used: dict[str, list[Used]] = {stage: [] for stage in STAGES}
    copies = []
    compiling = settings.choose(quick=[], cpu=[256])
    for side in [*compiling, *sides]:
        stride: Zyx = (1, *settings.choose(quick=(32, 32), cpu=(544, 544)))
        home = folder / str(side)
        chain = SectionChain(home, (1, side, side), model, stride, settings)
        copied = _copy(home, side**2)
        taken = {}
        for stage in STAGES:
            if stage == "finish_segmentation":
                draw_prediction(home)
            taken[stage] = chain.measure(stage)
        shutil.rmtree(home)
        if side in sides:
            copies.append(copied)
            for stage, used_once in taken.items():
                used[stage].append(used_once)
    return [
        figure
        for stage in STAGES
        if stage not in WITHOUT_VOXELS
        for figure in _figures(stage, used[stage], sides, copies)
    ]


class SectionChain(Chain):
    """One annotated section, and the arguments of the stages that it passes."""

    def draw(self, shape: Zyx) -> dict[str, Any]:
        """Write image and labels as tiled TIFFs; return the row of the sheet."""
        image, labels = _lay_side_by_side(shape[1])
        for name, voxels in (("image", image), ("labels", labels)):
            tifffile.imwrite(
                self.folder / f"{name}.tif",
                voxels[None],
                tile=(256, 256),
                compression="zlib",
                metadata={"axes": "ZYX"},
            )
        return describe_tiff("grown") | {"labels": "labels.tif", "role": "test"}

    def arguments(self, stage: str) -> dict[str, Any]:
        """Return what a stage takes."""
        home, model = self.folder, self.model
        records = {
            name: home / f"{name}.json"
            for name in ("probe", "plan", "prediction", "segmentation", "metrics")
        }
        if stage == "compute_weight_map":
            return {
                "ingest": home / "ingest.json",
                "weight_map": WeightMapConfig(),
                "num_classes": 2,
                "ndim": 2,
                "stores": {
                    "border_term": home / "border_term.ome.zarr",
                    "target": home / "target.ome.zarr",
                },
                "record": home / "weight_map.json",
            }
        if stage == "evaluate_prediction":
            return {
                "inputs": EvaluationInputs(
                    prediction=records["prediction"],
                    segmentation=records["segmentation"],
                    ingest=home / "ingest.json",
                    model_json=model / "model.json",
                ),
                "rows": [{"role": "test", "sections": None}],
                "evaluation": EvaluationConfig(),
                "picture": home / "seams.svg",
                "sections": home / "section_scores.json",
                "record": records["metrics"],
            }
        if stage == "report":
            return {
                "config": {"name": "stages"},
                "manifest": home / "manifest.json",
                "ingests": [home / "ingest.json"],
                "weight_maps": [home / "weight_map.json"],
                "training": trained(home / "told"),
                "predictions": [{"model": "unet", "volume": "grown", **records}],
                "output": home / "report.html",
            }
        return super().arguments(stage)


def _lay_side_by_side(side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return image and ids of one phantom laid side by side, fresh noise on it."""
    patch = min(PATCH, side)
    num_cells = max(4, patch**2 // VOXELS_A_CELL)
    grey, ids = draw_phantom(
        shape=(1, patch, patch), num_cells=num_cells, noise=0, seed=1
    )
    repeats = -(-side // patch)
    image = np.tile(grey[0], (repeats, repeats))[:side, :side]
    image = (image >> 1) + np.random.default_rng(1).integers(
        0, 64, image.shape, np.uint8
    )
    places = np.arange(repeats**2, dtype=np.uint32).reshape(repeats, repeats)
    first = np.kron(places, np.ones((patch, patch), np.uint32)) * np.uint32(num_cells)
    labels = np.tile(ids[0].astype(np.uint32), (repeats, repeats))
    labels = np.where(labels > 0, labels + first, 0)[:side, :side]
    return image, labels.astype(np.uint32)


def draw_prediction(home: Path) -> None:
    """Put the grey values where the prediction was: bright is cell."""
    image = open_volume(IngestedVolume.read(home / "ingest.json").image.store)
    outputs = Prediction.read(home / "prediction.json").outputs
    array = open_volume(outputs.probability.store, mode="r+")
    shape: Zyx = (array.shape[1], array.shape[2], array.shape[3])
    shard = shard_shape(array)
    for index in iterate_grid(whole_volume(shape), shard):
        roi = grid_cell(index, shard, shape)
        grey = uniform_filter(np.asarray(image[(0, *roi.slices)], float), (1, 5, 5))
        drawn = np.clip((grey - DARK) * 255 / (BRIGHT - DARK), 0, 255).astype(np.uint8)
        write_shard(array, index, drawn[None])


def _copy(home: Path, num_bytes: int) -> float:
    """Return the seconds in which a byte a voxel is copied to the disk."""
    source, target = home / "source.bin", home / "copy.bin"
    source.write_bytes(np.random.default_rng(0).bytes(num_bytes))
    began = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    source.unlink()
    target.unlink()
    return seconds


def _figures(
    stage: str, used: list[Used], sides: list[int], copies: list[float]
) -> list[Figure]:
    voxels = [prod((side, side)) for side in sides]
    cost = [1e9 * u.seconds / n for u, n in zip(used, voxels, strict=True)]
    peaks = [u.peak_bytes / 2**20 for u in used]
    sizes = ", ".join(f"{side}" for side in sides)
    times_a_copy = [u.seconds / copy for u, copy in zip(used, copies, strict=True)]
    details = {
        "sides": sides,
        "seconds": [u.seconds for u in used],
        "peak_mib": peaks,
        "nanoseconds_per_voxel": cost,
        "times_a_copy": times_a_copy,
    }
    return [
        Figure(
            f"{stage}: cost per voxel",
            cost[-1] / cost[0],
            basis=f"largest over smallest; {sizes} squared: "
            f"{', '.join(f'{c:.3g}' for c in cost)} ns; "
            f"{times_a_copy[-1]:.0f} copies",
            at_most=1.25,
            details=details,
        ),
        Figure(
            f"{stage}: peak RSS",
            peaks[-1] / peaks[0],
            basis=f"largest over smallest; {', '.join(f'{p:.0f}' for p in peaks)} MiB; "
            f"{2**20 * (peaks[-1] - peaks[0]) / (voxels[-1] - voxels[0] or 1):.2g} "
            "bytes a voxel more",
            at_most=1.1,
        ),
    ]
