"""Children that do a piece of work and are killed in the middle of it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def forked(work: Callable[[], object]) -> int:
    """Start a child process that does the work; return its number.

    A fork, because starting Python and torch anew takes longer than the work.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)  # no clean-up of what belongs to the parent


def wait_until_ended(child: int) -> int:
    """Return how a child ended: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(work: Callable[[], object], seconds: float) -> bool:
    """Do the work in a child and kill it so long after; return whether it was hit."""
    child = forked(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = wait_until_ended(child)
    assert code in (0, -signal.SIGKILL), "it failed by itself"
    return code != 0


def duration(work: Callable[[], object]) -> float:
    """Return how long undisturbed work takes in a child."""
    began = time.monotonic()
    assert wait_until_ended(forked(work)) == 0
    return time.monotonic() - began


class Tally:
    """Counts work over processes that die: one byte each, appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    def add(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, b".")
        os.close(descriptor)

    def clear(self) -> None:
        self.path.write_bytes(b"")

    def count(self) -> int:
        return self.path.stat().st_size
