"""Kill -9 at moments that are counted in changes of files, not in seconds.

Only a change of a file is seen by who comes after a kill; so these are all moments that
there are, but for a write under way to a file that has no final name yet.
"""

import os
import signal
import sys
from pathlib import Path

_CHANGES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def count_changes(below: Path) -> list[int]:
    """Count from now on; return a list whose one number grows with each change."""
    count = [0]
    _before_each_change(below, lambda: count.__setitem__(0, count[0] + 1))
    return count


def kill_at_change(number: int, *, below: Path) -> None:
    """Let this process kill itself before so manieth a change of files in a folder."""
    left = [number]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _before_each_change(below, step)


def _before_each_change(below: Path, act) -> None:
    start = str(below)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            is_change = bool(flags & _WRITES)
        else:
            path, is_change = (arguments or (None,))[0], event in _CHANGES
        if is_change and str(path).startswith(start):
            act()

    sys.addaudithook(hook)  # for the rest of this process
