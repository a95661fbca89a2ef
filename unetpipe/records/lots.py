"""What the volumes of a lot have behind them: the journal of its jobs, and its record.

The journal is a file of JSON lines, one for each step that ended; no rule declares it,
so that it outlives a job that fails. The record says that a lot is done.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from unetpipe.records import Record, Value
from unetpipe.records.asked import Asked
from unetpipe.runtime.files import write_bytes_atomic

LOT_RULES = ("ingest_lot", "predict_lot")


class EndedStep(Value):
    """A step of a volume that was done, or that failed."""

    volume: str
    step: str
    """Rule, and part if it has several."""
    answers: str = ""
    """Hash of the records that it was made from."""
    record_sha256: str = ""
    """Of what it left."""
    error: str = ""
    """Why it failed; empty: it did not."""


class LotJournal:
    """The steps of a lot, of which the last line about each counts.

    Attributes
    ----------
    path : Path
    ended : dict
        By volume and step, the newest last.
    """

    def __init__(self, path: Path, ended: dict[tuple[str, str], EndedStep]) -> None:
        self.path, self.ended = path, ended

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a journal; an empty one where there is none. Cut lines do not count."""
        journal = cls(path, {})
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                step = EndedStep.model_validate_json(line)
            except ValidationError:
                continue
            journal._add(step)
        return journal

    def add(self, step: EndedStep) -> None:
        """Note how a step ended."""
        self._add(step)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(f"{step.model_dump_json(exclude_defaults=True)}\n")

    def _add(self, step: EndedStep) -> None:
        self.ended.pop((step.volume, step.step), None)  # the newest is the last
        self.ended[step.volume, step.step] = step

    def keep(self, steps: Iterable[tuple[str, str]]) -> None:
        """Forget all but these steps of volumes, and what was noted twice."""
        wanted = set(steps)
        self.ended = {k: step for k, step in self.ended.items() if k in wanted}
        lines = (s.model_dump_json(exclude_defaults=True) for s in self.ended.values())
        text = "".join(f"{line}\n" for line in lines)
        write_bytes_atomic(self.path, text.encode())

    @property
    def failed(self) -> dict[str, EndedStep]:
        """The step at which a volume failed last, by volume."""
        return {step.volume: step for step in self.ended.values() if step.error}


class FinishedLot(Record):
    """All volumes of a lot have their records."""

    WHAT = "the record of a lot"

    volumes: tuple[str, ...]
    failed: dict[str, str]
    """Why a volume could not be stored, which its prediction tries again."""
    seconds: float
    num_steps_done: int
    """By the last job; the others were done before."""
    asked: Asked | None = None
