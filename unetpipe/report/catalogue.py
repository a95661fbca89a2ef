"""The two tables of a run: its scores, one a line, and its catalogue.

The catalogue has one row for each volume, network and recipe that lies there, read from
the records beside the stores, so that former results are in it as well.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from unetpipe.records.comparison import Comparison
from unetpipe.records.metrics import OURS, Definition, Metrics, Role, Row, Rule
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.machine import folder_bytes
from unetpipe.storage.dropping import are_shards_dropped

Line = dict[str, Any]  # column -> value
Made = TypeVar("Made", Prediction, Segmentation)

SCORE_COLUMNS = {
    "run": "name of the run",
    "model": "network; `all folds`, with variant and seed, for folds scored together",
    "volume": "as in the sheet; empty for all folds together",
    "role": "`test`, or `validate`: sections that chose the thresholds",
    "predictor": "`unet`, or a baseline",
    "metric": "a key of `definitions` in `metrics.json`",
    "rule": "`chosen`: threshold from validation sections or the configuration; "
    "`best`: best on these very sections, which nobody could have chosen honestly",
    "threshold": "of the foreground probability; empty where there is none, or several",
    "value": "the score; empty where it is undefined",
    "low": "low end of the 95 % interval, if this score has one",
    "high": "its high end",
    "n": "units that were resampled for the interval",
    "n_of": "`sections`, `objects` or `volumes`",
    "num_sections": "sections that were scored",
    "unit": "`1` (a share), `nats` or `bits`",
    "better": "`higher` or `lower`",
    "definition_version": "of the metric; lines of different versions do not compare",
}
ALL_FOLDS = "all folds"
FROM_ROW = ("predictor", "metric", "n", "n_of", "num_sections", "unit", "better")

SCORES = (
    "pixel_error",
    "v_rand",
    "v_info",
    "dice_mean",
    "dice_class_1",
    "average_precision",
    "f1",
    "adapted_rand_error",
    "ctc_seg",
)
SIZES = tuple(f"voxel_size_{axis}_nm" for axis in "zyx")
CATALOGUE_COLUMNS: dict[str, tuple[type, str]] = {
    "run": (str, "name of the run"),
    "volume": (str, "as in the sheet, or as it was there"),
    "model": (str, "network"),
    "current": (
        bool,
        "whether it is what sheet and configuration asked for last; else a former "
        "result that still lies there",
    ),
    "failed": (
        str,
        "the step at which the volume failed last, and why: such rows come first, have "
        "no result, and go when a run has mended them; empty where there is one",
    ),
    "made": (str, "when the segmentation, else the prediction, was finished, in UTC"),
    "weights_sha256": (str, "of the network; `weights-<id>/` begins with it"),
    "image_sha256": (str, "of the stored voxels that were predicted"),
    "prediction_id": (str, "sha256 of its recipe; the folder's name begins with it"),
    "segmentation_id": (str, "the same of the segmentation; empty without one"),
    "precision": (str, "`fp32`, `bf16`, `fp16` or `int8`"),
    "size_z": (int, "of the volume, in voxels"),
    "size_y": (int, "the same along y"),
    "size_x": (int, "the same along x"),
    "voxel_size_z_nm": (float, "of a voxel, in nanometres; empty if nobody knows"),
    "voxel_size_y_nm": (float, "the same along y"),
    "voxel_size_x_nm": (float, "the same along x"),
    "num_objects": (int, "objects that were found"),
    "threshold": (float, "of the foreground probability; empty with several classes"),
    "warnings": (
        str,
        "odd sections, what is unlike what the network learnt, and what looks like a "
        "mistake in its scores; empty if nothing",
    ),
    "scores_of": (str, "whose scores follow: `test` sections, else `validate`"),
    **dict.fromkeys(SCORES, (float, "score at the chosen threshold; defined above")),
    "image": (str, "store of the image; empty where it is there no more"),
    "prediction": (str, "store of the probability, likewise; dropped ones too"),
    "segmentation": (str, "store of mask and objects, likewise"),
    "objects": (str, "table of the objects, likewise"),
    "prediction_bytes": (int, "on disk: the folder of the prediction"),
    "segmentation_bytes": (int, "on disk: the folder of the segmentation"),
}


def score_lines(run: str, model: str, scores: Metrics) -> Iterator[Line]:
    """Yield a line for each score, in their order; keys are ``SCORE_COLUMNS``.

    Parameters
    ----------
    run, model : str
    scores : Metrics
    """
    told = {"run": run, "model": model, "volume": scores.volume}
    for table in scores.all_tables:
        for row in table.rows:
            yield from _lines({**told, "role": table.role}, row, scores.definitions)


def pooled_lines(run: str, compared: Comparison) -> Iterator[Line]:
    """Yield the lines of test sections of all folds."""
    for variant in compared.variants:
        for row in variant.rows:
            for single in row.seeds:
                parts = [variant.variant, ALL_FOLDS]
                if len(row.seeds) > 1:
                    parts.append(f"seed {single.seed}")
                model = ", ".join(filter(None, parts))
                told = {"run": run, "model": model, "volume": "", "role": "test"}
                yield from _lines(told, single, compared.definitions)


def _lines(told: Line, row: Row, definitions: dict[str, Definition]) -> Iterator[Line]:
    """Yield a line for each rule by which the threshold was found."""
    rules: tuple[Rule, ...] = ("chosen", "best")
    for rule in rules:
        score = row.chosen if rule == "chosen" else row.best
        if score is None:
            continue
        interval = row.interval if row.interval_of == rule else None
        low, high = interval or (None, None)
        line = {
            **told,
            **{key: getattr(row, key) for key in FROM_ROW},
            "rule": rule,
            "threshold": score.threshold,
            "value": score.score,
            "low": low,
            "high": high,
            "definition_version": definitions[row.metric].version,
        }
        yield {column: line[column] for column in SCORE_COLUMNS}


def catalogue_rows(
    run: str, results: Path, wanted: Collection[tuple[str, str]]
) -> Iterator[Line]:
    """Yield the rows of a run's catalogue; keys are ``CATALOGUE_COLUMNS``.

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
        volume = IngestedVolume.read_if_there(image)
        is_unknown = volume is not None and volume.known_size_nm is None
        is_wanted = (home.parent.name, home.name) in wanted
        for row in _rows_of_home(home, is_wanted=is_wanted):
            line = {**told, "image": volume and _present(volume.image.store), **row}
            line["warnings"] = _join(
                *(odd.brief for odd in (volume.odd_sections if volume else ())),
                row.get("warnings"),
            )
            sizes = {key: line.get(key) for key in SIZES}
            if is_unknown and set(sizes.values()) == {1.0}:
                line |= dict.fromkeys(sizes)
            yield {name: line.get(name) for name in CATALOGUE_COLUMNS}


def failed_rows(
    run: str,
    failed: Iterable[Mapping[str, str]],
) -> Iterator[Line]:
    """Yield a row for each volume that failed; see ``collect_catalogue``."""
    for one in failed:
        line = {
            "run": run,
            "volume": one["volume"],
            "model": one["network"],
            "current": False,
            "failed": f"{one['step']}: {one['note']}",
        }
        yield {name: line.get(name) for name in CATALOGUE_COLUMNS}


def _rows_of_home(home: Path, *, is_wanted: bool) -> Iterator[Line]:
    """Yield what the records of one network and volume say, the newest first."""
    predictions = _by_identity(home, "prediction", Prediction)
    segmentations = _by_identity(home, "segmentation", Segmentation)
    newest = (
        _newest(home / "prediction.json", Prediction),
        _newest(home / "segmentation.json", Segmentation),
    )
    used = {made.identity.prediction for made in segmentations.values()}
    rows = [
        _prediction_row(home, digest, predictions[digest])
        for digest in predictions.keys() - used
    ]
    for digest, made in segmentations.items():
        source = made.identity.prediction
        is_newest = newest == (source, digest)
        predicted = predictions.get(source)
        rows.append(
            _prediction_row(home, source, predicted)
            | _segmentation_row(home, made)
            | _threshold_row(made, predicted)
            | _score_row(home, made, is_newest=is_newest)
            | _warnings_row(home, made, is_newest=is_newest)
            | {"current": is_wanted and is_newest}
        )
    yield from sorted(rows, key=lambda row: (row["made"] or "", *_ids(row)))[::-1]


def _ids(row: Line) -> tuple[str, str]:
    return row["prediction_id"], row.get("segmentation_id") or ""


def _by_identity(home: Path, kind: str, record: type[Made]) -> dict[str, Made]:
    """Return all records of a kind; one beside its store is the same as the newest."""
    paths = [home / f"{kind}.json", *sorted(home.glob(f"{kind}-*/{kind}.json"))]
    found = [record.read(path) for path in paths if path.exists()]
    return {made.identity_sha256: made for made in found}


def _newest(path: Path, record: type[Made]) -> str | None:
    made = record.read_if_there(path)
    return made.identity_sha256 if made else None


def _prediction_row(home: Path, digest: str, made: Prediction | None) -> Line:
    """Return what is known of a prediction; without its record only the name."""
    row: Line = {"prediction_id": digest, "current": False, "made": None}
    if made is None:
        return row
    z, y, x = made.geometry.volume_shape
    store = home / Path(*made.outputs.probability.store.parts[-2:])
    return row | {
        "made": made.circumstances.finished,
        "weights_sha256": made.identity.weights_sha256,
        "image_sha256": made.identity.input_sha256,
        "precision": made.identity.precision,
        "size_z": z,
        "size_y": y,
        "size_x": x,
        "prediction": None if are_shards_dropped(store) else _present(store),
        "prediction_bytes": folder_bytes(store.parent),
    }


def _segmentation_row(home: Path, made: Segmentation) -> Line:
    folder = home / made.home.name
    z, y, x = made.identity.told_size_nm
    return {
        "segmentation_id": made.identity_sha256,
        "made": made.circumstances.finished,
        "voxel_size_z_nm": z,
        "voxel_size_y_nm": y,
        "voxel_size_x_nm": x,
        "num_objects": made.num_objects,
        "segmentation": _present(folder / made.store.name),
        "objects": _present(folder / "objects.parquet"),
        "segmentation_bytes": folder_bytes(folder),
    }


def _threshold_row(made: Segmentation, predicted: Prediction | None) -> Line:
    """Return what told foreground from background: nothing alone of several classes."""
    is_alone = predicted is None or predicted.outputs.classes is None
    return {"threshold": made.threshold if is_alone else None}


def _scores_of(home: Path, made: Segmentation, *, is_newest: bool) -> Path:
    """Return where the scores of a segmentation are, if it has any."""
    path = home / made.home.name / "metrics.json"
    if not path.exists() and is_newest:  # made before copies were kept
        return home / "metrics.json"
    return path


def _score_row(home: Path, made: Segmentation, *, is_newest: bool) -> Line:
    """Return the scores at the chosen threshold, of test sections if there are any."""
    scores = Metrics.read_if_there(_scores_of(home, made, is_newest=is_newest))
    tables = scores.all_tables if scores else ()
    roles: Sequence[Role] = ("test", "validate")
    for role in roles:
        found = {
            row.metric: row.chosen.score
            for table in tables
            if table.role == role
            for row in table.rows
            if row.predictor == OURS and row.metric in SCORES and row.chosen
        }
        if found:
            return {"scores_of": role, **found}
    return {}


def _warnings_row(home: Path, made: Segmentation, *, is_newest: bool) -> Line:
    """Return what is odd of the image for the network, the result, and its scores."""
    plan = PredictionPlan.read_if_there(home / "plan.json")
    is_planned = plan is not None and plan.identity_sha256 == made.identity.prediction
    of_image = plan.warnings if plan and is_planned else ()
    scores = Metrics.read_if_there(_scores_of(home, made, is_newest=is_newest))
    of_scores = scores.warnings if scores else ()
    return {"warnings": _join(*of_image, *made.warnings, *of_scores)}


def _join(*warnings: str | None) -> str | None:
    return "; ".join(filter(None, warnings)) or None


def _present(path: Path) -> str | None:
    return str(path) if path.exists() else None
