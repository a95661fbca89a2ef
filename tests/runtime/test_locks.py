"""A claim is one process's, waits a little, and ends with its holder."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unetpipe.errors import ResourceError
from unetpipe.runtime import locks
from unetpipe.runtime.locks import claim

HOLDER = """
import sys
from pathlib import Path
from unetpipe.runtime.locks import claim
with claim(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds a claim until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_claim_names_its_holder_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".claim"
    with claim(path, "work"):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert list(path.parent.iterdir()) == []


def test_another_process_waits_until_the_first_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_first(_: float) -> None:
        first.communicate("go on\n")

    monkeypatch.setattr(locks.time, "sleep", end_first)
    with hold(tmp_path / "claim") as first:
        with claim(tmp_path / "claim", "the part"):
            assert first.wait() == 0
        said = f"process {first.pid} on {socket.gethostname()} is at work on the part"
        assert said in caplog.text


def test_a_claim_ends_with_a_killed_process(tmp_path: Path) -> None:
    with hold(tmp_path / "claim") as first:
        first.kill()
        assert first.wait() == -signal.SIGKILL
    assert (tmp_path / "claim").exists()
    with claim(tmp_path / "claim", "work"):
        pass
    assert not (tmp_path / "claim").exists()


def test_who_must_be_alone_is_refused_with_the_holder_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetpipe.runtime.locks.SECONDS_TO_WAIT", 0)
    path = tmp_path / "claim"
    with hold(path) as first:
        with (
            pytest.raises(
                ResourceError, match=rf"process {first.pid} on .* at work on x.* delete"
            ),
            claim(path, "x"),
        ):
            pass
        with claim(path, "x", must_be_alone=False):
            assert path.exists()
        assert path.exists(), "it is not ours to remove"
        first.kill()


def test_a_disk_without_locks_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with claim(tmp_path / "claim", "work"):
        pass
