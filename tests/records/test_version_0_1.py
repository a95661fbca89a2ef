"""Records that version 0.1 wrote of the demo are read, and keep their bytes."""

from pathlib import Path
from typing import Any

import pytest

from unetpipe.errors import DataError
from unetpipe.records import Record
from unetpipe.records.model import Model
from unetpipe.records.prediction import (
    PredictedPart,
    Prediction,
    PredictionPlan,
    ProbabilityMarker,
)
from unetpipe.records.probe import Probe
from unetpipe.records.segmentation import FinishedObjects, Segmentation
from unetpipe.records.suggestions import Suggestions
from unetpipe.records.training import Training
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import WeightMap
from unetpipe.runtime.files import read_record, write_record

FOLDER = Path(__file__).with_name("version_0_1")
RECORDS: dict[str, type[Record]] = {
    "ingest": IngestedVolume,
    "weight_map": WeightMap,
    "model": Model,
    "train": Training,
    "probe": Probe,
    "plan": PredictionPlan,
    "part": PredictedPart,
    "prediction": Prediction,
    "probability": ProbabilityMarker,
    "segmentation": Segmentation,
    "finished": FinishedObjects,
    "suggestions": Suggestions,
}

# The second says all that the first one says, and more.
PARTS = {("finished", "segmentation")}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_keeps_its_bytes(name: str, tmp_path: Path) -> None:
    source = FOLDER / f"{name}.json"
    RECORDS[name].read(source).write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("other", RECORDS)
def test_no_record_is_taken_for_another(name: str, other: str) -> None:
    if name != other and (name, other) not in PARTS:
        with pytest.raises(DataError, match=r"is missing|Input should|no network"):
            RECORDS[name].read(FOLDER / f"{other}.json")


@pytest.mark.parametrize("name", ["plan", "prediction"])
def test_an_identity_hashes_as_it_did(name: str) -> None:
    record: Any = RECORDS[name].read(FOLDER / f"{name}.json")
    assert record.identity.sha256 == record.identity_sha256


def test_what_a_later_version_adds_to_an_identity_counts(tmp_path: Path) -> None:
    values = read_record(FOLDER / "plan.json")
    values["identity"]["temperature"] = 300
    write_record(tmp_path / "plan.json", values)
    plan = PredictionPlan.read(tmp_path / "plan.json")
    assert plan.identity.sha256 != plan.identity_sha256


def test_grids_that_do_not_nest_are_refused_in_one_line(tmp_path: Path) -> None:
    values = read_record(FOLDER / "plan.json")
    values["geometry"]["shard"] = [1, 100, 256]
    write_record(tmp_path / "plan.json", values)
    with pytest.raises(DataError, match=r"plan.json is not the plan .*not a multiple"):
        PredictionPlan.read(tmp_path / "plan.json")
