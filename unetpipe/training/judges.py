"""Judges of a network: each sees what was predicted, then gives its verdict.

=======  =================  ==========================  =========================
metric   judge              sees                        chooses
=======  =================  ==========================  =========================
v_rand   ISBI 2012 scores   sections, all thresholds    a threshold for each score
seg, f1  objects            objects made in many ways   threshold, size, seeds
dice     voxels             counts of stored values     a threshold for each class
loss     voxels             probability of the truth    nothing
=======  =================  ==========================  =========================

V_Rand and SEG do not see what is found where there is no cell, so they never choose
alone: V_Rand chooses together with Dice, SEG with F1, half each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError

# By module: through the package a change of any metric would retrain networks.
from unetpipe.metrics.choosing import FLAT, notes_on_chosen_metric
from unetpipe.metrics.curves import pick_threshold
from unetpipe.metrics.for_labels import Metric
from unetpipe.metrics.isbi import IsbiSection, collect_isbi_curves, score_isbi_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.segmentation.choice import (
    THRESHOLDS,
    Cut,
    ObjectChoice,
    ObjectRule,
    ObjectScore,
    ObjectSearch,
)
from unetpipe.segmentation.components import label_components
from unetpipe.targets.annotated import Stack
from unetpipe.targets.weight_map import UNLABELLED
from unetpipe.tiling.boxes import Roi, as_zyx
from unetpipe.tiling.quantised import threshold_mask

Stored = NDArray[np.uint8]

# Metrics of the ISBI challenge whose best threshold the model remembers.
THRESHOLDED = ("pixel_error", "rand_error", "v_rand", "v_info")
# A stored probability of 0 stands for anything below half a step.
LEAST_PROBABILITY = 0.5 / 255


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores, and the thresholds where they are best.

    Attributes
    ----------
    scores : dict
        Of the network, NaN where undefined.
    rank : float
        What chooses the checkpoint if this judge is asked; NaN where undefined.
    thresholds : dict
        Best threshold of each score that depends on one.
    chosen : dict
        What segmentation should use if this judge is asked: ``segmentation`` (a
        threshold), ``class_1`` ... (thresholds of classes), and how objects are made,
        as ``ObjectChoice.remembered`` tells.
    notes : tuple of str
        What may be a mistake in the choice.
    numbers : (int, int)
        Objects that were found, and that are annotated; of judges of objects.
    """

    scores: dict[str, float]
    rank: float
    thresholds: dict[str, float]
    chosen: dict[str, float]
    notes: tuple[str, ...] = ()
    numbers: tuple[int, int] = (0, 0)


class Judge(Protocol):
    """Sees predictions stack by stack."""

    def add(self, stack: Stack, stored: Stored, classes: Stored | None) -> None:
        """See one stack: stored probabilities (c, z, y, x) and classes (z, y, x)."""

    def verdict(self) -> Verdict:
        """Return the scores of all that was seen."""


def make_judge(
    metric: Metric,
    num_classes: int,
    *,
    class_weights: NDArray[np.float32],
    objects: ObjectRule,
) -> Judge:
    """Return the judge who knows a metric.

    Raises
    ------
    ConfigError
        If the metric needs two classes and there are more.
    """
    if metric == "dice" or metric == "loss":
        return VoxelJudge(num_classes, class_weights)
    if num_classes > 2:
        raise ConfigError(
            f"the validation metric is {metric}, which needs two classes, but "
            f"network.num_classes is {num_classes}; use dice or loss"
        )
    return CurveJudge() if metric == "v_rand" else ObjectJudge(metric, objects)


class CurveJudge:
    """The ISBI 2012 scores, section by section, over thresholds."""

    def __init__(self) -> None:
        self._sections: list[IsbiSection] = []

    def add(self, stack: Stack, stored: Stored, classes: Stored | None) -> None:
        """See one stack."""
        for section, target in zip(stored[0], _read_target(stack), strict=True):
            probability = section.astype(np.float32) / np.float32(255)
            # What nobody annotated is neither right nor wrong: no cell in either.
            probability[target == UNLABELLED] = 0
            self._sections.append(score_isbi_section(probability, target == 1))

    def verdict(self) -> Verdict:
        """Return the four scores and Dice, and the threshold that is best for both.

        Notes
        -----
        # DEPARTS: the challenge takes the best V_Rand; one cell a section has a V_Rand
        of 1 where all is foreground.
        """
        curves = collect_isbi_curves(self._sections)
        best = {name: getattr(curves, name).best() for name in THRESHOLDED}
        dice = 1 - curves.pixel_error.pooled
        both = (curves.v_rand.pooled + dice) / 2
        scores = {name: found.score for name, found in best.items()}
        thresholds = {name: found.threshold for name, found in best.items()}
        if np.isnan(both).all():
            return Verdict(scores, float("nan"), thresholds, {})
        index = pick_threshold(curves.v_rand.thresholds, both)
        chosen = float(curves.v_rand.thresholds[index])
        return Verdict(
            scores=scores
            | {
                "v_rand": float(curves.v_rand.pooled[index]),
                "dice": float(dice[index]),
            },
            rank=float(both[index]),
            thresholds=thresholds | {"v_rand": chosen},
            chosen={"segmentation": chosen},
            notes=notes_on_grid(curves.v_rand.thresholds, both, index),
        )


def notes_on_grid(
    thresholds: Sequence[float] | NDArray[np.float64],
    scores: NDArray[np.float64],
    index: int,
) -> tuple[str, ...]:
    """Say that a choice lies at the end of what was tried, or that all was alike."""
    defined = scores[np.isfinite(scores)]
    if defined.size > 1 and np.ptp(defined) < FLAT:
        return (
            f"the score that chooses the threshold is {defined.mean():.4g} at all of "
            "them: it cannot choose one",
        )
    if index in (0, len(thresholds) - 1):
        return (
            f"the threshold chosen on the validation rows, {thresholds[index]:.2g}, is "
            "the last that was tried: the probabilities may be poorly calibrated, or "
            "the validation rows unlike the others",
        )
    return ()


class ObjectJudge:
    """SEG and F1 of objects, over thresholds and smallest sizes."""

    def __init__(
        self,
        by: ObjectScore,
        rule: ObjectRule,
        thresholds: Sequence[float] | None = None,
        cuts: Sequence[Cut] | None = None,
    ) -> None:
        self._by = by
        self._search = ObjectSearch(rule, thresholds, cuts)
        # With connectivity 3d: stacks of a volume that follow each other, not judged.
        self._waiting: list[tuple[Stack, Stored]] = []

    def add(self, stack: Stack, stored: Stored, classes: Stored | None) -> None:
        """See one stack; an object may go on in the next one."""
        if self._search.rule.connectivity == "2d":
            self._judge(stack, stored)
            return
        if self._waiting:
            last = self._waiting[-1][0]
            is_next = last.volume is stack.volume and last.stop == stack.start
            if not is_next or last.seen.slices[1:] != stack.seen.slices[1:]:
                self._judge_waiting()
        self._waiting.append((stack, stored))

    def best(self) -> ObjectChoice | None:
        """Return the best way to make objects; None where the score is undefined."""
        self._judge_waiting()
        return self._search.best(self._by)

    def verdict(self) -> Verdict:
        """Return SEG and F1 where the one asked for is best."""
        best = self.best()
        nan = float("nan")
        if best is None:
            return Verdict({"seg": nan, "f1": nan}, nan, {}, {})
        return Verdict(
            scores={"seg": best.seg, "f1": best.f1},
            rank=best.f1 if self._by == "f1" else best.score,
            thresholds={self._by: best.threshold},
            chosen=best.remembered(),
            numbers=(best.num_found, best.num_true),
            notes=(
                *notes_on_grid(
                    self._search.thresholds,
                    np.empty(0),
                    self._search.thresholds.index(best.threshold),
                ),
                *notes_on_chosen_metric(
                    best.num_found, best.num_true, "the validation rows"
                ),
            ),
        )

    def _judge_waiting(self) -> None:
        if not self._waiting:
            return
        first, last = self._waiting[0][0], self._waiting[-1][0]
        known = sum(stack.num_known for stack, _ in self._waiting)
        whole = Stack(first.volume, first.start, last.stop, known)
        if first.window:
            (start, *low), (_, *high) = first.window.start, first.window.stop
            stop = last.start - first.start + last.seen.stop[0]
            window = Roi(as_zyx((start, *low)), as_zyx((stop, *high)))
            whole = replace(whole, window=window)
        stored = np.concatenate([stored for _, stored in self._waiting], axis=1)
        self._waiting = []
        self._judge(whole, stored)

    def _judge(self, stack: Stack, stored: Stored) -> None:
        target = _read_target(stack)
        unknown = target == UNLABELLED
        instances = stack.volume.instances
        if instances is None:
            truth, _ = label_components(target == 1, self._search.rule.connectivity)
        else:
            truth = stack.read(instances, stack.seen)
        self._search.add(
            stored[0],
            truth,
            unknown,
            voxel_size=stack.volume.voxel_size_nm,
            core=stored[1] if self._search.rule.has_cores else None,
            affinities=stored[1:] if self._search.rule.offsets else None,
        )


class VoxelJudge:
    """Dice and loss, from counts of voxels."""

    def __init__(self, num_classes: int, class_weights: NDArray[np.float32]) -> None:
        self._num_classes, self._class_weights = num_classes, class_weights
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._energy = self._weight = 0.0
        # Voxels by class, by whether the truth is that class, by stored probability.
        self._counts = np.zeros((num_classes, 2, 256), np.int64)

    def add(self, stack: Stack, stored: Stored, classes: Stored | None) -> None:
        """See one stack."""
        target = _read_target(stack)
        if classes is None:
            classes = (stored[0] > 127).astype(np.uint8)
        unknown = target == UNLABELLED
        channels = 1 if self._num_classes == 2 else self._num_classes
        compared = _as_learnt(stack, stored, channels)
        energy, weight = _stored_loss(*compared, self._class_weights)
        target = _as_drawn(stack, target)
        self._confusion += confusion_matrix(
            target, classes, self._num_classes, unlabelled=unknown
        )
        self._energy, self._weight = self._energy + energy, self._weight + weight
        for k in range(1, self._num_classes):
            channel = stored[0 if self._num_classes == 2 else k]
            for is_class in (False, True):
                where = ~unknown & ((target == k) == is_class)
                self._counts[k, int(is_class)] += np.bincount(
                    channel[where], minlength=256
                )

    def verdict(self) -> Verdict:
        """Return Dice and loss, and the threshold that is best for each class.

        With two classes Dice is that of the foreground at the chosen threshold, with
        more the mean over the classes that are annotated, background aside, of the most
        probable class.
        """
        best = {
            k: _best_dice_threshold(self._counts[k])
            for k in range(1, self._num_classes)
            if self._counts[k, 1].any()
        }
        each = class_scores(self._confusion).dice
        if self._num_classes == 2:
            chosen = {"segmentation": best[1]} if best else {}
            dice = _dice_at(self._counts[1], best[1]) if best else float("nan")
        else:
            chosen = {f"class_{k}": threshold for k, threshold in best.items()}
            dice = float(np.mean([each[k] for k in best])) if best else float("nan")
        loss = self._energy / self._weight if self._weight else float("nan")
        return Verdict(
            scores={"dice": dice, "loss": loss},
            rank=dice,
            thresholds={},
            chosen=chosen,
            notes=self._notes(best),
        )

    def _notes(self, best: dict[int, float]) -> tuple[str, ...]:
        predicted = self._confusion.sum(axis=0)
        if self._num_classes > 2:
            return tuple(
                f"class {k} is annotated in the validation rows and never predicted"
                for k in best
                if not predicted[k]
            )
        if not best:
            return ()
        counts = self._counts[1]
        scores = np.array([_dice_at(counts, t) for t in THRESHOLDS])
        return notes_on_grid(THRESHOLDS, scores, THRESHOLDS.index(best[1]))


def _dice_at(counts: NDArray[np.int64], threshold: float) -> float:
    """Return Dice of a class, of voxels by truth and stored value: (2, 256)."""
    above = threshold_mask(np.arange(256, dtype=np.uint8), threshold)
    hits, false = int(counts[1, above].sum()), int(counts[0, above].sum())
    return 2 * hits / (hits + false + int(counts[1].sum()))


def _best_dice_threshold(counts: NDArray[np.int64]) -> float:
    """Return the threshold of the best Dice; of equal ones, that nearest to 0.5."""
    scores = np.array([_dice_at(counts, threshold) for threshold in THRESHOLDS])
    return THRESHOLDS[pick_threshold(np.array(THRESHOLDS), scores)]


def _as_learnt(
    stack: Stack, stored: Stored, num_channels: int
) -> tuple[Stored, Stored]:
    """Return the probabilities and classes that the loss compares.

    Affinities beyond the channels of classes are left out.
    """
    learnt: Stored = stack.read(stack.volume.lesson, stack.seen)
    if stack.volume.learnt is None:
        return stored[:num_channels], learnt
    cell, core = stored
    return np.stack([255 - cell, core, cell - np.minimum(cell, core)]), learnt


def _as_drawn(stack: Stack, target: Stored) -> Stored:
    """Return the classes as they were annotated, without the borders put between."""
    volume = stack.volume
    if volume.instances is None:
        return target
    ids = stack.read(volume.instances, stack.seen)
    is_cell = (ids != 0) & (target == 0)
    return np.where(is_cell, np.uint8(1), target)


def _read_target(stack: Stack) -> Stored:
    target: Stored = stack.read(stack.volume.target, stack.seen)
    return target


def _stored_loss(
    probability: Stored,
    target: Stored,
    class_weights: NDArray[np.float32],
) -> tuple[float, float]:
    """Return summed weighted cross-entropy and summed weight, from stored bytes."""
    p = np.maximum(probability.astype(np.float64) / 255, LEAST_PROBABILITY)
    if len(p) == 1:
        p = np.concatenate([np.maximum(1 - p, LEAST_PROBABILITY), p])
    is_known = target != UNLABELLED
    known = np.where(is_known, target, 0)
    of_target = np.take_along_axis(p, known[None].astype(np.intp), axis=0)[0]
    weights = class_weights[known].astype(np.float64) * is_known
    return float((-np.log(of_target) * weights).sum()), float(weights.sum())
