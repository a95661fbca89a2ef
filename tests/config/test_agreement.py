"""Whether results answer what a run asks today, without the workflow."""

import os
import time
from pathlib import Path

import pytest

from tests.config.test_lookups import lookups
from unetpipe.config.agreement import (
    Agreement,
    AskedRule,
    Job,
    describe_differing,
    record_of,
)
from unetpipe.config.layout import Layout
from unetpipe.config.lookups import Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.config.lots import find_lots
from unetpipe.records.asked import Asked, note_asked
from unetpipe.runtime.files import write_record

LATER = 2 * time.time()
NAMES = {"model": "fold-1", "volume": "a"}
NOW = Asked.of("train_unet", {"training": 4, "code": "x"}, "results/demo")


def agreement_of(found: Lookups) -> Agreement:
    return Agreement(found, LotSteps(found, find_lots(found)))


@pytest.fixture
def agreement(tmp_path: Path) -> Agreement:
    found = lookups(tmp_path)
    layout = Layout("demo", lambda path: str(tmp_path / path))
    return agreement_of(Lookups(found.run, layout))


def lay(agreement: Agreement, *patterns: str, **names: str) -> list[str]:
    paths = [p.format(**(NAMES | names)) for p in patterns]
    for path in paths:
        write_record(Path(path), {})
    return paths


def test_a_file_that_is_gone_is_missed(agreement) -> None:
    layout = agreement._lookups.layout
    outputs = lay(agreement, layout.model, layout.weights)
    assert agreement.missing("train_unet", outputs, NAMES) == []
    Path(outputs[1]).unlink()
    assert agreement.missing("train_unet", outputs, NAMES) == outputs[1:]


def test_what_was_dropped_on_purpose_is_not_missed(agreement) -> None:
    layout = agreement._lookups.layout
    (marker,) = lay(agreement, layout.probability)
    Path(marker).unlink()
    assert agreement.missing("finish_prediction", [marker], NAMES) == [marker]
    lay(agreement, layout.dropped)
    assert agreement.missing("finish_prediction", [marker], NAMES) == []
    assert agreement.missing("export_ngff04", [marker], NAMES) == [marker]


def test_originals_are_not_missed_where_all_volumes_are_stored(agreement) -> None:
    manifest = agreement._lookups.layout.manifest
    assert agreement.missing("download_dataset", [manifest], {}) == [manifest]
    for volume in ("a", "c"):
        lay(agreement, agreement._lookups.layout.ingest, volume=volume)
    assert agreement.missing("download_dataset", [manifest], {}) == []


def test_a_record_of_an_earlier_version_is_taken_as_it_is_and_counted(
    agreement,
) -> None:
    (record,) = lay(agreement, agreement._lookups.layout.training)
    assert agreement.differing("nowhere.json", NOW) == ()
    assert agreement.differing(record, NOW) == ()
    assert agreement.silent == {record}
    note_asked(Path(record), NOW.to_json())
    later = Asked.of("train_unet", {"training": 8, "code": "x"}, "results/demo")
    assert agreement.differing(record, later) == ("training",)


def test_only_what_the_run_asks_for_is_looked_at(agreement) -> None:
    layout = agreement._lookups.layout
    (record,) = lay(agreement, layout.segmentation)
    lay(agreement, layout.segmentation, volume="of_another_sheet")
    assert agreement.wanted() == [record]


def test_measurements_are_looked_at_where_they_are_asked_for(tmp_path: Path) -> None:
    layout = Layout("demo", lambda path: str(tmp_path / path))
    record = layout.measurements.format(**NAMES)
    write_record(Path(record), {})
    for properties, expected in ((), []), (("area",), [record]):
        run = lookups(tmp_path, measure={"properties": properties}).run
        assert agreement_of(Lookups(run, layout)).wanted() == expected


def test_a_job_runs_again_where_its_record_answers_something_else(agreement) -> None:
    layout = agreement._lookups.layout
    record, weights = lay(agreement, layout.training, layout.weights)
    job = Job("train_unet", NAMES, [record, weights], record)
    note_asked(Path(record), NOW.to_json())
    other = Asked.of("train_unet", {"training": 5, "code": "x"}, "results/demo")
    assert agreement.judge(job, lambda: NOW) == (False, "")
    again, told = agreement.judge(job, lambda: other)
    assert again
    assert told == f"{record} was made with other settings (training)"
    assert agreement.judge(job, None) == (False, ""), "settings are not looked at"
    assert agreement.disagreements(job, record, other) == {record: told}
    Path(weights).unlink()
    assert agreement.judge(job, lambda: NOW) == (True, "")
    assert agreement.disagreements(job, record, NOW) == {
        weights: f"{weights} is missing"
    }


def test_a_rule_is_asked_for_what_no_input_decides() -> None:
    params = {
        "training": 4,
        "rows": lambda wildcards: [wildcards],
        "scales": lambda wildcards, input: input.scales,
        "originals": lambda wildcards, input: {wildcards: 1},
    }
    rule = AskedRule("train_unet", params, "results/demo")
    asked = rule.of("a")
    assert set(asked.settings) == {"training", "rows", "originals"}
    assert asked.differing(rule.of("b")) == ("rows", "originals")
    assert set(rule.of("a", without=["originals"]).settings) == {"training", "rows"}


def test_what_differs_is_told_in_words() -> None:
    assert describe_differing("r.json", ("weight_map", "code")) == (
        "r.json was made with other settings (weight map)"
    )
    assert describe_differing("r.json", ("code",)) == ""
    assert describe_differing("r.json", ("rule",)) == "r.json was made by another rule"


def test_the_record_of_a_rule_is_a_json_file() -> None:
    assert record_of({"model": "m.safetensors", "record": "t.json"}) == "t.json"
    assert record_of({"model_json": "m.json"}) == "m.json"
    assert record_of({"page": "p.html", "table": "t.csv"}) is None


@pytest.fixture
def of_lots(tmp_path: Path) -> Agreement:
    return agreement_of(lookups(tmp_path, lots=9, export_ctc=True))


def test_what_a_lot_left_and_is_gone_is_missed_exports_too(
    of_lots, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    model, lot, *paths = lay_lot(of_lots)
    names = {"model": model, "lot": lot}
    assert of_lots.missing("predict_lot", paths[:1], names) == []
    gone = [path for path in paths if path.endswith(("ctc.json", "parts/0.json"))]
    for path in gone:
        Path(path).unlink()
    assert set(of_lots.missing("predict_lot", paths[:1], names)) == set(gone) != set()


def test_a_lot_looks_again_at_what_other_jobs_made_since(
    of_lots, monkeypatch, tmp_path
) -> None:
    """As another lot did, or jobs of the volumes' own, for other settings."""
    monkeypatch.chdir(tmp_path)
    model, lot, record, *left = lay_lot(of_lots)
    names = {"model": model, "lot": lot}
    assert not of_lots.is_overtaken("predict_lot", record, names)
    os.utime(left[-1], (LATER, LATER))
    assert of_lots.is_overtaken("predict_lot", record, names)
    assert not of_lots.is_overtaken("predict_part", record, names)
    os.utime(record, (LATER, LATER))
    assert not of_lots.is_overtaken("predict_lot", record, names)


def lay_lot(agreement: Agreement) -> list[str]:
    """Write all that a lot leaves; return network, lot, its record, its volumes'."""
    ask = agreement._lookups
    model, volume = ask.predicted_pairs()[0]
    lots = find_lots(ask)
    lot = lots.lot_of[volume]
    record = ask.layout.predicted_lot.format(model=model, lot=lot)
    left = LotSteps(ask, lots).records(lot, model)
    for path in (*left, record):
        write_record(Path(path), {})
    return [model, lot, record, *left]


def test_a_damaged_record_of_a_lot_ends_no_run(of_lots, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    lot = next(iter(find_lots(of_lots._lookups).volumes))
    record = Path(of_lots._lookups.layout.ingested_lot.format(lot=lot))
    record.parent.mkdir(parents=True)
    record.write_text("{")
    assert of_lots.missing("ingest_lot", [str(record)], {"lot": lot})
