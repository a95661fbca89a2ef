"""Logs: one file a job, brief where the user is to mend something."""

import re
import subprocess
import sys
from pathlib import Path

JOB = """
import logging, sys, warnings
from pathlib import Path
from unetpipe.errors import DataError
from unetpipe.logs import log_to

log_to(Path(sys.argv[1]))
logging.getLogger("unetpipe.x").info("reading")
warnings.warn("odd grey values")
raise {error}
"""


def job(tmp_path: Path, error: str) -> tuple[str, str, int]:
    """Run a job that fails; return its stderr, its log, and its exit status."""
    log = tmp_path / "logs" / "job.log"
    run = subprocess.run(
        [sys.executable, "-c", JOB.format(error=error), str(log)],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr, log.read_text(), run.returncode


def test_messages_and_warnings_go_to_the_file_and_to_stderr(tmp_path: Path) -> None:
    screen, log, status = job(tmp_path, "SystemExit")
    assert re.match(r"\d\d:\d\d:\d\d reading$", screen.splitlines()[0])
    assert "INFO unetpipe.x: reading" in log
    for text in (screen, log):
        assert "odd grey values" in text
    assert "warning: " in screen
    assert status == 0


def test_an_error_of_the_user_is_brief_on_screen_and_whole_in_the_file(
    tmp_path: Path,
) -> None:
    screen, log, status = job(tmp_path, "DataError('a.tif is cut short')")
    assert status == 1
    assert "DataError: a.tif is cut short" in screen
    assert "Traceback" not in screen
    assert "DataError: a.tif is cut short" in log
    assert "Traceback" in log


def test_an_error_of_ours_shows_its_traceback_everywhere(tmp_path: Path) -> None:
    screen, log, status = job(tmp_path, "KeyError('x')")
    assert status == 1
    assert "Traceback" in screen
    assert "Traceback" in log
