"""Scores of objects, from tables of ids that boxes of a volume add to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.object_rows import PARTITIONS, ImageTerms, object_score_rows
from unetpipe.evaluation.score_rows import make_score_row
from unetpipe.metrics.bootstrap import Interval
from unetpipe.metrics.cell_tracking import (
    ReferenceMatches,
    drop_outside,
    keep_seg_references,
    keep_seg_results,
    match_seg_references,
)
from unetpipe.metrics.contingency import ContingencyTable, TableSum
from unetpipe.metrics.curves import Scores
from unetpipe.metrics.instances import NUM_TERMS, InstanceMatches, match_instances
from unetpipe.metrics.rand import information_scores, rand_scores
from unetpipe.records.metrics import ObjectTerms, Role, Row, Sizes, Units

Labels = NDArray[np.integer[Any]]
Bool = NDArray[np.bool_]


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
        self._terms: ImageTerms | None = None

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
        yield from object_score_rows(
            self._counted, partial(self._make, predictor, threshold)
        )

    def describe(self, role: Role, predictor: str) -> ObjectTerms:
        """Return what each image contributes, as ``section_scores.json`` has it."""
        numbers, counted = self.numbers, self._counted
        images = [(z,) for z in numbers] if self.by_section else [tuple(numbers)]
        return counted.describe(role, predictor, images[: len(counted.matched)])

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

    @property
    def _counted(self) -> ImageTerms:
        """What the images contribute: matched once for rows and record."""
        if self._terms is None:
            self._terms = _terms_of(self._scored())
        return self._terms

    def _image(self, number: int) -> ImageTables:
        self._terms = None
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


def _terms_of(images: Sequence[ImageTables]) -> ImageTerms:
    """Return what images contribute to their scores, and what single objects do."""
    matched = np.full((len(images), NUM_TERMS), np.nan)
    partitions = np.full((len(images), len(PARTITIONS)), np.nan)
    det = np.full((len(images), 2), np.nan)
    matches = [image.matches() for image in images]
    references = [image.references() for image in images]
    for k, image in enumerate(images):
        if (match := matches[k]) is not None:
            matched[k] = match.terms()[0]
        information = information_scores(image.known)
        partitions[k] = (
            *(
                getattr(information, name.removeprefix("vi_"))
                for name in PARTITIONS[:4]
            ),
            rand_scores(image.known).error,
        )
        if (detections := image.detections()) is not None:
            det[k] = detections.costs
    known = [match for match in matches if match is not None]
    return ImageTerms(
        matched,
        partitions,
        np.array([(r.jaccard.sum(), r.num_objects) for r in references]).reshape(-1, 2),
        det,
        by_object=known[0].terms(by_object=True) if len(known) == 1 else None,
        jaccard=ReferenceMatches.pooled(references).jaccard,
    )
