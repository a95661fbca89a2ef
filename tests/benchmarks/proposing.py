"""Do proposed annotations teach more than random ones? Five of each, three seeds.

The loop as a user goes through it, on ISBI 2012 and DSB 2018: a network learns from a
few annotated sections, ``propose_annotations`` proposes five crops of the pool, by what
is stored, or by chance with three seeds; the true labels take the place of a person's
corrections, and ``make_sheet --corrections`` writes sheets. Their rows are joined into
one sheet, a fold each, so that one run trains all: each goes on from the first network
with the steps of the others, beside one with nothing added. All have the same
validation sections, which choose checkpoint, threshold and smallest object, and the
same test sections. ``UNETPIPE_DATA`` names the folder of the sets (else ``shared/data``
beside the repository), ``UNETPIPE_PROPOSING=FOLDER`` keeps the runs, so that one that
was interrupted goes on; ``UNETPIPE_STEPS`` sets the steps of the first training (200),
half of which each further one has.
"""

import csv
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import tifffile
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.first_hour import call, data_folder
from tests.benchmarks.settings import ROOT, Settings
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import NUM_TERMS, match_instances, score_terms
from unetpipe.metrics.isbi import collect_isbi_curves, score_isbi_section
from unetpipe.network.notebook import TrainedNetwork, load_trained
from unetpipe.records.proposals import CORRECTED, Proposal, Proposals
from unetpipe.runtime.files import read_record
from unetpipe.segmentation.components import label_components
from unetpipe.tiling.quantised import threshold_mask

NUMBER = 5
SEEDS = (1, 2, 3)
STEPS = 200
WAYS = {"proposed": "by: uncertainty"} | {
    f"chance-{seed}": f"by: chance, seed: {seed}" for seed in SEEDS
}
ARMS = {
    "nothing added": ["nothing-seed-1"],
    "chance": [f"chance-{seed}-seed-{seed}" for seed in SEEDS],
    "proposed": [f"proposed-seed-{seed}" for seed in SEEDS],
}
PICTURE = ROOT / "tests/figures/proposing.png"
TRAINING: dict[str, Any] = {
    **{"optimizer": "adamw", "learning_rate": 0.001, "schedule": "cosine"},
    **{"warmup_steps": 30, "gradient_clip": 1.0, "precision": "auto"},
}
SHARED: dict[str, Any] = {
    **{"network": {"base_channels": 8}, "weight_map": {"class_balance": False}},
    **{"prediction": {"parts": 1}},
}
LARGEST = 700  # voxels along a side; two images of DSB are larger

Ids = NDArray[np.uint16]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Set:
    """A data set: its sheet, what a person would draw, how it is learnt and scored."""

    folder: Path
    sheet: str
    annotate: Callable[[Proposal], Ids]
    side: int
    values: dict[str, Any]
    score: Callable[[Path, TrainedNetwork], Scores]


def measure(settings: Settings) -> list[Figure]:
    """Run the loop on both sets; compare what both kinds of annotations gave."""
    if settings.is_quick:
        raise CannotRun("there is no toy of two real sets")
    home = Path(os.environ.get("UNETPIPE_PROPOSING", settings.folder / "proposing"))
    data = data_folder()
    makers = {"isbi2012-em": _isbi, "dsb2018-nuclei": _dsb}
    if gone := [name for name in makers if not (data / name).is_dir()]:
        raise CannotRun(f"not in {data}: {', '.join(gone)}")
    scores = {
        name: _run(home.resolve() / name, make(data / name))
        for name, make in makers.items()
    }
    _draw(scores, home / PICTURE.name)
    return [
        _compare(name, metric, arms)
        for name, metrics in scores.items()
        for metric, arms in metrics.items()
    ]


def _isbi(folder: Path) -> Set:
    """Return three sections to begin with, three to choose, eighteen to propose."""
    paths = "train/image/*.png\ttrain/label/*.png"
    test, chosen, first = (4, 9, 14, 19, 24, 29), (2, 12, 22), (5, 15, 25)
    pool = sorted(set(range(30)) - {*test, *chosen, *first})
    roles = {"train": first, "validate": chosen, "test": test, "predict": pool}
    lines = [
        f"isbi\t{paths}\t{','.join(map(str, z))}\t{role}\tbinary"
        for role, z in roles.items()
    ]

    def annotate(one: Proposal) -> Ids:
        inside = _grey(folder / f"train/label/{one.start[0]}.png") > 0
        return np.asarray(ndimage.label(inside)[0], np.uint16)

    def score(project: Path, network: TrainedNetwork) -> Scores:
        record = project / "results/base/volumes/isbi/ingest.json"
        whole = read_record(record)["statistics"]
        image = np.stack([_grey(folder / f"train/image/{z}.png") for z in test])
        probability = network.predict(image, statistics=whole)[0][0] / 255
        truth = np.stack([_grey(folder / f"train/label/{z}.png") > 0 for z in test])
        at = np.array([network.threshold])
        curves = collect_isbi_curves(
            score_isbi_section(p, cells, thresholds=at)
            for p, cells in zip(probability, truth, strict=True)
        )
        return {
            "V_Rand": float(curves.v_rand.pooled[0]),
            "V_Info": float(curves.v_info.pooled[0]),
            "Dice": _dice(truth, probability > network.threshold),
        }

    training = {"patch": [1, 412, 412], "validation_metric": "v_rand"}
    return Set(folder, _sheet(lines), annotate, 512, {"training": training}, score)


def _dsb(folder: Path) -> Set:
    """Return four images to begin with, six to choose, nine to test, others a pool."""
    images = {
        path.parents[1].name[:8]: path.parents[1]
        for path in sorted(folder.glob("stage1_train/*/images/*.png"))
        if max(Image.open(path).size) <= LARGEST
    }
    names = [str(name) for name in np.random.default_rng(0).permutation([*images])]
    roles = ["train"] * 4 + ["validate"] * 6 + ["test"] * 9
    roles += ["predict"] * (len(names) - len(roles))
    lines = []
    for name, role in zip(names, roles, strict=True):
        place = images[name].relative_to(folder)
        paths = f"{place}/images/*.png\t{place}/masks/*.png"
        lines.append(f"{name}\t{paths}\tall\t{role}\tmasks")

    def score(project: Path, network: TrainedNetwork) -> Scores:
        terms, both, either = np.zeros(NUM_TERMS), 0, 0
        for name, role in zip(names, roles, strict=True):
            if role != "test":
                continue
            (path,) = images[name].glob("images/*.png")
            probability, _ = network.predict(_grey(path)[None])
            mask = threshold_mask(probability[0], network.threshold)
            found, _ = label_components(mask, "2d")
            sizes = np.bincount(found.ravel())
            smallest = network.description.thresholds["smallest_object_vox"]
            found[sizes[found] < (smallest or 0)] = 0
            truth = _ids(images[name])[None]
            table = ContingencyTable.from_arrays(truth, found)
            terms += match_instances(table).terms()[0]
            both += int(np.count_nonzero((truth > 0) & (found > 0)))
            either += int(np.count_nonzero(truth) + np.count_nonzero(found))
        scores = {name: float(value) for name, value in score_terms(terms).items()}
        return {
            "F1": scores["f1"],
            "average precision": scores["average_precision"],
            "Dice": 2 * both / either,
        }

    training = {"patch": [1, 380, 380], "validation_metric": "f1"}
    values = {"training": training, "segmentation": {"smallest_object_vox": "auto"}}
    return Set(
        folder,
        _sheet(lines),
        lambda one: _ids(images[one.volume]),
        256,
        values,
        score,
    )


def _ids(folder: Path) -> Ids:
    """Return ids of the masks of an image; where two overlap, the smaller is seen."""
    masks = [_grey(path) > 0 for path in sorted(folder.glob("masks/*.png"))]
    ids = np.zeros(masks[0].shape, np.uint16)
    for number, mask in enumerate(sorted(masks, key=lambda m: -m.sum()), start=1):
        ids[mask] = number
    return ids


def _dice(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    return float(2 * (truth & found).sum() / (truth.sum() + found.sum()))


def _grey(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("L"))


def _sheet(lines: list[str]) -> str:
    columns = ("volume", "image", "labels", "sections", "role", "label_kind")
    return "\n".join(["\t".join(columns), *lines, ""])


def _run(project: Path, one: Set) -> dict[str, dict[str, list[float]]]:
    """Return by metric and kind of annotations the scores of all seeds."""
    steps = int(os.environ.get("UNETPIPE_STEPS", STEPS))
    config = project / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "base.tsv").write_text(one.sheet)
    values = SHARED | one.values | {"name": "base", "source": str(one.folder)}
    values |= {"volumes": "config/base.tsv"}
    values["training"] = TRAINING | _timing(steps) | one.values["training"]
    (config / "base.yaml").write_text(yaml.safe_dump(values))
    for way, by in WAYS.items():
        _propose(project, way, by, one)
    values |= {"name": "next", "volumes": "config/next.tsv", "seeds": [*SEEDS]}
    start = {"start_from": "results/base/unet"}
    values["training"] |= _timing(steps // 2) | start
    (config / "next.yaml").write_text(yaml.safe_dump(values))
    (config / "next.tsv").write_text(_join(project, one.sheet))
    runs = {"before": [project / "results/base/unet"]}
    for arm, networks in ARMS.items():
        runs[arm] = [project / f"results/next/fold-{name}" for name in networks]
    paths = [path.relative_to(project) for arm in ARMS for path in runs[arm]]
    _snakemake(project, "next", *(str(path / "train.json") for path in paths))
    scores = {
        arm: [one.score(project, load_trained(path)) for path in paths]
        for arm, paths in runs.items()
    }
    metrics = scores["before"][0]
    return {
        metric: {arm: [run[metric] for run in some] for arm, some in scores.items()}
        for metric in metrics
    }


def _timing(steps: int) -> dict[str, int]:
    return {"steps": steps, "validate_every": max(1, steps // 4)}


def _propose(project: Path, way: str, by: str, one: Set) -> None:
    """Let the product propose, put true labels for a person's, and make the sheet."""
    kept = project / "proposals" / way
    if kept.exists():
        return
    made = project / "results/base/proposals"
    shutil.rmtree(made, ignore_errors=True)
    asked = f"propose={{{by}, number: {NUMBER}, side_vox: {one.side}}}"
    _snakemake(project, "base", "propose_annotations", "--config", asked)
    for proposal in Proposals.read(made / "proposals.json").proposals:
        (_, y, x), (_, height, width) = proposal.start, proposal.shape
        ids = one.annotate(proposal)[y : y + height, x : x + width]
        tifffile.imwrite(made / proposal.name / CORRECTED, ids)
    kept.parent.mkdir(exist_ok=True)
    made.rename(kept)
    command = [ROOT / "scripts/make_sheet.py", "--corrections", kept, "--force"]
    call(project, [*command, "--name", way])


def _join(project: Path, base: str) -> str:
    """Return one sheet of all annotations: what was added has a fold of its own."""
    known = {line.split("\t")[0] for line in base.splitlines()}
    rows = [dict(row, fold="") for row in _read(project / "config/base.tsv")]
    for way in WAYS:
        for row in _read(project / f"config/{way}.tsv"):
            if row["volume"] not in known:  # boxes of an image; each fold has its own
                rows.append(dict(row, volume=f"{row['volume']}-{way}", fold=way))
    # The first row goes to each fold alone, for a fold of nothing added needs a row.
    rows[:1] = [dict(rows[0], fold=fold) for fold in (*WAYS, "nothing")]
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _snakemake(project: Path, name: str, *wanted: str) -> None:
    command = ("-m", "snakemake", "-s", ROOT / "workflow/Snakefile", "--cores", "1")
    options = ("--rerun-incomplete", "--configfile", f"config/{name}.yaml")
    call(project, [*command, *wanted, *options])


def _compare(name: str, metric: str, arms: dict[str, list[float]]) -> Figure:
    told = "; ".join(
        f"{arm} {fmean(values):.4f}"
        + (f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else "")
        for arm, values in arms.items()
    )
    return Figure(
        f"{name}, {metric}: five proposed less five by chance",
        fmean(arms["proposed"]) - fmean(arms["chance"]),
        basis=told,
        at_least=0.0,
        details=dict(arms),
    )


def _draw(scores: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """Draw every run as a dot, each set and metric in a panel of its own."""
    panels = [
        (f"{name}: {metric}", arms)
        for name, metrics in scores.items()
        for metric, arms in metrics.items()
    ]
    picture = Picture(figsize=(9.6, 2.6 * len(scores)), dpi=110, layout="constrained")
    axes = picture.subplots(len(scores), len(panels) // len(scores), squeeze=False)
    for one, (title, arms) in zip(axes.flat, panels, strict=True):
        for row, values in enumerate(arms.values()):
            colour = "#d1663c" if row == len(arms) - 1 else "#4a5560"
            one.plot(values, [row] * len(values), "o", color=colour, alpha=0.7)
            one.plot(fmean(values), row, "|", color=colour, markersize=18)
        one.set_yticks(range(len(arms)), list(arms))
        one.set_title(title, fontsize=10)
        one.set_ylim(len(arms) - 0.5, -0.5)
        one.grid(axis="x", alpha=0.3)
        one.label_outer()
        one.tick_params(axis="x", labelbottom=True, labelsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(picture)
    picture.savefig(path)
