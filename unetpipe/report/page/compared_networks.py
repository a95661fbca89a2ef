"""Networks and pairs of networks as the template of the comparison shows them."""

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Any

from unetpipe.report.page.comparison import (
    SectionChange,
    differences,
    section_changes,
    shared_volumes,
)
from unetpipe.report.page.members import told_of_members
from unetpipe.report.page.pictures import Picture, SectionViewer
from unetpipe.report.page.summary import adopted_from
from unetpipe.report.page.tables import shown_score
from unetpipe.report.page.text import (
    METRICS,
    OURS,
    PLAIN_NAMES,
    count,
    format_score,
    format_seconds,
    in_words,
    metric_label,
)
from unetpipe.tiling.unet_spec import UNetSpec

Record = dict[str, Any]

MOST_LISTED = 12
MOST_PICTURED = 3
SIDE = 512  # pixels: four pictures stand side by side


def show_networks(networks: Sequence[Record]) -> Record:
    """Return one row for each network, volume and role, with all scores of sections."""
    names = {
        row["metric"]
        for network in networks
        for _, table in _tables(network)
        for row in table["rows"]
        if row["predictor"] == OURS
    }
    metrics = [name for name in METRICS if name in names]
    metrics += sorted(name for name in names if name.endswith("_class_1"))[:2]
    return {
        "metrics": [metric_label(metric) for metric in metrics],
        "networks": [_show_network(network, metrics) for network in networks],
    }


def show_pooled(record: Record) -> list[Record]:
    """Return ``comparison.json`` as lines: one a score and variant, folds together."""
    lines = [
        line | {"folds": len([fold for fold in compared["folds"] if fold])}
        for compared in record["variants"]
        for line, _ in _lines(compared)
    ]
    return _by_metric(lines)


def show_shared(record: Record) -> Record | None:
    """Return the scores of ``comparison.json`` on what all networks were tested on.

    None where there is nothing of the kind: without folds, or without such sections.
    """
    lines = []
    for compared in record["shared"]:
        joined = compared["ensemble"]
        rows = joined["rows"] if joined else ()
        own = {r["metric"]: r for r in rows if r["predictor"] == OURS}
        for line, row in _lines(compared):
            its = own.get(row["metric"])
            told = format_score(shown_score(its)) if its else ""
            lines.append(line | {"ensemble": told})
    if not lines:
        return None
    return {
        "volumes": sorted({v for one in record["shared"] for v in one["volumes"]}),
        "has_ensemble": any(line["ensemble"] for line in lines),
        "lines": _by_metric(lines),
    }


def _lines(compared: Record) -> Iterator[tuple[Record, Record]]:
    """Yield the network's own rows of a variant as a reader likes them."""
    for row in compared["rows"]:
        shown = row["chosen"] or row["best"]
        if row["predictor"] != OURS or shown is None:
            continue
        gap = shown.get("difference")
        low, high = format_score(shown["lowest"]), format_score(shown["highest"])
        line = {
            "metric": metric_label(row["metric"]),
            "better": row["better"],
            "variant": compared["variant"] or "all networks",
            "score": format_score(shown["score"]),
            "rule": "chosen on validation" if row["chosen"] else "best on these",
            "n": shown["n"],
            "num_sections": row["num_sections"],
            "range": f"{low} to {high}" if shown["n"] > 1 else "",
            "difference": "" if gap is None else _signed(gap),
        }
        yield line, row


def _by_metric(lines: list[Record]) -> list[Record]:
    order = list(dict.fromkeys(line["metric"] for line in lines))
    return sorted(lines, key=lambda line: order.index(line["metric"]))


def show_pair(
    reference: Record, other: Record, volumes: Record, *, with_pictures: bool
) -> Record:
    """Return differences, sections and pictures of two networks.

    Parameters
    ----------
    reference, other : dict
        Networks, as :mod:`unetpipe.report.page.comparison` has them.
    volumes : dict
        ``ingest.json`` by volume.
    with_pictures : bool
        Show the sections that got worst.
    """
    same, _ = shared_volumes(reference, other)
    pair = [_only(network, same) for network in (reference, other)]
    changes = section_changes(*pair)
    worse = [change for change in changes if change.change < 0]
    lines = [_show_change(change) for change in changes]
    num_classes = int(other["description"]["num_classes"])
    return {
        "reference": reference["name"],
        "other": other["name"],
        "num_classes": num_classes,
        "differences": [
            {
                "of": f"{d.volume}, {d.role}",
                "metric": metric_label(d.metric),
                "better": d.better,
                "reference": format_score(d.reference),
                "other": format_score(d.other),
                "difference": _signed(d.interval.estimate),
                "interval": f"{_signed(d.interval.low)} to {_signed(d.interval.high)}"
                if not isnan(d.interval.low)
                else "one section",
                "n": d.interval.n,
                "verdict": d.verdict,
            }
            for d in differences(*pair)
        ],
        "counted": f"{count(len(worse), 'section')} of {len(changes)} got worse.",
        "first": lines[:MOST_LISTED],
        "rest": lines[MOST_LISTED:],
        "panels": [
            _show_side_by_side(change, pair, volumes)
            for change in worse[: MOST_PICTURED * with_pictures]
        ],
    }


def _show_network(network: Record, metrics: Sequence[str]) -> Record:
    spec = UNetSpec.from_json(network["description"]["spec"])
    rows = []
    for volume, table in _tables(network):
        ours = {r["metric"]: r for r in table["rows"] if r["predictor"] == OURS}
        rows.append(
            {
                "volume": volume,
                "role": table["role"],
                "num_sections": len(table["sections"]),
                "scores": [
                    format_score(shown_score(ours[name])) if name in ours else ""
                    for name in metrics
                ],
            }
        )
    record = network["record"]
    told = f"{in_words(spec.num_parameters)} parameters"
    if members := network["description"].get("members"):
        told = told_of_members(len(members), spec.num_parameters)
    if "steps" in record:
        told += f", {record['steps']:,} steps, {format_seconds(record['seconds'])}"
    for place in adopted_from(record):
        told += f"; from {place}"
    return {
        "name": network["name"],
        "page": network["page"],
        "told": told,
        "rows": rows,
    }


def _tables(network: Record) -> list[tuple[str, Record]]:
    """Return the tables of voxels, with the rows of objects in the same role."""
    found = []
    for volume, predicted in network["predicted"].items():
        metrics = predicted["metrics"]
        if metrics is None:
            continue
        objects = {table["role"]: table["rows"] for table in metrics["objects"]}
        found += [
            (volume, {**table, "rows": table["rows"] + objects.get(table["role"], [])})
            for table in metrics["tables"]
        ]
    return found


def _only(network: Record, volumes: Sequence[str]) -> Record:
    return {**network, "predicted": {v: network["predicted"][v] for v in volumes}}


def _show_change(change: SectionChange) -> Record:
    return {
        "volume": change.volume,
        "z": change.z,
        "role": change.role,
        "metric": PLAIN_NAMES[change.metric],
        "reference": format_score(change.reference),
        "other": format_score(change.other),
        "change": _signed(change.other - change.reference),
        "is_worse": change.change < 0,
    }


def _show_side_by_side(
    change: SectionChange, pair: Sequence[Record], volumes: Record
) -> Record:
    """Return image, labels, and the errors of both networks in one section."""
    pictures: list[Picture] = []
    for network in pair:
        viewer = SectionViewer(
            volumes[change.volume],
            network["predicted"][change.volume],
            num_classes=int(network["description"]["num_classes"]),
            side=SIDE,
        )
        if not pictures:
            pictures = viewer.compared(change.z)[:2]
        pictures.append(viewer.errors(change.z, f"errors of {network['name']}"))
    return {
        "title": f"{change.volume}, section {change.z}",
        "score": f"{PLAIN_NAMES[change.metric]} {format_score(change.reference)} to "
        f"{format_score(change.other)}",
        "pictures": pictures,
    }


def _signed(number: float) -> str:
    """Return a difference with its sign, in the digits of a score."""
    sign = "+" if number > 0 else "\N{MINUS SIGN}" if number < 0 else ""
    return sign + format_score(abs(number))
