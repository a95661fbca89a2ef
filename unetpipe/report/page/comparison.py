"""Networks beside each other: what changed in the recipe, in scores, in sections.

A *network* is a dictionary: ``name``, ``description`` (``model.json``), ``record``
(``train.json``) and ``predicted``: by volume the records ``plan``, ``prediction``,
``segmentation`` and ``metrics``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetpipe.metrics.bootstrap import Interval, bootstrap_sums
from unetpipe.report.page.tables import shown_score
from unetpipe.report.page.text import HEADLINE, METRICS, OURS

Record = dict[str, Any]
Cells = list[str]

ABSENT = "not set"
# What names a result rather than says how it was made, or is told elsewhere.
NO_SETTING = ("code", "train", "validate", "weights_sha256", "statistics", "content")


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


def changed_settings(networks: Sequence[Record]) -> dict[str, Cells]:
    """Return the settings that are not the same in all recipes, one text a network."""
    flat = [dict(_flatten(_recipe(network))) for network in networks]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = {key: [settings.get(key, ABSENT) for settings in flat] for key in keys}
    return {key: cells for key, cells in rows.items() if len(set(cells)) > 1}


def differences(reference: Record, other: Record) -> Iterator[Difference]:
    """Yield the differences of all scores that both have of the same sections."""
    for volume, role, row, sections in _rows(reference):
        found = _find(other, volume, role, row["metric"])
        if found is None:
            continue
        theirs, their_sections = found
        pairs = _paired(row, sections, theirs, their_sections)
        if pairs:
            gaps = np.array([[b - a, 1.0] for _, a, b in pairs])
            yield Difference(
                volume,
                role,
                row["metric"],
                row["better"],
                shown_score(row),
                shown_score(theirs),
                bootstrap_sums(gaps, lambda sums: sums[..., 0] / sums[..., 1]),
            )


def section_changes(reference: Record, other: Record) -> list[SectionChange]:
    """Return all sections that both scored, those that got worst first."""
    changes = []
    for metric in HEADLINE:
        for volume, role, row, sections in _rows(reference):
            found = _find(other, volume, role, metric)
            if row["metric"] != metric or found is None:
                continue
            sign = 1 if row["better"] == "higher" else -1
            changes += [
                SectionChange(volume, z, role, metric, a, b, sign * (b - a))
                for z, a, b in _paired(row, sections, *found)
            ]
        if changes:
            break
    return sorted(changes, key=lambda c: (c.change, c.volume, c.z))


def shared_volumes(reference: Record, other: Record) -> tuple[list[str], list[str]]:
    """Return the volumes of both: of equal voxels, and of equal names alone."""
    same: list[str] = []
    unlike: list[str] = []
    for volume, predicted in reference["predicted"].items():
        if volume in other["predicted"]:
            theirs = other["predicted"][volume]
            equal = _input_of(predicted) == _input_of(theirs)
            (same if equal else unlike).append(volume)
    return same, unlike


def _rows(network: Record) -> Iterator[tuple[str, str, Record, list[int]]]:
    """Yield the network's own rows with scores of single sections, in order."""
    order = list(METRICS)
    for volume, predicted in network["predicted"].items():
        metrics = predicted["metrics"]
        if metrics is None:
            continue
        tables = metrics["tables"] + metrics["objects"]
        for table in sorted(tables, key=lambda t: t["role"] != "test"):
            rows = [r for r in table["rows"] if r["predictor"] == OURS]
            rows.sort(
                key=lambda r: order.index(r["metric"]) if r["metric"] in order else 99
            )
            for row in rows:
                if row["per_section"]:
                    yield volume, table["role"], row, table["sections"]


def _find(
    network: Record, volume: str, role: str, metric: str
) -> tuple[Record, list[int]] | None:
    for found, in_role, row, sections in _rows(network):
        if (found, in_role, row["metric"]) == (volume, role, metric):
            return row, sections
    return None


def _paired(
    ours: Record, sections: list[int], theirs: Record, their_sections: list[int]
) -> list[tuple[int, float, float]]:
    """Return section, reference's and other's score where both are defined."""
    known = dict(zip(their_sections, theirs["per_section"], strict=True))
    return [
        (z, float(score), float(known[z]))
        for z, score in zip(sections, ours["per_section"], strict=True)
        if score is not None and known.get(z) is not None
    ]


def _input_of(predicted: Record) -> Any:
    return predicted["prediction"]["identity"].get("input_sha256")


def _recipe(network: Record) -> Record:
    """Return how weights, predictions and segmentations were made."""
    recipe = network["description"].get("recipe", {})
    learnt = {
        role: {
            row["volume"]: f"{len(row['sections'])} sections"
            for row in recipe.get(role, ())
        }
        for role in ("train", "validate")
    }
    made = {"training": recipe, "learnt from": learnt}
    for first in list(network["predicted"].values())[:1]:
        cut = {"threshold": first["segmentation"]["threshold"]}
        made["prediction"] = first["prediction"]["identity"]
        made["segmentation"] = cut | first["segmentation"]["identity"]["settings"]
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
