"""What a run shows while it goes on: one line, with what is at work and what is left.

Takes the place of banners, numbers of jobs and statistics on the screen; the engine's
own log file has them all.

::

    message of the engine --Quiet (a filter)--> shown or not; what begins and ends
                          --Screen (a formatter)--> itself, or the line of the run
"""

import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from unetpipe.runtime.logs import CLEAR
from unetpipe.runtime.text import describe_seconds

SECONDS_BETWEEN_LINES = 10.0
USUAL_COLUMNS = 80
TOLD = 2  # jobs at work that a line names
TOTAL = "total"
BEGUN = "job_begun"  # of our own: the engine's comes before it says which job
# What an engine says of its own doings, and the frames of a job's error: the job has
# told the error itself, and the end of the run tells it again with its log.
CHATTER = re.compile(
    r"Select jobs to execute|Execute \d+ jobs|Building DAG|Assuming unrestricted|"
    r"RuleException:\nCalledProcessError|Using workflow specific profile|"
    r"Provided cores|Rules claiming more threads|Provided resources|Elapsed time|"
    r"Using shell|Conda environments: ignored|Singularity containers: ignored"
)


def former_seconds(benchmarks: Path) -> dict[str, float]:
    """Return what a job of each rule took in an earlier run, by its benchmarks."""
    found = defaultdict[str, list[float]](list)
    for path in benchmarks.rglob("*.tsv"):
        rule = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
        lines = path.read_text(errors="replace").splitlines()[1:2]
        for line in lines:
            try:
                seconds = float(line.split("\t")[0])
            except ValueError:  # too short to be measured
                continue
            found[rule].append(seconds)
    return {rule: fmean(seconds) for rule, seconds in found.items()}


class RunProgress:
    """How far a run is, and when it will be done.

    Parameters
    ----------
    known : mapping
        Seconds that a job of a rule took in an earlier run.
    now : callable
        A clock, in seconds.
    """

    def __init__(
        self,
        known: Mapping[str, float] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known, self._now = dict(known or {}), now
        self._began = now()
        self._left = dict[str, int]()
        self._at_work = dict[int, tuple[str, str, float]]()
        self._took = defaultdict[str, list[float]](list)
        self.total = 0

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Say how many jobs of each rule there are."""
        self._left = {rule: n for rule, n in jobs.items() if rule not in (TOTAL, "all")}
        self._began = self._now()

    def start(self, job: int, rule: str, words: str) -> None:
        """Say that a job begins."""
        self._at_work[job] = (rule, words, self._now())

    def end(self, job: int, *, is_done: bool) -> None:
        """Say that a job ends."""
        rule, _, began = self._at_work.pop(job, ("", "", 0.0))
        if rule and is_done:
            self._took[rule].append(self._now() - began)
            self._left[rule] = max(0, self._left.get(rule, 1) - 1)

    def seconds_left(self) -> tuple[float | None, bool]:
        """Return the time that is left, and whether it is that of all that is left.

        None where nothing is known.
        """
        usual = {**self._known, **{r: fmean(s) for r, s in self._took.items()}}
        waiting = dict(self._left)
        work, is_all = 0.0, True
        for rule, _, began in self._at_work.values():
            waiting[rule] = waiting.get(rule, 1) - 1
            elapsed = self._now() - began
            work += max(0.0, usual.get(rule, elapsed) - elapsed)
            is_all &= rule in usual
        for rule, count in waiting.items():
            work += max(0, count) * usual.get(rule, 0.0)
            is_all &= count <= 0 or rule in usual
        elapsed = max(self._now() - self._began, 1e-9)
        busy = sum(sum(seconds) for seconds in self._took.values())
        return (work / max(1.0, busy / elapsed) if usual else None), is_all

    def line(self, done: int, total: int) -> str:
        """Return the line of the run."""
        elapsed = describe_seconds(round(self._now() - self._began))
        parts = [f"{done} of {total} jobs done in {elapsed}"]
        seconds, is_all = self.seconds_left()
        if seconds and done < total:
            left = describe_seconds(max(1, round(seconds)))
            parts.append(f"{'about' if is_all else 'more than'} {left} left")
        words = [words for _, words, _ in self._at_work.values() if words]
        if words:
            more = f", and {len(words) - TOLD} more" if words[TOLD:] else ""
            parts.append(f"at work: {'; '.join(words[:TOLD])}{more}")
        return ", ".join(parts)


class Quiet(logging.Filter):
    """Lets through what a user has to know, and tells ``Screen`` when its line is due.

    Parameters
    ----------
    progress : RunProgress
    handler : logging.StreamHandler
        Of the screen.
    shows_progress : bool
        False: no line of the run, as where something is only asked.
    """

    def __init__(
        self,
        progress: RunProgress,
        handler: "logging.StreamHandler[Any]",
        *,
        shows_progress: bool = True,
    ) -> None:
        super().__init__()
        self.progress, self._handler = progress, handler
        self._shows = shows_progress
        self._is_live = bool(getattr(handler.stream, "isatty", lambda: False)())
        self._shown = float("-inf")
        self._done = (0, 0)
        handler.setFormatter(Screen(handler.formatter, self))

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is shown."""
        event = str(getattr(record, "event", None) or "").rpartition(".")[2].lower()
        about: dict[str, Any] = vars(record)
        if event == "run_info":
            stats = dict(about.get("stats") or {})
            self.progress.plan(stats)
            self._done = (0, int(stats.get(TOTAL, 0)))
            return False
        if event == "job_info":
            words = about.get("rule_msg") or ""
            self.progress.start(about["jobid"], about["rule_name"], words)
            self._handler.handle(logging.makeLogRecord({"event": BEGUN}))
            return False
        if event in ("job_finished", "job_error"):
            number = about.get("job_id", about.get("jobid", -1))
            self.progress.end(number, is_done=event == "job_finished")
            return event == "job_error"
        if event == "progress":
            self._done = (int(about["done"]), int(about["total"]))
        if event in ("progress", BEGUN):
            return self._is_due()
        return not event and not CHATTER.match(str(record.msg or ""))

    def _is_due(self) -> bool:
        """Return whether the line of the run is shown again."""
        done, total = self._done
        elapsed = time.monotonic() - self._shown
        is_due = self._is_live or done == total or elapsed > SECONDS_BETWEEN_LINES
        if is_due and self._shows:
            self._shown = time.monotonic()
        return is_due and self._shows

    def line(self) -> str:
        """Return the line of the run; on a terminal the next one takes its place."""
        done, total = self._done
        is_last = done == total
        text = self.progress.line(done, total)
        if self._is_live:
            self._handler.terminator = "\n" if is_last else ""
            text = text if is_last else shorten(text, _columns(self._handler.stream))
        return self.clear() + text

    def end_line(self) -> None:
        """Let the next message stay."""
        self._handler.terminator = "\n"

    def clear(self) -> str:
        """Return what takes the line of the run away again."""
        return CLEAR if self._is_live else ""


def shorten(text: str, columns: int) -> str:
    """Return a line that a terminal does not wrap: only one row is taken away again.

    Examples
    --------
    >>> shorten("0 of 3 jobs done", 12), shorten("0 of 3", 12)
    ('0 of 3 j...', '0 of 3')
    """
    return text if len(text) < columns else f"{text[: max(0, columns - 4)]}..."


def _columns(stream: Any) -> int:
    """Return the width of a terminal, as it is now."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError, AttributeError):  # it does not tell
        return USUAL_COLUMNS


class Screen(logging.Formatter):
    """Shows the engine's messages as it does, but its steps as the line of the run."""

    def __init__(self, usual: logging.Formatter | None, quiet: Quiet) -> None:
        super().__init__()
        self._usual, self._quiet = usual or logging.Formatter(), quiet

    def format(self, record: logging.LogRecord) -> str:
        """Return what is shown of a message that ``Quiet`` has let through."""
        event = str(getattr(record, "event", None) or "").rpartition(".")[2].lower()
        if event in ("progress", BEGUN):
            return self._quiet.line()
        about: dict[str, Any] = vars(record)
        self._quiet.end_line()
        if event == "job_error":
            logs = ", ".join(about.get("log") or ())
            what = about.get("rule_msg") or about.get("rule_name", "a job")
            return f"{self._quiet.clear()}Failed: {what}" + (logs and f"; see {logs}")
        text = self._usual.format(record) or ""
        return self._quiet.clear() + text if text else ""
