"""Judges of a network: each sees what was predicted, then gives its verdict.

=======  =================  ==========================  =========================
metric   judge              sees                        chooses
=======  =================  ==========================  =========================
v_rand   ISBI 2012 scores   sections, all thresholds    a threshold for each score
seg, f1  objects            objects made in many ways   threshold, size or depth
dice     voxels             counts of stored values     a threshold for each class
loss     voxels             probability of the truth    nothing
=======  =================  ==========================  =========================
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError

# By module: through the package a change of any metric would retrain networks.
from unetpipe.metrics.isbi import IsbiSection, collect_curves, score_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.segmentation.choice import (
    THRESHOLDS,
    ObjectRule,
    ObjectScore,
    ObjectSearch,
)
from unetpipe.segmentation.components import label_components
from unetpipe.targets.annotated import Piece
from unetpipe.targets.weight_map import UNLABELLED
from unetpipe.tiling.boxes import whole_volume
from unetpipe.tiling.quantised import threshold_mask

Metric = Literal["v_rand", "seg", "f1", "dice", "loss"]
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
    thresholds : dict
        Best threshold of each score that depends on one.
    chosen : dict
        What segmentation should use if this judge is asked: ``segmentation`` (a
        threshold), ``smallest_object_vox``, ``seed_distance_vox``, ``class_1`` ...
        (thresholds of classes).
    """

    scores: dict[str, float]
    thresholds: dict[str, float]
    chosen: dict[str, float]


class Judge(Protocol):
    """Sees predictions piece by piece."""

    def add(self, piece: Piece, stored: Stored, classes: Stored | None) -> None:
        """See one piece: stored probabilities (c, z, y, x) and classes (z, y, x)."""

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

    def add(self, piece: Piece, stored: Stored, classes: Stored | None) -> None:
        """See one piece."""
        for section, target in zip(stored[0], _read_target(piece), strict=True):
            probability = section.astype(np.float32) / np.float32(255)
            # What nobody annotated is neither right nor wrong: no cell in either.
            probability[target == UNLABELLED] = 0
            self._sections.append(score_section(probability, target == 1))

    def verdict(self) -> Verdict:
        """Return the four scores, and the threshold that is best for V_Rand."""
        curves = collect_curves(self._sections)
        best = {name: getattr(curves, name).best() for name in THRESHOLDED}
        return Verdict(
            scores={name: found.score for name, found in best.items()},
            thresholds={name: found.threshold for name, found in best.items()},
            chosen={"segmentation": best["v_rand"].threshold},
        )


class ObjectJudge:
    """SEG and F1 of objects, over thresholds and smallest sizes."""

    def __init__(self, by: ObjectScore, rule: ObjectRule) -> None:
        self._by = by
        self._search = ObjectSearch(rule)

    def add(self, piece: Piece, stored: Stored, classes: Stored | None) -> None:
        """See one piece."""
        target = _read_target(piece)
        unknown = target == UNLABELLED
        instances = piece.volume.instances
        if instances is None:
            truth, _ = label_components(target == 1, self._search.rule.connectivity)
        else:
            truth = piece.read(instances, whole_volume(piece.shape))
            if piece.volume.unlabelled is not None:
                unknown = truth == piece.volume.unlabelled
        size = piece.volume.voxel_size_nm
        self._search.add(stored[0], truth, unknown, voxel_size=size)

    def verdict(self) -> Verdict:
        """Return SEG and F1 where the one asked for is best."""
        best = self._search.best(self._by)
        if best is None:
            nan = float("nan")
            return Verdict({"seg": nan, "f1": nan}, {}, {})
        chosen = {
            "segmentation": best.threshold,
            "smallest_object_vox": float(best.smallest_object_vox),
        }
        if best.seed_distance_vox is not None:
            chosen["seed_distance_vox"] = best.seed_distance_vox
        return Verdict(
            scores={"seg": best.seg, "f1": best.f1},
            thresholds={self._by: best.threshold},
            chosen=chosen,
        )


class VoxelJudge:
    """Dice and loss, from counts of voxels."""

    def __init__(self, num_classes: int, class_weights: NDArray[np.float32]) -> None:
        self._num_classes, self._class_weights = num_classes, class_weights
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._energy = self._weight = 0.0
        # Voxels by class, by whether the truth is that class, by stored probability.
        self._counts = np.zeros((num_classes, 2, 256), np.int64)

    def add(self, piece: Piece, stored: Stored, classes: Stored | None) -> None:
        """See one piece."""
        target = _read_target(piece)
        if classes is None:
            classes = (stored[0] > 127).astype(np.uint8)
        unknown = target == UNLABELLED
        self._confusion += confusion_matrix(
            target, classes, self._num_classes, unlabelled=unknown
        )
        energy, weight = _stored_loss(stored, target, self._class_weights)
        self._energy, self._weight = self._energy + energy, self._weight + weight
        for k in range(1, self._num_classes):
            channel = stored[0 if len(stored) == 1 else k]
            for is_class in (False, True):
                where = ~unknown & ((target == k) == is_class)
                self._counts[k, int(is_class)] += np.bincount(
                    channel[where], minlength=256
                )

    def verdict(self) -> Verdict:
        """Return mean Dice and loss, and the threshold that is best for each class."""
        best = {
            k: _best_dice_threshold(self._counts[k])
            for k in range(1, self._num_classes)
            if self._counts[k, 1].any()
        }
        if self._num_classes == 2:
            chosen = {"segmentation": best[1]} if best else {}
        else:
            chosen = {f"class_{k}": threshold for k, threshold in best.items()}
        return Verdict(
            scores={
                "dice": class_scores(self._confusion).mean_dice,
                "loss": self._energy / self._weight if self._weight else float("nan"),
            },
            thresholds={},
            chosen=chosen,
        )


def _best_dice_threshold(counts: NDArray[np.int64]) -> float:
    """Return the threshold of the best Dice; of equal ones, that nearest to 0.5."""
    levels = np.arange(256, dtype=np.uint8)

    def rank(threshold: float) -> tuple[float, float]:
        above = threshold_mask(levels, threshold)
        hits, false = int(counts[1, above].sum()), int(counts[0, above].sum())
        return 2 * hits / (hits + false + int(counts[1].sum())), -abs(threshold - 0.5)

    return max(THRESHOLDS, key=rank)


def _read_target(piece: Piece) -> Stored:
    target: Stored = piece.read(piece.volume.target, whole_volume(piece.shape))
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
