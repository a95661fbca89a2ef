"""Rows of the scores of objects, from what each image contributes.

::

    ObjectCounts  ──>  ImageTerms  ──>  rows of a volume
                           │
                     of many volumes, one after another  ──>  rows of all together
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from unetpipe.evaluation.score_rows import make_score_row, plain_scores
from unetpipe.metrics.bootstrap import Interval, bootstrap_sums
from unetpipe.metrics.cell_tracking import detection_score
from unetpipe.metrics.curves import Scores, mean_of_defined, score_ratio
from unetpipe.metrics.instances import score_terms
from unetpipe.records.metrics import ObjectTerms, Role, Row, Sections, Units

Make = Callable[..., Row]

MATCHED = ("average_precision", "f1", "panoptic_quality")
PARTITIONS = (
    "vi_split",
    "vi_merge",
    "vi_split_bits",
    "vi_merge_bits",
    "adapted_rand_error",
)
WRITTEN = ("matched", "partitions", "seg", "det")


@dataclass(frozen=True, slots=True, eq=False)
class ImageTerms:
    """What images contribute to the scores of objects; NaN where one has no such score.

    Attributes
    ----------
    matched : float64 array, shape (images, 13)
        ``InstanceMatches.terms``.
    partitions : float64 array, shape (images, 5)
        The scores of ``PARTITIONS``.
    seg : float64 array, shape (images, 2)
        Sum of the Jaccard indices of reference objects, and their number.
    det : float64 array, shape (images, 2)
        ``ReferenceMatches.costs``.
    by_object : float64 array, shape (objects, 13), optional
        Of a single image: what is resampled in place of images.
    jaccard : float64 array, shape (objects,), optional
        Of all reference objects: what is resampled for SEG in place of images. Both
        are known while a volume is scored, and not written.
    """

    matched: Scores
    partitions: Scores
    seg: Scores
    det: Scores
    by_object: Scores | None = None
    jaccard: Scores | None = None

    @classmethod
    def read(cls, described: ObjectTerms, places: Sequence[int]) -> ImageTerms:
        """Return what ``describe`` described, of some of its images."""
        return cls._of_each(
            lambda name: np.array(
                [getattr(described, name)[place] for place in places], np.float64
            )
        )

    @classmethod
    def join(cls, parts: Sequence[ImageTerms]) -> ImageTerms:
        """Return the images of all parts, one after another."""
        return cls._of_each(
            lambda name: np.concatenate([getattr(part, name) for part in parts])
        )

    @classmethod
    def _of_each(cls, make: Callable[[str], Scores]) -> ImageTerms:
        return cls(**{name: make(name) for name in WRITTEN})

    def describe(
        self, role: Role, predictor: str, images: Sequence[Sections]
    ) -> ObjectTerms:
        """Return it as ``section_scores.json`` has it, with the sections of images."""
        told: dict[str, Any] = {
            name: plain_scores(getattr(self, name)) for name in WRITTEN
        }
        return ObjectTerms(role=role, predictor=predictor, images=tuple(images), **told)


def object_score_rows(terms: ImageTerms, make: Make) -> Iterator[Row]:
    """Yield all scores of objects.

    Parameters
    ----------
    terms : ImageTerms
    make : function
        Makes a row of metric, score, score of each image, interval and what was
        resampled for it: "sections" are images.
    """
    yield from _matched_rows(terms.matched, make, terms.by_object)
    for metric, per_image in zip(PARTITIONS, terms.partitions.T, strict=True):
        score = float(mean_of_defined(per_image))
        yield make(metric, score, per_image, _interval_of_mean(per_image))
    yield _seg_row(terms.seg, make, terms.jaccard)
    yield _det_row(terms.det, make)


def pooled_object_rows(
    predictor: str, terms: ImageTerms, images: Sequence[Sections]
) -> Iterator[Row]:
    """Yield all scores of objects over the images of many volumes, resampling images.

    Parameters
    ----------
    predictor : str
    terms : ImageTerms
    images : sequence of tuple of int
        The sections of each image.
    """
    sizes = np.array([len(sections) for sections in images])
    named: Units = "volumes" if (sizes > 1).any() else "sections"

    def make(
        metric: str,
        score: float,
        per_image: Scores,
        interval: Interval,
        _: Units = "sections",
    ) -> Row:
        return make_score_row(
            predictor,
            metric,
            chosen=(None, score),
            per_section=per_image if named == "sections" else None,
            interval=interval,
            units=named,
            num_sections=int(sizes[~np.isnan(per_image)].sum()),
        )

    yield from object_score_rows(terms, make)


def _matched_rows(terms: Scores, make: Make, by_object: Scores | None) -> Iterator[Row]:
    """Yield AP, F1 and PQ; resample images, or the objects of a single one."""
    is_known = ~np.isnan(terms).any(axis=1)
    known = terms[is_known]
    units: Units = "sections" if by_object is None else "objects"
    scores = score_terms(known)
    for metric in MATCHED:
        per_image = np.full(len(terms), np.nan)
        per_image[is_known] = scores[metric]
        if metric == "average_precision" and by_object is None:
            interval = _interval_of_mean(per_image)
        else:
            interval = bootstrap_sums(
                known if by_object is None else by_object,
                partial(_score_of_terms, metric),
            )
        yield make(metric, interval.estimate, per_image, interval, units)


def _seg_row(seg: Scores, make: Make, jaccard: Scores | None) -> Row:
    """Make the row of SEG; all reference objects count alike."""
    per_image = score_ratio(seg[:, 0], seg[:, 1])
    if jaccard is not None:
        score = float(jaccard.mean()) if jaccard.size else np.nan
        return make("ctc_seg", score, per_image, _interval_of_mean(jaccard), "objects")
    interval = bootstrap_sums(
        seg[seg[:, 1] > 0], lambda sums: score_ratio(sums[..., 0], sums[..., 1])
    )
    return make("ctc_seg", interval.estimate, per_image, interval)


def _det_row(det: Scores, make: Make) -> Row:
    """Make the row of DET; costs of all frames are added up, frames are resampled."""
    costs = np.nan_to_num(det)
    # A frame without objects counts too: what was found in it is false.
    interval = bootstrap_sums(costs[costs.any(axis=1)], detection_score)
    return make("ctc_det", interval.estimate, detection_score(costs), interval)


def _score_of_terms(metric: str, terms: Scores) -> Scores:
    return score_terms(terms)[metric]


def _interval_of_mean(values: Scores) -> Interval:
    """Resample the values that are defined."""
    known = values[~np.isnan(values)]
    return bootstrap_sums(
        np.column_stack([known, np.ones_like(known)]),
        lambda sums: score_ratio(sums[..., 0], sums[..., 1]),
    )
