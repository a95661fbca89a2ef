"""Rule report: a network and what it made, on one page that opens without a network."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetpipe.records.suggestions import Suggestions
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.records.weight_map import WeightMap
from unetpipe.report.page.lead import lead_picture
from unetpipe.report.page.many import (
    MOST_DETAILED,
    detailed,
    is_many,
    list_results,
    worst_first,
)
from unetpipe.report.page.methods import describe_methods
from unetpipe.report.page.painting import LEGEND
from unetpipe.report.page.run import Run, read_reported_result, read_reported_training
from unetpipe.report.page.summary import highlights, overview, summarise
from unetpipe.report.page.tables import show_definitions
from unetpipe.report.page.templates import render
from unetpipe.report.page.timings import describe_machines, show_timings
from unetpipe.report.page.views import (
    FEW_VOLUMES,
    show_predictions,
    show_suggestions,
    show_training,
    show_volume,
    yaml_text,
)
from unetpipe.report.page.warnings import collect_warnings
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)

ONLY_MODEL = "unet"  # its page needs no name beside the run's


def report(
    *,
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
    config : dict
        The whole configuration, as plain values; ``name`` is the run's.
    manifest : Path
        ``manifest.json`` of the source, if it is still there.
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
    is_kept = config.get("prediction", {}).get("keep_probability", True)
    results = [read_reported_result(files, is_kept=is_kept) for files in predictions]
    # Pictures begin with test sections; of many volumes with the worst.
    results.sort(key=lambda result: not result.tested)
    ordered = worst_first(results) if is_many(len(results)) else tuple(results)
    volumes = map(IngestedVolume.read, ingests)
    run = Run(
        config["name"],
        Manifest.read_if_there(manifest),
        {volume.volume: volume for volume in volumes},
        tuple(map(WeightMap.read, weight_maps)),
        read_reported_training(training, output.parent),
        ordered,
    )
    content = render("report.html", _page(run, config, suggestions))
    write_bytes_atomic(output, content)
    log.info("%s holds %.1f MB", output, len(content) / 1e6)


def _page(
    run: Run, config: dict[str, Any], suggestions: Sequence[Path]
) -> dict[str, Any]:
    """Return what the template shows."""
    model = run.network.name
    return {
        "title": run.name if model == ONLY_MODEL else f"{run.name}: {model}",
        "source": run.manifest.source if run.manifest else config.get("source"),
        "configuration": yaml_text(config),
        "summary": summarise(run),
        "lead": lead_picture(run),
        "highlights": highlights(run),
        "overview": overview(run),
        "warnings": collect_warnings(run),
        "volumes": [show_volume(run, volume) for volume in run.volumes],
        "trainings": [show_training(run.network)],
        "is_ensemble": bool(run.network.members),
        "predictions": show_predictions(run, detailed(run)),
        "results": list_results(run),
        "most_lines": MOST_DETAILED,
        "suggestions": next(
            (show_suggestions(Suggestions.read(path)) for path in suggestions), None
        ),
        "is_long": len(run.results) > FEW_VOLUMES,
        "definitions": show_definitions(metrics for _, metrics in run.scored),
        "colours": LEGEND,
        "methods": describe_methods(run),
        "timings": show_timings(run),
        "machines": describe_machines(run),
        "finished": run.finished,
    }
