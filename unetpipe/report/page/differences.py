"""Networks beside each other: what changed in the recipe, in scores, in sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetpipe.metrics.bootstrap import Interval, bootstrap_sums
from unetpipe.records.metrics import OURS, TEST, Row
from unetpipe.report.page.run import Network, Result
from unetpipe.report.page.text import HEADLINE, METRICS

Cells = list[str]

ABSENT = "not set"
# What names a result rather than says how it was made, or is told elsewhere.
NO_SETTING = ("code", "train", "validate", "weights_sha256", "statistics", "content")


@dataclass(frozen=True, slots=True)
class Compared:
    """A network, and what it made of each volume, by name."""

    network: Network
    results: dict[str, Result]

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network.name


@dataclass(frozen=True, slots=True)
class Difference:
    """How another network's score differs from the reference's, on the same sections.

    Attributes
    ----------
    volume, role, metric : str
    better : "higher" or "lower"
    reference, other : float or None
        As reported: pooled over all sections of each network.
    interval : Interval
        Of the mean difference of single sections, other minus reference, paired.
    """

    volume: str
    role: str
    metric: str
    better: str
    reference: float | None
    other: float | None
    interval: Interval

    @property
    def verdict(self) -> str:
        """Whether the interval leaves 0 out, and on which side."""
        low, high = self.interval.low, self.interval.high
        if not (low > 0 or high < 0):
            return "no clear difference"
        return "better" if (low > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True, slots=True)
class SectionChange:
    """The leading score of one section by both networks.

    ``change`` is negative where the other network is worse.
    """

    volume: str
    z: int
    role: str
    metric: str
    reference: float
    other: float
    change: float


def changed_settings(networks: Sequence[Compared]) -> dict[str, Cells]:
    """Return the settings that are not the same in all recipes, one text a network."""
    flat = [dict(_flatten(_recipe(network))) for network in networks]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = {key: [settings.get(key, ABSENT) for settings in flat] for key in keys}
    return {key: cells for key, cells in rows.items() if len(set(cells)) > 1}


def score_differences(reference: Compared, other: Compared) -> Iterator[Difference]:
    """Yield the differences of all scores that both have of the same sections."""
    for volume, role, row, sections in _rows(reference):
        found = _find(other, volume, role, row.metric)
        if found is None:
            continue
        theirs, their_sections = found
        pairs = _paired(row, sections, theirs, their_sections)
        if pairs:
            gaps = np.array([[b - a, 1.0] for _, a, b in pairs])
            yield Difference(
                volume,
                role,
                row.metric,
                row.better,
                row.score,
                theirs.score,
                bootstrap_sums(gaps, lambda sums: sums[..., 0] / sums[..., 1]),
            )


def section_changes(reference: Compared, other: Compared) -> list[SectionChange]:
    """Return all sections that both scored, those that got worst first."""
    changes = []
    scored = (one.metrics for one in reference.results.values())
    leading = next((found.leading for found in scored if found), ()) or HEADLINE
    for metric in leading:
        for volume, role, row, sections in _rows(reference):
            found = _find(other, volume, role, metric)
            if row.metric != metric or found is None:
                continue
            sign = 1 if row.better == "higher" else -1
            changes += [
                SectionChange(volume, z, role, metric, a, b, sign * (b - a))
                for z, a, b in _paired(row, sections, *found)
            ]
        if changes:
            break
    return sorted(changes, key=lambda c: (c.change, c.volume, c.z))


def shared_volumes(reference: Compared, other: Compared) -> tuple[list[str], list[str]]:
    """Return the volumes of both: of equal voxels, and of equal names alone."""
    same: list[str] = []
    unlike: list[str] = []
    for volume, result in reference.results.items():
        if volume in other.results:
            theirs = other.results[volume]
            equal = _input_of(result) == _input_of(theirs)
            (same if equal else unlike).append(volume)
    return same, unlike


def _rows(compared: Compared) -> Iterator[tuple[str, str, Row, tuple[int, ...]]]:
    """Yield the network's own rows with scores of single sections, in order."""
    order = list(METRICS)
    for volume, result in compared.results.items():
        tables = result.metrics.all_tables if result.metrics else ()
        for table in sorted(tables, key=lambda table: table.role != TEST):
            rows = [row for row in table.rows if row.predictor == OURS]
            rows.sort(key=lambda r: order.index(r.metric) if r.metric in order else 99)
            for row in rows:
                if row.per_section and row.chosen:
                    yield volume, table.role, row, table.sections


def _find(
    compared: Compared, volume: str, role: str, metric: str
) -> tuple[Row, tuple[int, ...]] | None:
    for found, in_role, row, sections in _rows(compared):
        if (found, in_role, row.metric) == (volume, role, metric):
            return row, sections
    return None


def _paired(
    ours: Row, sections: Sequence[int], theirs: Row, their_sections: Sequence[int]
) -> list[tuple[int, float, float]]:
    """Return section, reference's and other's score where both are defined."""
    known = dict(zip(their_sections, theirs.per_section or (), strict=True))
    return [
        (z, score, other)
        for z, score in zip(sections, ours.per_section or (), strict=True)
        if score is not None and (other := known.get(z)) is not None
    ]


def _input_of(result: Result) -> str:
    return result.prediction.identity.input_sha256


def _recipe(compared: Compared) -> dict[str, Any]:
    """Return how weights, predictions and segmentations were made."""
    recipe = compared.network.description.recipe
    learnt = {
        "train": compared.network.learnt("train"),
        "validate": compared.network.learnt("validate"),
    }
    made: dict[str, Any] = {
        "training": recipe.to_json() if recipe else {},
        "learnt from": {
            role: {row.volume: f"{len(row.sections)} sections" for row in rows}
            for role, rows in learnt.items()
        },
    }
    for first in list(compared.results.values())[:1]:
        made["prediction"] = first.prediction.identity.to_json()
        made["segmentation"] = first.segmentation.identity.settings.to_json()
    return made


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            if key not in NO_SETTING or path == "learnt from":
                yield from _flatten(inside, f"{path}.{key}" if path else key)
    else:
        yield path, _as_text(value)


def _as_text(value: Any) -> str:
    """Return a setting without the dust of floating point."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return ABSENT if value is None else str(value)
