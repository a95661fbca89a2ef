"""A stranger's first hour: folders alone, sheets, then runs of a tenth of the steps.

Eight sets: five published ones, where they are (``UNETPIPE_DATA``, or ``shared/data``
beside the repository), and three that are drawn here, each in a layout, size, depth of
values and share of cells of its own. What a run delivers must be at least as good as
the best baseline of its page, or be warned of. ``UNETPIPE_FIRST_HOUR=FOLDER`` keeps the
runs there, so that one that was interrupted goes on; ``UNETPIPE_SETS="rods nuclei"``
takes some of them; ``UNETPIPE_STEPS=0`` writes sheets and runs nothing.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.settings import ROOT, Settings
from unetpipe.records.metrics import OURS, TEST, Metrics

PUBLISHED = (
    *("ctc-dic-c2dh-hela", "drosophila-vnc-sstem", "dsb2018-nuclei"),
    *("fib25-medulla", "isbi2012-em"),
)
SHOWN = {
    **{"dice_mean": "mean Dice of all classes", "dice_class_1": "Dice"},
    **{"f1": "F1", "ctc_seg": "SEG"},
}
SHARE_OF_STEPS = 10

Grey = NDArray[np.float64]
Ids = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A score of the delivered masks, and the best of the baselines."""

    delivered: float
    baseline: float


def measure(settings: Settings) -> list[Figure]:
    """Write all sheets, run them, compare what is delivered with the baselines."""
    home = Path(os.environ.get("UNETPIPE_FIRST_HOUR", settings.folder / "first-hour"))
    usual = "rods" if settings.is_quick else ""
    wanted = os.environ.get("UNETPIPE_SETS", usual).split()
    sets = {
        name: folder
        for name, folder in _folders(home / "made").items()
        if name in (wanted or [name])
    }
    figures = []
    for name, folder in sets.items():
        project = home / name
        understood = write_sheet(project, folder)
        if os.environ.get("UNETPIPE_STEPS") == "0" or settings.is_quick:
            proposed = _proposed(project).get("training", {})
            metric = proposed.get("validation_metric", "none")
            figures.append(Figure(name, 1.0, basis=f"{metric}; {understood}"))
            continue
        _run(project)
        figures.append(_judge(name, project, understood))
    if not figures:
        raise CannotRun(f"UNETPIPE_SETS names none of {', '.join(_folders(home))}")
    return figures


def write_sheet(project: Path, folder: Path) -> str:
    """Let the script write sheet and settings; return what it understood."""
    project.mkdir(parents=True, exist_ok=True)
    if not (project / "config/mine.yaml").exists():
        call(project, [ROOT / "scripts/make_sheet.py", folder, "--name", "mine"])
    lines = (project / "config/mine.tsv").read_text().splitlines()
    said = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    return next((line for line in said if line.startswith("labels: ")), "no labels")


def read_scores(project: Path) -> tuple[dict[str, Outcome], list[str]]:
    """Return means over the test volumes by score, and the warnings of all pages."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    warnings: list[str] = []
    for path in sorted(project.glob("results/mine/*/*/metrics.json")):
        metrics = Metrics.read(path)
        warnings += metrics.warnings
        for table in (*metrics.tables, *metrics.objects):
            if table.role != TEST:
                continue
            for metric in SHOWN:
                rows = [row for row in table.rows if row.metric == metric]
                ours = [
                    row.chosen.score
                    for row in rows
                    if row.predictor == OURS and row.chosen
                ]
                others = [
                    score.score
                    for row in rows
                    if row.predictor != OURS and (score := row.chosen or row.best)
                ]
                known = [score for score in others if score is not None]
                if ours and ours[0] is not None:
                    best = max(known, default=0.0)
                    weight = len(table.sections)
                    found.setdefault(metric, []).append((ours[0], best, weight))
    if "dice_mean" in found:  # one class of several tells little
        del found["dice_class_1"]
    means = {}
    for metric, scores in found.items():
        total = sum(weight for *_, weight in scores)
        delivered, baseline = (sum(s[k] * s[2] for s in scores) / total for k in (0, 1))
        means[metric] = Outcome(delivered, baseline)
    return means, warnings


def _judge(name: str, project: Path, understood: str) -> Figure:
    scores, warnings = read_scores(project)
    margin = min((s.delivered - s.baseline for s in scores.values()), default=0.0)
    told = [
        f"{SHOWN[metric]} {score.delivered:.3f} (baseline {score.baseline:.3f})"
        for metric, score in scores.items()
    ]
    is_told = bool(warnings)
    return Figure(
        name,
        margin,
        basis=f"{', '.join(told)}; {len(warnings)} warnings; {understood}",
        at_least=None if is_told else 0.0,
        details={"warnings": warnings},
    )


def _folders(made: Path) -> dict[str, Path]:
    """Return the folder of each set; say loudly which are not here."""
    data = data_folder()
    folders = {}
    for name in PUBLISHED:
        if (data / name).is_dir():
            folders[name] = data / name
        else:
            print(f"SKIPPED: {name} is not in {data}", file=sys.stderr)
    for name, write in {"rods": _rods, "tiles": _tiles, "threads": _threads}.items():
        folders[name] = made / name
        if not (made / name).exists():
            write(made / name)
    return folders


def _proposed(project: Path) -> dict[str, Any]:
    text = (project / "config/mine.yaml").read_text()
    proposed: dict[str, Any] = yaml.safe_load(text)
    return proposed


def _run(project: Path) -> None:
    steps = int(_proposed(project)["training"]["steps"]) // SHARE_OF_STEPS
    steps = int(os.environ.get("UNETPIPE_STEPS", steps))
    training = f"training={{steps: {steps}}}"
    call(
        project,
        [
            *("-m", "snakemake", "-s", ROOT / "workflow/Snakefile", "--cores", "2"),
            *("--rerun-incomplete", "--configfile", "config/mine.yaml"),
            *("--config", training),
        ],
    )


def data_folder() -> Path:
    """Return where the published sets are."""
    return Path(os.environ.get("UNETPIPE_DATA", ROOT.parent / "shared" / "data"))


def call(project: Path, command: list[Any]) -> None:
    """Run a command of Python in a project with this clone's package."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{project.name} failed:\n{said}")


def _draw(shape: tuple[int, int], shapes: Iterator[NDArray[np.bool_]]) -> Ids:
    """Return ids of shapes; what is drawn first stays."""
    ids = np.zeros(shape, np.uint16)
    for number, inside in enumerate(shapes, start=1):
        ids[inside & (ids == 0)] = number
    return ids


def _grey(cells: NDArray[np.bool_], low: float, high: float, noise: float) -> Grey:
    rng = np.random.default_rng(int(cells.sum()))
    grey: Grey = np.where(cells, high, low) + rng.normal(0, noise, cells.shape)
    return grey


def _rods(folder: Path) -> None:
    """Rods that touch, a fifth of the image: 12 bits in 16, one folder an image."""
    for image, (grey, ids) in enumerate(zip(*draw_rods(10), strict=True)):
        place = folder / f"position_{image:02}"
        place.mkdir(parents=True)
        tifffile.imwrite(place / "phase.tif", grey)
        tifffile.imwrite(place / "phase_labels.tif", ids)


def draw_rods(number: int) -> tuple[NDArray[np.uint16], Ids]:
    """Return grey values and ids of so many images, each (n, 200, 260)."""
    rngs = map(np.random.default_rng, range(number))
    ids = np.stack([_draw((200, 260), _some_rods(rng)) for rng in rngs])
    grey = np.stack([_grey(one > 0, 700, 2400, 300) for one in ids])
    return grey.clip(0, 4095).astype(np.uint16), ids


def _some_rods(rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    y, x = np.mgrid[:200, :260]
    for _ in range(60):
        cy, cx, angle = rng.uniform((0, 0, 0), (200, 260, np.pi))
        along = (y - cy) * np.sin(angle) + (x - cx) * np.cos(angle)
        across = (x - cx) * np.sin(angle) - (y - cy) * np.cos(angle)
        yield np.hypot(np.maximum(abs(along) - 11, 0), across) < 5


def _tiles(folder: Path) -> None:
    """Cells that fill a stack of 12 sections, with walls between: 8 bits, two files."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (160, 180), (70, 2))
    y, x = np.mgrid[:160, :180]
    sections = []
    for z in range(12):
        moved = points + z * rng.normal(0, 0.4, points.shape)
        far = np.hypot(y[..., None] - moved[:, 0], x[..., None] - moved[:, 1])
        near = np.sort(far, axis=-1)
        wall = near[..., 1] - near[..., 0] < 3
        sections.append(np.where(wall, 0, far.argmin(-1) + 1).astype(np.uint16))
    ids = np.stack(sections)
    folder.mkdir(parents=True)
    grey = _grey(ids > 0, 80, 170, 25).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(folder / "stack.tif", grey, photometric="minisblack")
    tifffile.imwrite(folder / "stack_labels.tif", ids, photometric="minisblack")


def _threads(folder: Path) -> None:
    """Thin bright threads, few of the voxels, without ids: colour PNG, 0 and 255."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for image in range(9):
        rng = np.random.default_rng(image)
        y, x = np.mgrid[:220, :220]
        mask = np.zeros((220, 220), bool)
        for _ in range(5):
            at, slope, wave = rng.uniform((0, -0.6, 20), (220, 0.6, 60))
            mask |= abs(y - at - slope * (x - 110) - 8 * np.sin(x / wave)) < 2.5
        grey = _grey(mask, 90, 160, 20).clip(0, 255).astype(np.uint8)
        colour = np.stack([grey // 2, grey, grey // 3], axis=-1)
        Image.fromarray(colour).save(folder / f"images/{image}.png")
        Image.fromarray(255 * mask.astype(np.uint8)).save(folder / f"masks/{image}.png")
