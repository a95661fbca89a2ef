"""A lot goes on after its last finished step, and a volume that fails is alone."""

import json
import os
import signal
from pathlib import Path

import pytest

from unetpipe.errors import DataError, Interrupted
from unetpipe.lots import running
from unetpipe.lots.orders import StepOrder
from unetpipe.lots.running import LotFiles, run_lot
from unetpipe.records.lots import EndedStep, FinishedLot, LotJournal
from unetpipe.runtime.signals import told_to_stop

SCRIPT = """
import json
from pathlib import Path
from unetpipe.errors import DataError, Interrupted

record = Path(snakemake.output.record)
with Path(snakemake.params.calls).open("a") as calls:
    calls.write(f"{record.stem} ")
found = [json.loads(Path(path).read_text())["said"] for path in snakemake.input.before]
if "broken" in found:
    raise DataError("it is broken")
if "stop" in found:
    raise Interrupted("told to stop")
said = {"said": "-".join([*found, snakemake.params.word])}
record.write_text(json.dumps(said | {"asked": snakemake.params.asked}))
"""


class Lot:
    """Volumes of two steps, each of which writes down that it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = LotFiles(record=folder / "lot.json", content=folder / "lot.txt")
        self.word = "one"
        self.settings: dict[str, str] = {}
        (folder / "step.py").write_text(SCRIPT)
        for volume in "ab":
            self.original(volume, volume)

    def original(self, volume: str, said: str) -> None:
        (self.folder / f"{volume}.json").write_text(json.dumps({"said": said}))

    def step(self, volume: str, rule: str, before: str, word: str) -> StepOrder:
        asked = {"rule": rule, "settings": {"word": word} | self.settings}
        calls = str(self.folder / "calls")
        path = str(self.folder / before)
        return StepOrder(
            rule=rule,
            script=str(self.folder / "step.py"),
            wildcards={"volume": volume},
            input={"before": [path]},
            output={"record": str(self.folder / f"{rule}_{volume}.json")},
            params={"word": word, "asked": asked, "calls": calls},
            counted=(path,),
            log="lot.log",
        )

    def run(self, volumes: str = "ab", **options: bool) -> list[str]:
        """Return the steps that were taken."""
        (self.folder / "calls").write_text("")
        orders = {
            v: [
                self.step(v, "first", f"{v}.json", "first"),
                self.step(v, "then", f"first_{v}.json", self.word),
            ]
            for v in volumes
        }
        try:
            run_lot(orders, self.files, **options)
        finally:
            self.called = (self.folder / "calls").read_text().split()
        return self.called


@pytest.fixture
def lot(tmp_path: Path) -> Lot:
    return Lot(tmp_path)


def test_what_is_done_is_not_done_again(lot: Lot) -> None:
    assert lot.run() == ["first_a", "then_a", "first_b", "then_b"]
    content = lot.files.content.read_text()
    assert content.splitlines()[0].startswith("a first ")
    assert lot.run() == []
    assert FinishedLot.read(lot.files.record).num_steps_done == 0
    assert lot.files.content.read_text() == content


def test_a_row_more_is_one_volume_more(lot: Lot) -> None:
    lot.run("a")
    assert lot.run("ab") == ["first_b", "then_b"]
    assert lot.run("b") == []
    assert {volume for volume, _ in LotJournal.read(lot.files.journal).ended} == {"b"}


def test_another_setting_redoes_its_step_alone(lot: Lot) -> None:
    lot.run()
    lot.word = "two"
    assert lot.run() == ["then_a", "then_b"]


def test_originals_that_are_gone_are_no_other_originals(lot: Lot) -> None:
    lot.settings = {"originals": "their sizes and dates"}
    lot.run()
    lot.settings = {}
    assert lot.run() == []
    lot.settings = {"originals": "other dates"}
    assert lot.run() == ["first_a", "then_a", "first_b", "then_b"]


def test_another_original_redoes_its_volume_alone(lot: Lot) -> None:
    lot.run()
    lot.original("b", "c")
    assert lot.run() == ["first_b", "then_b"]


def test_what_is_missing_is_made_again_with_what_follows_from_it(lot: Lot) -> None:
    lot.run()
    (lot.folder / "then_b.json").unlink()
    assert lot.run() == ["then_b"]


@pytest.mark.parametrize("is_newer", [True, False])
def test_without_a_journal_records_and_their_dates_tell(
    is_newer: bool, lot: Lot
) -> None:
    lot.run()
    lot.files.journal.unlink()
    now = (lot.folder / "then_a.json").stat().st_mtime + 9
    if is_newer:
        os.utime(lot.folder / "first_a.json", (now, now))
    assert lot.run() == (["then_a"] if is_newer else [])


def test_a_volume_that_fails_is_named_and_keeps_no_other(lot: Lot) -> None:
    lot.original("a", "broken")
    with pytest.raises(DataError, match="1 of 2 volumes failed") as error:
        lot.run()
    assert "a: DataError: it is broken" in str(error.value)
    assert lot.called == ["first_a", "first_b", "then_b"]
    assert not lot.files.record.exists()
    assert list(LotJournal.read(lot.files.journal).failed) == ["a"]
    with pytest.raises(DataError, match="1 of 2"):
        lot.run()
    assert lot.called == ["first_a"]
    lot.original("a", "mended")
    assert lot.run() == ["first_a", "then_a"]
    assert not LotJournal.read(lot.files.journal).failed


def test_a_failure_that_a_later_job_tries_again_is_told_in_the_record(
    lot: Lot,
) -> None:
    lot.original("a", "broken")
    lot.run(may_fail=True)
    told = FinishedLot.read(lot.files.record).failed
    assert told == {"a": "DataError: it is broken"}


def test_a_lot_that_was_stopped_goes_on_after_its_last_step(lot: Lot) -> None:
    lot.original("b", "stop")
    with pytest.raises(Interrupted):
        lot.run()
    assert lot.called == ["first_a", "then_a", "first_b"]
    with lot.files.journal.open("a") as file:
        file.write('{"volume": "b", "st')  # cut off as it was written
    lot.original("b", "b")
    assert lot.run() == ["first_b", "then_b"]


def test_a_signal_during_the_last_block_of_a_step_stops_the_lot(
    lot: Lot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_as_it_ends(step: StepOrder) -> None:
        perform(step)
        with told_to_stop(signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGTERM)

    perform = running._perform
    monkeypatch.setattr(running, "_perform", told_as_it_ends)
    with pytest.raises(Interrupted, match="before then of a"):
        lot.run()
    assert lot.called == ["first_a"]
    monkeypatch.setattr(running, "_perform", perform)
    assert lot.run() == ["then_a", "first_b", "then_b"]


def test_the_cause_of_a_failure_is_the_newest(lot: Lot) -> None:
    journal = LotJournal(lot.files.journal, {})
    for step in ("first", "then"):
        error = "old" if step == "then" else ""
        journal.add(EndedStep(volume="a", step=step, error=error))
    journal.add(EndedStep(volume="a", step="first", error="new"))
    assert LotJournal.read(journal.path).failed["a"].error == "new"
    assert journal.failed["a"].error == "new"
