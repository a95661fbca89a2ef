"""Scores of objects, from tables of ids that boxes of a volume add to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.score_rows import make_score_row
from unetpipe.metrics.bootstrap import Interval, bootstrap_sums
from unetpipe.metrics.cell_tracking import (
    ReferenceMatches,
    detection_score,
    drop_outside,
    keep_seg_references,
    keep_seg_results,
    match_seg_references,
)
from unetpipe.metrics.contingency import ContingencyTable, TableSum
from unetpipe.metrics.curves import Scores, mean_of_defined, score_ratio
from unetpipe.metrics.instances import (
    NUM_TERMS,
    InstanceMatches,
    match_instances,
    score_terms,
)
from unetpipe.metrics.rand import information_scores, rand_scores
from unetpipe.records.metrics import Row, Sizes, Units

Labels = NDArray[np.integer[Any]]
Bool = NDArray[np.bool_]
Make = Callable[..., Row]

MATCHED = ("average_precision", "f1", "panoptic_quality")
PARTITIONS = (
    "vi_split",
    "vi_merge",
    "vi_split_bits",
    "vi_merge_bits",
    "adapted_rand_error",
)


class ImageTables:
    """The tables of one image: a section, or a volume whose objects span sections."""

    def __init__(self) -> None:
        self._known, self._void, self._markers = TableSum(), TableSum(), TableSum()
        self._in_field = np.empty(0, np.uint64)
        self._truth_in_field = np.empty(0, np.uint64)
        self._marked_in_field = np.empty(0, np.uint64)
        self._has_unlabelled = False
        self.has_markers = False

    def add(self, truth: Labels, result: Labels, unknown: Bool, field: Bool) -> None:
        """Add what a box holds of the image; see :meth:`ObjectCounts.add`."""
        truth = np.where(unknown & field, 0, truth)
        unknown = unknown | ~field
        self._has_unlabelled |= bool((unknown & field).any())
        self._known.add(ContingencyTable.from_arrays(truth, result, where=~unknown))
        if unknown.any():
            # What reaches into the field stays whole, for SEG.
            self._void.add(ContingencyTable.from_arrays(truth, result, where=unknown))
        # A table finds the ids faster than sorting all voxels.
        inside = ContingencyTable.from_arrays(truth, result, where=field)
        self._in_field = np.union1d(self._in_field, inside.result_ids)
        self._truth_in_field = np.union1d(self._truth_in_field, inside.truth_ids)

    def add_markers(self, markers: Labels, result: Labels, field: Bool) -> None:
        """Add markers, one in each cell, of a box that was added before."""
        self.has_markers = True
        self._markers.add(ContingencyTable.from_arrays(markers, result))
        inside = np.unique(markers[field]).astype(np.uint64)
        self._marked_in_field = np.union1d(self._marked_in_field, inside)

    @property
    def known(self) -> ContingencyTable:
        """Pairs of ids of the annotated voxels."""
        return self._known.table()

    @property
    def is_complete(self) -> bool:
        """Whether every voxel of the field of interest is annotated."""
        return not self._has_unlabelled

    def matches(self) -> InstanceMatches | None:
        """Match objects by IoU; None where no background is known to be background."""
        table = self.known
        if not self.is_complete and (table.truth_ids != 0).all():
            return None
        void = self._void.table()
        nothing = np.zeros_like(void.truth_ids)
        return match_instances(
            table,
            void=ContingencyTable.from_pairs(nothing, void.result_ids, void.counts),
        )

    def references(self) -> ReferenceMatches:
        """Match reference objects as the Cell Tracking Challenge does for SEG."""
        whole = keep_seg_references(
            self.known + self._void.table(), self._truth_in_field
        )
        return match_seg_references(keep_seg_results(whole, self._in_field))

    def detections(self) -> ReferenceMatches | None:
        """Match markers, or the objects of a complete image, as it does for DET."""
        if self.has_markers:
            table = keep_seg_results(self._markers.table(), self._in_field)
            return match_seg_references(drop_outside(table, self._marked_in_field))
        return self.references() if self.is_complete else None


class ObjectCounts:
    """Counts which ids of result and truth meet, image by image, box by box.

    Parameters
    ----------
    by_section : bool
        Each section is an image of its own; False: all sections are one volume.
    """

    def __init__(self, *, by_section: bool) -> None:
        self.by_section = by_section
        self._images: dict[int, ImageTables] = {}
        self._sections: set[int] = set()

    def add(
        self, number: int, truth: Labels, result: Labels, unknown: Bool, field: Bool
    ) -> None:
        """Count what a box holds of one section, all arrays of shape (y, x).

        Parameters
        ----------
        number : int
            Of the section.
        truth, result : integer arrays
            Ids; 0 is background.
        unknown : bool array
            Voxels that nobody annotated; what ``truth`` holds there does not matter.
        field : bool array
            The field of interest of the Cell Tracking Challenge: nobody annotated what
            lies outside. Only SEG knows the parts outside of what reaches into it.
        """
        if not unknown.all():
            self._sections.add(number)
        self._image(number).add(truth, result, unknown, field)

    def add_markers(
        self, number: int, markers: Labels, result: Labels, field: Bool
    ) -> None:
        """Count what a box holds of one section against markers, one in each object.

        Markers outside the field of interest count for nothing, nor does an object
        that has no other one.
        """
        self._sections.add(number)
        self._image(number).add_markers(markers, result, field)

    @property
    def numbers(self) -> list[int]:
        """Sections with annotated voxels or markers, rising."""
        return sorted(self._sections)

    def rows(self, predictor: str, threshold: float | None) -> Iterator[Row]:
        """Yield all scores of objects; the threshold is told, not used."""
        images = self._scored()
        make = partial(self._make, predictor, threshold)
        yield from _matched_rows([image.matches() for image in images], make)
        yield from _partition_rows(images, make)
        yield _seg_row([image.references() for image in images], make)
        yield _det_row([image.detections() for image in images], make)

    def sizes(self) -> Sizes:
        """Count true and predicted objects by size: 1, 2-3, 4-7, ... voxels."""
        truth, result = np.zeros(64, np.int64), np.zeros(64, np.int64)
        for image in self._scored():
            table = image.known
            for total, (ids, sizes) in (
                (truth, table.truth_sizes()),
                (result, table.result_sizes()),
            ):
                octaves = np.log2(sizes[ids != 0]).astype(np.int64)
                total += np.bincount(octaves, minlength=64)
        last = int(np.flatnonzero(truth + result).max(initial=0)) + 1
        return Sizes(
            truth=tuple(truth[:last].tolist()), result=tuple(result[:last].tolist())
        )

    def _image(self, number: int) -> ImageTables:
        return self._images.setdefault(number if self.by_section else 0, ImageTables())

    def _scored(self) -> list[ImageTables]:
        if not self.by_section:
            return list(self._images.values())
        return [self._images[number] for number in self.numbers]

    def _make(
        self,
        predictor: str,
        threshold: float | None,
        metric: str,
        score: float,
        per_image: Scores,
        interval: Interval | None,
        units: Units = "sections",
    ) -> Row:
        """Make a row; a volume has one image and no sections to list."""
        num_scored = int((~np.isnan(per_image)).sum())
        return make_score_row(
            predictor,
            metric,
            chosen=(threshold, score),
            per_section=per_image if self.by_section else None,
            interval=interval,
            units=units if self.by_section or units == "objects" else "volumes",
            num_sections=num_scored if self.by_section else len(self.numbers),
        )


def _matched_rows(
    matches: Sequence[InstanceMatches | None], make: Make
) -> Iterator[Row]:
    """Yield AP, F1 and PQ; resample images, or the objects of a single one."""
    known = [match for match in matches if match is not None]
    each = [match.terms() for match in known]
    terms = np.concatenate([np.empty((0, NUM_TERMS)), *each])
    units: Units = "sections"
    resampled = terms
    if len(known) == 1:
        units, resampled = "objects", known[0].terms(by_object=True)
    scores = score_terms(terms)
    for metric in MATCHED:
        per_image = np.full(len(matches), np.nan)
        per_image[[match is not None for match in matches]] = scores[metric]
        if metric == "average_precision" and units == "sections":
            interval = _interval_of_mean(per_image)
        else:
            interval = bootstrap_sums(resampled, partial(_score_of_terms, metric))
        yield make(metric, interval.estimate, per_image, interval, units)


def _partition_rows(images: Sequence[ImageTables], make: Make) -> Iterator[Row]:
    """Yield the scores of partitions, inside the objects of the truth."""
    scores = np.full((len(images), len(PARTITIONS)), np.nan)
    for index, image in enumerate(images):
        information = information_scores(image.known)
        scores[index] = (
            *(
                getattr(information, name.removeprefix("vi_"))
                for name in PARTITIONS[:4]
            ),
            rand_scores(image.known).error,
        )
    for metric, per_image in zip(PARTITIONS, scores.T, strict=True):
        score = float(mean_of_defined(per_image))
        yield make(metric, score, per_image, _interval_of_mean(per_image))


def _seg_row(references: Sequence[ReferenceMatches], make: Make) -> Row:
    """Make the row of SEG; all reference objects count alike, and are resampled."""
    jaccard = ReferenceMatches.pooled(references).jaccard
    return make(
        "ctc_seg",
        float(jaccard.mean()) if jaccard.size else np.nan,
        np.array([frame.seg for frame in references]),
        _interval_of_mean(jaccard),
        "objects",
    )


def _det_row(frames: Sequence[ReferenceMatches | None], make: Make) -> Row:
    """Make the row of DET; costs of all frames are added up, frames are resampled."""
    costs = np.array(
        [frame.costs if frame is not None else (0, 0) for frame in frames], np.float64
    ).reshape(-1, 2)
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
