"""What the screen shows of a run."""

import io
import logging
import os
from pathlib import Path

import pytest

from unetpipe.report.run_progress import Quiet, RunProgress, former_seconds

STATS = {"ingest_volume": 1, "train_unet": 1, "predict_part": 4, "all": 1, "total": 7}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_left_follows_from_what_was_done() -> None:
    clock = Clock()
    run = RunProgress(now=clock)
    run.plan(STATS)
    assert run.line(0, 7) == "0 of 7 jobs done in 0 s"
    run.start(1, "ingest_volume", "Storing volume a")
    clock.seconds = 10
    run.end(1, is_done=True)
    run.start(2, "train_unet", "Training unet")
    clock.seconds = 110
    assert run.line(1, 7) == "1 of 7 jobs done in 1 min 50 s, at work: Training unet"
    run.end(2, is_done=True)
    run.start(3, "predict_part", "Predicting part 0")
    clock.seconds = 120
    run.end(3, is_done=True)
    run.start(4, "predict_part", "Predicting part 1")
    clock.seconds = 124
    assert ", about 26 s left, at work: Predicting part 1" in run.line(3, 7)
    assert run.line(7, 7).startswith("7 of 7 jobs done in 2 min 4 s, at work")


def test_jobs_beside_one_another_share_the_time() -> None:
    clock = Clock()
    run = RunProgress(now=clock)
    run.plan({"predict_part": 4})
    for job in (1, 2):
        run.start(job, "predict_part", f"part {job}")
    clock.seconds = 10
    for job in (1, 2):
        run.end(job, is_done=True)
    assert run.seconds_left() == (10, True)


def test_a_failed_job_is_still_to_be_done_and_tells_no_time() -> None:
    clock = Clock()
    run = RunProgress({"predict_part": 8}, clock)
    run.plan({"predict_part": 1})
    run.start(1, "predict_part", "part")
    clock.seconds = 1
    run.end(1, is_done=False)
    assert run.seconds_left() == (8, True)


def test_an_earlier_run_foretells_before_the_first_job(tmp_path: Path) -> None:
    for name, seconds in (("predict_part/unet/a/0", 4), ("predict_part/unet/a/1", 8)):
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:04\n")
    (tmp_path / "suggest_settings.tsv").write_text("s\nNA\n")
    known = former_seconds(tmp_path)
    assert known == {"predict_part": 6}
    run = RunProgress(known, Clock())
    run.plan({"predict_part": 2})
    assert run.seconds_left() == (12, True)


def shown(stream: io.StringIO, **given: bool) -> tuple[logging.Logger, Clock]:
    clock = Clock()
    log = logging.Logger("engine")
    handler = logging.StreamHandler(stream)
    handler.addFilter(Quiet(RunProgress(now=clock), handler, **given))
    log.addHandler(handler)
    return log, clock


def run_through(log: logging.Logger) -> None:
    """Say what an engine says of a run of two jobs, of which one fails."""
    log.info("Select jobs to execute...")
    stats = {"train_unet": 1, "predict_part": 1, "total": 2}
    log.info("Job stats: ...", extra={"event": "run_info", "stats": stats})
    about = {"jobid": 1, "rule_name": "train_unet", "rule_msg": "Training unet"}
    log.info("rule train_unet", extra={"event": "job_info", **about})
    log.info(None, extra={"event": "job_started", "jobs": [1]})
    log.info("Finished jobid: 1", extra={"event": "job_finished", "job_id": 1})
    log.info(None, extra={"event": "progress", "done": 1, "total": 2})
    about = {"jobid": 2, "rule_name": "predict_part", "rule_msg": "Predicting"}
    log.info("rule predict_part", extra={"event": "job_info", **about})
    log.error("x", extra={"event": "job_error", "log": ["logs/p.log"], **about})
    log.error("RuleException:\nCalledProcessError in file x, line 3:")
    log.warning("The disk is nearly full")


def test_a_log_has_a_line_of_the_run_and_what_matters() -> None:
    stream = io.StringIO()
    run_through(shown(stream)[0])
    assert stream.getvalue().splitlines() == [
        "0 of 2 jobs done in 0 s, at work: Training unet",
        "Failed: Predicting; see logs/p.log",
        "The disk is nearly full",
    ], "no banner, no number of a job, and no second line within ten seconds"


def test_the_last_line_is_always_told() -> None:
    stream = io.StringIO()
    log, _ = shown(stream)
    for done in range(5):
        log.info(None, extra={"event": "progress", "done": done, "total": 4})
    assert stream.getvalue().splitlines()[-1] == "4 of 4 jobs done in 0 s"
    assert len(stream.getvalue().splitlines()) == 2


def test_on_a_terminal_the_line_is_redrawn_in_place() -> None:
    stream = Terminal()
    log, _ = shown(stream)
    run_through(log)
    log.info(None, extra={"event": "progress", "done": 2, "total": 2})
    said = stream.getvalue()
    assert said.startswith("\r\x1b[K0 of 2 jobs done in 0 s, at work: Training unet\r")
    lines = [line.rpartition("\x1b[K")[2] for line in said.splitlines() if line]
    assert "Failed: Predicting; see logs/p.log" in lines
    assert said.endswith("2 of 2 jobs done in 0 s\n")


@pytest.mark.parametrize("columns", [0, 40])
def test_a_narrow_terminal_wraps_no_line(monkeypatch, columns) -> None:
    stream = Terminal()
    monkeypatch.setattr(stream, "fileno", lambda: 7)
    size = os.terminal_size((columns, 24))
    monkeypatch.setattr("os.get_terminal_size", {7: size}.__getitem__)
    log, _ = shown(stream)
    stats = {"predict_part": 1, "total": 1}
    log.info("Job stats: ...", extra={"event": "run_info", "stats": stats})
    long = {"jobid": 1, "rule_name": "predict_part", "rule_msg": "Predicting" * 20}
    log.info("rule", extra={"event": "job_info", **long})
    (line,) = stream.getvalue().split("\r\x1b[K")[1:]
    assert len(line) == (columns or 80) - 1
    assert line.endswith("...")


@pytest.mark.parametrize("event", ["progress", "job_begun"])
def test_where_something_is_only_asked_no_line_stands_before_the_answer(event) -> None:
    stream = io.StringIO()
    log, _ = shown(stream, shows_progress=False)
    log.info(None, extra={"event": event, "done": 1, "total": 1})
    assert stream.getvalue() == ""
