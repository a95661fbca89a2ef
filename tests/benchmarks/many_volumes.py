"""Hundreds of tiny volumes in one run: what all rules take beside the computing.

``UNETPIPE_VOLUMES=20`` runs fewer of them; the dry run is always of 200.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import tifffile

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once

NUM_VOLUMES = 200
SHAPES = ((1, 64, 64), (4, 128, 128), (2, 96, 96))
HEADER = "volume\timage\tlabels\tsections\trole\taxes\n"
CONFIG = """
name: many
source: data
volumes: config/many.tsv
network: {base_channels: 2, depth: 2}
training: {steps: 2, validate_every: 2, checkpoint_every: 2, threads: 1,
           patch: [1, 60, 60], precision: fp32}
prediction: {threads: 1}
"""


def measure(settings: Settings) -> list[Figure]:
    """Ask for 200 volumes; make those that are wanted, then ask again."""
    planned = settings.choose(quick=2, cpu=NUM_VOLUMES)
    made = settings.choose(quick=0, cpu=int(os.environ.get("UNETPIPE_VOLUMES", 200)))
    project = settings.folder / "many"
    _make_project(project, max(planned, made))
    _choose_volumes(project, planned)
    figures = [
        Figure(
            "dry run",
            time_once(lambda: _run(project, "--dry-run", "--quiet", "rules")),
            "s",
            basis=f"{planned} volumes",
            at_most=10.0,
        )
    ]
    if not made:
        return figures
    _choose_volumes(project, made)
    _run(project, "results/many/unet/train.json")
    before = _processor_seconds()
    seconds = time_once(lambda: _run(project))
    used = _processor_seconds() - before
    again = time_once(lambda: _run(project, expected="Nothing to be done"))
    basis = f"{made} volumes of 4 to 64 thousand voxels, without training"
    return [
        *figures,
        Figure("all rules, a volume", seconds / made, "s", basis=basis, at_most=10.0),
        Figure("all rules, a volume, processor time", used / made, "s", basis=basis),
        Figure("second run: nothing to do", again, "s", basis=f"{made} volumes"),
    ]


def _make_project(folder: Path, num_volumes: int) -> None:
    """Write the project, a volume to learn from, and tiny ones with labels."""
    for name in ("workflow", "scripts", "config", "unetpipe"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__"))
    (folder / "config/many.yaml").write_text(CONFIG)
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for number in range(-1, num_volumes):
        shape = SHAPES[number % len(SHAPES)] if number >= 0 else SHAPES[1]
        y, x = np.indices(shape[1:])
        cells = np.where((y % 16 < 2) | (x % 16 < 2), 0, y // 16 * 100 + x // 16 + 1)
        image = np.where(cells > 0, 180, 60) + rng.normal(0, 20, shape)
        labels = np.broadcast_to(cells, shape).astype(np.uint16)
        for kind, array in (("", image.clip(0, 255).astype("u1")), ("_labels", labels)):
            path = data / f"{_name(number)}{kind}.tif"
            tifffile.imwrite(path, array, photometric="minisblack")


def _name(number: int) -> str:
    return f"v{number:04}" if number >= 0 else "taught"


def _choose_volumes(project: Path, num_volumes: int) -> None:
    labelled = "{0}\t{0}.tif\t{0}_labels.tif\t{1}\t{2}\tzyx\n"
    rows = [labelled.format("taught", "0-1", "train")]
    rows.append(labelled.format("taught", "2", "validate"))
    for number in range(num_volumes):
        row = labelled if number % 10 == 0 else "{0}\t{0}.tif\t\t{1}\t{2}\tzyx\n"
        role = "test" if number % 10 == 0 else "predict"
        rows.append(row.format(_name(number), "", role))
    (project / "config/many.tsv").write_text(HEADER + "".join(rows))


def _processor_seconds() -> float:
    """Return the processor time of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(project: Path, *arguments: str, expected: str = "") -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", *arguments),
            *("--configfile", "config/many.yaml"),
        ],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode or expected not in said:
        raise RuntimeError(f"the run of many volumes failed:\n{said}"[-2000:])
