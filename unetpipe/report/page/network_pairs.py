"""Networks and pairs of networks as the template of the comparison shows them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import isnan
from typing import Any, TypeVar

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.comparison import Comparison, Shared, Spread, SpreadRow, Variant
from unetpipe.records.metrics import OURS, Row, Table
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.differences import (
    Compared,
    Difference,
    SectionChange,
    score_differences,
    section_changes,
    shared_volumes,
    volume_differences,
)
from unetpipe.report.page.members import describe_ensemble
from unetpipe.report.page.section_viewer import Picture, SectionViewer
from unetpipe.report.page.text import METRICS, format_score, metric_label
from unetpipe.runtime.text import count_in_words, count_noun, describe_seconds

Shown = dict[str, Any]
T = TypeVar("T", Variant, Shared)

MOST_LISTED = 12
FEW = 6  # pairs: fewer that all differ one way do so by chance in one of 16 cases
MOST_PICTURED = 3
SIDE = 512  # pixels: four pictures stand side by side


def show_networks(networks: Sequence[Compared]) -> Shown:
    """Return one row for each network, volume and role, with all scores of sections."""
    names = {
        metric
        for compared in networks
        for _, _, ours in _tables(compared)
        for metric in ours
    }
    metrics = _shown_metrics(names)
    return {
        "metrics": [metric_label(metric) for metric in metrics],
        "networks": [_show_network(network, metrics) for network in networks],
    }


def show_pooled(record: Comparison) -> list[Shown]:
    """Return the variants as lines: one a score and variant, folds together."""
    return [
        line | {"folds": len([fold for fold in compared.folds if fold])}
        for compared, line, _ in _lines(record.variants)
    ]


def show_shared(record: Comparison) -> Shown | None:
    """Return the scores on what all networks were tested on.

    None where there is nothing of the kind: without folds, or without such sections.
    """
    lines = []
    for compared, line, metric in _lines(record.shared):
        rows = compared.ensemble.rows if compared.ensemble else ()
        own = {row.metric: row for row in rows if row.predictor == OURS}
        told = format_score(own[metric].score) if metric in own else ""
        lines.append(line | {"ensemble": told})
    if not lines:
        return None
    return {
        "volumes": sorted({v for one in record.shared for v in one.volumes}),
        "has_ensemble": any(line["ensemble"] for line in lines),
        "lines": lines,
    }


def _shown_metrics(names: Iterable[str]) -> list[str]:
    """Return which of some metrics are shown, in the order of all pages."""
    found = set(names)
    overlap = sorted(name for name in found if name.endswith("_class_1"))
    return [name for name in METRICS if name in found] + overlap[:2]


def _lines(tables: Sequence[T]) -> Iterator[tuple[T, Shown, str]]:
    """Yield the network's own scores as a reader likes them, score by score."""
    ours = [
        {row.metric: row for row in table.rows if row.predictor == OURS}
        for table in tables
    ]
    for metric in _shown_metrics(name for rows in ours for name in rows):
        for table, rows in zip(tables, ours, strict=True):
            row = rows.get(metric)
            if row and row.chosen:
                yield table, _show_line(row, row.chosen, table.variant), metric


def _show_line(row: SpreadRow, shown: Spread, variant: str) -> Shown:
    low, high = format_score(shown.lowest), format_score(shown.highest)
    return {
        "metric": metric_label(row.metric),
        "better": row.better,
        "variant": variant or "all networks",
        "score": format_score(shown.score),
        "n": shown.n,
        "num_sections": row.num_sections,
        "range": f"{low} to {high}" if shown.n > 1 else "",
        "difference": "" if shown.difference is None else _signed(shown.difference),
    }


def show_pair(
    reference: Compared,
    other: Compared,
    volumes: dict[str, IngestedVolume],
    *,
    with_pictures: bool,
) -> Shown:
    """Return differences, sections and pictures of two networks.

    Parameters
    ----------
    reference, other : Compared
    volumes : dict
        Volumes by name.
    with_pictures : bool
        Show the sections that got worst.
    """
    same, _ = shared_volumes(reference, other)
    pair = [_only(network, same) for network in (reference, other)]
    changes = section_changes(*pair)
    worse = [change for change in changes if change.change < 0]
    lines = [_show_change(change) for change in changes]
    over_volumes = list(volume_differences(*pair))
    told = {(d.role, d.metric) for d in over_volumes}
    each = [
        d
        for d in score_differences(*pair)
        if d.interval.n > 1 or (d.role, d.metric) not in told
    ]
    num_classes = other.network.num_classes
    return {
        "reference": reference.name,
        "other": other.name,
        "num_classes": num_classes,
        "differences": [_show_difference(d) for d in over_volumes or each],
        "each": [_show_difference(d) for d in each] if over_volumes else [],
        "over_volumes": bool(over_volumes),
        "has_few": any(1 < d.interval.n < FEW for d in (*over_volumes, *each)),
        "counted": f"{count_noun(len(worse), 'section')} of {len(changes)} got worse.",
        "first": lines[:MOST_LISTED],
        "rest": lines[MOST_LISTED:],
        "panels": [
            _show_side_by_side(change, pair, volumes)
            for change in worse[: MOST_PICTURED * with_pictures]
        ],
    }


def _show_difference(difference: Difference) -> Shown:
    interval, unit = difference.interval, difference.units.removesuffix("s")
    told = f"one {unit}"
    if not isnan(interval.low):
        told = f"{_signed(interval.low)} to {_signed(interval.high)}"
    return {
        "of": f"{difference.volume}, {difference.role}",
        "metric": metric_label(difference.metric),
        "better": difference.better,
        "reference": format_score(difference.reference),
        "other": format_score(difference.other),
        "difference": _signed(interval.estimate),
        "interval": told,
        "n": count_noun(interval.n, unit),
        "verdict": difference.verdict,
    }


def _show_network(compared: Compared, metrics: Sequence[str]) -> Shown:
    network = compared.network
    rows = [
        {
            "volume": volume,
            "role": table.role,
            "num_sections": len(table.sections),
            "scores": [
                format_score(ours[name].score) if name in ours else ""
                for name in metrics
            ],
        }
        for volume, table, ours in _tables(compared)
    ]
    num_parameters = network.description.spec.num_parameters
    told = f"{count_in_words(num_parameters)} parameters"
    if members := network.description.members:
        told = describe_ensemble(len(members), num_parameters)
    if network.training and network.training.steps is not None:
        seconds = describe_seconds(network.training.seconds)
        told += f", {network.training.steps:,} steps, {seconds}"
    if network.adoption:
        told += f"; from {network.adoption.folder}"
    return {"name": network.name, "page": network.page, "told": told, "rows": rows}


def _tables(compared: Compared) -> Iterator[tuple[str, Table, dict[str, Row]]]:
    """Yield volume, table of voxels, and the network's rows of voxels and objects."""
    for volume, result in compared.results.items():
        if result.metrics:
            objects = {table.role: table.ours for table in result.metrics.objects}
            for table in result.metrics.tables:
                yield volume, table, {**table.ours, **objects.get(table.role, {})}


def _only(compared: Compared, volumes: Sequence[str]) -> Compared:
    return replace(compared, results={v: compared.results[v] for v in volumes})


def _show_change(change: SectionChange) -> Shown:
    return {
        "volume": change.volume,
        "z": change.z,
        "role": change.role,
        "metric": plain_metric_name(change.metric),
        "reference": format_score(change.reference),
        "other": format_score(change.other),
        "change": _signed(change.other - change.reference),
        "is_worse": change.change < 0,
    }


def _show_side_by_side(
    change: SectionChange,
    pair: Sequence[Compared],
    volumes: dict[str, IngestedVolume],
) -> Shown:
    """Return image, labels, and the errors of both networks in one section."""
    pictures: list[Picture] = []
    for compared in pair:
        viewer = SectionViewer(
            volumes[change.volume],
            compared.results[change.volume],
            num_classes=compared.network.num_classes,
            side=SIDE,
        )
        if not pictures:
            pictures = viewer.compared(change.z)[:2]
        pictures.append(viewer.errors(change.z, f"errors of {compared.name}"))
    return {
        "title": f"{change.volume}, section {change.z}",
        "score": f"{plain_metric_name(change.metric)} "
        f"{format_score(change.reference)} to {format_score(change.other)}",
        "pictures": pictures,
    }


def _signed(number: float) -> str:
    """Return a difference with its sign, in the digits of a score."""
    sign = "+" if number > 0 else "\N{MINUS SIGN}" if number < 0 else ""
    return sign + format_score(abs(number))
