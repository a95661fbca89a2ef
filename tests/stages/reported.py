"""Records and small stores as the stages before the report leave them, by hand."""

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from tests.small_stores import store_voxels
from unetpipe.evaluation.score_rows import make_score_row, score_definitions
from unetpipe.metrics.bootstrap import Interval
from unetpipe.records.metrics import Metrics
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.volumes import (
    create_labels_group,
)
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.history import History, HistoryRow

CIRCUMSTANCES = {
    "host": "node7",
    "platform": "Linux",
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0", "zarr": "3.1.6", "scipy": None},
    "finished": "2026-01-02T03:04:05Z",
    "seconds": 1.5,
    "device": "cpu",
}
SHAPE = (4, 60, 64)


def store(path: Path, voxels: np.ndarray, **options) -> Path:
    options |= {"chunk": (1, 64, 64), "shard": (1, 1024, 1024)}
    channels = ("grey",) if voxels.ndim == 4 else None
    store_voxels(path, voxels, channels=channels, **options)
    return path


def cells(shape: tuple[int, int, int]) -> np.ndarray:
    """Return four cells a section, apart by a border of two voxels."""
    labels = np.zeros(shape, np.uint32)
    half_y, half_x = shape[1] // 2, shape[2] // 2
    labels[:, : half_y - 1, : half_x - 1] = 1
    labels[:, : half_y - 1, half_x + 1 :] = 2
    labels[:, half_y + 1 :, : half_x - 1] = 3
    labels[:, half_y + 1 :, half_x + 1 :] = 4
    return labels


def ingested(folder: Path, name: str, labels: np.ndarray | None, **changes) -> Path:
    shape = labels.shape if labels is not None else SHAPE
    rng = np.random.default_rng(3)
    image = rng.integers(0, 60, (1, *shape)).astype(np.uint8)
    if labels is not None:
        image[0] += 120 * (labels > 0).astype(np.uint8)
    record = {
        "volume": name,
        "shape": list(shape),
        "num_channels": 1,
        "dtype": "uint8",
        "axes_of_file": "zyx",
        "voxel_size_nm": [50, 4, 4],
        "image": {
            "store": str(store(folder / name / "image.ome.zarr", image)),
            "content_sha256": "1" * 64,
            "files": [{"path": f"{z}.png", "size": 9, "sha256": "2"} for z in range(4)],
        },
        "statistics": [
            {
                "count": image.size,
                "total": 0,
                "total_squares": 0,
                "minimum": 0,
                "maximum": 179,
                "num_nan": 0,
                "mean": 90.123,
                "std": 1.0,
            }
        ],
        "num_nan": 0,
        "labels": None,
        "warnings": [],
        "circumstances": CIRCUMSTANCES,
    }
    if labels is not None:
        path = store(folder / name / "labels.ome.zarr", labels, unlabelled=0)
        record["labels"] = {
            "store": str(path),
            "content_sha256": "7" * 64,
            "dtype": "uint32",
            "label_kind": "instances",
            "unlabelled": None,
            "num_ids": 4,
        }
    write_record(folder / name / "ingest.json", record | changes)
    return folder / name / "ingest.json"


def trained(folder: Path, model: str = "unet", **changes) -> dict[str, object]:
    home = folder / model
    spec = UNetSpec(base_channels=4, num_classes=changes.pop("num_classes", 2))
    rows = [{"volume": "brain", "sections": [0, 1]}]
    write_record(
        home / "model.json",
        {
            "spec": spec.to_json(),
            "num_classes": spec.num_classes,
            "weights_sha256": "3" * 64,
            "thresholds": {"segmentation": 0.4, "v_rand": 0.4},
            "validation": {"v_rand": 0.9},
            "step": 20,
            "recipe": {"train": rows, "validate": [{**rows[0], "sections": [2]}]},
        },
    )
    write_record(
        home / "train.json",
        {
            "model": {
                "weights_sha256": "3" * 64,
                "description_sha256": "8" * 64,
                "recipe": "9" * 64,
            },
            "steps": 30,
            "metric": "v_rand",
            "seconds": 75.0,
            "resumed_at": [],
            "patch": [1, 252, 252],
            "class_weights": [2.5, 0.5],
            "warnings": [],
            "circumstances": CIRCUMSTANCES,
            **changes,
        },
    )
    history = History(home / "history.csv")
    history.append(
        [
            HistoryRow(s, 1 / s, 0.01, s / 9, 0.5 + s / 99 if s % 10 == 0 else None)
            for s in range(1, 31)
        ]
    )
    return {
        "model": model,
        "record": str(home / "train.json"),
        "model_json": str(home / "model.json"),
        "history": str(history.path),
    }


def joined(folder: Path, *members: str) -> dict[str, object]:
    """Write an ensemble of networks that ``trained`` wrote."""
    home, first = (
        folder / "ensemble",
        read_record(folder / members[0] / "model.json"),
    )
    write_record(
        home / "model.json",
        {
            "spec": first["spec"],
            "num_classes": first["num_classes"],
            "num_members": len(members),
            "members": [{"name": m, "weights_sha256": "3" * 64} for m in members],
            "weights_sha256": "6" * 64,
            "thresholds": {"segmentation": 0.4},
            "thresholds_are": "medians over the members",
            "circumstances": CIRCUMSTANCES,
        },
    )
    files = [
        {"model": m}
        | {"record": str(folder / m / "train.json")}
        | {"model_json": str(folder / m / "model.json")}
        for m in members
    ]
    model_json = str(home / "model.json")
    return {"model": "ensemble", "model_json": model_json, "members": files}


def probe_of() -> dict[str, Any]:
    return {
        "seconds_per_tile": 1.0,
        "voxels_per_second": 4096.0,
        "peak_bytes": 1000,
        "memory_budget_bytes": 2000,
        "candidates": [],
        "stride": [1, 64, 64],
        "input_shape": [1, 252, 252],
        "input_shapes": [[1, 252, 252]],
        "batch_tiles": 1,
        "orientations": [0],
        "threads": 2,
        "device": "cpu",
        "precision": "fp32",
        "is_compiled": False,
        "tile_efficiency": 0.3,
        "projected_efficiency": 0.3,
        "projected_activation_bytes": 1000,
        "flop_per_tile": 2_000_000_000,
        "flip_fraction": 0.0,
        "circumstances": CIRCUMSTANCES,
    }


def _identity() -> dict[str, Any]:
    return {
        "weights_sha256": "3" * 64,
        "spec": UNetSpec(base_channels=4).to_json(),
        "input_sha256": "1" * 64,
        "statistics": [[0.0, 1.0]],
        "code": "fingerprint",
        "geometry": {"stride": [1, 64, 64]},
        "precision": "fp32",
        "batch_tiles": 1,
        "is_compiled": False,
        "orientations": [0],
        "selection": {
            "roi": None,
            "mask_sha256": None,
            "empty_value": None,
            "empty_fraction": 0.0,
        },
    }


def _grids(shape: tuple[int, ...]) -> dict[str, Any]:
    spec = UNetSpec(base_channels=4)
    return plan_grids(as_zyx(shape), (1, 64, 64), spec).to_json()


def _outputs(store: Path) -> dict[str, Any]:
    return {"probability": {"store": str(store), "channels": ["cell"]}}


def plan_of(volume: str, store: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "volume": volume,
        "ingest": "ingest.json",
        "identity": _identity(),
        "identity_sha256": "4" * 64,
        "receipts": "receipts",
        "outputs": _outputs(store),
        "geometry": _grids(shape),
        "num_blocks": 1,
        "num_parts": 1,
        "threads": 2,
        "precision": "fp32",
        "device": "cpu",
        "input_shapes": [[1, 252, 252]],
        "flip_fraction": 0.0,
        "projected": {
            "peak_rss_bytes": 700_000_000,
            "disk_bytes": 1000,
            "flop": 8_000_000_000,
            "hours": 0.002,
            "hours_per_part": 0.002,
            "num_tiles": 4,
            "tile_efficiency": 0.3,
        },
        "circumstances": CIRCUMSTANCES,
    }


def prediction_of(volume: str, store: Path, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "volume": volume,
        "outputs": _outputs(store),
        "identity": _identity(),
        "identity_sha256": "4" * 64,
        "content_sha256": "5" * 64,
        "geometry": _grids(shape),
        "precision": "fp32",
        "flip_fraction": 0.0,
        "num_shards": 1,
        "num_shards_skipped": 0,
        "tiles": {"predicted": 4},
        "shard_grid": [1, 1, 1],
        "devices": ["cpu"],
        "parts": [
            {
                "part": 0,
                "num_computed": 1,
                "num_kept": 0,
                "num_tiles": 4,
                "tiles": {"predicted": 4},
                "num_voxels": 15360,
                "seconds": 3.0,
                "seconds_computing": 2.0,
                "seconds_waiting": 0.0,
                "peak_rss_bytes": 300_000_000,
                "host": "node7",
                "device": "cpu",
            }
        ],
        "circumstances": CIRCUMSTANCES,
    }


def segmentation_of(volume: str, store: Path, objects: Path) -> dict[str, Any]:
    return {
        "volume": volume,
        "store": str(store),
        "objects": str(objects),
        "threshold": 0.4,
        "threshold_source": "validation rows",
        "identity": {
            "prediction": "4" * 64,
            "content": "5" * 64,
            "settings": {"threshold": 0.4, "connectivity": "2d"},
            "voxel_size_nm": [50.0, 4.0, 4.0],
            "code": "fingerprint",
        },
        "identity_sha256": "6" * 64,
        "num_objects": 4,
        "num_foreground_voxels": 1,
        "table": {},
        "files_sha256": {},
        "num_blocks": 1,
        "block": [1, 64, 64],
        "projected_peak_rss_bytes": 10,
        "peak_rss_bytes": 9,
        "circumstances": CIRCUMSTANCES,
    }


def predicted(
    folder: Path,
    volume: str,
    mask: np.ndarray,
    metrics: dict | None,
    model: str = "unet",
) -> dict[str, object]:
    home = folder / model / volume
    segmentation = store(home / "segmentation-1.ome.zarr", mask)
    probability = np.where(mask > 0, 200, 30).astype(np.uint8)[None]
    store(home / "probability.ome.zarr", probability)
    objects = create_labels_group(segmentation, ("objects",)) / "objects"
    store(objects, (cells(mask.shape) * (mask > 0)).astype(np.uint32), unlabelled=0)
    records = {
        "probe": probe_of(),
        "plan": plan_of(volume, home / "probability.ome.zarr", mask.shape),
        "prediction": prediction_of(volume, home / "probability.ome.zarr", mask.shape),
        "segmentation": {
            **segmentation_of(volume, segmentation, objects),
            "num_foreground_voxels": int((mask > 0).sum()),
        },
    }
    for name, record in records.items():
        write_record(home / f"{name}.json", record)
    paths = {name: str(home / f"{name}.json") for name in (*records, "metrics")}
    if metrics is None:
        return {"model": model, "volume": volume, **paths, "metrics": None}
    Metrics.model_validate(metrics)
    write_record(home / "metrics.json", metrics)
    return {"model": model, "volume": volume, **paths}


def row(predictor: str, metric: str, score: float, **changes) -> dict[str, Any]:
    """Return a row of two sections, with what is not as in the others."""
    made = make_score_row(
        predictor,
        metric,
        best=(0.30000000000000004, score + 0.0111),
        chosen=(0.4, score),
        per_section=[score - 0.02, score + 0.02],
        interval=Interval(score, score - 0.03, score + 0.03, level=0.95, n=2),
        num_sections=2,
    )
    return made.to_json() | changes


def defined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the scores of some rows mean, as the record has it."""
    told = score_definitions(row["metric"] for row in rows)
    return {metric: meaning.to_json() for metric, meaning in told.items()}


def scored(volume: str = "brain", v_rand: float = 0.91) -> dict[str, Any]:
    """Return a ``metrics.json`` of two test sections, 2 and 3."""
    rows = [
        row("constant", "v_rand", 0.2),
        row("unet", "v_rand", v_rand),
        row("unet", "warping_error", 0.000353),
        row("unet", "v_info", 0.0, chosen={"threshold": 0.4, "score": None}),
        row("unet", "dice_class_1", 0.8, best=None, interval=None, interval_of=None),
    ]
    objects = [row("unet", "f1", 0.7, best=None), row("unet", "vi_split", 0.4)]
    seam = {"face": "tile", "n": 40, "jump_across": 0.011, "jump_inside": 0.01}
    return metrics_of(
        volume,
        definitions=defined(rows + objects),
        role_sections={"test": [2, 3]},
        tables=[{"role": "test", "sections": [2, 3], "rows": rows}],
        objects=[
            {
                "role": "test",
                "sections": [2, 3],
                "rows": objects,
                "sizes": {"unet": {"truth": [0, 0, 8], "result": [1, 2, 7]}},
                "field_border_vox": 0,
            }
        ],
        calibration=[
            {
                "role": "test",
                "class": 1,
                "probability": [0.1, None, 0.9],
                "share": [0.2, None, 0.8],
                "num_voxels": [10, 0, 20],
                "expected_error": 0.1,
            }
        ],
        curves=[
            {
                "role": "test",
                "predictor": "unet",
                "metric": metric,
                "thresholds": [0.0, 0.5, 1.0],
                "scores": [0.2, v_rand, None],
            }
            for metric in ("v_rand", "pixel_error")
        ],
        seams={
            "definition": "jump across over inside",
            "level": 0.99,
            "pooling_grid": [1, 16, 16],
            "rows": [
                seam
                | {"axis": "x", "ratio": 1.1, "interval": [1.05, 1.2]}
                | {"is_like_inside": False},
                seam
                | {"axis": "y", "ratio": 1.01, "interval": [0.9, 1.1]}
                | {"is_like_inside": True},
            ],
            "profiles": {"x": {"distance": [-1, 0], "jump": [0.01, 0.011]}},
            "num_shards": 1,
            "num_shards_of_volume": 1,
        },
        sections_best=[3, 2],
        sections_worst=[2, 3],
    )


def metrics_of(volume: str, **told: Any) -> dict[str, Any]:
    """Return a ``metrics.json`` that says what is told, and else nothing."""
    nothing: dict[str, Any] = {
        "volume": volume,
        "schema_version": 1,
        "definitions": {},
        "role_sections": {},
        "left_out": [],
        "tables": [],
        "objects": [],
        "calibration": [],
        "curves": [],
        "seams": {
            "definition": "jump across over inside",
            "level": 0.99,
            "pooling_grid": [1, 16, 16],
            "rows": [],
            "profiles": {},
            "num_shards": 1,
            "num_shards_of_volume": 1,
        },
        "sections_best": [],
        "sections_worst": [],
        "seconds": 2.0,
        "projected_peak_rss_bytes": 10,
        "peak_rss_bytes": 9,
        "circumstances": CIRCUMSTANCES,
    }
    return nothing | told


def made_up_run(folder: Path) -> None:
    """Write a run of two volumes, one of them annotated, for ``arguments``."""
    write_record(
        folder / "manifest.json",
        {
            "source": "<b>zip</b>",
            "kind": "folder",
            "root": ".",
            "files": [],
            "circumstances": CIRCUMSTANCES,
        },
    )
    labels = cells(SHAPE)
    mask = (labels > 0).astype(np.uint8)
    mask[3, :10] = 0  # missed
    mask[3, 29:31] = 1  # invented
    ingested(folder, "brain", labels)
    ingested(folder, "liver", None, warnings=["the file is odd"])
    trained(folder)
    predicted(folder, "brain", mask, scored())
    predicted(folder, "liver", mask, None)


def arguments(folder: Path) -> dict[str, Any]:
    """Return what the report on a made-up run takes."""
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    unet = folder / "unet"
    return {
        "config": {"name": "made-up", "network": {"base_channels": 4}},
        "manifest": folder / "manifest.json",
        "ingests": [folder / name / "ingest.json" for name in ("brain", "liver")],
        "weight_maps": [],
        "training": {
            "model": "unet",
            "record": str(unet / "train.json"),
            "model_json": str(unet / "model.json"),
            "history": str(unet / "history.csv"),
        },
        "predictions": [
            {"model": "unet", "volume": volume}
            | {
                name: None
                if (name, volume) == ("metrics", "liver")
                else str(unet / volume / f"{name}.json")
                for name in names
            }
            for volume in ("brain", "liver")
        ],
        "output": unet / "report.html",
    }


class Links(HTMLParser):
    """Collects everything that a page refers to, and its plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.add(value)

    def handle_data(self, data):
        self.words.append(data)


def decode(address: str) -> np.ndarray:
    """Return the pixels of a picture's address."""
    kind, _, content = address.partition(";base64,")
    decoders = {
        "data:image/jpeg": imagecodecs.jpeg8_decode,
        "data:image/webp": imagecodecs.webp_decode,
        "data:image/png": imagecodecs.png_decode,
    }
    pixels = decoders[kind](base64.b64decode(content))
    return pixels[..., :3] if pixels.ndim == 3 else pixels
