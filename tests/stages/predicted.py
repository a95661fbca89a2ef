"""The stages of prediction, run one after another in a folder of their own."""

from pathlib import Path

from unetpipe.config import PredictionConfig
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.finish_prediction import finish_prediction
from unetpipe.stages.plan_prediction import plan_prediction
from unetpipe.stages.predict_part import predict_part
from unetpipe.stages.probe_prediction import probe_prediction
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.verification import hash_voxels
from unetpipe.storage.volumes import open_volume

SHAPE = (5, 70, 101)


def note_content(ingest: Path) -> None:
    """Let a made-up volume tell the hash of its voxels, as ``ingest_volume`` does."""
    volume = read_record(ingest)
    image = open_volume(Path(volume["image"]["store"]))
    volume["image"]["content_sha256"] = hash_voxels(image)
    write_record(ingest, volume)


class Chain:
    """Probe, plan, predict and finish in one folder."""

    def __init__(self, folder, ingest, model, *, calibrated=(), **prediction):
        self.quantised = [home / "int8.safetensors" for home in calibrated]
        self.calibrations = [home / "calibration.json" for home in calibrated]
        self.folder, self.ingest, (self.model, self.model_json) = folder, ingest, model
        settings = {"threads": 1, "parts": 2, "stride": (1, 16, 32)}
        self.prediction = PredictionConfig(**(settings | prediction))
        self.folder.mkdir(parents=True, exist_ok=True)

    def plan(self):
        probe_prediction(
            ingest=self.ingest,
            model=self.model,
            model_json=self.model_json,
            prediction=self.prediction,
            record=self.folder / "probe.json",
            quantised=self.quantised,
            calibrations=self.calibrations,
        )
        return self.plan_only()

    def plan_only(self):
        plan_prediction(
            ingest=self.ingest,
            model_json=self.model_json,
            probe=self.folder / "probe.json",
            prediction=self.prediction,
            folder=self.folder,
            record=self.folder / "plan.json",
            calibrations=self.calibrations,
        )
        return read_record(self.folder / "plan.json")

    def part(self, part):
        record = self.folder / "parts" / f"{part}.json"
        predict_part(
            plan=self.folder / "plan.json",
            model=self.model,
            model_json=self.model_json,
            part=part,
            record=record,
            quantised=self.quantised,
        )
        return read_record(record)

    def finish(self):
        parts = range(self.prediction.parts)
        finish_prediction(
            plan=self.folder / "plan.json",
            parts=[self.folder / "parts" / f"{p}.json" for p in parts],
            marker=self.folder / "probability.json",
            record=self.folder / "prediction.json",
        )
        return read_record(self.folder / "prediction.json")

    def run(self):
        self.plan()
        for part in reversed(range(self.prediction.parts)):
            self.part(part)
        self.finish()
        return self.voxels()

    def array(self, name="probability"):
        plan = read_record(self.folder / "plan.json")
        return open_volume(Path(plan["outputs"][name]["store"]), mode="r+")

    def voxels(self, name="probability"):
        return self.array(name)[...]

    def receipt(self, index):
        plan = read_record(self.folder / "plan.json")
        return receipt_path(Path(plan["receipts"]), index)


def small_shards(monkeypatch, sections=2, voxels=32):
    monkeypatch.setattr("unetpipe.tiling.grids.SHARD_SECTIONS", sections)
    monkeypatch.setattr("unetpipe.tiling.grids.FEWEST_SHARDS_Z", 1)
    monkeypatch.setattr("unetpipe.tiling.grids.SHARD_VOXELS_YX", voxels)
