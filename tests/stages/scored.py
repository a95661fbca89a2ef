"""A volume as the stages before evaluation leave it: stores and records by hand."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.records.whole import whole
from tests.small_stores import store_voxels
from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.scored_volume import EvaluationInputs
from unetpipe.records.metrics import Metrics
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.components import label_components
from unetpipe.stages.evaluate_prediction import evaluate_prediction
from unetpipe.storage.volumes import (
    create_labels_group,
)
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.intensity import IntensityStatistics
from unetpipe.tiling.quantised import threshold_mask
from unetpipe.tiling.unet_spec import UNetSpec

STRIDE = (1, 32, 32)


def store(path, voxels, *, chunk=(2, 16, 16), **options):
    shard = tuple(2 * c for c in chunk)
    store_voxels(path, voxels, chunk=chunk, shard=shard, **options)


class Scored:
    """One volume in a folder; ``evaluate`` runs the stage and returns its record,
    which must obey the schema.

    ``probability`` is float (z, y, x), or (k, z, y, x) with k > 2 classes; objects are
    its components above the threshold unless given.
    """

    def __init__(
        self,
        folder: Path,
        probability,
        labels,
        *,
        image=None,
        kind="binary",
        unlabelled=None,
        objects=None,
        threshold=0.5,
        connectivity="2d",
        thresholds: dict[str, float] | None = None,
        spec: UNetSpec | None = None,
        markers: list[str | None] | None = None,
        chunk=(2, 16, 16),
        boxes: list[dict] | None = None,
        chosen_by: str | None = None,
        original: tuple[int, int, int] | None = None,
    ):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        stored = np.rint(255 * np.asarray(probability)).astype(np.uint8)
        many = stored.ndim == 4
        shape = stored.shape[-3:]
        spec = spec or UNetSpec(
            base_channels=4, depth=2, num_classes=len(stored) if many else 2
        )
        if image is None:
            image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        mask = stored.argmax(axis=0) if many else threshold_mask(stored, threshold)
        if spec.has_cores:
            mask = threshold_mask(stored[0], threshold)
        if objects is None:
            objects = label_components(mask > 0, connectivity)[0]
        names = tuple("abcdefgh"[: len(stored)] if many else "a")
        channels = image if image.ndim == 4 else image[None]
        named = tuple(f"c{k}" for k in range(len(channels)))
        store(folder / "image", channels, channels=named, chunk=chunk)
        store(folder / "labels", labels, unlabelled=0, chunk=chunk)
        store(
            folder / "probability",
            stored if many else stored[None],
            channels=names,
            chunk=chunk,
        )
        store(folder / "segmentation", mask.astype(np.uint8), chunk=chunk)
        inside = create_labels_group(folder / "segmentation", ("objects",))
        store(inside / "objects", objects, unlabelled=0, chunk=chunk)
        geometry = plan_grids(shape, STRIDE, spec)
        records: dict[str, Any] = {
            "prediction": {
                "outputs": {"probability": {"store": str(folder / "probability")}},
                "geometry": geometry.to_json(),
            },
            "segmentation": {
                "store": str(folder / "segmentation"),
                "objects": str(inside / "objects"),
                "threshold": threshold,
                "identity": {"settings": {"connectivity": connectivity}},
            },
            "ingest": {
                "volume": "vol",
                "shape": list(shape),
                "image": {"store": str(folder / "image"), "files": []},
                "num_channels": len(channels),
                "statistics": [IntensityStatistics.of(c).to_json() for c in channels],
                "labels": {
                    "store": str(folder / "labels"),
                    "label_kind": kind,
                    "unlabelled": unlabelled,
                    "markers": markers,
                    "boxes": boxes,
                },
            },
            "model": {
                "spec": spec.to_json(),
                "num_classes": spec.num_classes,
                "thresholds": thresholds or {},
                **({"recipe": {"validation_metric": chosen_by}} if chosen_by else {}),
            },
        }
        if original:
            grid = {"shape": original, "voxel_size_nm": (1.0, 1.0, 1.0)}
            records["ingest"]["original"] = grid
        for name, record in records.items():
            write_record(folder / f"{name}.json", whole(name, record))

    def evaluate(self, *rows, learnt=(), **settings) -> dict[str, Any]:
        """Score rows like ("test", [0, 1]); without any, all sections are test."""
        evaluate_prediction(
            inputs=EvaluationInputs(
                prediction=self.folder / "prediction.json",
                segmentation=self.folder / "segmentation.json",
                ingest=self.folder / "ingest.json",
                model_json=self.folder / "model.json",
            ),
            rows=[
                {"role": role, "sections": sections}
                for role, sections in rows or [("test", None)]
            ],
            evaluation=EvaluationConfig(**settings),
            learnt=learnt,
            picture=self.folder / "seams.svg",
            sections=self.folder / "section_scores.json",
            record=self.folder / "metrics.json",
        )
        written = read_record(self.folder / "metrics.json")
        Metrics.model_validate(written)
        return written


def find_row(tables, role, predictor, metric):
    """Return the one row of a metric."""
    (row,) = [
        row
        for table in tables
        if table["role"] == role
        for row in table["rows"]
        if (row["predictor"], row["metric"]) == (predictor, metric)
    ]
    return row
