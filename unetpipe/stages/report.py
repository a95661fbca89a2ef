"""Rule report: a network and what it made, on one page that opens without a network."""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unetpipe.report.page.figures import LEGEND
from unetpipe.report.page.members import as_training
from unetpipe.report.page.suggestions import show_suggestions
from unetpipe.report.page.summary import (
    collect_warnings,
    highlights,
    overview,
    summarise,
)
from unetpipe.report.page.tables import show_definitions
from unetpipe.report.page.templates import render
from unetpipe.report.page.timings import describe_machines, show_timings
from unetpipe.report.page.views import (
    FEW_VOLUMES,
    as_yaml,
    show_predictions,
    show_training,
    show_volume,
)
from unetpipe.runtime.files import read_record, write_bytes_atomic
from unetpipe.training.history import read_history

log = logging.getLogger(__name__)

Record = dict[str, Any]

ONLY_MODEL = "unet"  # its page needs no name beside the run's


def report(
    *,
    name: str,
    config: dict[str, Any],
    manifest: Path,
    ingests: list[Path],
    weight_maps: list[Path],
    training: dict[str, Any],
    predictions: list[dict[str, Any]],
    output: Path,
    suggestions: Sequence[Path] = (),
) -> None:
    """Write one self-contained HTML page from all records of a network.

    Parameters
    ----------
    name : str
        Of the run.
    config : dict
        The whole configuration, as plain values.
    manifest : Path
        ``manifest.json`` of the source.
    ingests, weight_maps : list of Path
        ``ingest.json`` and ``weight_map.json`` of the volumes that the network learnt
        from or predicted.
    suggestions : list of Path
        ``suggestions.json``, or none.
    training : dict
        ``{"model": name, "record": train.json, "model_json": ..., "history": csv}``;
        of an ensemble ``{"model", "model_json", "members"}``, its members' names and
        files likewise.
    predictions : list of dict
        ``{"model", "volume"}`` and the paths of ``probe``, ``plan``, ``prediction``,
        ``segmentation`` and ``metrics`` (None for a volume without labels).
    output : Path
        The page; written whole or not at all.

    Raises
    ------
    DataError
        If a record or a store is missing; the message names it.
    """
    trained = _read_training(training, output.parent)
    run: Record = {
        "name": name,
        "manifest": read_record(manifest),
        "volumes": {r["volume"]: r for r in map(read_record, ingests)},
        "weight_maps": [read_record(path) for path in weight_maps],
        "trained": [trained],
        "predicted": _tested_first(
            _read_prediction(files)
            | {"is_kept": config.get("prediction", {}).get("keep_probability", True)}
            for files in predictions
        ),
    }
    model = trained["model"]
    page = {
        "title": name if model == ONLY_MODEL else f"{name}: {model}",
        "manifest": run["manifest"],
        "configuration": as_yaml(config),
        "summary": summarise(run),
        "highlights": highlights(run),
        "overview": overview(run),
        "warnings": collect_warnings(run),
        "volumes": [show_volume(run, volume) for volume in run["volumes"]],
        "trainings": [show_training(trained)],
        "is_ensemble": bool(trained["members"]),
        "predictions": show_predictions(run),
        "suggestions": next(
            (show_suggestions(read_record(path)) for path in suggestions), None
        ),
        "is_long": len(run["predicted"]) > FEW_VOLUMES,
        "definitions": show_definitions([p["metrics"] for p in run["predicted"]]),
        "colours": LEGEND,
        "timings": show_timings(run),
        "machines": describe_machines(run),
        "finished": max(
            (r["circumstances"]["finished"] for r in _last(run)), default=""
        ),
    }
    content = render("report.html", page)
    write_bytes_atomic(output, content)
    log.info("%s holds %.1f MB", output, len(content) / 1e6)


def _tested_first(predicted: Iterable[Record]) -> list[Record]:
    """Return predictions of test sections before others: pictures begin with them."""

    def is_untested(one: Record) -> bool:
        return "test" not in (one["metrics"] or {}).get("role_sections", ())

    return sorted(predicted, key=is_untested)


def _last(run: Record) -> list[Record]:
    """Return the records that were written last; the page carries their time."""
    return [p["metrics"] or p["segmentation"] for p in run["predicted"]]


def _read_training(paths: dict[str, Any], beside: Path) -> Record:
    folder = Path(paths["model_json"]).parent
    description = read_record(Path(paths["model_json"]))
    stores = [str(folder / "model.safetensors"), str(folder / "state")]
    if members := [_read_member(one, beside) for one in paths.get("members", ())]:
        joined = as_training(paths["model"], description, members)
        return {**joined, "stores": stores[:1]}
    return {
        "model": paths["model"],
        "record": read_record(Path(paths["record"])),
        "description": description,
        "history": read_history(Path(paths["history"])),
        "members": [],
        "stores": stores,
    }


def _read_member(paths: dict[str, Any], beside: Path) -> Record:
    page = Path(paths["record"]).with_name("report.html")
    return {
        "model": paths["model"],
        "record": read_record(Path(paths["record"])),
        "description": read_record(Path(paths["model_json"])),
        "page": os.path.relpath(page, beside),
    }


def _read_prediction(paths: dict[str, Any]) -> Record:
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    return {
        "model": paths["model"],
        "volume": paths["volume"],
        "folder": str(Path(paths["segmentation"]).parent),
    } | {
        name: read_record(Path(paths[name])) if paths[name] else None for name in names
    }
