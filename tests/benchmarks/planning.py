"""Planning what is too large to look at: 10^12 and 10^15 voxels, 10,000 jobs."""

import os
import subprocess
import sys
from math import log10, prod
from pathlib import Path
from shutil import copytree, ignore_patterns

import yaml

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import ROOT, measure_fresh
from tests.benchmarks.huge_volume import LARGEST, SHAPE
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once
from unetpipe.runtime.files import read_record
from unetpipe.tiling.boxes import Zyx, grid_shape
from unetpipe.tiling.grids import TileGrids


def measure(settings: Settings) -> list[Figure]:
    """Plan a volume that is not there, and ask Snakemake for many parts."""
    parts = settings.choose(quick=2, cpu=1000)
    figures = [
        figure for shape in (SHAPE, LARGEST) for figure in _plan(shape, parts, settings)
    ]
    many = settings.choose(quick=3, cpu=10_000)
    return [*figures, *(_ask_snakemake(n, settings) for n in (parts, many))]


def _ask_snakemake(parts: int, settings: Settings) -> Figure:
    """Measure a dry run of the demo in so many parts."""
    project = settings.folder / f"project-{parts}"
    _copy_project(project, parts)
    return Figure(
        "dry run of the workflow",
        time_once(lambda: _dry_run(project, parts)),
        "s",
        basis=f"{parts} parts, Snakemake's start included",
        at_most=30.0 if parts <= 1000 else None,
    )


def _plan(shape: Zyx, parts: int, settings: Settings) -> list[Figure]:
    """Plan one volume; count what it would leave on the disk."""
    voxels = f"10^{round(log10(prod(shape)))} voxels, no data"
    folder = settings.folder / f"planning-{shape[0]}"
    used = measure_fresh(
        "tests.benchmarks.huge_volume",
        "plan_huge_volume",
        folder=folder,
        parts=parts,
        shape=shape,
        in_process=settings.is_quick,
    )
    geometry = TileGrids.from_json(read_record(folder / "plan.json")["geometry"])
    millions = geometry.num_shards / 1e6
    return [
        Figure("plan, time", used.seconds, "s", basis=voxels, at_most=10.0),
        Figure(
            "plan, peak RSS", used.peak_bytes / 2**20, "MiB", basis=voxels, at_most=500
        ),
        Figure("receipts, and as many shards", millions, "million", basis=voxels),
        Figure(
            "receipts in the largest folder",
            prod(grid_shape(shape, geometry.shard)[1:]),
            "",
            basis=voxels,
        ),
    ]


def _copy_project(folder: Path, parts: int) -> None:
    for name in ("workflow", "scripts", "config", "unetpipe"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__"))
    path = folder / "config" / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["prediction"] = {**(values.get("prediction") or {}), "parts": parts}
    path.write_text(yaml.safe_dump(values))


def _dry_run(project: Path, parts: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.split() for line in done.stdout.splitlines()]
    if done.returncode or ["predict_part", str(parts)] not in found:
        raise RuntimeError(f"the dry run failed:\n{done.stdout}{done.stderr}"[-2000:])
