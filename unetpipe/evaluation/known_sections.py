"""The annotated sections that choose what a network has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self, TypedDict

import numpy as np

from unetpipe.evaluation.baselines import (
    LOCAL,
    GreyRule,
    GreySection,
    baseline_channel,
    choose_baselines,
)
from unetpipe.evaluation.scored_volume import ScoredRow, ScoredVolume
from unetpipe.records.metrics import Baseline, Role
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_of
from unetpipe.segmentation.components import label_components
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import Roi, whole_volume

MOST_SECTIONS = 4  # of a role, from all over
SIDE = 768  # voxels of their middle


# A volume, one of its sections, and what is read of it along y and x.
Place = tuple[IngestedVolume, int, tuple[slice, slice]]


class LearntRow(TypedDict):
    """A row of the sheet that a network learnt from, as the workflow tells it."""

    ingest: str
    role: str
    sections: list[int] | None


@dataclass(frozen=True, slots=True)
class ChosenRules:
    """What grey values alone are scored by, and how many sections chose it."""

    rules: tuple[GreyRule, ...] = ()
    num_sections: int = 0
    channel: int = 0  # of the image, whose grey values they see

    def describe(self) -> tuple[Baseline, ...]:
        """Return the rules as they go into ``metrics.json``."""
        return tuple(
            Baseline(
                predictor=rule.name,
                channel=self.channel,
                is_bright=rule.is_bright,
                sigma_vox=rule.sigma_vox,
                block_vox=rule.block_vox if rule.kind == LOCAL else None,
                offset=rule.offset if rule.kind == LOCAL else None,
                num_sections=self.num_sections,
            )
            for rule in self.rules
        )


def chosen_baselines(
    volume: ScoredVolume, rows: Sequence[ScoredRow], learnt: Sequence[LearntRow]
) -> ChosenRules:
    """Return what grey values alone should be scored by on a volume.

    Parameters
    ----------
    volume : ScoredVolume
    rows : sequence of ScoredRow
        Of this volume; its validation rows choose where ``learnt`` has none.
    learnt : sequence of LearntRow
        What the network learnt from and was chosen by, of any volumes.
    """
    if volume.num_classes > 2:
        return ChosenRules()
    asked = _Asked(
        volume.records.volume.num_channels, volume.has_ids, volume.chosen_by or "dice"
    )
    read = tuple(map(_LearntSections.of, learnt))
    if shared := _chosen_by_learnt(read, asked):
        return shared
    role: Role = "validate"
    own = _places(volume.records.volume, volume.roles(list(rows)).get(role, []))
    return _choose(_places_of(read, "train"), own, asked)


class _Asked(NamedTuple):
    num_channels: int
    has_ids: bool
    by: str


class _LearntSections(NamedTuple):
    """A row that was learnt from, and what its volume was when it was looked at."""

    ingest: Path
    record_sha256: str
    role: str
    sections: tuple[int, ...] | None

    @classmethod
    def of(cls, row: LearntRow) -> Self:
        path, sections = Path(row["ingest"]), row["sections"]
        numbers = None if sections is None else tuple(sections)
        return cls(
            path, hash_of(IngestedVolume.read(path).to_json()), row["role"], numbers
        )


@lru_cache(maxsize=4)
def _chosen_by_learnt(
    learnt: tuple[_LearntSections, ...], asked: _Asked
) -> ChosenRules | None:
    """Return the rules that all volumes of a network share, each of which asks here.

    None where the network was chosen by no section that a mask is made of.
    """
    validate = _places_of(learnt, "validate")
    return _choose(_places_of(learnt, "train"), validate, asked) if validate else None


def _choose(
    train: Sequence[Place], validate: Sequence[Place], asked: _Asked
) -> ChosenRules:
    channel = 0
    if asked.num_channels > 1:
        shown, channels = train or validate, range(asked.num_channels)
        channel = baseline_channel([list(_read(shown, c)) for c in channels])
    judging, choosing = (list(_read(places, channel)) for places in (train, validate))
    rules = choose_baselines(judging, choosing, has_ids=asked.has_ids, by=asked.by)
    return ChosenRules(rules, len(choosing), channel)


def _places_of(learnt: Iterable[_LearntSections], role: str) -> list[Place]:
    """Return the sections of a role, of volumes whose labels a mask is made of."""
    places = []
    for row in learnt:
        if row.role != role:
            continue
        volume = IngestedVolume.read(row.ingest)
        if volume.labels and volume.labels.label_kind != "classes":
            places += _places(volume, row.sections or range(volume.shape[0]))
    return places


def _places(volume: IngestedVolume, numbers: Iterable[int]) -> list[Place]:
    """Return the middle of some sections, or of each box of labels in them."""
    boxes = volume.labels.rois if volume.labels else None
    return [
        (volume, z, _middle(box))
        for z in numbers
        for box in boxes or [whole_volume(volume.shape)]
        if box.start[0] <= z < box.stop[0]
    ]


def _read(places: Sequence[Place], channel: int) -> Iterator[GreySection]:
    """Yield a channel of a few of some places, those with annotated voxels."""
    wanted = np.linspace(0, len(places) - 1, MOST_SECTIONS).round().astype(int)
    for place in dict.fromkeys(wanted.tolist()) if places else ():
        volume, z, middle = places[place]
        labels = volume.labels
        if labels is None:
            continue
        truth: Any = np.asarray(open_volume(labels.store)[(z, *middle)])
        unknown = np.zeros(truth.shape, bool)
        if labels.unlabelled is not None:
            unknown = truth == labels.unlabelled
            truth = np.where(unknown, np.zeros((), truth.dtype), truth)
        if unknown.all():
            continue
        if labels.label_kind == "binary":
            truth = label_components(truth[None] > 0, "2d")[0][0]
        grey = np.asarray(open_volume(volume.image.store)[(channel, z, *middle)])
        yield GreySection(grey, truth, unknown)


def _middle(box: Roi) -> tuple[slice, slice]:
    y, x = (
        slice(
            max(first, (first + stop - SIDE) // 2),
            min(stop, max(first, (first + stop - SIDE) // 2) + SIDE),
        )
        for first, stop in zip(box.start[1:], box.stop[1:], strict=True)
    )
    return y, x
