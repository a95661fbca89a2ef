"""Small ingested volumes and networks with He-initialised weights."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.records.whole import whole
from tests.small_stores import store_voxels
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import hash_file, write_record
from unetpipe.tiling.intensity import IntensityStatistics
from unetpipe.tiling.unet_spec import UNetSpec


def store_volume(path, voxels, **options):
    """Write an array as a store of small shards."""
    store_voxels(path, voxels, chunk=(1, 16, 16), shard=(2, 64, 64), **options)


def store_ingested(folder, image, labels=None, *, kind="binary", unlabelled=255):
    """Store image and labels as the ingest rule does; return its record's path."""
    folder = Path(folder)
    names = tuple(f"c{i}" for i in range(len(image)))
    store_volume(folder / "image.ome.zarr", image, channels=names)
    record = {
        "volume": folder.name,
        "shape": list(image.shape[1:]),
        "num_channels": len(image),
        "dtype": str(image.dtype),
        "voxel_size_nm": [50.0, 4.0, 4.0],
        "voxel_size_from": "sheet",
        "image": {
            "store": str(folder / "image.ome.zarr"),
            "content_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        },
        "statistics": [IntensityStatistics.of(c).to_json() for c in image],
        "labels": None,
    }
    if labels is not None:
        store_volume(folder / "labels.ome.zarr", labels, unlabelled=0)
        record["labels"] = {
            "store": str(folder / "labels.ome.zarr"),
            "content_sha256": hashlib.sha256(labels.tobytes()).hexdigest(),
            "dtype": str(labels.dtype),
            "label_kind": kind,
            "unlabelled": unlabelled,
            "num_ids": len(np.unique(labels)),
        }
    write_record(folder / "ingest.json", whole("ingest", record))
    return folder / "ingest.json"


@pytest.fixture
def make_volume(tmp_path):
    """Return a function that stores an ingested volume and returns its record."""

    def make(shape, *, channels=1, seed=0, labels=None, name="vol") -> Path:
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (channels, *shape)).astype(np.uint8)
        return store_ingested(tmp_path / "volumes" / name, image, labels)

    return make


@pytest.fixture
def make_model(tmp_path):
    """Return a function that saves a He-initialised network: (weights, model.json)."""

    def make(spec: UNetSpec | None = None, *, seed=0, name="unet", **more):
        spec = spec or UNetSpec(base_channels=4, depth=2)
        torch.manual_seed(seed)
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / "model.safetensors"
        save_file(UNet(spec).state_dict(), weights)
        description = {
            "spec": spec.to_json(),
            "weights_sha256": hash_file(weights),
            "num_classes": spec.num_classes,
            "thresholds": {},
        }
        write_record(folder / "model.json", description | more)
        return weights, folder / "model.json"

    return make
