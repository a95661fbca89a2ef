"""Scores of instances in general: average precision, F1 and panoptic quality.

One :class:`ContingencyTable` an image is all they need. Objects are matched where their
IoU exceeds 0.5, which leaves at most one partner on either side.

Sources: 2018 Data Science Bowl (average precision, "greater than", image by image);
Kirillov et al. 2019, "Panoptic Segmentation", CVPR, eq. (1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import score_ratio

IOU_PERCENT = tuple(range(50, 100, 5))  # integers: 11/20 > 0.55 must be False
NUM_TERMS = 3 + len(IOU_PERCENT)


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

    def terms(self, *, by_object: bool = False) -> NDArray[np.float64]:
        """Return what adds up over images or objects to every score.

        Parameters
        ----------
        by_object : bool
            One row for each matched, missed and invented object instead of one row
            for all.

        Returns
        -------
        float64 array, shape (rows, 13)
            Objects in truth, in result, sum of IoU, and hits at IoU 0.50, 0.55 ...
            ``score_terms`` makes scores of their sums.
        """
        hits = [
            100 * self.intersection > percent * self.union for percent in IOU_PERCENT
        ]
        ones = np.ones(self._ious.size)
        matched: NDArray[np.float64] = np.column_stack([ones, ones, self._ious, *hits])
        if not by_object:
            total: NDArray[np.float64] = matched.sum(axis=0, keepdims=True)
            total[0, :2] = self.num_truth, self.num_result
            return total
        missed = np.zeros((self.num_truth - len(matched), matched.shape[1]))
        invented = np.zeros((self.num_result - len(matched), matched.shape[1]))
        missed[:, 0], invented[:, 1] = 1, 1
        return np.concatenate([matched, missed, invented])

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
    def _ious(self) -> NDArray[np.float64]:
        ious: NDArray[np.float64] = self.intersection / self.union
        return ious


def match_instances(
    table: ContingencyTable, *, void: ContingencyTable | None = None
) -> InstanceMatches:
    """Match the objects of one image, or of one volume, by IoU > 0.5.

    Parameters
    ----------
    table : ContingencyTable
        Of the voxels that are annotated.
    void : ContingencyTable, optional
        Of those that nobody annotated. They count in no IoU, and an unmatched result
        object with more than half of its voxels there does not count as false
        (Kirillov et al. 2019, Sect. 4.1).

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
    num_forgiven = 0
    if void is not None:
        void_ids, void_sizes = void.result_sizes()
        shared, here, there = np.intersect1d(
            result_ids, void_ids, assume_unique=True, return_indices=True
        )
        is_void = (void_sizes[there] > result_sizes[here]) & (shared != 0)
        matched = pairs.result_ids[is_match]
        num_forgiven = int(np.isin(shared[is_void], matched, invert=True).sum())
    return InstanceMatches(
        intersection=pairs.counts[is_match],
        union=union[is_match],
        num_truth=int(np.count_nonzero(truth_ids)),
        num_result=int(np.count_nonzero(result_ids)) - num_forgiven,
    )


def score_terms(terms: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Score sums of :meth:`InstanceMatches.terms`, shape (..., 13).

    Returns
    -------
    dict
        ``average_precision``, ``f1``, ``panoptic_quality``: arrays of shape (...).

    Examples
    --------
    >>> half = match_instances(ContingencyTable.from_pairs([1, 2], [1, 0], [4, 4]))
    >>> scores = score_terms(half.terms())
    >>> float(scores["average_precision"][0]), round(float(scores["f1"][0]), 3)
    (0.5, 0.667)
    """
    either = terms[..., 0] + terms[..., 1]
    hits = terms[..., 3:]
    precision = score_ratio(hits, either[..., None] - hits, undefined=1.0)
    return {
        "average_precision": precision.mean(axis=-1),
        "f1": score_ratio(2 * terms[..., 3], either, undefined=1.0),
        "panoptic_quality": score_ratio(2 * terms[..., 2], either, undefined=1.0),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
