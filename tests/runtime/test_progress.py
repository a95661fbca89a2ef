"""Progress: lines in a log, a bar on a terminal, never both."""

import logging
import os
import pty
import subprocess
import sys
import termios

import pytest

from unetpipe.runtime.progress import Progress
from unetpipe.runtime.text import describe_seconds

JOB = """
import logging, sys
from unetpipe.runtime import progress
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
progress.SECONDS_BETWEEN_LINES = -1.0
with progress.Progress("part 3", 4, "block", done=1) as p:
    for _ in range(3):
        p.update(note="loss 0.5")
"""


def test_a_log_gets_whole_lines_and_no_carriage_return() -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOB], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert [line.split(", ")[:2] for line in lines] == [
        [f"part 3: block {n} of 4", "loss 0.5"] for n in (2, 3, 4)
    ]
    assert lines[-1].endswith(" a second, 0 s left")
    assert "\r" not in done.stderr


def test_a_terminal_gets_a_bar_and_no_lines() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", JOB], stderr=theirs) as job:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:  # how Linux ends a terminal
                break
            if not more:
                break
            said += more
    os.close(ours)
    assert job.returncode == 0
    assert b"part 3" in said
    assert b"\r" in said
    assert b"a second" not in said


def test_lines_come_after_some_seconds_only(caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO)
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(
        "unetpipe.runtime.progress.time.monotonic", lambda: float(next(clock))
    )
    with Progress("verify", 10, "shard") as progress:
        for _ in range(10):
            progress.update()
    assert 1 <= len(caplog.messages) < 5
    assert caplog.messages[0].startswith("verify: shard ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (121, "2 min 1 s"), (7201, "2 h 0 min")],
)
def test_lengths_of_time_are_said_in_their_own_unit(seconds, text) -> None:
    assert describe_seconds(seconds) == text
