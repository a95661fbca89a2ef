"""Check a first GPU, print its figures: ``python -m tests.gpu_check [NAME ...]``."""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tests.benchmarks.settings import Settings
from tests.gpu_check.arithmetic import bits, compiled, other_process, tf32, tiling
from tests.gpu_check.checked import Checked
from tests.gpu_check.memory import out_of_memory, transfer, volumetric
from tests.gpu_check.speed import engine, machine, rates
from tests.gpu_check.training import together, training

# In the order of what matters most, should time run out.
SECTIONS: dict[str, Callable[[Checked], None]] = {
    section.__name__: section
    for section in (
        *(machine, transfer, bits, other_process, tf32, tiling, out_of_memory),
        *(engine, rates, training, volumetric, together, compiled),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections named, or all; print a line for each thing, write JSON."""
    options = _parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} sees no CUDA device; run this where there is "
            "one, or try it with --device cpu --quick",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unetpipe-check-") as folder:
        settings = Settings(torch.device(options.device), options.quick, Path(folder))
        checked = Checked(settings)
        for name in options.names or SECTIONS:
            checked.section = name
            started = time.monotonic()
            if started - began > 60 * options.minutes:
                checked.check("is run", False, "no time left; name it to run it alone")
                continue
            try:
                SECTIONS[name](checked)
            except Exception as error:
                logging.getLogger(__name__).exception("%s failed", name)
                checked.failed("runs to its end", error)
            checked.tell(f"took {time.monotonic() - started:.1f} s")
            if checked.is_cuda:
                torch.cuda.empty_cache()
    options.output.write_text(json.dumps(checked.to_json(), indent=1, default=str))
    num_passed = sum(line.kind == "PASS" for line in checked.lines)
    print(f"{num_passed} passed, {checked.num_failed} failed; see {options.output}")
    return int(checked.num_failed > 0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_check")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="toy sizes")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"))
    parser.add_argument(
        "--minutes", type=float, default=6, help="start nothing new after these"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(SECTIONS):
        parser.error(f"no section {', '.join(unknown)}; use {', '.join(SECTIONS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
