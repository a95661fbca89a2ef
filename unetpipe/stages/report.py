"""Rule report: everything on one page that opens without a network."""

import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from unetpipe.history import read_history
from unetpipe.page.figures import LEGEND
from unetpipe.page.suggestions import show_suggestions
from unetpipe.page.summary import (
    collect_timings,
    collect_warnings,
    describe_machines,
    highlights,
    overview,
    summarise,
)
from unetpipe.page.views import as_yaml, show_predictions, show_training, show_volume
from unetpipe.records import read_record, write_bytes_atomic

log = logging.getLogger(__name__)

Record = dict[str, Any]


def report(
    *,
    name: str,
    config: dict[str, Any],
    manifest: Path,
    ingests: list[Path],
    trainings: list[dict[str, Any]],
    predictions: list[dict[str, Any]],
    output: Path,
    weight_maps: Sequence[Path] = (),
    suggestions: Path | None = None,
) -> None:
    """Write one self-contained HTML page from all records of a run.

    Parameters
    ----------
    name : str
        Of the run.
    config : dict
        The whole configuration, as plain values.
    manifest : Path
        ``manifest.json`` of the source.
    ingests, weight_maps : list of Path
        ``ingest.json`` and ``weight_map.json`` of each volume.
    suggestions : Path, optional
        ``suggestions.json``.
    trainings : list of dict
        ``{"model": name, "record": train.json, "model_json": ..., "history": csv}``.
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
    trained = [_read_training(files) for files in trainings]
    predicted = [_read_prediction(files) for files in predictions]
    run: Record = {
        "name": name,
        "manifest": read_record(manifest),
        "volumes": {r["volume"]: r for r in map(read_record, ingests)},
        "weight_maps": [read_record(path) for path in weight_maps],
        "trained": trained,
        "predicted": predicted,
    }
    page = {
        "name": name,
        "manifest": run["manifest"],
        "configuration": as_yaml(config),
        "summary": summarise(run),
        "highlights": highlights(run),
        "overview": overview(run),
        "warnings": collect_warnings(run),
        "volumes": [show_volume(run, volume) for volume in run["volumes"]],
        "trainings": [show_training(training) for training in trained],
        "predictions": show_predictions(run),
        "suggestions": show_suggestions(read_record(suggestions))
        if suggestions
        else "",
        "colours": LEGEND,
        "timings": collect_timings(run),
        "machines": describe_machines(run),
        "finished": max(
            (r["circumstances"]["finished"] for r in _last(run)), default=""
        ),
    }
    content = _render(page).encode()
    write_bytes_atomic(output, content)
    log.info("%s holds %.1f MB", output, len(content) / 1e6)


def _last(run: Record) -> list[Record]:
    """Return the records that were written last; the page carries their time."""
    return [p["metrics"] or p["segmentation"] for p in run["predicted"]]


def _render(page: Record) -> str:
    """Fill the template; a value that is missing is an error."""
    template = files("unetpipe.page").joinpath("report.html").read_text("utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(template).render(page)


def _read_training(paths: dict[str, Any]) -> Record:
    return {
        "model": paths["model"],
        "record": read_record(Path(paths["record"])),
        "description": read_record(Path(paths["model_json"])),
        "history": read_history(Path(paths["history"])),
    }


def _read_prediction(paths: dict[str, Any]) -> Record:
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    return {"model": paths["model"], "volume": paths["volume"]} | {
        name: read_record(Path(paths[name])) if paths[name] else None for name in names
    }
