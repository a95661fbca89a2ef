"""Volumes, networks and predictions to measure, made here: nothing is downloaded."""

import hashlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from tests.benchmarks.settings import Settings
from tests.phantoms import draw_phantom
from unetpipe.config import IngestConfig, PredictionConfig
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.plan_prediction import plan_prediction
from unetpipe.stages.predict_part import predict_part
from unetpipe.stages.probe_prediction import probe_prediction
from unetpipe.storage.volumes import (
    create_volume,
    open_volume,
    shard_shape,
    write_shard,
)
from unetpipe.tiling.boxes import Zyx, as_zyx, grid_cell, iterate_grid, round_up
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import IntensityStatistics

VOXEL_SIZE_NM = (50.0, 4.0, 4.0)
PATCH: Zyx = (2, 512, 512)


def describe_tiff(volume: str) -> dict[str, Any]:
    """Return the row of a sheet for ``image.tif``, which is only predicted."""
    return {
        "volume": volume,
        "image": "image.tif",
        "labels": "",
        "sections": None,
        "role": "predict",
        "fold": "",
        "axes": "zyx",
        "voxel_size_nm": VOXEL_SIZE_NM,
        "label_kind": "instances",
        "unlabelled": None,
    }


def draw_sections(shape: Zyx, *, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 sections (y, x): one small phantom side by side, fresh noise on it.

    Without the noise, repeats would compress as no microscope's images do.
    """
    rng = np.random.default_rng(seed)
    patch_shape = as_zyx(map(min, PATCH, shape))
    num_cells = max(1, patch_shape[1] * patch_shape[2] // 1024)
    patch, _ = draw_phantom(shape=patch_shape, num_cells=num_cells, noise=0, seed=seed)
    repeats = [-(-n // p) for n, p in zip(shape[1:], patch.shape[1:], strict=True)]
    for z in range(shape[0]):
        section = np.tile(patch[z % len(patch)], repeats)[: shape[1], : shape[2]]
        yield (section >> 1) + rng.integers(0, 64, section.shape, np.uint8)


def store_volume(folder: Path, shape: Zyx, *, seed: int = 1) -> Path:
    """Store such an image as ingested volumes are, and return its ``ingest.json``."""
    usual = IngestConfig()
    chunk = as_zyx(map(min, usual.chunk, shape))
    shard = as_zyx(map(min, usual.shard, map(round_up, shape, chunk)))
    store = folder / "image.ome.zarr"
    create_volume(
        store,
        shape=shape,
        dtype=np.uint8,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=VOXEL_SIZE_NM,
        channels=("image",),
    )
    array = open_volume(store, mode="r+")
    digest, statistics = hashlib.sha256(), IntensityStatistics()
    slab: list[NDArray[np.uint8]] = []
    for z, section in enumerate(draw_sections(shape, seed=seed)):
        digest.update(section)
        statistics += IntensityStatistics.of(section)
        slab.append(section)
        if len(slab) == shard[0] or z == shape[0] - 1:
            _write_slab(array, z + 1 - len(slab), np.stack(slab)[None])
            slab.clear()
    record = {
        "volume": folder.name,
        "shape": list(shape),
        "num_channels": 1,
        "dtype": "uint8",
        "voxel_size_nm": list(VOXEL_SIZE_NM),
        "image": {"store": str(store), "content_sha256": digest.hexdigest()},
        "statistics": [statistics.to_json()],
        "num_nan": 0,
        "labels": None,
    }
    write_record(folder / "ingest.json", record)
    return folder / "ingest.json"


def save_model(folder: Path, network: UNet) -> Path:
    """Save a network as training does, and return its folder."""
    folder.mkdir(parents=True)
    weights = {name: t.contiguous() for name, t in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    description = {
        "spec": network.spec.to_json(),
        "weights_sha256": hash_file(folder / "model.safetensors"),
        "num_classes": network.spec.num_classes,
        "thresholds": {},
    }
    write_record(folder / "model.json", description)
    return folder


class Prediction:
    """One volume, one network, one configuration: probed once, predicted repeatedly."""

    def __init__(
        self,
        folder: Path,
        *,
        ingest: Path,
        model: Path,
        settings: Settings,
        calibrated: Sequence[Path] = (),
        **prediction: Any,
    ) -> None:
        self.quantised = [home / "int8.safetensors" for home in calibrated]
        self.calibrations = [home / "calibration.json" for home in calibrated]
        usual = {
            "device": settings.device.type,
            "precision": settings.precision,
            "threads": settings.threads,
            "largest_flip_fraction": 1.0,  # the networks here are not trained
            "parts": 1,
        }
        self.config = PredictionConfig(**(usual | prediction))
        self.folder, self.ingest, self.model = folder, ingest, model
        self._num_runs = 0
        folder.mkdir(parents=True)
        probe_prediction(
            ingest=ingest,
            model=self.weights,
            model_json=self.model_json,
            prediction=self.config,
            record=self.folder / "probe.json",
            quantised=self.quantised,
            calibrations=self.calibrations,
        )
        self.plan()

    @property
    def weights(self) -> Path:
        """File of the weights."""
        return self.model / "model.safetensors"

    @property
    def model_json(self) -> Path:
        """Description of the network."""
        return self.model / "model.json"

    @property
    def geometry(self) -> TileGrids:
        """Grids of the plan."""
        return TileGrids.from_json(self.record["geometry"])

    @property
    def batch_tiles(self) -> int:
        """Tiles of one forward pass."""
        return int(self.record["identity"]["batch_tiles"])

    @property
    def num_voxels(self) -> int:
        """Voxels of the volume."""
        return prod(self.geometry.volume_shape)

    def plan(self) -> dict[str, Any]:
        """Plan into a new empty store, so that nothing is there already."""
        self._num_runs += 1
        self.home = self.folder / f"run-{self._num_runs}"
        plan_prediction(
            ingest=self.ingest,
            model_json=self.model_json,
            probe=self.folder / "probe.json",
            prediction=self.config,
            folder=self.home,
            record=self.home / "plan.json",
            calibrations=self.calibrations,
        )
        self.record = read_record(self.home / "plan.json")
        return self.record

    def predict(self, part: int = 0) -> dict[str, Any]:
        """Predict one part from store to store and return its record."""
        record = self.home / "parts" / f"{part}.json"
        predict_part(
            plan=self.home / "plan.json",
            model=self.weights,
            model_json=self.model_json,
            part=part,
            record=record,
            quantised=self.quantised,
        )
        return read_record(record)

    def stored(self) -> NDArray[np.uint8]:
        """Return what was predicted: uint8 (c, z, y, x)."""
        store = self.record["outputs"]["probability"]["store"]
        return np.asarray(open_volume(Path(store))[...], np.uint8)

    def describe(self) -> str:
        """Return tile and volume, for the table."""
        _, y, x = self.geometry.input_shape
        _, kept_y, kept_x = self.geometry.stride
        volume = " x ".join(map(str, self.geometry.volume_shape))
        batch = f", {self.batch_tiles} a pass" if self.batch_tiles > 1 else ""
        return f"tile {y} x {x} -> {kept_y} x {kept_x}{batch}, volume {volume}"


def _write_slab(array: Any, start: int, slab: NDArray[np.uint8]) -> None:
    shape, shard = as_zyx(array.shape[-3:]), shard_shape(array)
    roi = grid_cell((start // shard[0], 0, 0), (shard[0], *shape[1:]), shape)
    for index in iterate_grid(roi, shard):
        inside = grid_cell(index, shard, shape).relative_to((start, 0, 0))
        write_shard(array, index, slab[(..., *inside.slices)])
