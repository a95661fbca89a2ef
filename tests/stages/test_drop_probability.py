"""A dropped probability: its disk is given back, it is never read, it comes again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.stages.predicted import Chain, note_content, small_shards
from tests.variants import mostly_slow
from unetpipe.config import SegmentationConfig, VerifyConfig
from unetpipe.errors import IntegrityError
from unetpipe.evaluation.scored_volume import (
    EvaluationInputs,
    ScoredRecords,
    ScoredVolume,
)
from unetpipe.records.prediction import Prediction
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.stages.coarsen_part import coarsen_part
from unetpipe.stages.drop_probability import drop_probability
from unetpipe.stages.finish_segmentation import finish_segmentation
from unetpipe.stages.verify import verify
from unetpipe.storage.dropping import are_shards_dropped, drop_stores
from unetpipe.storage.growing_arrays import ReceiptedStore
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.verification import Commands
from unetpipe.tiling.unet_spec import UNetSpec

SHAPE = (3, 40, 60)


class Dropped(Chain):
    """A finished prediction, and the calls that use and drop it."""

    def drop(self) -> dict:
        drop_probability(
            prediction=self.folder / "prediction.json",
            marker=self.folder / "probability.json",
            parts=[self.folder / f"parts/{part}.json" for part in range(2)],
            record=self.folder / "dropped.json",
        )
        return read_record(self.folder / "dropped.json")

    def segment(self, **settings) -> dict:
        record = self.folder / "segmentation.json"
        finish_segmentation(
            inputs=SegmentationInputs(
                prediction=self.folder / "prediction.json",
                model_json=self.model_json,
                ingest=self.ingest,
                settings=SegmentationConfig(**settings),
                folder=self.folder,
            ),
            parts=[],
            record=record,
        )
        return read_record(record)

    def verify(self) -> list[dict]:
        names = ("prediction", "segmentation")
        verify(
            volumes=[self.ingest],
            networks=[],
            predictions=[
                {name: str(self.folder / f"{name}.json") for name in names}
                | {"ingest": str(self.ingest), "model": str(self.model)}
                | {"model_json": str(self.model_json)}
            ],
            settings=VerifyConfig(blocks=8),
            commands=Commands("snakemake", 2),
            record=self.folder / "verify.json",
        )
        (summary,) = read_record(self.folder / "verify.json")["predictions"]
        return summary["blocks"]

    @property
    def home(self) -> Path:
        return self.receipts.parent

    @property
    def receipts(self) -> Path:
        return Prediction.read(self.folder / "prediction.json").outputs.receipts

    def shard_files(self) -> list[Path]:
        return [p for p in self.home.glob("*.zarr/*/c/**/*") if p.is_file()]

    def hashes(self) -> dict[str, dict]:
        return {
            path.relative_to(self.receipts).as_posix(): read_record(path)["files"]
            for path in self.receipts.rglob("*.json")
        }


@pytest.fixture(params=mostly_slow([2, 3]))
def run(request, tmp_path, make_volume, make_model, monkeypatch) -> Dropped:
    small_shards(monkeypatch)
    ingest = make_volume(SHAPE)
    note_content(ingest)
    spec = UNetSpec(base_channels=2, depth=1, num_classes=request.param)
    chain = Dropped(tmp_path / "run", ingest, make_model(spec))
    chain.run()
    return chain


def test_shards_go_and_receipts_and_records_stay(run):
    before, record = run.hashes(), read_record(run.folder / "prediction.json")
    files = run.shard_files()
    size = sum(path.stat().st_size for path in files)
    assert run.drop()["num_bytes"] == size > 0
    assert run.shard_files() == []
    assert run.hashes() == before
    assert read_record(run.folder / "prediction.json") == record
    assert not (run.folder / "probability.json").exists()
    assert list((run.folder / "parts").glob("[0-9]*.json")) == []
    assert run.drop()["num_bytes"] == size, "the next call gives the same answer"


def test_what_was_dropped_is_refused_instead_of_read_as_0(run):
    run.segment()
    run.drop()
    with pytest.raises(IntegrityError, match="keep_probability is false"):
        run.segment(threshold=0.3)
    volume = read_record(run.ingest)
    volume["labels"] = volume["image"] | {
        **{"label_kind": "binary", "unlabelled": None},
        **{"dtype": volume["dtype"], "num_ids": 1},
    }
    write_record(run.folder / "labelled.json", volume)
    inputs = EvaluationInputs(
        prediction=run.folder / "prediction.json",
        segmentation=run.folder / "segmentation.json",
        ingest=run.folder / "labelled.json",
        model_json=run.model_json,
    )
    with pytest.raises(IntegrityError, match="dropped after use"):
        ScoredVolume(ScoredRecords.read(inputs))
    with pytest.raises(IntegrityError, match="dropped after use"):
        coarsen_part(
            source=run.folder / "prediction.json",
            part=0,
            num_parts=1,
            record=run.folder / "pyramid.json",
        )


def test_the_rules_that_made_it_make_the_same_bits_again(run, caplog):
    before, voxels = run.hashes(), run.voxels()
    first = run.segment()
    run.drop()
    for part in range(2):
        run.part(part)
    assert "is missing" not in caplog.text, "it is no damage, so nobody is alarmed"
    with pytest.raises(IntegrityError):
        run.segment()  # not whole before finish_prediction says so
    run.finish()
    assert not are_shards_dropped(run.home / "probability.ome.zarr")
    assert (run.folder / "probability.json").exists()
    assert run.hashes() == before
    assert np.array_equal(run.voxels(), voxels)
    assert run.segment()["files_sha256"] == first["files_sha256"]


@pytest.mark.slow
def test_verify_compares_blocks_with_the_hashes_that_are_left(run):
    run.segment()
    run.drop()
    blocks = run.verify()
    assert [(b["num_different"], b["largest"]) for b in blocks] == [(0, None)] * 8
    receipt = receipt_path(run.receipts, (1, 1, 1))
    record = read_record(receipt)
    record["files"]["probability"] = "0" * 64
    write_record(receipt, record)
    with pytest.raises(IntegrityError, match="are not those that"):
        run.verify()
    path = run.folder / "prediction.json"
    found = Prediction.read(path)
    identity = found.identity_sha256
    told = ReceiptedStore(found.geometry, run.receipts, {}, identity).check()
    found.model_copy(update={"content_sha256": told.content_sha256}).write(path)
    with pytest.raises(IntegrityError, match=r"block 7 \(1 shards, by their hashes\)"):
        run.verify()
    record["circumstances"]["libraries"]["numcodecs"] = "0.1"
    write_record(receipt, record)
    last = run.verify()[-1]
    assert (last["num_different"], last["differs_in"][:14]) == (1, "numcodecs: 0.1")


def test_a_kill_while_dropping_leaves_nothing_that_looks_whole(run, monkeypatch):
    size = sum(path.stat().st_size for path in run.shard_files())
    removed: list[Path] = []

    def killed(path, **more):
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        shutil.rmtree.__wrapped__(path, **more)

    killed.__wrapped__ = shutil.rmtree
    with monkeypatch.context() as patched:
        patched.setattr("unetpipe.storage.dropping.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            stores = sorted(run.home.glob("*.zarr"))
            drop_stores(run.home, stores)
    with pytest.raises(IntegrityError):
        run.segment()
    assert run.drop()["num_bytes"] == size
