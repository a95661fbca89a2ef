"""A thousand small images in one run, in lots, beside a plain loop over them.

``UNETPIPE_VOLUMES=20`` runs fewer of them; dry runs are always of 1,000 and 10,000. The
loop reads an image, predicts it with the same network, and writes the same stores and
tables with the library: image, labels, probability, mask and objects; of one in ten, as
the run, the scores of its objects, but none of baselines and none over thresholds. It
keeps no record, and what it has written when it is killed nobody knows.
"""

import compileall
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
from unetpipe.records.run_plan import RunPlan

NUM_PLANNED, NUM_MADE = (1000, 10_000), 1000
# Without a GPU two predicting lots may run at once, which nobody but the user knows.
ON_TWO_CORES = ("--cores", "2", "--resources", "gpu=2")
MOST_SECONDS = {1000: 10.0, 10_000: 60.0}  # of a dry run
NUM_FILES = 1000  # images that are written; further ones are links to them
TAUGHT, SHAPE = (4, 128, 128), (1, 256, 256)
HEADER = "volume\timage\tlabels\tsections\trole\taxes\n"
LOOP = """
import json, sys
from pathlib import Path
import pandas, skimage.measure, tifffile, unetpipe, zarr
def store(path, array):
    lead = array.ndim - 2
    made = zarr.create_array(
        path, name="0", shape=array.shape, dtype=array.dtype,
        chunks=(*[1] * lead, 128, 128), shards=(*array.shape[:lead], 256, 256))
    made[...] = array
network = unetpipe.load_trained(Path(sys.argv[1]))
for path in map(Path, sys.argv[3:]):
    image = tifffile.imread(path)
    image = image.reshape(-1, *image.shape[-2:])
    probability, _ = network.predict(image)
    mask = unetpipe.threshold_mask(probability[0], network.threshold)
    objects, _ = unetpipe.label_components(mask, "2d")
    folder = Path(sys.argv[2], path.stem)
    store(folder / "image.zarr", image[None])
    store(folder / "probability.zarr", probability)
    store(folder / "mask.zarr", mask.astype("uint8"))
    store(folder / "objects.zarr", objects.astype("uint32"))
    found = skimage.measure.regionprops_table(
        objects, probability[0], properties=("label", "centroid", "bbox", "area",
                                             "intensity_mean"))
    table = pandas.DataFrame(found)
    table.to_csv(folder / "objects.csv", index=False)
    table.to_parquet(folder / "objects.parquet")
    labels = path.with_name(f"{path.stem}_labels.tif")
    if int(path.stem[1:]) % 10 == 0:
        truth = tifffile.imread(labels).reshape(objects.shape)
        store(folder / "labels.zarr", truth)
        pairs = unetpipe.ContingencyTable.from_arrays(truth, objects)
        scores = {
            "matched": unetpipe.match_instances(pairs).terms().sum(axis=0).tolist(),
            "rand": str(unetpipe.rand_scores(pairs)),
            "dice": 2 * int((mask & (truth > 0)).sum())
            / int(mask.sum() + (truth > 0).sum()),
        }
        (folder / "scores.json").write_text(json.dumps(scores))
"""
UNTAUGHT = """
training: {steps: 2, validate_every: 2, checkpoint_every: 2, threads: 1,
           patch: [1, 60, 60], precision: fp32}
"""
LEARNING = """
training: {steps: 300, validate_every: 100, checkpoint_every: 300, threads: 1,
           patch: [1, 84, 84], precision: fp32, optimizer: adamw, learning_rate: 0.003}
"""
SETTINGS = """
name: many
source: data
volumes: config/many.tsv
network: {base_channels: 4, depth: 2, dropout: 0}
segmentation: {method: components}
prediction: {threads: 1, parts: 1}
"""
CONFIG = SETTINGS + UNTAUGHT


def measure(settings: Settings) -> list[Figure]:
    """Ask for many volumes; make those that are wanted, then ask again."""
    planned = settings.choose(quick=(2,), cpu=NUM_PLANNED)
    made = settings.choose(
        quick=0, cpu=int(os.environ.get("UNETPIPE_VOLUMES", NUM_MADE))
    )
    project = settings.folder / "many"
    _make_project(project, max(*planned, made))
    figures = [one for count in planned for one in _dry_run(project, count)]
    return figures + (_run_all(project, made) if made else [])


def _dry_run(project: Path, count: int) -> list[Figure]:
    _choose_volumes(project, count)
    seconds, _ = _costs(lambda: _run(project, "--dry-run", "--quiet", "rules"))
    # Of the largest process that has ended, so far: counts rise from call to call.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    basis = f"{count} volumes"
    at_most = MOST_SECONDS.get(count)
    return [
        Figure("dry run", seconds, "s", basis=basis, at_most=at_most),
        Figure("dry run, memory", memory, "GiB", basis=basis, at_most=2.0),
    ]


def _run_all(project: Path, made: int) -> list[Figure]:
    """Plan the run, run it, and run the loop beside it."""
    _choose_volumes(project, made)
    _run(project, "results/many/unet/train.json")
    _run(project, "plan")
    planned = RunPlan.read(project / "results/many/plan.json")
    before = _stored_bytes(project)
    seconds, used = _costs(lambda: _run(project, *ON_TWO_CORES))
    again = time_once(lambda: _run(project, expected="Nothing to be done"))
    looped_seconds, looped = _costs(lambda: _loop(project, made))
    basis = f"{made} images of {SHAPE[1]} x {SHAPE[2]}, without training"
    page = project / "results/many/report.html"
    files, stored = _num_files(project), _stored_bytes(project) - before
    return [
        Figure("an image, processor time", used / made, "s", basis=basis, at_most=0.3),
        Figure("an image, 2 cores", seconds / made, "s", basis=basis),
        Figure("plain loop, processor time", looped / made, "s", basis=basis),
        Figure("plain loop, 1 core", looped_seconds / made, "s", basis=basis),
        Figure("ratio to the loop", used / looped, basis=basis, at_most=2.0),
        Figure("second run: nothing to do", again, "s", basis=basis, at_most=10.0),
        Figure("files of an image", files / made, basis=basis),
        Figure("folders of an image", _num_folders(project) / made, basis=basis),
        Figure("page of the run", page.stat().st_size / 1e6, "MB", basis=basis),
        *_forecasts(planned, basis, used, seconds, files, stored),
    ]


def _forecasts(
    planned: RunPlan,
    basis: str,
    used: float,
    seconds: float,
    files: int,
    stored: int,
) -> list[Figure]:
    """Return how many times too much or too little `snakemake plan` has told."""
    whole = planned.whole
    assert whole is not None
    pairs = {
        "processor time": (whole.processor_seconds, used),
        "time on 2 cores": (whole.processor_seconds / 2, seconds),
        "files": (whole.num_files, files),
        "disk": (planned.disk.needed_bytes, stored),
    }
    return [
        Figure(
            f"plan: {name}, off by a factor of",
            max(told / found, found / told),
            basis=f"told {told:.4g}, found {found:.4g}; {basis}",
            at_most=1.5,
        )
        for name, (told, found) in pairs.items()
    ]


def _stored_bytes(project: Path) -> int:
    """Return the bytes of all results, without pages and logs."""
    found = project.glob("results/many/*/v0*/**/*")
    return sum(path.stat().st_size for path in found if path.is_file())


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
    """Count the files that lie on the disk for the images."""
    return sum(path.is_file() for path in project.glob("results/many/*/v0*/**/*"))


def _num_folders(project: Path) -> int:
    """Count the folders that lie on the disk for the images."""
    return sum(path.is_dir() for path in project.glob("results/many/*/v0*/**/"))


def _make_project(folder: Path, num_volumes: int) -> None:
    """Write the project, a volume to learn from, and tiny ones with labels."""
    for name in ("workflow", "scripts", "config", "unetpipe"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__"))
    compileall.compile_dir(folder / "unetpipe", quiet=1)  # as an installation is
    (folder / "config/many.yaml").write_text(SETTINGS + LEARNING)
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for number in range(-1, min(num_volumes, NUM_FILES)):
        _draw(data, number, rng)
    for number in range(NUM_FILES, num_volumes):
        for kind in ("", "_labels"):
            path = data / f"{_name(number)}{kind}.tif"
            path.hardlink_to(data / f"{_name(number % NUM_FILES)}{kind}.tif")


def _draw(data: Path, number: int, rng: np.random.Generator) -> None:
    """Write an image of bright cells, and their labels."""
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
