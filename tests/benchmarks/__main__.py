"""Measure and print one table: ``python -m tests.benchmarks [NAME ...]``."""

import argparse
import importlib
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.benchmarks.figures import CannotRun, Section, format_table
from tests.benchmarks.settings import ROOT, Settings, describe_machine
from unetpipe.runtime.machine import keep_freed_memory

# In the order of what matters most, should time run out.
BENCHMARKS = {
    "engine": "engine",
    "backends": "backends",
    "monai": "sliding_window",
    "host": "host",
    "classifier": "patch_classifier",
    "resume": "resume",
    "memory": "memory",
    "stages": "stages",
    "sections": "sections",
    "training": "training",
    "patches": "patches",
    "averaging": "averaging",
    "targets": "targets",
    "weight-map": "weight_map",
    "ingest": "ingest",
    "remote": "remote",
    "pyramid": "pyramid",
    "planning": "planning",
    "hundreds": "many_volumes",
    "controller": "controller",
    "objects": "objects",
    "first_hour": "first_hour",
    "fine_tuning": "fine_tuning",
    "proposing": "proposing",
    "warnings": "warnings_told",
}

WITHOUT_BF16 = (
    "No bf16 arithmetic here: all figures are fp32, rows about bf16 are left out."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all; print a table, write the JSON file."""
    options = _parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "The benchmarks were asked to run on CUDA, but torch "
            f"{torch.__version__} sees no CUDA device: run them where there is one, "
            "with a CUDA build of torch, or run `make bench` for the CPU.",
            file=sys.stderr,
        )
        return 2
    # As predict_part does: so that no other side runs with slower memory.
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unetpipe-bench-") as folder:
        settings = Settings(torch.device(options.device), options.quick, Path(folder))
        machine = describe_machine(settings)
        sections = []
        for name in options.names or BENCHMARKS:
            seconds_left = 60 * options.minutes - (time.monotonic() - began)
            sections.append(_measure(name, settings, seconds_left))
            print(f"{name}: {sections[-1].seconds:.0f} s", file=sys.stderr)
    minutes = (time.monotonic() - began) / 60
    record = {
        "machine": machine,
        "quick": options.quick,
        "minutes": minutes,
        "benchmarks": [section.to_json() for section in sections],
    }
    usual = "benchmarks.json" if options.device == "cpu" else "benchmarks-cuda.json"
    output = options.output or ROOT / usual
    output.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(_describe(machine, minutes, is_quick=options.quick))
    print(format_table(sections, is_quick=options.quick), flush=True)
    return int(any(s.left_out.startswith("failed") for s in sections))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="toy sizes")
    parser.add_argument("--output", type=Path, help="of the JSON file")
    parser.add_argument(
        "--minutes", type=float, default=60, help="start nothing new after these"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; use {', '.join(BENCHMARKS)}")
    return options


def _measure(name: str, settings: Settings, seconds_left: float) -> Section:
    """Run one benchmark; one that cannot run leaves the others their turn."""
    if seconds_left < 0:
        return Section(name, 0.0, left_out="no time left; name it to run it alone")
    began = time.monotonic()
    try:
        module = importlib.import_module(f"tests.benchmarks.{BENCHMARKS[name]}")
        with warnings.catch_warnings():
            figures = module.measure(settings)
    except ModuleNotFoundError as error:
        return Section(name, 0.0, left_out=f"{error.name} is not installed")
    except CannotRun as reason:
        return Section(name, 0.0, left_out=str(reason))
    except Exception as error:
        logging.getLogger(__name__).exception("%s failed", name)
        reason = f"failed: {type(error).__name__}: {error}".splitlines()[0][:100]
        return Section(name, time.monotonic() - began, left_out=reason)
    return Section(name, time.monotonic() - began, figures)


def _describe(machine: dict[str, object], minutes: float, *, is_quick: bool) -> str:
    libraries = machine["libraries"]
    assert isinstance(libraries, dict)
    versions = ", ".join(f"{k} {v}" for k, v in libraries.items() if v)
    gpu = f"{machine['gpu']}, CUDA {machine['cuda']}; " if "gpu" in machine else ""
    lines = [
        f"{gpu}{machine['processor']}, {machine['processors']} processors, "
        f"{machine['memory_gib']} GiB, load {machine['load_before']} before; "
        f"{machine['precision']}; code {machine['code']}; {minutes:.1f} minutes",
        f"Python {machine['python']}, {versions}",
        "",
    ]
    if machine["precision"] == "fp32":
        lines.insert(2, WITHOUT_BF16)
    if is_quick:
        lines.insert(0, "Toy sizes: these figures show that the benchmarks run.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
