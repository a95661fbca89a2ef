"""Score tables: rows of ``metrics.json`` as a template shows them."""

from collections.abc import Sequence
from typing import Any

from unetpipe.report.page.text import (
    HEADLINE,
    METRICS,
    OURS,
    OVERLAPS,
    PREDICTORS,
    format_range,
    format_score,
    format_sections,
    format_threshold,
    metric_label,
)

Record = dict[str, Any]


def show_tables(metrics: Record | None) -> list[Record]:
    """Return a table for each role, test first: voxels, classes, objects."""
    if metrics is None:
        return []
    objects = {table["role"]: table["rows"] for table in metrics["objects"]}
    return [
        {
            "role": table["role"],
            "sections": format_sections(table["sections"]),
            "num_sections": len(table["sections"]),
            "groups": group_by_metric(table["rows"]),
            "classes": group_by_class(table["rows"]),
            "objects": group_by_metric(objects.get(table["role"], ())),
        }
        for table in sorted(metrics["tables"], key=lambda t: t["role"] != "test")
    ]


def show_definitions(records: Sequence[Record | None]) -> list[Record]:
    """Return what the scores of some ``metrics.json`` mean; classes share a line."""
    found: dict[str, Record] = {}
    for record in records:
        for name, told in record["definitions"].items() if record else ():
            base, _, number = name.partition("_class_")
            entry = {**told, "name": name if not number else base}
            entry["definition"] = told["definition"].removesuffix(f"; class {number}")
            found.setdefault(base, entry)
    return [
        {
            **found[base],
            "anchor": base,
            "label": metric_label(base),
            "unit": found[base]["unit"].removeprefix("1"),
        }
        for base in sorted(found, key=_rank)
    ]


def rank_sections(metrics: Record) -> list[int]:
    """Return the sections of the leading role by the leading score, best first.

    Without a score of single sections it is their order in the record.
    """
    for metric in HEADLINE:
        for table in sorted(metrics["tables"], key=lambda t: t["role"] != "test"):
            for row in table["rows"]:
                is_ours = (row["predictor"], row["metric"]) == (OURS, metric)
                if is_ours and row["per_section"]:
                    pairs = zip(row["per_section"], table["sections"], strict=True)
                    known = [(s, z) for s, z in pairs if s is not None]
                    if known:
                        return [z for _, z in sorted(known, reverse=True)]
    return list(dict.fromkeys(metrics["sections_best"] + metrics["sections_worst"]))


def score_of_section(metrics: Record, z: int) -> tuple[str, float] | None:
    """Return name and value of the leading score of one section, None without."""
    for metric in HEADLINE:
        for table in metrics["tables"]:
            for row in table["rows"]:
                is_ours = (row["predictor"], row["metric"]) == (OURS, metric)
                if is_ours and row["per_section"] and z in table["sections"]:
                    score = row["per_section"][table["sections"].index(z)]
                    return None if score is None else (metric, float(score))
    return None


def headline(tables: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows of the leading metric by predictor: test sections, if any."""
    for metric in HEADLINE:
        for table in sorted(tables, key=lambda t: t["role"] != "test"):
            rows = {r["predictor"]: r for r in table["rows"] if r["metric"] == metric}
            if OURS in rows:
                return {
                    name: row | {"role": table["role"]} for name, row in rows.items()
                }
    return {}


def shown_score(row: dict[str, Any]) -> float | None:
    """Return a row's score at the chosen threshold, else its best."""
    score = (row["chosen"] or row["best"] or {"score": None})["score"]
    return None if score is None else float(score)


def group_by_metric(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table metric by metric, ours first, ready to be shown."""
    groups = []
    found = list(dict.fromkeys(row["metric"] for row in rows if not _of_class(row)))
    for metric in sorted(found, key=_rank):
        of_metric = [row for row in rows if row["metric"] == metric]
        of_metric.sort(key=lambda row: row["predictor"] != OURS)
        scores = [s for r in of_metric for s in r["per_section"] or () if s is not None]
        limits = (min(scores), max(scores)) if scores else (0.0, 0.0)
        groups.append(
            {
                "metric": metric_label(metric),
                "anchor": metric,
                "definition": of_metric[0]["definition"],
                "better": of_metric[0]["better"],
                "unit": of_metric[0]["unit"].removeprefix("1"),
                "num_sections": of_metric[0]["num_sections"],
                "rows": [_show_row(row, limits) for row in of_metric],
            }
        )
    return groups


def _show_row(row: dict[str, Any], limits: tuple[float, float]) -> dict[str, Any]:
    return {
        "predictor": PREDICTORS.get(row["predictor"], row["predictor"]),
        "is_ours": row["predictor"] == OURS,
        "chosen": _show_score(row["chosen"]),
        "best": _show_score(row["best"]),
        "interval": format_range(row["interval"]),
        "n": row["n"],
        "n_of": row["n_of"],
        "spread": _show_spread(row["per_section"] or (), limits),
    }


def group_by_class(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the overlap scores of a table, one row a class and predictor.

    None if there are none.
    """
    found: dict[tuple[int, str], dict[str, tuple[str, str]]] = {}
    thresholds = set()
    definitions: dict[str, str] = {}
    for row in filter(_of_class, rows):
        name, _, number = row["metric"].partition("_class_")
        scores = [s for s in row["per_section"] or () if s is not None]
        spread = format_range([min(scores), max(scores)] if scores else None)
        entry = found.setdefault((int(number), row["predictor"]), {})
        definitions[name] = row["definition"].removesuffix(f"; class {number}")
        entry[name] = (format_score(shown_score(row)), spread)
        thresholds.add(format_threshold((row["chosen"] or {}).get("threshold")))
    names = [n for n in OVERLAPS if any(n in entry for entry in found.values())]
    if not names:
        return None
    ordered = sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != OURS))
    return {
        "threshold": ", ".join(sorted(thresholds - {""})),
        "names": [(OVERLAPS[name], name, definitions[name]) for name in names],
        "rows": [
            {
                "class": number,
                "predictor": PREDICTORS.get(predictor, predictor),
                "is_ours": predictor == OURS,
                "scores": [entry.get(name, ("", "")) for name in names],
            }
            for (number, predictor), entry in ordered
        ],
    }


def _of_class(row: dict[str, Any]) -> bool:
    return "_class_" in row["metric"]


def _rank(metric: str) -> int:
    """Return where a metric stands: as in ``METRICS``, others behind."""
    order = list(METRICS)
    return order.index(metric) if metric in order else len(order)


def _show_score(score: dict[str, Any] | None) -> dict[str, str] | None:
    if score is None:
        return None
    return {
        "score": format_score(score["score"]),
        "threshold": format_threshold(score["threshold"]),
    }


def _show_spread(
    scores: Sequence[float | None], limits: tuple[float, float]
) -> dict[str, Any] | None:
    """Return dots from 0 to 100, on one scale for all predictors of a metric."""
    known = [score for score in scores if score is not None]
    if not known:
        return None
    width = limits[1] - limits[0] or 1.0
    return {
        "dots": [round(100 * (score - limits[0]) / width, 1) for score in known],
        "range": format_range([min(known), max(known)]),
        "limits": format_range(limits),
    }
