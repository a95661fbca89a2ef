"""Score tables: rows of scores as a template shows them."""

from collections.abc import Iterable, Sequence
from typing import Any

from unetpipe.metrics.names import PREDICTORS
from unetpipe.records.metrics import OURS, TEST, Definition, Metrics, Row, Score, Table
from unetpipe.report.page.text import (
    HEADLINE,
    METRICS,
    OVERLAPS,
    format_range,
    format_score,
    format_threshold,
    metric_label,
)
from unetpipe.runtime.text import format_sections

Shown = dict[str, Any]


def show_tables(metrics: Metrics | None) -> list[Shown]:
    """Return a table for each role, test first: voxels, classes, objects."""
    if metrics is None:
        return []
    objects = {table.role: table.rows for table in metrics.objects}
    components = {t.role for t in metrics.objects if t.truth_is == "components"}
    return [
        {
            "role": table.role,
            "sections": format_sections(table.sections),
            "num_sections": len(table.sections),
            "groups": group_by_metric(table.rows),
            "classes": group_by_class(table.rows),
            "objects": group_by_metric(objects.get(table.role, ())),
            "objects_are": "Objects: components of the annotated mask"
            if table.role in components
            else "Objects",
            "flattering": flattering_scores(table.rows),
        }
        for table in metrics.by_role
    ]


def show_definitions(records: Iterable[Metrics]) -> list[Shown]:
    """Return what the scores of some records mean; classes share a line."""
    found: dict[str, Definition] = {}
    for record in records:
        for name, told in record.definitions.items():
            base, of_class, number = name.partition("_class_")
            text = told.definition.removesuffix(f"; class {number}" * bool(of_class))
            found.setdefault(base, told.model_copy(update={"definition": text}))
    return [
        {
            "anchor": base,
            "label": metric_label(base),
            "definition": found[base].definition,
            "unit": found[base].unit.removeprefix("1"),
            "better": found[base].better,
            "version": found[base].version,
            "reference": found[base].reference,
        }
        for base in sorted(found, key=_rank)
    ]


def rank_shown_sections(metrics: Metrics) -> list[int]:
    """Return the sections of the leading role by the leading score, best first.

    Without a score of single sections it is their order in the record.
    """
    by_role = sorted(metrics.all_tables, key=lambda table: table.role != TEST)
    for metric in metrics.leading or HEADLINE:
        for table in by_role:
            scores = _scores_of_sections(table, metric)
            if scores:
                return sorted(scores, key=lambda z: (scores[z], z), reverse=True)
    return list(dict.fromkeys(metrics.sections_best + metrics.sections_worst))


def score_of_section(metrics: Metrics, z: int) -> tuple[str, float] | None:
    """Return name and value of the leading score of one section, None without."""
    for metric in metrics.leading or HEADLINE:
        for table in metrics.all_tables:
            if metric in table.ours and z in table.sections:
                score = _scores_of_sections(table, metric).get(z)
                return None if score is None else (metric, score)
    return None


def _scores_of_sections(table: Table, metric: str) -> dict[int, float]:
    row = table.ours.get(metric)
    return table.section_scores(row) if row else {}


def group_by_metric(rows: Sequence[Row]) -> list[Shown]:
    """Return the rows of a table metric by metric, ours first, ready to be shown."""
    groups = []
    found = list(dict.fromkeys(row.metric for row in rows if not _of_class(row)))
    for metric in sorted(found, key=_rank):
        of_metric = [row for row in rows if row.metric == metric]
        of_metric.sort(key=lambda row: row.predictor != OURS)
        scores = [s for r in of_metric for s in _scores_of(r) if s is not None]
        limits = (min(scores), max(scores)) if scores else (0.0, 0.0)
        groups.append(
            {
                "metric": metric_label(metric),
                "anchor": metric,
                "definition": of_metric[0].definition,
                "better": of_metric[0].better,
                "unit": of_metric[0].unit.removeprefix("1"),
                "num_sections": of_metric[0].num_sections,
                "rows": [_show_row(row, limits) for row in of_metric],
            }
        )
    return groups


def _scores_of(row: Row) -> Sequence[float | None]:
    """Return the scores of single sections, of a row whose threshold was chosen."""
    return row.per_section or () if row.chosen else ()


def flattering_scores(rows: Sequence[Row]) -> list[Shown]:
    """Return the scores at the best threshold of the scored sections, apart."""
    return [
        {
            "metric": metric_label(row.metric),
            "predictor": PREDICTORS.get(row.predictor, row.predictor),
            "best": _show_score(row.best),
        }
        for row in sorted(rows, key=lambda row: _rank(row.metric))
        if row.best is not None and row.best.score is not None
    ]


def _show_row(row: Row, limits: tuple[float, float]) -> Shown:
    return {
        "predictor": PREDICTORS.get(row.predictor, row.predictor),
        "is_ours": row.predictor == OURS,
        "chosen": _show_score(row.chosen),
        "interval": format_range(row.interval if row.interval_of == "chosen" else ()),
        "n": row.n,
        "n_of": row.n_of,
        "spread": _show_spread(_scores_of(row), limits),
    }


def group_by_class(rows: Sequence[Row]) -> Shown | None:
    """Return the overlap scores of a table, one row a class and predictor.

    None if there are none.
    """
    found: dict[tuple[int, str], dict[str, tuple[str, str]]] = {}
    thresholds = set()
    definitions: dict[str, str] = {}
    for row in filter(_of_class, rows):
        name, _, number = row.metric.partition("_class_")
        scores = [s for s in row.per_section or () if s is not None]
        spread = format_range([min(scores), max(scores)] if scores else None)
        entry = found.setdefault((int(number), row.predictor), {})
        definitions[name] = row.definition.removesuffix(f"; class {number}")
        entry[name] = (format_score(row.score), spread)
        thresholds.add(format_threshold(row.chosen.threshold if row.chosen else None))
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


def _of_class(row: Row) -> bool:
    return "_class_" in row.metric


def _rank(metric: str) -> int:
    """Return where a metric stands: as in ``METRICS``, others behind."""
    order = list(METRICS)
    return order.index(metric) if metric in order else len(order)


def _show_score(score: Score | None) -> Shown | None:
    if score is None or score.score is None:
        return None
    return {
        "score": format_score(score.score),
        "threshold": format_threshold(score.threshold),
    }


def _show_spread(
    scores: Sequence[float | None], limits: tuple[float, float]
) -> Shown | None:
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
