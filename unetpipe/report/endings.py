"""What the end of a run says: where the results are, what failed, what is left over."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from unetpipe.config.lookups import Lookups
from unetpipe.records.prediction import DroppedProbability, Prediction
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.logs import last_error_in_log
from unetpipe.runtime.machine import folder_bytes
from unetpipe.runtime.text import describe_quantity, format_table
from unetpipe.storage.dropping import are_shards_dropped

# Of many volumes the first ones are told; the catalogue has all.
TOLD = 5
VIEW = "view"  # the rule that serves until it is stopped
SILENT = "it ended without a word: cancelled, or killed (out of memory?)"
INTERRUPTED = "Interrupted: "
# What Snakemake says of Ctrl-C, and of SIGTERM.
WAS_STOPPED = re.compile("Terminating processes on user|Will exit after finishing curr")
EVENTS = re.compile(
    r"^Error in rule\s(?P<rule>\w+):\n(?P<about>(?: +.*\n)*)"
    r"|Finished jobid: (?P<done>\d+)",
    re.MULTILINE,
)
ABOUT = re.compile(r"^    (\w+): (\S+)", re.MULTILINE)


def describe_results(lookups: Lookups) -> str:
    """Return where the results are and how to look at them."""
    layout = lookups.layout
    told = [
        text
        for pair in lookups.predicted_pairs()
        if (text := _describe_segmentation(lookups, *pair))
    ]
    lines = told[:TOLD]
    if len(told) > TOLD:
        lines.append(f"{len(told) - TOLD} more: {layout.catalogue} lists all.")
    lines += _describe_dropped(lookups)
    if Path(layout.run_page).exists():
        lines.append(f"Report: {layout.run_page}")
        lines.append(f"  look at it:  xdg-open {layout.run_page}")
    return "\n".join(["", *lines, *_describe_left_over(lookups)])


def describe_failure(
    lookups: Lookups,
    run_logs: str | Sequence[str],
    log_patterns: Mapping[str, str],
    arguments: Sequence[str],
    write_pages: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Yield which jobs failed and why, and what to do; then where pages are.

    Parameters
    ----------
    lookups : Lookups
    run_logs : str or list of str
        Snakemake's own logs of the run; what cannot be read there is left out.
    log_patterns : mapping
        Where the jobs of each rule write their logs, with names in braces.
    arguments : sequence of str
        Of the command that failed.
    write_pages : callable, optional
        Writes pages of what is done, where something failed and was not stopped; tells
        whether there are any. It is called when all the rest is told.
    """
    text = _read_logs(run_logs)
    rows = [
        _failed_row(rule, log, log_patterns.get(rule, ""))
        for rule, log in failed_jobs(text)
    ]
    was_told = bool(WAS_STOPPED.search(text))
    causes = (INTERRUPTED, SILENT) if was_told else (INTERRUPTED,)
    is_stopped = all(row[-1].startswith(causes) for row in rows) if rows else was_told
    if is_stopped and VIEW in arguments:
        return  # which ends in no other way
    how = "stopped" if is_stopped else "failed"
    lines = ["", f"Something {how}; the logs are in {lookups.layout.logs}/."]
    if rows:
        table = format_table(("volume", "network", "rule", "cause"), sorted(rows))
        many = f"{len(rows)} jobs {how}:"
        one = f"A job {'was ' if is_stopped else ''}{how}:"
        lines = ["", many if rows[1:] else one, table]
    lines += [
        (
            "All finished work is kept. To go on, repeat"
            if is_stopped
            else "What does not depend on it is done, and all finished work is kept: "
            "mend the cause and repeat"
        ),
        f"  {shlex.join(['snakemake', *arguments])}",
    ]
    if not is_stopped and any(volume for volume, *_ in rows):
        lines.append(
            "Whole pages and tables wait for all volumes of the sheet. To do without "
            f"one, write # before its rows in {lookups.config.volumes}."
        )
    yield "\n".join(lines)
    if rows and not is_stopped and write_pages:
        yield from _describe_pages(lookups.layout.run_page, write_pages)


def failed_jobs(run_log: str) -> list[tuple[str, str]]:
    """Return (rule, log) of the jobs that failed and were not done by a later attempt.

    Parameters
    ----------
    run_log : str
        What Snakemake wrote of a run.
    """
    failed: dict[str, tuple[str, str]] = {}
    for event in EVENTS.finditer(run_log):
        if event["done"]:
            failed.pop(event["done"], None)
            continue
        about = dict(ABOUT.findall(event["about"]))
        if {"jobid", "log"} <= about.keys():
            failed[about["jobid"]] = (event["rule"], about["log"].rstrip(","))
    return list(failed.values())


def _describe_segmentation(lookups: Lookups, model: str, volume: str) -> str:
    """Return where a segmentation is, and how to look at it; nothing if it is not."""
    layout = lookups.layout
    names = {"model": model, "volume": volume}
    paths = (layout.ingest, layout.prediction, layout.segmentation)
    ingest, prediction, record = (Path(path.format(**names)) for path in paths)
    if not (record.exists() and ingest.exists() and prediction.exists()):
        return ""
    image = IngestedVolume.read(ingest).image.store
    shown = Prediction.read(prediction).outputs.probability.store
    store = Segmentation.read(record).store
    stores = [image, *([] if are_shards_dropped(shown) else [shown]), store]
    return (
        f"Segmentation of {volume} by {model}: {store}\n"
        f"  look at it:  napari {' '.join(map(str, stores))}"
    )


def _describe_pages(page: str, write: Callable[[], bool]) -> Iterator[str]:
    """Write pages of what is done; yield where they are, or why there are none."""
    try:
        if write():
            yield f"Report of what is done, and first of what failed: {page}"
    except Exception as error:  # the run has failed for another reason, told above
        yield f"No page of what is done: {type(error).__name__}: {error}"


def _describe_dropped(lookups: Lookups) -> list[str]:
    """Return how much disk was given back by dropping probabilities."""
    if lookups.config.prediction.keep_probability:
        return []
    found = map(Path, lookups.predicted(lookups.layout.dropped))
    records = [DroppedProbability.read(path) for path in found if path.exists()]
    saved = sum(record.num_bytes for record in records)
    return [
        f"keep_probability: false saves {saved} bytes "
        f"({describe_quantity(saved, 'B')}) of disk, in {len(records)} predictions"
    ]


def _failed_row(rule: str, log: str, pattern: str) -> tuple[str, str, str, str]:
    """Return volume, network, rule and one-line cause of a failed job."""
    of = _names_in(log, pattern)
    cause = last_error_in_log(Path(log)) or SILENT
    volume = of.get("volume", of.get("place", "").split("/")[-1])
    return (volume, of.get("model", ""), rule, f"{cause}  ({log})")


def _names_in(path: str, pattern: str) -> dict[str, str]:
    """Return what stands in a path where a pattern has names in braces."""
    texts = re.split(r"{(\w+)}", pattern)
    expression = "".join(
        f"(?P<{text}>{'.+' if text == 'place' else '[^/]+'})"
        if is_name
        else re.escape(text)
        for text, is_name in zip(texts, [False, True] * len(texts), strict=False)
    )
    found = re.fullmatch(expression, path)
    return found.groupdict() if found else {}


def _read_logs(run_logs: str | Sequence[str]) -> str:
    paths = [run_logs] if isinstance(run_logs, str) else run_logs
    return "".join(Path(path).read_text(errors="replace") for path in paths)


def _describe_left_over(lookups: Lookups) -> list[str]:
    """Return one line on volumes that have results and are in the sheet no more."""
    results, folders = lookups.layout.results, dict[str, set[Path]]()
    root = Path(results)
    found = [*root.glob("volumes/*/"), *(p.parent for p in root.glob("*/*/p*-*/"))]
    for folder in found + [path.parent for path in root.glob("*/*/p*.json")]:
        if folder.name not in (*lookups.sheet.volumes, *lookups.run.left_out):
            folders.setdefault(folder.name, set()).add(folder)
    if not folders:
        return []
    paths = [path for of in folders.values() for path in of]
    size = describe_quantity(sum(map(folder_bytes, paths)), "iB", base=1024)
    names = sorted(folders)
    told = ", ".join(names[:TOLD]) + (", ..." if names[TOLD:] else "")
    return [
        f"No more in {lookups.config.volumes}: {told}; the results stay ({size}). To "
        "delete them:",
        "  rm -r " + " ".join(f"{results}/*/{name}" for name in names),
    ]
