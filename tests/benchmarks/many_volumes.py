"""Hundreds of small images in one run, in lots, beside a plain loop over them.

``UNETPIPE_VOLUMES=20`` runs fewer of them; the dry run is always of 1,000. The loop
reads an image, predicts it with the same network, and writes probability and objects.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import tifffile

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once

NUM_PLANNED, NUM_MADE = 1000, 200
TAUGHT, SHAPE = (4, 128, 128), (1, 256, 256)
HEADER = "volume\timage\tlabels\tsections\trole\taxes\n"
LOOP = """
import sys
from pathlib import Path
import tifffile, unetpipe
network = unetpipe.load_trained(Path(sys.argv[1]))
for path in map(Path, sys.argv[3:]):
    image = tifffile.imread(path)
    probability, _ = network.predict(image.reshape(-1, *image.shape[-2:]))
    mask = unetpipe.threshold_mask(probability[0], network.threshold)
    objects, _ = unetpipe.label_components(mask, "2d")
    for name, array in (("probability", probability), ("objects", objects)):
        tifffile.imwrite(Path(sys.argv[2], f"{path.stem}_{name}.tif"), array)
"""
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
    """Ask for 1,000 volumes; make those that are wanted, then ask again."""
    planned = settings.choose(quick=2, cpu=NUM_PLANNED)
    made = settings.choose(
        quick=0, cpu=int(os.environ.get("UNETPIPE_VOLUMES", NUM_MADE))
    )
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
    _, used = _costs(lambda: _run(project))
    again = time_once(lambda: _run(project, expected="Nothing to be done"))
    _, looped = _costs(lambda: _loop(project, made))
    basis = f"{made} images of {SHAPE[1]} x {SHAPE[2]}, without training"
    return [
        *figures,
        Figure("an image, processor time", used / made, "s", basis=basis, at_most=0.3),
        Figure("the same in a plain loop", looped / made, "s", basis=basis),
        Figure("ratio to the loop", used / looped, basis=basis, at_most=2.0),
        Figure("second run: nothing to do", again, "s", basis=basis, at_most=10.0),
        Figure("files of an image", _num_files(project) / made, basis=basis),
    ]


def _costs(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds, and processor seconds of the processes that were started."""
    before = _processor_seconds()
    seconds = time_once(work)
    return seconds, _processor_seconds() - before


def _loop(project: Path, count: int) -> None:
    """Do without a workflow: one process reads, predicts and writes."""
    folder = project / "looped"
    folder.mkdir()
    images = [str(project / f"data/{_name(number)}.tif") for number in range(count)]
    network = str(project / "results/many/unet")
    subprocess.run(
        [sys.executable, "-c", LOOP, network, str(folder), *images],
        env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        check=True,
    )


def _num_files(project: Path) -> int:
    """Count what lies on the disk for the images, folders too."""
    found = project.glob("results/many/*/v0*/**/*")
    return sum(1 for _ in found)


def _make_project(folder: Path, num_volumes: int) -> None:
    """Write the project, a volume to learn from, and tiny ones with labels."""
    for name in ("workflow", "scripts", "config", "unetpipe"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__"))
    (folder / "config/many.yaml").write_text(CONFIG)
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for number in range(-1, num_volumes):
        shape = SHAPE if number >= 0 else TAUGHT
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
