"""The course of a training as a table: one row a step, appended, safe under kill."""

import csv
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.machine import enough_disk


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One training step.

    Attributes
    ----------
    step : int
        From 1.
    loss : float
        Weighted mean cross-entropy of the step's patches.
    learning_rate : float
        That the step used.
    seconds : float
        Of training until now, validation included, interruptions not.
    validation : float or None
        Score of the validation rows after the step; None where none was taken.
    threshold : float or None
        Where that score was reached, if it depends on one.
    averaged : float or None
        Score of the averaged weights, where there are some.
    """

    step: int
    loss: float
    learning_rate: float
    seconds: float
    validation: float | None = None
    threshold: float | None = None
    averaged: float | None = None

    def to_line(self) -> str:
        """Return the row as a line of CSV; floats survive the round trip."""
        cells = ("" if v is None else repr(v) for v in astuple(self))
        return ",".join(cells) + "\n"


HEADER = ",".join(field.name for field in fields(HistoryRow)) + "\n"


class History:
    """A CSV file that grows with the training.

    Parameters
    ----------
    path : Path
        The file; what it holds after step ``keep`` is cut off, a torn last line too.
    keep : int
        Steps that are known to be done; 0 begins anew.
    """

    def __init__(self, path: Path, *, keep: int = 0) -> None:
        self.path = path
        aside = path.with_suffix(".later.csv")
        rows = {row.step: row for row in (*read_history(aside), *read_history(path))}
        if any(step > keep for step in rows):  # a longer training's: it may go on
            _write(aside, list(rows.values()))
        _write(path, [row for step, row in sorted(rows.items()) if step <= keep])

    def append(self, rows: list[HistoryRow]) -> None:
        """Write rows to the end of the file."""
        with enough_disk(self.path, "new lines"), self.path.open("a") as file:
            file.writelines(row.to_line() for row in rows)

    def amend_last(
        self,
        *,
        seconds: float,
        validation: float | None,
        threshold: float | None,
        averaged: float | None = None,
    ) -> None:
        """Put scores into the last row: they come after the step."""
        *rows, last = read_history(self.path)
        scored = replace(
            last,
            seconds=seconds,
            validation=validation,
            threshold=threshold,
            averaged=averaged,
        )
        _write(self.path, [*rows, scored])


def _write(path: Path, rows: list[HistoryRow]) -> None:
    text = HEADER + "".join(row.to_line() for row in rows)
    write_bytes_atomic(path, text.encode())


def read_history(path: Path) -> list[HistoryRow]:
    """Return the whole rows of a history, [] where there is none."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [
        HistoryRow(
            int(row["step"]),
            float(row["loss"]),
            float(row["learning_rate"]),
            float(row["seconds"]),
            float(row["validation"]) if row["validation"] else None,
            float(row["threshold"]) if row["threshold"] else None,
            float(row["averaged"]) if row.get("averaged") else None,
        )
        for row in csv.DictReader(whole)
    ]
