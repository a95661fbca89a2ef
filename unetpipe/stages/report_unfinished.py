"""Rule report_unfinished: pages and catalogue of what is done, what failed first."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unetpipe.report.page.unfinished import is_unfinished, tell_first
from unetpipe.report.run_state import failed_volumes, run_states
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)

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
) -> bool:
    """Write the pages of a run that is not whole: it has failed, or goes on.

    Parameters
    ----------
    state : mapping
        ``volumes``, ``networks``, ``lots``, ``results`` and ``logs``, as ``status``
        reads them; and ``outdated``, records that do not answer what is asked today.
    pages : sequence of mapping
        The arguments of ``report`` for each network; what is not done is left out.
    run_page, catalogue : mapping
        Those of ``report_run`` and ``collect_catalogue``, likewise.
    sheet : str
        Where a row may be left out.
    write_page, write_run_page, write_catalogue : callable
        ``report``, ``report_run`` and ``collect_catalogue``.

    Returns
    -------
    bool
        Whether there are pages now; none where nothing is done yet, and where all is.
    """
    states = run_states(
        state["volumes"],
        state["networks"],
        state["lots"],
        results=Path(state["results"]),
        logs=Path(state["logs"]),
    )
    failed = [asdict(one) for one in failed_volumes(states)]
    networks = [_progress_of(page, failed, state["outdated"]) for page in pages]
    num_waiting = sum(one.num_waiting for one in networks)
    if not failed and not num_waiting:
        log.info("all predictions are made: the run itself writes its pages")
        return False
    shown = [one for one in networks if one.done]
    if not shown:
        log.info("no network has predicted a volume yet: there is no page to write")
        return False
    for network in shown:
        _write_page(write_page, network, sheet)
    page = Path(run_page["output"])
    with_notice = {
        "failed": failed,
        "num_volumes": len(state["volumes"]),
        "num_waiting": num_waiting,
        "sheet": sheet,
    }
    _write_noticed(
        write_run_page,
        page,
        with_notice,
        name=run_page["name"],
        models=[*_models_with(run_page["models"], networks)],
        ingests=_there(run_page["ingests"]),
        compared=_there(run_page["compared"]),
    )
    paths = {name: Path(catalogue[name]) for name in ("results", "table", "packed")}
    write_catalogue(
        name=catalogue["name"], wanted=catalogue["wanted"], failed=failed, **paths
    )
    log.info("%s tells first what is not done", page)
    return True


@dataclass(frozen=True, slots=True)
class _Progress:
    """What a network has done of what is asked of it."""

    page: Mapping[str, Any]
    done: list[Mapping[str, Any]]
    failed: list[Mapping[str, Any]]

    @property
    def output(self) -> Path:
        return Path(self.page["output"])

    @property
    def num_waiting(self) -> int:
        lost = {one["volume"] for one in self.failed}
        return len(self.page["predictions"]) - len(self.done) - len(lost)


def _progress_of(
    page: Mapping[str, Any],
    failed: Sequence[Mapping[str, Any]],
    outdated: Collection[str],
) -> _Progress:
    """Return what a network has done; nothing if it is not trained as it is asked."""
    asked, model = page["predictions"], page["training"]["model"]
    volumes = {files["volume"] for files in asked}
    ours = [
        one
        for one in failed
        if one["network"] in ("", model) and one["volume"] in volumes
    ]
    lost = {one["volume"] for one in ours}
    ingests = {Path(path).parent.name: path for path in page["ingests"]}

    def is_done(paths: Sequence[str]) -> bool:
        return all(path not in outdated and Path(path).exists() for path in paths)

    done = [
        files
        for files in asked
        if files["volume"] not in lost
        and is_done([ingests[files["volume"]], *_records(files)])
    ]
    return _Progress(page, done if is_done(page["records"]) else [], ours)


def _records(files: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of a prediction's records; one without annotations has fewer."""
    for name, path in files.items():
        if name not in ("model", "volume") and path:
            yield path


def _write_page(write: Write, network: _Progress, sheet: str) -> None:
    """Write the page of a network, unless its own rule has written it whole."""
    page, output = network.page, network.output
    is_whole = not network.failed and not network.num_waiting
    if is_whole and output.exists() and not is_unfinished(output):
        return
    with_notice = {
        "failed": network.failed,
        "num_volumes": len(page["predictions"]),
        "num_waiting": network.num_waiting,
        "sheet": sheet,
    }
    _write_noticed(
        write,
        output,
        with_notice,
        config=page["config"],
        manifest=Path(page["manifest"]),
        ingests=_there(page["ingests"]),
        weight_maps=_there(page["weight_maps"]),
        training=page["training"],
        predictions=network.done,
        suggestions=_there(page["suggestions"]),
    )


def _write_noticed(
    write: Write, output: Path, notice: Mapping[str, Any], **arguments: Any
) -> None:
    """Write a page that is never seen without its notice: it would pass for whole."""
    draft = output.with_name(f".{output.name}.draft")
    try:
        write(**arguments, output=draft)
        write_bytes_atomic(output, tell_first(draft.read_bytes(), **notice))
    finally:
        draft.unlink(missing_ok=True)


def _models_with(
    models: Sequence[Mapping[str, Any]], networks: Sequence[_Progress]
) -> Iterator[Mapping[str, Any]]:
    """Yield what the first page compares, with what is done; earlier runs are whole."""
    ours = {str(one.output.parent): one for one in networks}
    for model in models:
        network = ours.get(model["folder"])
        if network is None:
            yield model
        elif network.done:
            done = {files["volume"] for files in network.done}
            yield {**model, "volumes": [v for v in model["volumes"] if v in done]}


def _there(paths: Sequence[str]) -> list[Path]:
    return [path for path in map(Path, paths) if path.exists()]
