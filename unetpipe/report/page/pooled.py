"""The scores of a network on all volumes of a run, as one."""

from dataclasses import dataclass
from typing import Any

from unetpipe.report.page.tables import shown_score

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a network scores on all volumes of a role: metric -> predictor -> row."""

    role: str
    volumes: list[str]
    rows: dict[str, dict[str, Record]]

    @property
    def where(self) -> str:
        """Return whose scores these are."""
        first, *more = self.volumes
        return first if not more else f"{len(self.volumes)} volumes"


def pool_scores(run: Record) -> Pooled | None:
    """Return the scores of test sections, if any, else of validation sections.

    Of several volumes these are plain means; None if nothing was scored.
    """
    scored = [p for p in run["predicted"] if p["metrics"]]
    tables = [
        (predicted["volume"], table)
        for predicted in scored
        for table in predicted["metrics"]["tables"] + predicted["metrics"]["objects"]
    ]
    if not tables:
        return None
    roles = [table["role"] for _, table in tables]
    role = "test" if "test" in roles else roles[0]
    found: dict[str, dict[str, list[Record]]] = {}
    for _, table in tables:
        for row in table["rows"] if table["role"] == role else ():
            of_metric = found.setdefault(row["metric"], {})
            of_metric.setdefault(row["predictor"], []).append(row)
    return Pooled(
        role,
        list(
            dict.fromkeys(volume for volume, table in tables if table["role"] == role)
        ),
        {
            metric: {name: _mean_row(rows) for name, rows in of_metric.items()}
            for metric, of_metric in found.items()
        },
    )


def _mean_row(rows: list[Record]) -> Record:
    """Return a row whose score is the mean; one row stays as it is."""
    if len(rows) == 1:
        return rows[0]
    scores = [score for row in rows if (score := shown_score(row)) is not None]
    thresholds = {(row["chosen"] or {}).get("threshold") for row in rows}
    mean = {
        "threshold": thresholds.pop() if len(thresholds) == 1 else None,
        "score": sum(scores) / len(scores) if scores else None,
    }
    sections = sum(row["num_sections"] for row in rows)
    return rows[0] | {"chosen": mean, "interval": None, "num_sections": sections}
