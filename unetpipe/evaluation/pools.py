"""What a network's test sections contribute to a pool: its own, or what all share.

With folds, sections of rows without a fold are tested by every network. They count once
for each network, so they are no part of the cross-validated pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.folds import FoldTerms, pool_terms, read_terms
from unetpipe.evaluation.object_rows import ImageTerms, pooled_object_rows
from unetpipe.evaluation.pixels import class_score_rows
from unetpipe.records.metrics import TEST, Row, Sections, SectionScores

ALL = "all"
Key = tuple[str, str]  # predictor and metric


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """What some sections add to scores.

    Attributes
    ----------
    terms : dict
        Predictor and metric -> terms of a score over thresholds.
    confusion : dict
        Predictor -> voxels, int64, shape (sections, classes, classes).
    objects : dict
        Predictor -> terms of images, and the sections of each image.
    """

    terms: dict[Key, FoldTerms] = field(default_factory=dict)
    confusion: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    objects: dict[str, tuple[ImageTerms, list[Sections]]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether they add nothing."""
        return not (self.terms or self.confusion or self.objects)


def split_scores(
    scores: SectionScores, shared: Iterable[int] | str
) -> tuple[Contribution, Contribution, bool]:
    """Return what a volume's test sections contribute, the shared ones apart.

    Parameters
    ----------
    scores : SectionScores
    shared : iterable of int, or "all"
        The sections that all networks are tested on.

    Returns
    -------
    own, shared : Contribution
    is_whole : bool
        False if objects span sections of both kinds: their scores cannot be taken
        apart, and belong to neither.
    """
    everything = shared == ALL
    numbers = frozenset() if everything else frozenset(shared)

    def is_shared(z: int) -> bool:
        return everything or z in numbers

    known = _sections(scores)
    of_all = set(filter(is_shared, known))
    own, shared_by_all = _take(scores, known - of_all), _take(scores, of_all)
    is_whole = all(
        len(set(map(is_shared, image))) == 1
        for of_predictor in scores.objects
        for image in of_predictor.images
        if of_predictor.role == TEST
    )
    return own, shared_by_all, is_whole


def _sections(scores: SectionScores) -> set[int]:
    """Return all sections that were scored."""
    of_terms = (z for one in scores.rows for z in one.sections)
    of_overlap = (z for one in scores.overlap for z in one.sections)
    of_objects = (z for one in scores.objects for image in one.images for z in image)
    return {*of_terms, *of_overlap, *of_objects}


def _take(scores: SectionScores, numbers: set[int]) -> Contribution:
    """Return what some test sections contribute, and images of these alone."""
    taken = Contribution()
    for of_metric in scores.rows:
        places = _places(((z,) for z in of_metric.sections), numbers)
        if of_metric.role == TEST and places:
            terms = read_terms(of_metric)
            key = (of_metric.predictor, of_metric.metric)
            taken.terms[key] = terms._replace(terms=terms.terms[places])
    for counted in scores.overlap:
        places = _places(((z,) for z in counted.sections), numbers)
        if counted.role == TEST and places:
            confusion = np.array(counted.confusion, np.int64)
            taken.confusion[counted.predictor] = confusion[places]
    for found in scores.objects:
        places = _places(found.images, numbers)
        if found.role == TEST and places:
            images = [found.images[place] for place in places]
            taken.objects[found.predictor] = ImageTerms.read(found, places), images
    return taken


def _places(images: Iterable[Sections], numbers: set[int]) -> list[int]:
    """Return where the images stand that are of these sections alone."""
    return [place for place, image in enumerate(images) if numbers.issuperset(image)]


def pool(contributions: Iterable[Contribution]) -> list[Row]:
    """Return the rows over all sections of some contributions.

    Counts are added up, then made into scores: of voxels, of objects, and at
    thresholds (``pool_terms``). Scores that are means over images are those of all
    images.
    """
    pooled = list(contributions)
    return [
        *_rows_over_thresholds([one.terms for one in pooled]),
        *_rows_of_overlap([one.confusion for one in pooled]),
        *_rows_of_objects([one.objects for one in pooled]),
    ]


def _rows_over_thresholds(parts: Sequence[dict[Key, FoldTerms]]) -> Iterator[Row]:
    for key in dict.fromkeys(key for part in parts for key in part):
        yield pool_terms(*key, [part[key] for part in parts if key in part])


def _rows_of_overlap(parts: Sequence[dict[str, NDArray[np.int64]]]) -> Iterator[Row]:
    for name in dict.fromkeys(name for part in parts for name in part):
        confusion = np.concatenate([part[name] for part in parts if name in part])
        yield from class_score_rows(name, confusion, None)


def _rows_of_objects(
    parts: Sequence[dict[str, tuple[ImageTerms, list[Sections]]]],
) -> Iterator[Row]:
    for name in dict.fromkeys(name for part in parts for name in part):
        found = [part[name] for part in parts if name in part]
        terms = ImageTerms.join([terms for terms, _ in found])
        yield from pooled_object_rows(
            name, terms, [z for _, each in found for z in each]
        )
