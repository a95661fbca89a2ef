"""Run one function in a process of its own, to learn what it takes.

This module imports next to nothing, so that a stage's memory is its own.
"""

import importlib
import json
import logging
import pickle
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROMISE = re.compile(r"at most (\d+) MB of memory")


@dataclass(frozen=True, slots=True)
class Used:
    """What a function took in a fresh process; imports count as memory, not as time.

    Attributes
    ----------
    seconds : float
    peak_bytes : int
        Largest resident memory.
    base_bytes : int
        Of that, what lay there after the imports.
    projected_bytes : int or None
        The most that it said it would take; None: it said nothing.
    before_bytes : int
        What lay in memory when it said so, compiled loops included.
    """

    seconds: float
    peak_bytes: int
    base_bytes: int = 0
    projected_bytes: int | None = None
    before_bytes: int = 0


def measure_fresh(
    module: str, function: str, *, in_process: bool = False, **arguments: Any
) -> Used:
    """Run a function in a fresh process, or for a quick check in this one.

    Raises
    ------
    RuntimeError
        With the end of what it printed, if it failed.
    """
    if in_process:
        return _call(module, function, arguments)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fresh"],
        input=pickle.dumps((module, function, arguments)),
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{module}.{function} failed:\n{said}")
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def peak_bytes() -> int:
    """Return the largest resident memory of this process since it was started.

    Not ``ru_maxrss``: that also counts what the parent had when it started us.
    """
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}; this needs Linux")


def main() -> None:
    """Call the function that comes, with its arguments, through the standard input."""
    used = _call(*pickle.load(sys.stdin.buffer))
    print(json.dumps(asdict(used)))


def _call(module: str, name: str, arguments: dict[str, Any]) -> Used:
    function = getattr(importlib.import_module(module), name)
    promises = _Promises()
    base, log = peak_bytes(), logging.getLogger("unetpipe")
    log.addHandler(promises)
    before, began = log.level, time.perf_counter()
    log.setLevel(logging.INFO)
    try:
        function(**arguments)
    finally:
        log.removeHandler(promises)
        log.setLevel(before)
    seconds, said = time.perf_counter() - began, promises.most_bytes
    return Used(seconds, peak_bytes(), base, said, promises.before_bytes)


class _Promises(logging.Handler):
    """Listens for what a function says it will take at most."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.most_bytes: int | None = None
        self.before_bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the largest number that is said, and what lay there already."""
        if said := PROMISE.search(record.getMessage()):
            most = int(said[1]) << 20
            if most > (self.most_bytes or 0):
                self.most_bytes, self.before_bytes = most, _status_bytes("VmRSS")


if __name__ == "__main__":
    main()
