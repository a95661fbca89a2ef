"""The catalogue of a run: one row for each volume, network and recipe that lies there.

Read from the records beside the stores, so that former results are in it as well.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from unetpipe.runtime.files import read_record
from unetpipe.runtime.machine import folder_bytes
from unetpipe.storage.dropping import is_dropped

Record = dict[str, Any]

SCORES = (
    "pixel_error",
    "v_rand",
    "v_info",
    "average_precision",
    "f1",
    "adapted_rand_error",
    "ctc_seg",
)
COLUMNS: dict[str, tuple[type, str]] = {
    "run": (str, "name of the run"),
    "volume": (str, "as in the sheet, or as it was there"),
    "model": (str, "network"),
    "current": (
        bool,
        "whether it is what sheet and configuration asked for last; else a former "
        "result that still lies there",
    ),
    "made": (str, "when the segmentation, else the prediction, was finished, in UTC"),
    "weights_sha256": (str, "of the network; `weights-<id>/` begins with it"),
    "image_sha256": (str, "of the stored voxels that were predicted"),
    "prediction_id": (str, "sha256 of its recipe; the folder's name begins with it"),
    "segmentation_id": (str, "the same of the segmentation; empty without one"),
    "precision": (str, "`fp32`, `bf16` or `fp16`"),
    "size_z": (int, "of the volume, in voxels"),
    "size_y": (int, "the same along y"),
    "size_x": (int, "the same along x"),
    "voxel_size_z_nm": (float, "of a voxel, in nanometres"),
    "voxel_size_y_nm": (float, "the same along y"),
    "voxel_size_x_nm": (float, "the same along x"),
    "num_objects": (int, "objects that were found"),
    "threshold": (float, "of the foreground probability; empty with several classes"),
    "scores_of": (str, "whose scores follow: `test` sections, else `validate`"),
    **dict.fromkeys(SCORES, (float, "score at the chosen threshold; defined above")),
    "image": (str, "store of the image; empty where it is there no more"),
    "prediction": (str, "store of the probability, likewise; dropped ones too"),
    "segmentation": (str, "store of mask and objects, likewise"),
    "objects": (str, "table of the objects, likewise"),
    "prediction_bytes": (int, "on disk: the folder of the prediction"),
    "segmentation_bytes": (int, "on disk: the folder of the segmentation"),
}


def catalogue_rows(
    run: str, results: Path, wanted: Collection[tuple[str, str]]
) -> Iterator[Record]:
    """Yield the rows of a run's catalogue; keys are ``COLUMNS``.

    Parameters
    ----------
    run : str
        Its name.
    results : Path
        Its folder.
    wanted : collection of (model, volume)
        The predictions that sheet and configuration ask for.
    """
    homes = {path.parent for path in results.glob("*/*/prediction.json")}
    homes |= {path.parents[1] for path in results.glob("*/*/prediction-*/*.json")}
    homes |= {path.parents[1] for path in results.glob("*/*/segmentation-*/*.json")}
    for home in sorted(homes, key=lambda path: (path.name, path.parent.name)):
        told = {"run": run, "volume": home.name, "model": home.parent.name}
        image = results / "volumes" / home.name / "ingest.json"
        is_wanted = (home.parent.name, home.name) in wanted
        for row in _rows_of_home(home, is_wanted=is_wanted):
            line = {**told, "image": _image_store(image), **row}
            yield {name: line.get(name) for name in COLUMNS}


def _rows_of_home(home: Path, *, is_wanted: bool) -> Iterator[Record]:
    """Yield what the records of one network and volume say, the newest first."""
    predictions = _by_identity(home, "prediction")
    segmentations = _by_identity(home, "segmentation")
    newest = {
        kind: read_record(path)["identity_sha256"]
        for kind in ("prediction", "segmentation")
        if (path := home / f"{kind}.json").exists()
    }
    used = {record["identity"]["prediction"] for record in segmentations.values()}
    rows = []
    for digest in predictions.keys() - used:
        rows.append(_prediction_row(home, digest, predictions[digest]))
    for digest, record in segmentations.items():
        made_of = record["identity"]["prediction"]
        is_newest = newest == {"prediction": made_of, "segmentation": digest}
        rows.append(
            _prediction_row(home, made_of, predictions.get(made_of))
            | _segmentation_row(home, record)
            | _score_row(home, record, is_newest=is_newest)
            | {"current": is_wanted and is_newest}
        )
    yield from sorted(rows, key=lambda row: (row["made"] or "", *_ids(row)))[::-1]


def _ids(row: Record) -> tuple[str, str]:
    return row["prediction_id"], row.get("segmentation_id") or ""


def _by_identity(home: Path, kind: str) -> dict[str, Record]:
    """Return all records of a kind; one beside its store is the same as the newest."""
    paths = [home / f"{kind}.json", *sorted(home.glob(f"{kind}-*/{kind}.json"))]
    records = (read_record(path) for path in paths if path.exists())
    return {record["identity_sha256"]: record for record in records}


def _prediction_row(home: Path, digest: str, record: Record | None) -> Record:
    """Return what is known of a prediction; without its record only the name."""
    row: Record = {"prediction_id": digest, "current": False, "made": None}
    if record is None:
        return row
    identity = record["identity"]
    shape = identity["geometry"]["volume_shape"]
    store = home / Path(*Path(record["outputs"]["probability"]["store"]).parts[-2:])
    return row | {
        "made": record["circumstances"]["finished"],
        "weights_sha256": identity["weights_sha256"],
        "image_sha256": identity["input_sha256"],
        "precision": identity["precision"],
        **dict(zip(("size_z", "size_y", "size_x"), shape, strict=True)),
        "prediction": None if is_dropped(store) else _present(store),
        "prediction_bytes": folder_bytes(store.parent),
    }


def _segmentation_row(home: Path, record: Record) -> Record:
    folder = home / Path(record["store"]).parent.name
    sizes = zip("zyx", record["identity"]["voxel_size_nm"], strict=True)
    return {
        "segmentation_id": record["identity_sha256"],
        "made": record["circumstances"]["finished"],
        **{f"voxel_size_{axis}_nm": size for axis, size in sizes},
        "num_objects": record["num_objects"],
        "threshold": record["threshold"],
        "segmentation": _present(folder / Path(record["store"]).name),
        "objects": _present(folder / "objects.parquet"),
        "segmentation_bytes": folder_bytes(folder),
    }


def _score_row(home: Path, record: Record, *, is_newest: bool) -> Record:
    """Return the scores at the chosen threshold, of test sections if there are any."""
    path = home / Path(record["store"]).parent.name / "metrics.json"
    if not path.exists() and is_newest:  # made before copies were kept
        path = home / "metrics.json"
    if not path.exists():
        return {}
    metrics = read_record(path)
    for role in ("test", "validate"):
        found = {
            row["metric"]: row["chosen"]["score"]
            for table in metrics["tables"] + metrics["objects"]
            if table["role"] == role
            for row in table["rows"]
            if row["predictor"] == "unet" and row["metric"] in SCORES and row["chosen"]
        }
        if found:
            return {"scores_of": role, **found}
    return {}


def _image_store(ingest: Path) -> str | None:
    if not ingest.exists():
        return None
    return _present(Path(read_record(ingest)["image"]["store"]))


def _present(path: Path) -> str | None:
    return str(path) if path.exists() else None
