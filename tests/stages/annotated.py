"""Ingested volumes with labels that a small network can learn."""

from pathlib import Path

import numpy as np

from tests.stored import store_ingested
from unetpipe.config import WeightMapConfig
from unetpipe.stages.compute_weight_map import compute_weight_map
from unetpipe.training.order import TrainingFiles


def training_files(folder):
    """Return where a training leaves what it makes, all in one folder."""
    return TrainingFiles(
        state=folder / "state",
        model=folder / "model.safetensors",
        model_json=folder / "model.json",
        history=folder / "history.csv",
        record=folder / "train.json",
    )


def draw_instances(shape=(4, 50, 60), seed=0):
    """Return uint32 ids of squares, some of which touch; 0 between them."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(shape, np.uint32)
    for z in range(shape[0]):
        number = 0
        for y in range(2, shape[1] - 12, 12):
            for x in range(2, shape[2] - 12, 12):
                number += 1
                height, width = rng.integers(8, 13, 2)
                ids[z, y : y + height, x : x + width] = number
    return ids


def ingest(
    folder, labels, *, kind="instances", unlabelled=None, image=None, channels=1
):
    """Store image and labels as the ingest rule does; return its record's path."""
    if image is None:
        rng = np.random.default_rng(1)
        known = np.where(labels == unlabelled, 0, labels) if unlabelled else labels
        grey = (known > 0) * 120 + rng.normal(60, 15, (channels, *labels.shape))
        image = grey.clip(0, 255).astype(np.uint8)
    return store_ingested(folder, image, labels, kind=kind, unlabelled=unlabelled)


def weigh(path, *, config=None, num_classes=2, ndim=2, learnt=()):
    """Compute the weight map beside an ingest record; return its record's path."""
    folder = Path(path).parent
    compute_weight_map(
        ingest=Path(path),
        weight_map=config or WeightMapConfig(),
        num_classes=num_classes,
        ndim=ndim,
        stores={
            "border_term": folder / "border_term.ome.zarr",
            "target": folder / "target.ome.zarr",
            **{name: folder / f"target_{name}.ome.zarr" for name in learnt},
        },
        record=folder / "weight_map.json",
    )
    return folder / "weight_map.json"
