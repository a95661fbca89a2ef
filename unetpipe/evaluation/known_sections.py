"""The annotated sections that choose what a network has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

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
    places = {
        role: _places_of([row for row in learnt if row["role"] == role])
        for role in ("train", "validate")
    }
    if not places["validate"]:
        role: Role = "validate"
        numbers = volume.roles(list(rows)).get(role, [])
        places["validate"] = _places(volume.records.volume, numbers)
    num_channels = volume.records.volume.num_channels
    channel = 0
    if num_channels > 1:
        shown = places["train"] or places["validate"]
        channel = baseline_channel([list(_read(shown, c)) for c in range(num_channels)])
    sections = {role: list(_read(places[role], channel)) for role in places}
    rules = choose_baselines(
        sections["train"],
        sections["validate"],
        has_ids=volume.has_ids,
        by=volume.chosen_by or "dice",
    )
    return ChosenRules(rules, len(sections["validate"]), channel)


def _places_of(rows: Sequence[LearntRow]) -> list[Place]:
    """Return the sections of some rows, of volumes whose labels a mask is made of."""
    places = []
    for row in rows:
        volume = IngestedVolume.read(Path(row["ingest"]))
        if volume.labels and volume.labels.label_kind != "classes":
            numbers = row["sections"] or range(volume.shape[0])
            places += _places(volume, numbers)
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
