"""The scores of a network on all volumes of a run, as one."""

from collections.abc import Sequence
from dataclasses import dataclass

from unetpipe.records.metrics import OURS, TEST, Role, Row, Score
from unetpipe.report.page.run import Run


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a network scores on all volumes of a role: metric -> predictor -> row."""

    role: Role
    volumes: tuple[str, ...]
    rows: dict[str, dict[str, Row]]

    @property
    def where(self) -> str:
        """Return whose scores these are."""
        first, *more = self.volumes
        return first if not more else f"{len(self.volumes)} volumes"


def pool_scores(run: Run) -> Pooled | None:
    """Return the scores of test sections, if any, else of validation sections.

    Of several volumes these are plain means, of a baseline over those volumes where
    the network has a score, or none where it lacks one of them. None if nothing was
    scored.
    """
    tables = [
        (result.volume, table)
        for result, metrics in run.scored
        for table in metrics.all_tables
    ]
    if not tables:
        return None
    roles = [table.role for _, table in tables]
    role = TEST if TEST in roles else roles[0]
    of_role = [(volume, table) for volume, table in tables if table.role == role]
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for volume, table in of_role:
        for row in table.rows:
            by_predictor = found.setdefault(row.metric, {})
            by_predictor.setdefault(row.predictor, {})[volume] = row
    return Pooled(
        role,
        tuple(dict.fromkeys(volume for volume, _ in of_role)),
        {
            metric: {
                name: _mean_row(list(rows.values()))
                for name, rows in _of_the_same_volumes(by_predictor).items()
            }
            for metric, by_predictor in found.items()
        },
    )


def _of_the_same_volumes(
    by_predictor: dict[str, dict[str, Row]],
) -> dict[str, dict[str, Row]]:
    """Return the rows of each predictor that the network's can be compared with."""
    ours = by_predictor.get(OURS, {})
    known = {volume for volume, row in ours.items() if row.score is not None}
    if len(ours) < 2 or not known:
        return by_predictor
    return {OURS: ours} | {
        name: {volume: rows[volume] for volume in rows if volume in known}
        for name, rows in by_predictor.items()
        if name != OURS and known <= {v for v, r in rows.items() if r.score is not None}
    }


def _mean_row(rows: Sequence[Row]) -> Row:
    """Return a row whose score is the mean; one row stays as it is."""
    if len(rows) == 1:
        return rows[0]
    scores = [row.score for row in rows if row.score is not None]
    thresholds = {row.chosen.threshold if row.chosen else None for row in rows}
    mean = Score(
        threshold=thresholds.pop() if len(thresholds) == 1 else None,
        score=sum(scores) / len(scores) if scores else None,
    )
    sections = sum(row.num_sections for row in rows)
    changes = {
        "chosen": mean,
        "best": None,
        "interval": None,
        "num_sections": sections,
    }
    return rows[0].model_copy(update=changes)
