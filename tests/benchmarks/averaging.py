"""Do averaged weights foresee test scores better? Small networks on two ISBI folds.

Each network is scored at every checkpoint of the second half of its training, as it is,
by its moving average (EMA), and by the plain mean of the checkpoints so far (SWA).
Threshold and checkpoint are chosen on the validation sections alone.

``UNETPIPE_DATA``: the folder with ``isbi2012-em``; ``UNETPIPE_STEPS``, default 600.
"""

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.settings import ROOT, Settings
from unetpipe.config import AugmentationConfig
from unetpipe.metrics.curves import pick_threshold
from unetpipe.metrics.isbi import IsbiCurves, collect_isbi_curves, score_isbi_section
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.tiling.boxes import whole_volume
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.averaging import AveragedWeights, Averaging
from unetpipe.training.checkpoints import Checkpoints
from unetpipe.training.journal import Place
from unetpipe.training.loop import train
from unetpipe.training.optimiser import Optimisation
from unetpipe.training.sampling import PatchSampler
from unetpipe.training.validation import ValidationScore

FOLDS = {1: (3, 13, 23), 2: (4, 14, 24)}  # validation sections; test: every fifth
CHECKPOINTS = 16
SIDE = 256  # voxels of a section that are looked at
WAYS = ("as it is", "EMA", "SWA")


@dataclass(frozen=True, slots=True)
class Scored:
    """V_Rand of one network, at the threshold that validation chose."""

    step: int
    rank: float
    validation: float
    test: float


@dataclass
class Watch:
    """Stands for the validation of a training; looks at the test sections too."""

    validate: list[Stack]
    test: list[Stack]
    every: int
    begin: int  # checkpoints that are left out
    metric: str = "v_rand"
    found: dict[str, list[Scored]] = field(
        default_factory=lambda: {way: [] for way in WAYS}
    )
    mean: AveragedWeights = field(
        default_factory=lambda: AveragedWeights(Averaging("swa"))
    )
    calls: int = 0

    def score(self, network: UNet) -> ValidationScore:
        """Score a network; the loop asks of each checkpoint, then of its EMA."""
        self.calls += 1
        number = (self.calls + 1) // 2
        if number <= self.begin:
            return ValidationScore(0.0, None, {}, {})
        if self.calls % 2:
            self.mean.update(network, number)
            swa = self.mean.network(network)
            assert swa is not None
            self._add("SWA", swa, number)
        way = "as it is" if self.calls % 2 else "EMA"
        scored = self._add(way, network, number)
        return ValidationScore(scored.rank, None, {}, {})

    def _add(self, way: str, network: UNet, number: int) -> Scored:
        predictor = TilePredictor(network)
        ours, theirs = (_curves(predictor, s) for s in (self.validate, self.test))
        both = (ours.v_rand.pooled + 1 - ours.pixel_error.pooled) / 2
        index = pick_threshold(ours.v_rand.thresholds, both)
        scored = Scored(
            number * self.every,
            float(both[index]),
            float(ours.v_rand.pooled[index]),
            float(theirs.v_rand.pooled[index]),
        )
        self.found[way].append(scored)
        return scored


def measure(settings: Settings) -> list[Figure]:
    """Train a network for each fold; compare the three ways to take weights."""
    torch.set_num_threads(1)
    grey, cells = _read(settings)
    figures = []
    for fold, held_out in FOLDS.items():
        watch = _train(settings, fold, held_out, grey, cells)
        figures += [_figure(f"fold {fold}", way, watch.found[way]) for way in WAYS]
    return figures


def _figure(name: str, way: str, found: list[Scored]) -> Figure:
    chosen = max(found, key=lambda s: s.rank)
    swing = statistics.pstdev(s.test for s in found)
    gaps = [abs(s.validation - s.test) for s in found]
    return Figure(
        f"{name}, {way}: test V_Rand of the chosen",
        chosen.test,
        basis=(
            f"step {chosen.step}, validation {chosen.validation:.4f}; test over "
            f"{len(found)} checkpoints {statistics.mean(s.test for s in found):.4f} +- "
            f"{swing:.4f}, best {max(s.test for s in found):.4f}, last "
            f"{found[-1].test:.4f}; |validation - test| {statistics.mean(gaps):.4f}"
        ),
        details={"scores": [(s.step, s.validation, s.test) for s in found]},
    )


def _train(
    settings: Settings,
    fold: int,
    held_out: tuple[int, ...],
    grey: NDArray[np.uint8],
    cells: NDArray[np.uint8],
) -> Watch:
    usual = settings.choose(quick=CHECKPOINTS, cpu=600)
    steps = int(os.environ.get("UNETPIPE_STEPS", usual))
    every = max(1, steps // CHECKPOINTS)
    spec = UNetSpec(
        base_channels=settings.choose(quick=2, cpu=8),
        depth=settings.choose(quick=2, cpu=3),
        padding="same",
    )
    numbers = range(len(grey))
    test = tuple(z for z in numbers if z % 5 == fold - 1)
    learnt = tuple(z for z in numbers if z not in (*test, *held_out))

    def annotated(sections: tuple[int, ...]) -> AnnotatedVolume:
        known = (grey[0].size,) * len(sections)
        mean, std = (np.array([f()], np.float64) for f in (grey.mean, grey.std))
        return AnnotatedVolume(
            "isbi", grey[None], cells, None, mean, std, sections, known
        )

    stacks = annotated(held_out).stacks(2), annotated(test).stacks(2)
    watch = Watch(*stacks, every, begin=CHECKPOINTS // 2)
    patch = (1, *settings.choose(quick=(8, 8), cpu=(96, 96)))
    usual_augmentation = Augmentation(**AugmentationConfig().model_dump())
    torch.manual_seed(fold)
    stand_in: Any = watch
    train(
        UNet(spec),
        PatchSampler([annotated(learnt)], spec, patch, usual_augmentation, seed=fold),
        stand_in,
        Checkpoints(settings.folder / f"fold-{fold}", {"fold": fold}),
        Optimisation(
            steps=steps,
            optimizer="adamw",
            momentum=0.9,
            schedule="cosine",
            warmup_steps=30,
            gradient_clip=1.0,
            averaging=Averaging("ema", averaging_decay=0.99),
            validate_every=every,
        ),
        class_weights=torch.ones(2),
        place=Place(torch.device("cpu")),
    )
    return watch


def _curves(predictor: TilePredictor, stacks: list[Stack]) -> IsbiCurves:
    sections = []
    for stack in stacks:
        whole, volume = whole_volume(stack.shape), stack.volume
        stored, _ = predictor.predict_block(
            stack.read(volume.image, whole),
            (0, 0, 0),
            whole,
            plan_grids(stack.shape, (1, 256, 256), predictor.spec),
            mean=volume.mean,
            std=volume.std,
        )
        probability = stored[0, 0].astype(np.float32) / np.float32(255)
        truth = stack.read(volume.target, whole)[0] == 1
        sections.append(score_isbi_section(probability, truth))
    return collect_isbi_curves(sections)


def _read(settings: Settings) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return sections and their cells, uint8 (z, y, x); of toys drawn ones."""
    if settings.is_quick:
        grey = np.random.default_rng(0).integers(0, 256, (30, 32, 32), np.uint8)
        return grey, (grey > 99).astype(np.uint8)
    data = Path(os.environ.get("UNETPIPE_DATA", ROOT.parent / "shared" / "data"))
    folder = data / "isbi2012-em" / "train"
    if not folder.is_dir():
        raise CannotRun(f"isbi2012-em is not in {data}")

    def stack(kind: str) -> NDArray[np.uint8]:
        paths = sorted((folder / kind).glob("*.png"), key=lambda p: int(p.stem))
        return np.stack([np.asarray(Image.open(p))[:SIDE, :SIDE] for p in paths])

    return stack("image"), (stack("label") > 0).astype(np.uint8)
