"""Take the steps of a lot's volumes, one after another, in this process.

Each step is the script of its rule, with what a job of its own would be given: records,
stores and receipts are therefore those of such jobs. A step is not taken again whose
record lies there and answers what is asked today, of the same records before it.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from types import CodeType

from unetpipe.errors import DataError, Interrupted, UnetpipeError
from unetpipe.lots.orders import StepOrder
from unetpipe.records.asked import Asked, differing
from unetpipe.records.lots import EndedStep, FinishedLot, LotJournal
from unetpipe.runtime.files import hash_file, hash_of, write_bytes_atomic
from unetpipe.runtime.locks import claim
from unetpipe.runtime.logs import only_warnings_on_screen
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import stop_event

log = logging.getLogger(__name__)

Orders = Mapping[str, Sequence[StepOrder]]
LISTED = 20  # volumes that failed


@dataclass(frozen=True, slots=True)
class LotFiles:
    """What the job of a lot leaves.

    Attributes
    ----------
    record : Path
        Written last. The journal lies beside it.
    content : Path
        Hashes of all volumes' records: what later jobs wait for.
    """

    record: Path
    content: Path

    @property
    def journal(self) -> Path:
        """Which steps have ended."""
        return self.record.with_suffix(".jsonl")


def run_lot(orders: Orders, files: LotFiles, *, may_fail: bool = False) -> None:
    """Take all steps of all volumes that are not taken yet.

    Parameters
    ----------
    orders : mapping
        Of each volume its steps, in order.
    files : LotFiles
    may_fail : bool
        A volume that fails is no error yet: a later job tries it again.

    Raises
    ------
    DataError
        After the last volume, if some have failed; names them and their causes.
    Interrupted
        If the job was told to stop. Repeating it goes on after the last finished step.
    """
    claimed = files.record.with_name(f".{files.record.stem}.claim")
    with (
        claim(claimed, f"the lot {files.record.stem}"),
        only_warnings_on_screen(),
        stop_event() as stop,
    ):
        began = time.monotonic()
        lot = _Lot(LotJournal.read(files.journal), stop)
        with Progress(f"lot {files.record.stem}", len(orders), "volume") as progress:
            for volume, steps in orders.items():
                lot.take(volume, steps)
                progress.update()
        lot.journal.keep((v, step.name) for v, of in orders.items() for step in of)
        failed = {v: step.error for v, step in lot.journal.failed.items()}
        if failed and not may_fail:
            raise DataError(_describe_failed(failed, len(orders)))
        write_bytes_atomic(files.content, lot.describe_content(orders).encode())
        FinishedLot(
            volumes=tuple(orders),
            failed=failed,
            seconds=time.monotonic() - began,
            num_steps_done=lot.num_done,
        ).write(files.record)
        log.info("%d steps of %d volumes done", lot.num_done, len(orders))


class _Lot:
    """The steps of a lot as they are taken."""

    def __init__(self, journal: LotJournal, stop: Event) -> None:
        self.journal, self._stop = journal, stop
        self.num_done = 0
        self._hashes: dict[str, str] = {}

    def take(self, volume: str, steps: Iterable[StepOrder]) -> None:
        """Take the steps of a volume that are left, until one fails."""
        for step in steps:
            answers = self._answers(step)
            if self._is_done(volume, step, answers):
                continue
            if self._stop.is_set():
                raise Interrupted(
                    f"told to stop before {step.name} of {volume}; all finished steps "
                    "are kept: repeat the same command to go on"
                )
            log.info("volume %s: %s", volume, step.name)
            try:
                _perform(step)
            except Interrupted:
                raise
            except Exception as error:
                self._note_failure(volume, step, error)
                return
            for path in step.output.values():
                self._hashes.pop(path, None)
            self.num_done += 1
            self._note_done(volume, step, answers)

    def describe_content(self, orders: Orders) -> str:
        """Return a line for each step: what it left, or nothing where it failed."""
        ended = self.journal.ended
        return "".join(
            f"{volume} {step.name} {ended[volume, step.name].record_sha256}\n"
            for volume, steps in orders.items()
            for step in steps
            if (volume, step.name) in ended
        )

    def _answers(self, step: StepOrder) -> str:
        made_from = {path: self._hash(path) for path in step.counted}
        return hash_of([*made_from.values()])

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = hash_file(Path(path)) if Path(path).exists() else ""
        return self._hashes[path]

    def _is_done(self, volume: str, step: StepOrder, answers: str) -> bool:
        """Tell whether a step need not be taken, and note it."""
        if not all(Path(path).exists() for path in step.output.values()):
            return False
        # Not by the note: originals that are gone are no other originals.
        asked = Asked.model_validate(step.params["asked"])
        if differing(step.record, asked) != ():
            return False
        noted = self.journal.ended.get((volume, step.name))
        if noted and not noted.error:
            if noted.answers != answers:
                return False
            if noted.record_sha256 == self._hash(str(step.record)):
                return True
        # Of a job of its own, or of another lot, there is no note: the date of the
        # record tells whether it is of the records that are there.
        date = step.record.stat().st_mtime_ns
        for path in map(Path, step.counted):
            if not path.exists() or path.stat().st_mtime_ns > date:
                return False
        self._note_done(volume, step, answers)
        return True

    def _note_done(self, volume: str, step: StepOrder, answers: str) -> None:
        self.journal.add(
            EndedStep(
                volume=volume,
                step=step.name,
                answers=answers,
                record_sha256=self._hash(str(step.record)),
            )
        )

    def _note_failure(self, volume: str, step: StepOrder, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        known = isinstance(error, UnetpipeError)
        log.error(
            "volume %s: %s failed: %s", volume, step.name, told, exc_info=not known
        )
        self.journal.add(EndedStep(volume=volume, step=step.name, error=told))


def _perform(step: StepOrder) -> None:
    """Run a rule's script with what a job of its own would be given."""
    exec(_compiled(step.script), {"__name__": "script", "snakemake": step.as_job()})


@cache
def _compiled(script: str) -> CodeType:
    return compile(Path(script).read_bytes(), script, "exec")


def _describe_failed(failed: Mapping[str, str], count: int) -> str:
    lines = [f"{volume}: {error}" for volume, error in failed.items()]
    more = [f"and {len(lines) - LISTED} more"] if lines[LISTED:] else []
    listed = "\n  ".join([*lines[:LISTED], *more])
    return (
        f"{len(failed)} of {count} volumes failed, first {lines[0]}\n  {listed}\n"
        "the others are done; mend the causes, or write # before the rows of these "
        "volumes; the same command tries only these again"
    )
