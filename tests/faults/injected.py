"""Children that do a piece of work and are killed in the middle of it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.killing import count_changes, kill_at_change


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


def kill_at(work: Callable[[], object], change: int, *, below: Path) -> bool:
    """Do the work in a child that is killed at a change of files; was it reached?"""

    def doomed() -> None:
        kill_at_change(change, below=below)
        work()

    code = wait_until_ended(forked(doomed))
    assert code in (0, -signal.SIGKILL), "it failed by itself"
    return code != 0


def num_changes(work: Callable[[], object], *, below: Path) -> int:
    """Return how many changes of files undisturbed work makes, in a child."""
    told = Path(f"{below}.changes")

    def counted() -> None:
        count = count_changes(below)
        work()
        told.write_text(str(count[0]))

    assert wait_until_ended(forked(counted)) == 0
    return int(told.read_text())


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
