"""Overlap of masks and classes, and calibration, from counts that boxes add to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.score_rows import make_score_row, plain_scores
from unetpipe.metrics.bootstrap import bootstrap_sums
from unetpipe.metrics.curves import Scores, mean_of_defined
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.metrics.temperature import at_temperature
from unetpipe.metrics.value_counts import (
    NUM_LEVELS,
    calibration_at_temperature,
    calibration_curve,
    confusion_above,
    count_values,
)
from unetpipe.metrics.value_counts import Calibration as Reliability
from unetpipe.records.metrics import OURS, Calibration, Curve, Role, Row
from unetpipe.tiling.quantised import threshold_mask

Counts = NDArray[np.int64]
Bool = NDArray[np.bool_]

NAMES = ("iou", "dice", "precision", "recall")
LEVELS = np.arange(NUM_LEVELS, dtype=np.uint8)


class PixelCounts:
    """Counts voxels by section, box by box: what is stored against the truth.

    With two classes the stored foreground probability is counted, so that every
    threshold can be asked for later. With more, the stored classes are.

    Parameters
    ----------
    num_classes : int
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        shape = (2, NUM_LEVELS) if num_classes == 2 else (num_classes, num_classes)
        self._counts: defaultdict[int, Counts] = defaultdict(
            lambda: np.zeros(shape, np.int64)
        )
        one_by_one = () if num_classes == 2 else (num_classes,)
        self.calibration = np.zeros((*one_by_one, 2, NUM_LEVELS), np.int64)

    def add(
        self, number: int, stored: NDArray[np.uint8], truth: NDArray[Any], unknown: Bool
    ) -> None:
        """Count what a box holds of one section, all arrays of shape (y, x).

        Parameters
        ----------
        number : int
            Of the section.
        stored : uint8 array
            Foreground probability, round(255 p); with more than two classes the class.
        truth : integer array
            Class of each voxel.
        unknown : bool array
            Voxels that nobody annotated; they do not count.
        """
        if unknown.all():
            return
        if self.num_classes == 2:
            counts = count_values(stored, truth > 0, unknown=unknown)
            self.calibration += counts
        else:
            counts = confusion_matrix(
                truth, stored, self.num_classes, unlabelled=unknown
            )
        self._counts[number] += counts

    def add_probability(
        self, class_: int, stored: NDArray[np.uint8], truth: NDArray[Any], unknown: Bool
    ) -> None:
        """Count the stored probability of one of more than two classes."""
        self.calibration[class_] += count_values(
            stored, truth == class_, unknown=unknown
        )

    @property
    def numbers(self) -> list[int]:
        """Sections with annotated voxels, rising."""
        return sorted(self._counts)

    def confusion(self, threshold: float | None) -> Counts:
        """Return a confusion matrix for each section, shape (sections, K, K)."""
        counts = self._stack(self._counts)
        if self.num_classes > 2:
            return counts
        assert threshold is not None
        return confusion_above(counts, threshold_mask(LEVELS, threshold))

    def confusion_of_constant(self) -> Counts:
        """Return the same for the commonest true class everywhere."""
        totals = self.confusion(0.5).sum(axis=2)
        constant = np.zeros((*totals.shape, self.num_classes), np.int64)
        constant[..., int(totals.sum(axis=0).argmax())] = totals
        return constant

    def describe_calibration(
        self, role: Role, temperature: float | None = None
    ) -> Iterator[Calibration]:
        """Yield calibration as it goes into ``metrics.json``, class by class.

        With two classes and a temperature, that at the temperature follows.
        """
        classes = {1: self.calibration} if self.num_classes == 2 else None
        for class_, counts in (classes or dict(enumerate(self.calibration))).items():
            yield _describe(role, class_, calibration_curve(counts))
        if classes and temperature is not None:
            levels = at_temperature(np.linspace(0, 1, NUM_LEVELS), temperature)
            scaled = _describe(
                role, 1, calibration_at_temperature(self.calibration, levels)
            )
            yield scaled.model_copy(update={"temperature": temperature})

    def describe_curves(self, role: Role) -> Iterator[Curve]:
        """Yield Dice, precision and recall of the foreground at each stored level."""
        if self.num_classes > 2:
            return
        total = self._stack(self._counts).sum(axis=0)
        matrices = [confusion_above(total, level < LEVELS) for level in LEVELS]
        scores = class_scores(np.stack(matrices))
        for name in ("dice", "precision", "recall"):
            yield Curve(
                role=role,
                predictor=OURS,
                metric=f"{name}_class_1",
                thresholds=plain_scores(LEVELS / (NUM_LEVELS - 1)),
                scores=plain_scores(getattr(scores, name)[:, 1]),
            )

    def _stack(self, counts: dict[int, Counts]) -> Counts:
        return np.stack([counts[number] for number in self.numbers])


def class_score_rows(
    predictor: str, confusion: Counts, threshold: float | None
) -> Iterator[Row]:
    """Yield the overlap of each class, counts of all sections pooled; of many the mean.

    Parameters
    ----------
    confusion : int64 array, shape (sections, K, K)
        Rows are the truth.
    threshold : float or None
        At which probability became a mask.
    """
    for name in NAMES:
        for k in range(confusion.shape[-1]):
            one = _one_class(confusion, k)
            score = partial(_score_of_class, name)
            yield make_score_row(
                predictor,
                f"{name}_class_{k}",
                chosen=(threshold, float(score(one.sum(axis=0)))),
                per_section=score(one),
                interval=bootstrap_sums(one, score),
                num_sections=len(confusion),
            )
    if confusion.shape[-1] > 2:
        yield make_score_row(
            predictor,
            "dice_mean",
            chosen=(threshold, float(_mean_dice(confusion.sum(axis=0)))),
            per_section=_mean_dice(confusion),
            interval=bootstrap_sums(confusion, _mean_dice),
            num_sections=len(confusion),
        )


def _mean_dice(confusion: Counts | Scores) -> Scores:
    """Return the mean Dice of the annotated classes, background aside: (...)."""
    scores = class_scores(confusion)
    dice = np.where(scores.num_truth > 0, scores.dice, np.nan)[..., 1:]
    return mean_of_defined(np.moveaxis(dice, -1, 0))


def _one_class(confusion: Counts, k: int) -> Counts:
    """Take all classes but one together, shape (sections, 2, 2)."""
    found = confusion[:, k, k]
    missed = confusion[:, k].sum(axis=1) - found
    invented = confusion[:, :, k].sum(axis=1) - found
    others = confusion.sum(axis=(1, 2)) - found - missed - invented
    return np.stack([others, invented, missed, found], axis=-1).reshape(-1, 2, 2)


def _score_of_class(name: str, confusion: Counts | Scores) -> Scores:
    scores: Scores = getattr(class_scores(confusion), name)[..., 1]
    return scores


def _describe(role: Role, class_: int, found: Reliability) -> Calibration:
    return Calibration(
        role=role,
        class_=class_,
        probability=plain_scores(found.probability),
        share=plain_scores(found.share),
        num_voxels=tuple(found.num_voxels.tolist()),
        expected_error=plain_scores(found.expected_error),
    )
