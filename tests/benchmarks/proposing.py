"""Do proposed annotations teach more than random ones? Five of each, three draws.

The loop as a user goes through it, on ISBI 2012 and DSB 2018: a network learns from the
few sections that a person annotated first, ``propose_annotations`` proposes five crops
of the pool, by what is stored, or by chance; the true labels take the place of a
person's corrections, and ``make_sheet --corrections`` writes sheets. Their rows are
joined into one sheet, a fold each, so that one run trains all: each goes on from the
first network with equal steps, beside one with nothing added and one with the whole
pool. How much the first network errs in the crops of both kinds is told too: what a
person finds to correct there.

Each draw deals the sections anew, to begin with, to choose, as a pool and to test, and
is the seed of all its networks, so that the arms of a draw differ in what was added
alone. All have the same validation sections, which choose checkpoint, threshold and
smallest object. ``UNETPIPE_DATA`` names the folder of the sets (else ``shared/data``
beside the repository), ``UNETPIPE_PROPOSING=FOLDER`` keeps the runs, so that one that
was interrupted goes on; ``UNETPIPE_STEPS`` sets the steps of each training (400),
``UNETPIPE_DRAWS="7 8"`` takes other draws, ``UNETPIPE_SETS=dsb2018-nuclei`` one set.
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
from unetpipe.records.proposals import CORRECTED, PREDICTED, Proposal, Proposals
from unetpipe.runtime.files import read_record
from unetpipe.segmentation.components import label_components
from unetpipe.tiling.quantised import threshold_mask

NUMBER = 5
DRAWS = (1, 2, 3)
STEPS = int(os.environ.get("UNETPIPE_STEPS", 400))
WAYS = {"chance": "by: chance", "proposed": "by: uncertainty"}
ARMS = {"nothing": "nothing added"} | {
    "chance": "five by chance",
    "proposed": "five proposed",
    "pool": "the whole pool",
}
PICTURE = ROOT / "tests/figures/proposing.png"
TRAINING: dict[str, Any] = {
    **{"optimizer": "adamw", "learning_rate": 0.001, "schedule": "cosine"},
    **{"warmup_steps": 30, "gradient_clip": 1.0, "precision": "auto"},
    **{"steps": STEPS, "validate_every": STEPS // 4, "averaging": "ema"},
    **{"averaging_decay": 0.98, "averaging_every": 10},
}
SHARED: dict[str, Any] = {
    **{"network": {"base_channels": 8}, "weight_map": {"class_balance": False}},
    **{"prediction": {"parts": 1}},
}
LARGEST = 700  # voxels along a side; two images of DSB are larger
COMMON_SIDE = (256, 256)  # of half of the others

Ids = NDArray[np.uint16]
Scores = dict[str, float]
Table = dict[str, dict[str, list[float]]]  # by metric and arm, one a draw


@dataclass(frozen=True, slots=True)
class Set:
    """A data set: its rows by role, what a person would draw, how it is learnt.

    Attributes
    ----------
    folder : Path
    rows : dict
        By role: volume, paths of image and labels, sections, kind of labels.
    annotate : callable
        Returns the ids of a whole section.
    side : int
        Of the crops that are proposed.
    values : dict
        Of the configuration.
    score : callable
        Of the folder of a run, and one of its networks.
    """

    folder: Path
    rows: dict[str, list[str]]
    annotate: Callable[[Proposal], Ids]
    side: int
    values: dict[str, Any]
    score: Callable[[Path, TrainedNetwork], Scores]


def measure(settings: Settings) -> list[Figure]:
    """Run the loop on both sets; compare what both kinds of annotations gave."""
    if settings.is_quick:
        raise CannotRun("there is no toy of two real sets")
    home = Path(os.environ.get("UNETPIPE_PROPOSING", settings.folder / "proposing"))
    draws = [int(n) for n in os.environ.get("UNETPIPE_DRAWS", "").split()] or [*DRAWS]
    data = data_folder()
    makers = {"isbi2012-em": _isbi, "dsb2018-nuclei": _dsb}
    wanted = os.environ.get("UNETPIPE_SETS", "").split() or [*makers]
    makers = {name: make for name, make in makers.items() if name in wanted}
    if gone := [name for name in makers if not (data / name).is_dir()]:
        raise CannotRun(f"not in {data}: {', '.join(gone)}")
    tables, faults = {}, {}
    for name, make in makers.items():
        folders = [home.resolve() / name / f"draw-{n}" for n in draws]
        runs = zip(folders, draws, strict=True)
        tables[name] = _gather([_run(f, make(data / name, n), n) for f, n in runs])
        faults[name] = _gather([_faults(folder) for folder in folders])
    _draw(tables, home / PICTURE.name)
    return [
        _compare(name, metric, arms, sign)
        for sign, found in ((-1, faults), (1, tables))
        for name, metrics in found.items()
        for metric, arms in metrics.items()
    ]


def _gather(draws: list[dict[str, Scores]]) -> Table:
    """Return scores by metric and arm, one a draw."""
    first = draws[0]
    return {
        metric: {arm: [draw[arm][metric] for draw in draws] for arm in first}
        for metric in next(iter(first.values()))
    }


def _faults(project: Path) -> dict[str, Scores]:
    """Return how the first network does in the crops that were added, by kind."""
    found = {}
    for way in WAYS:
        wrong, voxels, terms = 0, 0, np.zeros(NUM_TERMS)
        for corrected in (project / "proposals" / way).glob(f"*/{CORRECTED}"):
            truth = tifffile.imread(corrected)
            predicted = tifffile.imread(corrected.with_name(PREDICTED))
            wrong += int(np.count_nonzero((truth > 0) != (predicted > 0)))
            voxels += truth.size
            table = ContingencyTable.from_arrays(truth, predicted)
            terms += match_instances(table).terms()[0]
        found[ARMS[way]] = {
            "share of right voxels in the crops": 1 - wrong / voxels,
            "F1 of objects in the crops": float(score_terms(terms)["f1"]),
        }
    return found


def _isbi(folder: Path, draw: int) -> Set:
    """Deal the sections: one of the quiet half to begin with, as stacks begin."""
    rng = np.random.default_rng(draw)
    quiet = [int(z) for z in rng.permutation(15)]
    noisy = [15 + int(z) for z in rng.permutation(15)]
    dealt = {
        "train": quiet[:1],
        "validate": [*quiet[1:3], *noisy[:2]],
        "test": [*quiet[3:7], *noisy[2:6]],
        "predict": [*quiet[7:], *noisy[6:]],
    }
    test = sorted(dealt["test"])

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

    paths = "train/image/*.png\ttrain/label/*.png"
    rows = {
        role: [f"isbi\t{paths}\t{','.join(map(str, sorted(some)))}\tbinary"]
        for role, some in dealt.items()
    }
    training = {"patch": [1, 412, 412], "validation_metric": "v_rand"}
    return Set(folder, rows, annotate, 256, {"training": training}, score)


def _dsb(folder: Path, draw: int) -> Set:
    """Deal the images: four of the commonest kind to begin with, others at random."""
    images = {
        path.parents[1].name[:8]: path.parents[1]
        for path in sorted(folder.glob("stage1_train/*/images/*.png"))
        if max(Image.open(path).size) <= LARGEST
    }
    names = [str(name) for name in np.random.default_rng(draw).permutation([*images])]
    common = [name for name in names if _side(images[name]) == COMMON_SIDE]
    others = [name for name in names if name not in common[:4]]
    dealt = {
        "train": common[:4],
        "validate": others[:6],
        "test": others[6:17],
        "predict": others[17:],
    }

    def score(project: Path, network: TrainedNetwork) -> Scores:
        terms, both, either = np.zeros(NUM_TERMS), 0, 0
        for name in dealt["test"]:
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

    def row(name: str) -> str:
        place = images[name].relative_to(folder)
        return f"{name}\t{place}/images/*.png\t{place}/masks/*.png\tall\tmasks"

    training = {"patch": [1, 380, 380], "validation_metric": "f1"}
    values = {"training": training, "segmentation": {"smallest_object_vox": "auto"}}
    return Set(
        folder,
        {role: [row(name) for name in some] for role, some in dealt.items()},
        lambda one: _ids(images[one.volume]),
        256,
        values,
        score,
    )


def _side(folder: Path) -> tuple[int, int]:
    (path,) = folder.glob("images/*.png")
    return Image.open(path).size


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


def _sheet(rows: dict[str, list[str]]) -> str:
    lines = [f"{row}\t{role}" for role, some in rows.items() for row in some]
    columns = ("volume", "image", "labels", "sections", "label_kind", "role")
    return "\n".join(["\t".join(columns), *lines, ""])


def _run(project: Path, one: Set, draw: int) -> dict[str, Scores]:
    """Return the scores of a draw by what was added."""
    config = project / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "base.tsv").write_text(_sheet(one.rows))
    values = SHARED | one.values | {"name": "base", "source": str(one.folder)}
    values |= {"volumes": "config/base.tsv"}
    values["training"] = TRAINING | one.values["training"] | {"seed": draw}
    (config / "base.yaml").write_text(yaml.safe_dump(values))
    for way, by in WAYS.items():
        _propose(project, way, f"{by}, seed: {draw}", one)
    values |= {"name": "next", "volumes": "config/next.tsv"}
    values["training"] |= {"start_from": "results/base/unet"}
    (config / "next.yaml").write_text(yaml.safe_dump(values))
    (config / "next.tsv").write_text(_join(project, one))
    runs = {"before": Path("results/base/unet")}
    runs |= {told: Path(f"results/next/fold-{arm}") for arm, told in ARMS.items()}
    records = [str(path / "train.json") for path in runs.values()]
    _snakemake(project, "next", *records[1:])
    return {
        arm: one.score(project, load_trained(project / path))
        for arm, path in runs.items()
    }


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


def _join(project: Path, one: Set) -> str:
    """Return one sheet of all annotations: what was added has a fold of its own."""
    base = _read(project / "config/base.tsv")
    known = {row["volume"] for row in base}
    pool = [dict(row, role="train") for row in base if row["role"] == "predict"]
    annotated = [row for row in base if row["role"] != "predict"]
    rows = [dict(row, fold=fold) for fold in ARMS for row in annotated]
    rows += [dict(row, fold="pool") for row in pool]
    for way in WAYS:
        for row in _read(project / f"config/{way}.tsv"):
            if row["volume"] not in known:  # boxes of an image; each fold has its own
                rows.append(dict(row, volume=f"{row['volume']}-{way}", fold=way))
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


def _compare(name: str, metric: str, arms: dict[str, list[float]], sign: int) -> Figure:
    """Compare within draws: what all arms of a draw share is not of interest.

    Proposals are good where scores are higher after, and lower before a correction.
    """
    told = "; ".join(
        f"{arm} {fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
        for arm, values in arms.items()
    )
    pairs = zip(arms[ARMS["proposed"]], arms[ARMS["chance"]], strict=True)
    better = [sign * (proposed - chance) for proposed, chance in pairs]
    words = "five proposed less five by chance" if sign > 0 else "chance less proposed"
    return Figure(
        f"{name}, {metric}: {words}",
        fmean(better),
        basis=f"draws {', '.join(f'{one:+.4f}' for one in better)}; {told}",
        at_least=0.0,
        details=dict(arms),
    )


def _draw(scores: dict[str, Table], path: Path) -> None:
    """Draw every run as a dot, each set and metric in a panel of its own."""
    panels = [
        (f"{name}: {metric}", arms)
        for name, metrics in scores.items()
        for metric, arms in metrics.items()
    ]
    picture = Picture(figsize=(9.6, 2.6 * len(scores)), dpi=110, layout="constrained")
    axes = picture.subplots(len(scores), len(panels) // len(scores), squeeze=False)
    for one, (title, arms) in zip(axes.flat, panels, strict=True):
        for row, (arm, values) in enumerate(arms.items()):
            colour = "#d1663c" if arm == ARMS["proposed"] else "#4a5560"
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
