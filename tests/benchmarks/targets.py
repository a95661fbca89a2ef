"""The three targets on drawn rods that touch: F1 and SEG of the delivered objects.

The same small network learns each of ``network.targets`` from the same sections for
the same steps; thresholds and the rule for objects are chosen on validation sections.

``UNETPIPE_STEPS``: default 300; ``UNETPIPE_SEEDS``: default ``0``.
"""

import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.figures import Figure
from tests.benchmarks.first_hour import draw_rods
from tests.benchmarks.settings import Settings
from tests.stages.annotated import ingest, training_files, weigh
from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.network.notebook import load_trained
from unetpipe.segmentation.choice import ObjectChoice, ObjectRule, ObjectSearch
from unetpipe.segmentation.thresholds import fill_choices
from unetpipe.stages.train_unet import train_unet
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.training.order import TrainingOrder

LEARNT, CHOSEN, TESTED = range(6), (6, 7), slice(8, 10)
TARGETS = ("cells", "border", "markers")
SHOWN = ("threshold", "method", "seeds", "core_threshold", "seed_distance_vox")


def measure(settings: Settings) -> list[Figure]:
    """Train a network for each target and seed; score what it delivers."""
    torch.set_num_threads(1)
    grey, ids = draw_rods(10)
    side = settings.choose(quick=64, cpu=grey.shape[1])
    grey, ids = grey[:, :side, :side], ids[:, :side, :side]
    path = ingest(settings.folder / "rods", ids, image=grey[None])
    record = Path(weigh(path, learnt=TARGETS[1:]))
    usual = settings.choose(quick=2, cpu=300)
    steps = int(os.environ.get("UNETPIPE_STEPS", usual))
    seeds = [int(seed) for seed in os.environ.get("UNETPIPE_SEEDS", "0").split()]
    figures = []
    for targets in TARGETS:
        found = []
        for seed in seeds:
            folder = settings.folder / f"{targets}-{seed}"
            _train(folder, (path, record), targets, steps, seed)
            found.append(_score(folder, grey[TESTED], ids[TESTED]))
        figures.append(_figure(targets, steps, found))
    return figures


def _figure(
    targets: str, steps: int, found: list[tuple[ObjectChoice, dict[str, Any]]]
) -> Figure:
    f1, seg = ([getattr(c, name) for c, _ in found] for name in ("f1", "seg"))
    choice, settings = found[0]
    told = ", ".join(f"{k} {settings[k]}" for k in SHOWN if settings[k] is not None)
    return Figure(
        f"{targets}: F1 of delivered objects",
        statistics.mean(f1),
        basis=(
            f"SEG {statistics.mean(seg):.3f}; {len(found)} networks of {steps} steps; "
            f"{choice.num_found} objects of {choice.num_true}; {told}"
        ),
        details={"f1": f1, "seg": seg},
    )


def _train(
    folder: Path, volume: tuple[Path, Path], targets: Any, steps: int, seed: int
) -> None:
    both = {"ingest": volume[0], "weight_map": volume[1]}
    rows = (("train", tuple(LEARNT)), ("validate", CHOSEN))
    train_unet(
        order=TrainingOrder(
            rows=tuple(AnnotatedRow(**both, sections=z, role=r) for r, z in rows),
            network=NetworkConfig(depth=2, base_channels=8, targets=targets),
            training=TrainingConfig(
                patch=(1, 132, 132),
                steps=steps,
                optimizer="adamw",
                schedule="cosine",
                gradient_clip=1.0,
                validate_every=max(1, steps // 3),
                threads=1,
                seed=seed,
            ),
            augmentation=AugmentationConfig(),
            weight_map=WeightMapConfig(),
            segmentation=SegmentationConfig(),
        ),
        files=training_files(folder),
    )


def _score(
    folder: Path, grey: NDArray[np.uint16], ids: NDArray[np.uint32]
) -> tuple[ObjectChoice, dict[str, Any]]:
    """Return the scores of what a segmentation would deliver, and its settings."""
    trained = load_trained(folder)
    model = trained.description
    stored, _ = trained.predict(grey)
    filled, _ = fill_choices(
        SegmentationConfig().model_dump(mode="json"),
        model.thresholds,
        has_cores=model.spec.has_cores,
    )
    rule = ObjectRule(
        "2d",
        filled["smallest_object_vox"],
        filled["method"],
        filled["seed_distance_vox"],
        filled["seed_reach_vox"],
        None,
        filled["seeds"],
        filled["seed_threshold"],
        filled["core_threshold"],
        has_cores=model.spec.has_cores,
    )
    search = ObjectSearch(rule, [filled["threshold"]])
    unknown = np.zeros(ids.shape, bool)
    core = stored[1] if model.spec.has_cores else None
    search.add(stored[0], ids, unknown, core=core)
    choice = search.best("f1")
    assert choice is not None
    return choice, filled
