"""Status from outside: receipts, histories, logs and claims tell how far a run is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.records.whole import whole
from unetpipe.records.lots import EndedStep, LotJournal
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.report.run_state import (
    StepState,
    clock_of,
    failed_volumes,
    lot_states,
    prediction_state,
    record_state,
    training_state,
)
from unetpipe.runtime.files import write_record
from unetpipe.runtime.locks import is_held
from unetpipe.stages.status import status
from unetpipe.storage.receipts import receipt_path
from unetpipe.tiling.grids import TileGrids
from unetpipe.training.history import History, HistoryRow

GRID = dict.fromkeys(("stride", "input_shape", "chunk", "shard", "block"), (1, 10, 10))
PLAN = Path(__file__).parents[1] / "records" / "version_0_1" / "plan.json"
NAMES = {"network": "unet", "volume": "vol"}
NOW = 1_000_000.0


def write(path: Path, text: str = "", *, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))
    return path


def planned(folder: Path, *ages: float) -> Path:
    """Make a plan of 20 shards of 100 voxels, and receipts of these ages."""
    old = PredictionPlan.read(PLAN)
    grids = TileGrids(volume_shape=(2, 20, 50), **GRID)
    receipts = folder / "receipts"
    old.model_copy(
        update={"geometry": grids, "receipts": receipts, "identity_sha256": "a"}
    ).write(folder / "plan.json")
    for number, age in enumerate(ages):
        path = receipt_path(receipts, (number // 10, 0, number % 10))
        write_record(path, {"identity": "a"})
        os.utime(path, (NOW - age, NOW - age))
    return folder


def predicting(folder: Path):
    return prediction_state(folder, folder / "logs", NOW, **NAMES)


def test_a_prediction_is_as_far_as_its_receipts_at_their_rate(tmp_path):
    state = predicting(planned(tmp_path, 40, 30, 20, 10, 0))
    assert (state.state, state.done, state.total) == ("running", 5, 20)
    assert state.rate == pytest.approx(100 / 10)
    assert state.seconds_left == pytest.approx(15 * 10)


def test_a_prediction_without_a_sign_of_life_is_stopped(tmp_path):
    state = predicting(planned(tmp_path, 700, 600))
    assert state.state == "stopped"
    assert "no sign of life for 10 min" in state.note


def test_a_part_that_ended_with_an_error_is_failed_and_says_why(tmp_path):
    planned(tmp_path, 30, 20)
    line = "2026-01-01 00:00:00,000 CRITICAL unetpipe: DataError: block 3: NaN\n"
    write(tmp_path / "logs" / "0.log", f"{line}Traceback\n")
    state = predicting(tmp_path)
    assert (state.state, state.note) == ("failed", "DataError: block 3: NaN")
    told = line.replace("DataError", "Interrupted")
    write(tmp_path / "logs" / "0.log", told)
    assert predicting(tmp_path).state == "stopped"


def test_a_finished_prediction_is_done_unless_it_is_of_another_recipe(tmp_path):
    planned(tmp_path)
    prediction = Prediction.read(PLAN.with_name("prediction.json"))
    of_plan = prediction.model_copy(update={"identity_sha256": "a"})
    of_plan.write(tmp_path / "prediction.json")
    assert predicting(tmp_path).state == "done"
    prediction.write(tmp_path / "prediction.json")
    assert predicting(tmp_path).state == "waiting"
    assert predicting(tmp_path / "elsewhere") is None


def test_a_training_is_as_far_as_its_history(tmp_path):
    path = tmp_path / "state" / "1f0c9a2e" / "history.csv"
    path.parent.mkdir(parents=True)
    rows = [HistoryRow(n, 0.5, 1e-3, 0.5 * n) for n in range(1, 201)]
    History(path).append(rows)
    os.utime(path, (NOW, NOW))
    log = tmp_path / "train.log"
    state = training_state(tmp_path, 1000, log, NOW, network="unet")
    assert (state.state, state.done, state.total) == ("running", 200, 1000)
    assert state.rate == pytest.approx(2.0)
    assert state.seconds_left == pytest.approx(400.0)
    assert state.note == "loss 0.5000"
    write_record(tmp_path / "train.json", {})
    assert training_state(tmp_path, 1000, log, NOW, network="unet").state == "done"


def test_a_step_with_one_record_waits_runs_and_is_done(tmp_path):
    record, log = tmp_path / "ingest.json", tmp_path / "ingest.log"

    def state() -> str:
        return record_state(record, [log], NOW, step="ingest_volume", **NAMES).state

    assert state() == "waiting"
    write(log, "INFO reading\n", age=5)
    assert state() == "running"
    write(log, "INFO reading\n", age=500)
    assert state() == "stopped"
    write_record(record, {})
    assert state() == "done"


def test_a_claim_that_a_process_holds_is_a_sign_of_life(tmp_path):
    planned(tmp_path, 700, 600)
    path = tmp_path / "parts" / ".0.claim"
    assert not is_held(path)
    code = f"""
import sys
from pathlib import Path
from unetpipe.runtime.locks import claim
with claim(Path({str(path)!r}), "part 0"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(path)
        assert predicting(tmp_path).state == "running"
        holder.kill()
    assert path.exists()
    assert not is_held(path)
    assert predicting(tmp_path).state == "stopped"


def test_a_lot_tells_how_many_steps_are_done_and_which_volumes_failed(tmp_path):
    lot = {
        "name": "ab12cd",
        "model": "unet",
        "rule": "predict_lot",
        "record": str(tmp_path / "ab12cd.json"),
        "log": str(tmp_path / "ab12cd.log"),
        "steps": {"a": ["first", "then"], "b": ["first", "then"]},
    }
    assert lot_states(lot, NOW)[0].state == "waiting"
    journal = LotJournal.read(tmp_path / "ab12cd.jsonl")
    journal.add(EndedStep(volume="a", step="first", answers="x"))
    journal.add(EndedStep(volume="gone", step="first", error="DataError: old"))
    write(tmp_path / "ab12cd.log", "begun\n", age=5)
    (whole_lot,) = lot_states(lot, NOW)
    assert (whole_lot.state, whole_lot.done, whole_lot.total) == ("running", 1, 4)
    journal.add(EndedStep(volume="b", step="first", error="DataError: it is cut off"))
    write(tmp_path / "ab12cd.log", "2026 CRITICAL unetpipe: DataError: 1 of 2\n")
    whole_lot, failed = lot_states(lot, NOW)
    assert (whole_lot.state, whole_lot.note) == ("failed", "1 of 2 volumes failed")
    assert (failed.volume, failed.step) == ("b", "first")
    assert failed.note == "DataError: it is cut off"
    assert failed_volumes([whole_lot, failed]) == [failed]
    write(tmp_path / "ab12cd.json", "{}")
    assert lot_states(lot, NOW)[0].state == "done"


def test_what_a_network_could_not_do_again_is_told_once():
    before = StepState("", "a", "ingest_volume", "failed", note="cut off")
    again = StepState("unet", "a", "ingest_volume", "failed", note="still cut off")
    other = StepState("", "b", "ingest_volume", "failed", note="gone")
    training = StepState("unet", "", "train_unet", "failed")
    going = StepState("unet", "c", "predict_part", "running")
    found = failed_volumes([before, other, training, again, going])
    assert found == [other, again]


def test_the_clock_is_that_of_the_disk(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        before = time.time()
        told = clock_of(folder)
        # A disk may tell whole seconds only.
        assert before - 1 <= told <= time.time() + 1
    assert list(tmp_path.iterdir()) == []


def test_the_table_tells_every_step_once(tmp_path, capsys):
    results = tmp_path / "results"
    odd = [{"what": "blurred", "sections": [7]}]
    ingested = whole("ingest", {"odd_sections": odd})
    write_record(results / "volumes" / "vol" / "ingest.json", ingested)
    plan = planned(results / "unet" / "vol", 3, 2) / "plan.json"
    PredictionPlan.read(plan).model_copy(
        update={"warnings": ("unlike what it learnt",)}
    ).write(plan)
    status(
        volumes=["vol"],
        networks=[
            {"model": "unet", "rule": "train_unet", "steps": 9, "volumes": ["vol"]}
        ],
        results=results,
        logs=tmp_path / "logs",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "network",
        "volume",
        "step",
        "state",
        "done",
        "rate",
        "left",
    ]
    assert lines[1].split() == ["vol", "ingest_volume", "done"]
    assert "warning: vol: blurred sections 7" in lines
    assert "warning: vol by unet: unlike what it learnt" in lines
    assert lines[2].split() == [
        "unet",
        "train_unet",
        "waiting",
        "0",
        "of",
        "9",
        "steps",
    ]
    assert lines[3].split()[:7] == [
        "unet",
        "vol",
        "predict_part",
        "stopped",
        "2",
        "of",
        "20",
    ]
