"""Logs: one file a job, brief where the user is to mend something."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unetpipe.runtime.logs import last_error_in_log

JOB = """
import logging, os, sys, warnings
from pathlib import Path
from unetpipe.errors import DataError
from unetpipe.runtime.logs import log_to

log_to(Path(sys.argv[1]))
logging.getLogger("unetpipe.x").info("reading")
warnings.warn("odd grey values")
{last}
"""


def job(tmp_path: Path, last: str) -> tuple[str, str, int]:
    """Run a job that its last line ends; return stderr, log and exit status."""
    log = tmp_path / "logs" / "job.log"
    run = subprocess.run(
        [sys.executable, "-c", JOB.format(last=last), str(log)],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr, log.read_text(), run.returncode


def test_messages_and_warnings_go_to_the_file_and_to_stderr(tmp_path: Path) -> None:
    screen, log, status = job(tmp_path, "raise SystemExit")
    assert re.match(r"\d\d:\d\d:\d\d reading$", screen.splitlines()[0])
    assert "INFO unetpipe.x: reading" in log
    for text in (screen, log):
        assert "odd grey values" in text
    assert "warning: " in screen
    assert status == 0


def test_who_logs_to_the_file_already_goes_on_in_it(tmp_path: Path) -> None:
    """However a step of a lot writes its path: with `prefix`, from the folder above."""
    again = "log_to(Path(sys.argv[1]).parent / '../logs/job.log')"
    assert "INFO unetpipe.x: reading" in job(tmp_path, again)[1]


def test_an_error_of_the_user_is_brief_on_screen_and_whole_in_the_file(
    tmp_path: Path,
) -> None:
    screen, log, status = job(tmp_path, "raise DataError('a.tif is cut short')")
    assert status == 1
    assert "DataError: a.tif is cut short" in screen
    assert "Traceback" not in screen
    assert "DataError: a.tif is cut short" in log
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")]
)
def test_a_job_that_a_signal_ends_says_so_and_dies_of_it(
    tmp_path: Path, number: int, name: str
) -> None:
    screen, _, status = job(tmp_path, f"os.kill(os.getpid(), {number:d})")
    assert status == -number
    said = (
        f"Interrupted: stopped by {name} before it was done; the same command goes on"
    )
    assert last_error_in_log(tmp_path / "logs" / "job.log") == said
    assert said in screen
    assert "Traceback" not in screen


def test_an_error_of_ours_shows_its_traceback_everywhere(tmp_path: Path) -> None:
    screen, log, status = job(tmp_path, "raise KeyError('x')")
    assert status == 1
    assert "Traceback" in screen
    assert "Traceback" in log
