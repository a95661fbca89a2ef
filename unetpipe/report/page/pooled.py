"""The scores of a network on all volumes of a run, as one."""

from collections.abc import Sequence
from dataclasses import dataclass

from unetpipe.records.metrics import TEST, Role, Row, Score
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

    Of several volumes these are plain means; None if nothing was scored.
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
    found: dict[str, dict[str, list[Row]]] = {}
    for _, table in of_role:
        for row in table.rows:
            by_predictor = found.setdefault(row.metric, {})
            by_predictor.setdefault(row.predictor, []).append(row)
    return Pooled(
        role,
        tuple(dict.fromkeys(volume for volume, _ in of_role)),
        {
            metric: {name: _mean_row(rows) for name, rows in by_predictor.items()}
            for metric, by_predictor in found.items()
        },
    )


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
