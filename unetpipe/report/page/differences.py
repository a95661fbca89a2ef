"""Networks beside each other: what changed in the recipe, in scores, in sections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from unetpipe.metrics.bootstrap import Interval, bootstrap_sums
from unetpipe.records.metrics import OURS, TEST, Row, Table
from unetpipe.report.page.run import Network, Result
from unetpipe.report.page.text import HEADLINE, METRICS
from unetpipe.runtime.text import count_noun

Cells = list[str]

ABSENT = "not set"
PLACES = {metric: place for place, metric in enumerate(METRICS)}
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
        Of the mean difference of single sections, or volumes, other minus reference,
        paired.
    units : "sections" or "volumes"
        What is paired; of volumes the scores are means.
    """

    volume: str
    role: str
    metric: str
    better: str
    reference: float | None
    other: float | None
    interval: Interval
    units: Literal["sections", "volumes"] = "sections"

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
    for pair in _pairs(reference, other):
        if pair.by_section:
            yield Difference(
                pair.volume,
                pair.role,
                pair.ours.metric,
                pair.ours.better,
                pair.ours.score,
                pair.theirs.score,
                _interval_of_mean([b - a for _, a, b in pair.by_section]),
            )


def volume_differences(reference: Compared, other: Compared) -> Iterator[Difference]:
    """Yield the differences of all scores over volumes, where both have several.

    Each volume counts once: by the mean difference of its sections, or, where objects
    span sections, by that of its scores. ``reference`` and ``other`` are means of the
    volumes' scores.
    """
    by_score: dict[tuple[str, str], list[_Pair]] = {}
    for pair in _pairs(reference, other):
        if pair.gap is not None:
            by_score.setdefault((pair.role, pair.ours.metric), []).append(pair)
    for role, metric in sorted(by_score, key=_place):
        pairs = by_score[role, metric]
        if len(pairs) > 1:
            yield Difference(
                count_noun(len(pairs), "volume"),
                role,
                metric,
                pairs[0].ours.better,
                _mean_score([pair.ours for pair in pairs]),
                _mean_score([pair.theirs for pair in pairs]),
                _interval_of_mean([pair.gap for pair in pairs if pair.gap is not None]),
                units="volumes",
            )


def section_changes(reference: Compared, other: Compared) -> list[SectionChange]:
    """Return all sections that both scored, those that got worst first."""
    changes: list[SectionChange] = []
    scored = (one.metrics for one in reference.results.values())
    leading = next((found.leading for found in scored if found), ()) or HEADLINE
    pairs = list(_pairs(reference, other))
    for metric in leading:
        for pair in pairs:
            if pair.ours.metric == metric:
                changes += _changes_of(pair)
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


@dataclass(frozen=True, slots=True)
class _Pair:
    """One score of a volume by both networks.

    ``by_section`` are section, reference's and other's score, where both are defined;
    ``gap`` is the difference of the volume, None where they did not score the same.
    """

    volume: str
    role: str
    ours: Row
    theirs: Row
    by_section: list[tuple[int, float, float]]
    gap: float | None


def _pairs(reference: Compared, other: Compared) -> Iterator[_Pair]:
    """Yield all scores that both have, volume by volume, in the order of pages."""
    known = {(v, t.role, row.metric): (t, row) for v, t, row in _rows(other)}
    for volume, table, row in _rows(reference):
        found = known.get((volume, table.role, row.metric))
        if found:
            theirs, their_row = found
            pairs = _paired(table, row, theirs, their_row)
            gap = float(np.mean([b - a for _, a, b in pairs])) if pairs else None
            if not (row.per_section or their_row.per_section):
                gap = _gap_of_scores(table, row, theirs, their_row)
            yield _Pair(volume, table.role, row, their_row, pairs, gap)


def _gap_of_scores(
    table: Table, ours: Row, their_table: Table, theirs: Row
) -> float | None:
    """Return the difference of a volume's scores, if of the same sections."""
    if table.sections != their_table.sections:
        return None
    if ours.score is None or theirs.score is None:
        return None
    return theirs.score - ours.score


def _changes_of(pair: _Pair) -> list[SectionChange]:
    sign = 1 if pair.ours.better == "higher" else -1
    return [
        SectionChange(pair.volume, z, pair.role, pair.ours.metric, a, b, sign * (b - a))
        for z, a, b in pair.by_section
    ]


def _rows(compared: Compared) -> Iterator[tuple[str, Table, Row]]:
    """Yield the network's own rows with a chosen score, in order."""
    for volume, result in compared.results.items():
        tables = result.metrics.all_tables if result.metrics else ()
        for table in sorted(tables, key=lambda table: table.role != TEST):
            rows = [row for row in table.rows if row.predictor == OURS and row.chosen]
            for row in sorted(rows, key=lambda row: _place((table.role, row.metric))):
                yield volume, table, row


def _place(score: tuple[str, str]) -> tuple[bool, int]:
    """Return where the score of a role stands: tests first, then as on all pages."""
    role, metric = score
    return role != TEST, PLACES.get(metric, len(PLACES))


def _paired(
    table: Table, ours: Row, their_table: Table, theirs: Row
) -> list[tuple[int, float, float]]:
    """Return section, reference's and other's score where both are defined."""
    if not (ours.per_section and theirs.per_section):
        return []
    known = dict(zip(their_table.sections, theirs.per_section, strict=True))
    return [
        (z, score, other)
        for z, score in zip(table.sections, ours.per_section, strict=True)
        if score is not None and (other := known.get(z)) is not None
    ]


def _interval_of_mean(gaps: Sequence[float]) -> Interval:
    """Return the mean of some differences, with its interval."""
    return bootstrap_sums(
        np.array([[gap, 1.0] for gap in gaps]), lambda sums: sums[..., 0] / sums[..., 1]
    )


def _mean_score(rows: Sequence[Row]) -> float | None:
    scores = [row.score for row in rows if row.score is not None]
    return float(np.mean(scores)) if scores else None


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
    """Return a setting without the dust of floating point.

    Examples
    --------
    >>> _as_text((0.8093230128288269, 2.0)), _as_text(None)
    ('[0.809323, 2]', 'not set')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_text, value))}]"
    return ABSENT if value is None else str(value)
