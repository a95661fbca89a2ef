"""Scores of instances in general: average precision, F1 and panoptic quality.

One :class:`ContingencyTable` an image is all they need. Objects are matched where their
IoU exceeds 0.5, which leaves at most one partner on either side.

Sources: 2018 Data Science Bowl (average precision, "greater than", image by image);
Kirillov et al. 2019, "Panoptic Segmentation", CVPR, eq. (1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.contingency import ContingencyTable

IOU_PERCENT = tuple(range(50, 100, 5))  # integers: 11/20 > 0.55 must be False


@dataclass(frozen=True, slots=True, eq=False)
class InstanceMatches:
    """Pairs of objects with IoU > 0.5, and the objects there are.

    Attributes
    ----------
    intersection, union : int64 arrays, shape (matches,)
        Voxels of each matched pair.
    num_truth, num_result : int
        Objects in the truth and in the result.
    """

    intersection: NDArray[np.int64]
    union: NDArray[np.int64]
    num_truth: int
    num_result: int

    @classmethod
    def pooled(cls, images: Iterable[InstanceMatches]) -> InstanceMatches:
        """Pool the objects of many images, for scores over all of them (micro)."""
        parts = list(images)
        none = np.empty(0, np.int64)
        return cls(
            intersection=np.concatenate([none, *(part.intersection for part in parts)]),
            union=np.concatenate([none, *(part.union for part in parts)]),
            num_truth=sum(part.num_truth for part in parts),
            num_result=sum(part.num_result for part in parts),
        )

    def num_hits(self, iou_percent: int = 50) -> int:
        """Count the pairs with an IoU strictly above a threshold, 50 or more."""
        return int(np.count_nonzero(100 * self.intersection > iou_percent * self.union))

    def precision_at(self, iou_percent: int = 50) -> float:
        """TP / (TP + FP + FN) above an IoU of 50 % or more; 1 if all is empty."""
        hits = self.num_hits(iou_percent)
        return _share(hits, self.num_truth + self.num_result - hits)

    @property
    def average_precision(self) -> float:
        """Mean of ``precision_at`` over IoU 0.50, 0.55, ... 0.95, in [0, 1].

        Called "accuracy" or "DSB score" elsewhere; it is not the area under a
        precision-recall curve.
        """
        return math.fsum(map(self.precision_at, IOU_PERCENT)) / len(IOU_PERCENT)

    @property
    def f1(self) -> float:
        """F1 of detection at IoU > 0.5, in [0, 1]; 1 if all is empty."""
        return _share(2 * self.num_hits(), self.num_truth + self.num_result)

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs, in (0.5, 1]; NaN without a match."""
        return float(self._ious.mean()) if self._ious.size else math.nan

    @property
    def panoptic_quality(self) -> float:
        """Sum of matched IoU / (TP + FP/2 + FN/2), in [0, 1]; 1 if all is empty.

        The product of ``f1`` and ``segmentation_quality``.
        """
        return _share(2 * float(self._ious.sum()), self.num_truth + self.num_result)

    @property
    def _ious(self) -> NDArray[np.float64]:
        ious: NDArray[np.float64] = self.intersection / self.union
        return ious


def match_instances(table: ContingencyTable) -> InstanceMatches:
    """Match the objects of one image, or of one volume, by IoU > 0.5.

    Needs an image whose objects are all annotated: others count as false.

    Examples
    --------
    Ten voxels inside twenty are IoU 0.5 exactly, no hit:

    >>> table = ContingencyTable.from_pairs([1, 0], [1, 1], [10, 10])
    >>> match_instances(table).f1
    0.0
    """
    truth_ids, truth_sizes = table.truth_sizes()
    result_ids, result_sizes = table.result_sizes()
    pairs = table.select((table.truth_ids != 0) & (table.result_ids != 0))
    union = (
        truth_sizes[np.searchsorted(truth_ids, pairs.truth_ids)]
        + result_sizes[np.searchsorted(result_ids, pairs.result_ids)]
        - pairs.counts
    )
    is_match = 2 * pairs.counts > union
    return InstanceMatches(
        intersection=pairs.counts[is_match],
        union=union[is_match],
        num_truth=int(np.count_nonzero(truth_ids)),
        num_result=int(np.count_nonzero(result_ids)),
    )


def mean_average_precision(images: Iterable[InstanceMatches]) -> float:
    """Average precision image by image, then the mean; NaN without images.

    An image empty in truth and result scores 1.
    """
    scores = [image.average_precision for image in images]
    return math.fsum(scores) / len(scores) if scores else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
