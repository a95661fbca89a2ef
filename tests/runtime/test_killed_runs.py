"""A run that was killed is told from one that lives, whoever looks and from where."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from unetpipe.runtime.killed_runs import LOCKS, NOTE, forget_run, mend_earlier_run

RUN = """
import sys
from unetpipe.runtime.killed_runs import note_run
note_run()
print("noted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder in which Snakemake has left its lock."""
    monkeypatch.chdir(tmp_path)
    LOCKS.mkdir(parents=True)
    (LOCKS / "0.output.lock").touch()
    yield tmp_path
    forget_run()


@pytest.fixture
def run(folder: Path):
    """Another process that has noted itself in the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        yield process
        process.kill()


def without_lock() -> None:
    """Let the note be that of a run on a disk that knows no locks."""
    NOTE.write_text(json.dumps(json.loads(NOTE.read_text()) | {"has_lock": False}))


@pytest.mark.parametrize("knows_locks", [True, False])
def test_a_run_that_lives_keeps_its_lock(run, knows_locks: bool) -> None:
    if not knows_locks:
        without_lock()
    said = mend_earlier_run()
    assert f"Another run is at work in this folder (process {run.pid}" in said
    assert "`snakemake --directory FOLDER`" in said
    assert LOCKS.exists()


@pytest.mark.parametrize("knows_locks", [True, False])
def test_a_dead_process_that_nobody_has_reaped_is_dead(run, knows_locks: bool) -> None:
    run.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert psutil.Process(run.pid).status() == psutil.STATUS_ZOMBIE
    if not knows_locks:
        without_lock()
    assert "was killed. Its lock is removed" in mend_earlier_run()
    assert not LOCKS.exists()


def test_a_run_in_another_container_lives_though_its_number_is_not_here(run) -> None:
    note = json.loads(NOTE.read_text())
    NOTE.write_text(json.dumps(note | {"pid": 2**22 + 1, "created": 0.0}))
    assert "Another run is at work" in mend_earlier_run()
    assert LOCKS.exists()


def test_a_run_on_another_machine_is_left_alone(run) -> None:
    NOTE.write_text(json.dumps(json.loads(NOTE.read_text()) | {"host": "node7"}))
    assert "by a run on another machine" in mend_earlier_run()
    assert LOCKS.exists()


def test_a_lock_without_a_note_is_explained(folder: Path) -> None:
    assert "one was killed as it started" in mend_earlier_run()
    assert LOCKS.exists()


def test_a_note_of_version_0_1_is_read(folder: Path) -> None:
    me = psutil.Process()
    note = {"pid": me.pid, "created": me.create_time(), "host": socket.gethostname()}
    NOTE.write_text(json.dumps(note | {"started": "2026-01-02 03:04:05"}))
    assert "Another run is at work" in mend_earlier_run()
