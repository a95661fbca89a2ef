"""Run one function in a process of its own, to learn what it takes.

This module imports next to nothing, so that a stage's memory is its own.
"""

import importlib
import json
import pickle
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Used:
    """What a function took in a fresh process; imports count as memory, not as time."""

    seconds: float
    peak_bytes: int


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
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; this needs Linux")


def main() -> None:
    """Call the function that comes, with its arguments, through the standard input."""
    used = _call(*pickle.load(sys.stdin.buffer))
    print(json.dumps(asdict(used)))


def _call(module: str, name: str, arguments: dict[str, Any]) -> Used:
    function = getattr(importlib.import_module(module), name)
    began = time.perf_counter()
    function(**arguments)
    return Used(time.perf_counter() - began, peak_bytes())


if __name__ == "__main__":
    main()
