"""Rule report_unfinished: pages and catalogue of what is done, what failed first."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unetpipe.report.page.templates import render
from unetpipe.report.run_state import failed_volumes, run_states
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)

RECORDS = ("probe", "plan", "prediction", "segmentation", "metrics")
Pairs = Collection[tuple[str, str]]
Write = Callable[..., None]


def report_unfinished(
    *,
    state: Mapping[str, Any],
    pages: Sequence[Mapping[str, Any]],
    run_page: Mapping[str, Any],
    catalogue: Mapping[str, Any],
    sheet: str,
    write_page: Write,
    write_run_page: Write,
    write_catalogue: Write,
) -> None:
    """Write the pages of a run that is not whole: it has failed, or goes on.

    Parameters
    ----------
    state : mapping
        ``volumes``, ``networks``, ``lots``, ``results`` and ``logs``, as ``status``
        reads them.
    pages : sequence of mapping
        The arguments of ``report`` for each network; what is not done is left out.
    run_page, catalogue : mapping
        Those of ``report_run`` and ``collect_catalogue``, likewise.
    sheet : str
        Where a row may be left out.
    write_page, write_run_page, write_catalogue : callable
        ``report``, ``report_run`` and ``collect_catalogue``.
    """
    states = run_states(
        state["volumes"],
        state["networks"],
        state["lots"],
        results=Path(state["results"]),
        logs=Path(state["logs"]),
    )
    failed = [asdict(one) for one in failed_volumes(states)]
    told = {"failed": failed, "count": len(state["volumes"]), "sheet": sheet}
    paths = {name: Path(catalogue[name]) for name in ("results", "table", "packed")}
    write_catalogue(
        name=catalogue["name"], wanted=catalogue["wanted"], failed=failed, **paths
    )
    done = {
        (files["model"], files["volume"])
        for page in pages
        for files in page["predictions"]
        if _is_done(files, failed)
    }
    written = [_write_page(write_page, page, done, told) for page in pages]
    if not any(written):
        log.warning("no network has predicted a volume yet: there is no page to write")
        return
    models = [
        model | {"volumes": [v for v in model["volumes"] if (one, v) in done]}
        for model in run_page["models"]
        if (one := Path(model["folder"]).name) in {name for name, _ in done}
    ]
    write_run_page(
        name=run_page["name"],
        models=models,
        ingests=_there(run_page["ingests"]),
        compared=_there(run_page["compared"]),
        output=Path(run_page["output"]),
    )
    if models[1:]:  # the page of the only network is the run's
        _tell_first(Path(run_page["output"]), told | {"num_waiting": 0})
    log.info("%d volumes failed: %s has them first", len(failed), run_page["output"])


def _is_done(files: Mapping[str, Any], failed: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether all records of a prediction lie there, and are of today."""
    names = {one["volume"] for one in failed if one["network"] in ("", files["model"])}
    records = (path for name, path in files.items() if name not in ("model", "volume"))
    return files["volume"] not in names and all(
        Path(path).exists() for path in records if path
    )


def _write_page(
    write: Write, page: Mapping[str, Any], done: Pairs, told: dict[str, Any]
) -> bool:
    """Write the page of a network with what is done; tell whether there is any."""
    asked = page["predictions"]
    shown = [files for files in asked if (files["model"], files["volume"]) in done]
    if not shown:
        return False
    output = Path(page["output"])
    write(
        config=page["config"],
        manifest=Path(page["manifest"]),
        ingests=_there(page["ingests"]),
        weight_maps=_there(page["weight_maps"]),
        training=page["training"],
        predictions=shown,
        suggestions=_there(page["suggestions"]),
        output=output,
    )
    num_waiting = len(asked) - len(shown) - len(told["failed"])
    _tell_first(output, told | {"num_waiting": max(0, num_waiting)})
    return True


def _tell_first(page: Path, told: dict[str, Any]) -> None:
    """Put what is not done at the head of a page."""
    if told["failed"] or told["num_waiting"]:
        head, start, rest = page.read_bytes().partition(b"<header>\n")
        notice = render("unfinished.html", told)
        write_bytes_atomic(page, head + start + notice + rest)


def _there(paths: Sequence[str]) -> list[Path]:
    return [path for path in map(Path, paths) if path.exists()]
