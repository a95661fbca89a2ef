"""The scores of ``metrics.json`` as tidy lines: one score a line, as tables want it."""

from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]

COLUMNS = {
    "run": "name of the run",
    "model": "network; `all folds`, with variant and seed, for folds scored together",
    "volume": "as in the sheet; empty for all folds together",
    "role": "`test`, or `validate`: sections that chose the thresholds",
    "predictor": "`unet`, or a baseline",
    "metric": "a key of `definitions` in `metrics.json`",
    "rule": "`chosen`: threshold from validation sections or the configuration; "
    "`best`: best on these very sections",
    "threshold": "of the foreground probability; empty where there is none, or several",
    "value": "the score; empty where it is undefined",
    "low": "low end of the 95 % interval, if this score has one",
    "high": "its high end",
    "n": "units that were resampled for the interval",
    "n_of": "`sections`, `objects` or `volumes`",
    "num_sections": "sections that were scored",
    "unit": "`1` (a share), `nats` or `bits`",
    "better": "`higher` or `lower`",
    "definition_version": "of the metric; lines of different versions do not compare",
}
ALL_FOLDS = "all folds"
FROM_ROW = ("predictor", "metric", "n", "n_of", "num_sections", "unit", "better")


def score_lines(run: str, model: str, record: Record) -> Iterator[Record]:
    """Yield the lines of one ``metrics.json``, in its order; keys are ``COLUMNS``.

    Parameters
    ----------
    run, model : str
    record : dict
        ``metrics.json``.
    """
    told = {"run": run, "model": model, "volume": record["volume"]}
    for table in record["tables"] + record["objects"]:
        for row in table["rows"]:
            yield from _lines({**told, "role": table["role"]}, row, record)


def pooled_lines(run: str, record: Record) -> Iterator[Record]:
    """Yield the lines of ``comparison.json``: test sections of all folds."""
    for compared in record["variants"]:
        for row in compared["rows"]:
            for single in row["seeds"]:
                parts = [compared["variant"], ALL_FOLDS]
                if len(row["seeds"]) > 1:
                    parts.append(f"seed {single['seed']}")
                model = ", ".join(filter(None, parts))
                told = {"run": run, "model": model, "volume": "", "role": "test"}
                yield from _lines(told, single, record)


def _lines(told: Record, row: Record, record: Record) -> Iterator[Record]:
    """Yield a line for each rule by which the threshold was found."""
    version = record["definitions"][row["metric"]]["version"]
    for rule in ("chosen", "best"):
        if row[rule] is None:
            continue
        has_interval = row["interval_of"] == rule
        low, high = row["interval"] if has_interval else (None, None)
        line = {
            **told,
            **{key: row[key] for key in FROM_ROW},
            "rule": rule,
            "threshold": row[rule]["threshold"],
            "value": row[rule]["score"],
            "low": low,
            "high": high,
            "definition_version": version,
        }
        yield {column: line[column] for column in COLUMNS}
