"""Verify: what is wrong is found, named, and mended by the command that is told."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages.predicted import Chain, note_content, small_shards
from unetpipe.config import SegmentationConfig, VerifyConfig
from unetpipe.errors import IntegrityError
from unetpipe.network.devices import describe_device
from unetpipe.records.prediction import Prediction
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.stages.finish_segmentation import finish_segmentation
from unetpipe.stages.verify import TOLERANCE, verify
from unetpipe.storage.keeping import keep_network
from unetpipe.storage.verification import Commands
from unetpipe.storage.volumes import open_volume, shard_path, write_shard

CPU = torch.device("cpu")

SHAPE = (3, 40, 60)
OF_ARITHMETIC = ("devices", "predictor")


class Verified:
    """A finished run of one volume, and the call that verifies it."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        self.folder, self.chain = folder, chain
        self.shared = frozenset[Path]()

    def paths(self) -> dict[str, str]:
        folder = self.chain.folder
        return {
            "prediction": str(folder / "prediction.json"),
            "segmentation": str(folder / "segmentation.json"),
            "ingest": str(self.chain.ingest),
            "model": str(self.chain.model),
            "model_json": str(self.chain.model_json),
        }

    def __call__(self, **settings) -> dict:
        verify(
            volumes=[self.chain.ingest],
            networks=[{k: self.paths()[k] for k in ("model", "model_json")}],
            predictions=[self.paths()],
            settings=VerifyConfig(**settings),
            commands=Commands("snakemake --configfile c.yaml", 2, self.shared),
            record=self.folder / "verify.json",
        )
        return read_record(self.folder / "verify.json")

    def complaint(self, **settings) -> str:
        with pytest.raises(IntegrityError) as error:
            self(**settings)
        findings = read_record(self.folder / "verify.json")["findings"]
        assert all(f["what"] in str(error.value) for f in findings)
        return str(error.value)

    @property
    def prediction(self) -> Path:
        return self.chain.folder / "prediction.json"


@pytest.fixture
def verified(tmp_path, make_volume, make_model, monkeypatch) -> Verified:
    small_shards(monkeypatch)
    ingest = make_volume(SHAPE)
    note_content(ingest)
    chain = Chain(tmp_path / "run", ingest, make_model())
    chain.run()
    finish_segmentation(
        inputs=SegmentationInputs(
            prediction=chain.folder / "prediction.json",
            model_json=chain.model_json,
            ingest=ingest,
            settings=SegmentationConfig(),
            folder=chain.folder,
        ),
        parts=[],
        record=chain.folder / "segmentation.json",
    )
    return Verified(tmp_path, chain)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_run_is_read_and_computed_again_bit_by_bit(verified, caplog):
    caplog.set_level("INFO")
    before = {p: p.read_bytes() for p in verified.folder.rglob("*") if p.is_file()}
    (summary,) = verified(fraction=1.0)["predictions"]
    geometry = read_record(verified.prediction)["geometry"]
    assert geometry["shard"] == [2, 32, 32]
    assert summary["num_shards"] == 8
    assert [b["number"] for b in summary["blocks"]] == list(range(8))
    assert {(b["differs_in"], b["num_different"]) for b in summary["blocks"]} == {
        (None, 0)
    }
    assert "8 blocks computed again, bit by bit" in caplog.text
    (verified.folder / "verify.json").unlink()
    after = {p: p.read_bytes() for p in verified.folder.rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.slow
def test_the_sample_of_blocks_follows_number_fraction_and_seed(verified):
    def numbers(**settings):
        (summary,) = verified(**settings)["predictions"]
        return [block["number"] for block in summary["blocks"]]

    assert numbers(blocks=0) == []
    assert len(numbers(blocks=1, fraction=0.3)) == 3
    assert numbers(blocks=3) == numbers(blocks=3)
    assert len({tuple(numbers(blocks=3, seed=s)) for s in range(6)}) > 1


def test_a_damaged_shard_is_named_with_the_command_that_mends_it(verified):
    run = verified.chain
    expected = run.voxels()
    flip(shard_path(run.array(), (1, 1, 1)))
    said = verified.complaint()
    assert "1 of 8 shards" in said
    assert "shard (1, 1, 1) has a receipt, but its probability file has other" in said
    assert (
        f"mend it:  snakemake --configfile c.yaml --forcerun {run.folder}/parts/1.json"
    ) in said
    assert run.part(1)["num_computed"] == 1  # what that command does first
    run.finish()
    verified()
    assert np.array_equal(run.voxels(), expected)


def test_a_volume_of_a_lot_is_mended_by_its_lot(verified):
    """No rule of the run names its files, but the lot sees which are gone."""
    run = verified.chain
    verified.shared = frozenset([run.folder, run.ingest.parent])
    flip(shard_path(run.array(), (1, 1, 1)))
    record = run.folder / "prediction.json"
    said = verified.complaint(blocks=0)
    assert (
        f"mend it:  rm -f {run.folder}/parts/1.json {record} && "
        "snakemake --configfile c.yaml\n"
    ) in f"{said}\n"
    run.ingest.unlink()
    run.ingest.write_text("{")
    assert f"rm -f {run.ingest} && snakemake" in verified.complaint(blocks=0)
    assert "--forcerun" not in verified.complaint(blocks=0)


def test_bits_that_fit_their_receipt_but_not_the_recipe_are_found(verified):
    """As after a fault of a processor: only computing again can tell."""
    run, array = verified.chain, verified.chain.array()
    geometry = read_record(verified.prediction)["geometry"]
    assert geometry["block"] == geometry["shard"]
    voxels = array[:, :2, :32, :32]
    voxels[0, 0, 3, 4] ^= 1
    receipt = verified.chain.receipt((0, 0, 0))
    record = read_record(receipt)
    record["files"]["probability"] = write_shard(array, (0, 0, 0), voxels)
    write_record(receipt, record)
    run.finish()
    said = verified.complaint(fraction=1.0)
    assert "block 0 (1 voxels, by up to 1 of 255)" in said
    assert f"rm {receipt} && snakemake --configfile c.yaml --forcerun" in said


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("device", "cuda (H200)", "device: cuda (H200), here cpu"),
        ("libraries", {"torch": "1.0"}, "torch: 1.0, here 2"),
    ],
)
def test_elsewhere_made_bits_are_compared_within_a_tolerance(
    verified, caplog, key, value, reason
):
    receipts = Prediction.read(verified.prediction).outputs.receipts
    for path in receipts.rglob("*.json"):
        record = read_record(path)
        record["circumstances"][key] = value
        write_record(path, record)
    (summary,) = verified(blocks=2)["predictions"]
    assert {(b["tolerance"], b["largest"]) for b in summary["blocks"]} == {(1, 0)}
    assert f"({reason}" in caplog.text
    assert "compared within 1 of 255" in caplog.text


@pytest.mark.parametrize(("num_beyond", "is_wrong"), [(20, False), (21, True)])
def test_of_int8_one_voxel_in_a_hundred_may_be_farther_off(
    verified, caplog, monkeypatch, num_beyond, is_wrong
):
    """Another processor rounds a value to the next step, and so on, layer by layer."""
    monkeypatch.setitem(TOLERANCE, "fp32", TOLERANCE["int8"])
    run = verified.chain
    stored = run.array()
    voxels = stored[:, :2, :32, :32]
    near = voxels.astype(int).reshape(-1)
    changed = np.where(near < 128, near + 16, near - 16)
    changed[:num_beyond] += np.where(near[:num_beyond] < 128, 1, -1)
    voxels[...] = changed.reshape(voxels.shape)
    receipt = run.receipt((0, 0, 0))
    record = read_record(receipt)
    record["files"]["probability"] = write_shard(stored, (0, 0, 0), voxels)
    record["circumstances"]["device"] = "cpu (openvino, AVX512 VNNI)"
    write_record(receipt, record)
    run.finish()
    if is_wrong:
        said = verified.complaint(fraction=1.0)
        assert "block 0 (2048 voxels, by up to 17 of 255)" in said
        return
    summary = verified(fraction=1.0)["predictions"][0]["blocks"][0]
    assert (summary["num_beyond"], summary["most_beyond"]) == (20, 20)
    told = "device: cpu (openvino, AVX512 VNNI), here cpu"
    assert told in caplog.text
    assert "within 16 of 255, but for 20 voxels, where 20 may be" in caplog.text


def test_other_damage_is_named_all_at_once(verified):
    run = verified.chain
    volume = read_record(run.ingest)
    store = Path(volume["image"]["store"])
    image = open_volume(store, mode="r+")
    voxels = np.array(image[:, :2, :40, :60])
    voxels[0, 0, 0, 0] ^= 1
    write_shard(image, (0, 0, 0), voxels)
    flip(run.model)
    segmentation = read_record(run.folder / "segmentation.json")
    objects = open_volume(Path(segmentation["objects"]))
    shard_path(objects, (1, 0, 0)).unlink()
    said = verified.complaint()
    assert f"{store} has the content" in said
    assert f"--forcerun {run.ingest}" in said
    assert f"{run.model} is not the file that {run.model_json} describes" in said
    assert "shard (1, 0, 0) has a receipt, but its objects file is missing" in said
    assert f"--forcerun {run.folder}/segmentation.json; again if it says so" in said
    assert f"see {verified.folder / 'verify.json'}" in said


def test_a_receipt_exchanged_together_with_its_shard_is_found(verified):
    record = read_record(verified.prediction)
    record["content_sha256"] = "0" * 64
    write_record(verified.prediction, record)
    assert "are not those that" in verified.complaint(blocks=0)
    record["identity"]["precision"] = "bf16"
    write_record(verified.prediction, record)
    assert "holds another recipe" in verified.complaint(blocks=0)


def test_a_record_of_another_version_is_named(verified):
    path = verified.chain.folder / "segmentation.json"
    record = read_record(path)
    del record["identity_sha256"]
    write_record(path, record)
    said = verified.complaint(blocks=0)
    assert f"{path} is not the record of a segmentation" in said
    assert "identity_sha256 is missing" in said


def test_nothing_finished_is_no_error_and_says_so(tmp_path, caplog):
    verify(
        volumes=[tmp_path / "ingest.json"],
        networks=[{"model": str(tmp_path / "a"), "model_json": str(tmp_path / "b")}],
        predictions=[{"prediction": str(tmp_path / "c"), "segmentation": ""}],
        settings=VerifyConfig(),
        commands=Commands("snakemake", 1),
        record=tmp_path / "verify.json",
    )
    assert "no finished prediction to verify yet; run snakemake" in caplog.text


def test_kept_networks_are_verified_too(verified):
    home = keep_network(verified.chain.model.parent)
    verified()
    kept = home / "model.safetensors"
    content = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = verified.complaint()
    assert f"{kept} is not the file that its model.json describes" in said
    assert f"or rm -r {home}" in said
    description = home / "model.json"
    description.unlink()
    description.write_text("{")
    assert f"{description} does not describe a network any more" in verified.complaint()


def test_bits_of_a_processor_are_computed_again_on_one(verified, monkeypatch):
    """Also where there is a GPU: only there every bit must be the same."""
    monkeypatch.setattr("unetpipe.network.devices._why_no_cuda", lambda: None)
    (summary,) = verified(blocks=2)["predictions"]
    assert {b["device"] for b in summary["blocks"]} == {describe_device(CPU)}
    assert {b["differs_in"] for b in summary["blocks"]} == {None}


def test_missing_weights_are_a_finding_and_not_the_end(verified):
    verified.chain.model.unlink()
    said = verified.complaint()
    assert f"{verified.chain.model} is not the file that" in said
    assert said.count("mend it:") == 1


def test_a_missing_record_is_a_finding_and_not_the_end(verified):
    verified.chain.ingest.unlink()
    assert f"{verified.chain.ingest} does not exist" in verified.complaint()


def test_tables_of_objects_are_verified(verified):
    record = verified.chain.folder / "segmentation.json"
    table = {k: Path(v["path"]) for k, v in read_record(record)["table"].items()}
    flip(table["csv"])
    table["parquet"].unlink()
    said = verified.complaint(blocks=0)
    assert f"{table['csv']} is not the file that was written" in said
    assert f"{table['parquet']} is missing" in said
    assert f"--forcerun {record}" in said


def test_results_of_other_settings_are_findings(verified, tmp_path):
    told = "results/a/unet/train.json was made with other settings (training)"
    with pytest.raises(IntegrityError) as error:
        verify(
            volumes=[],
            networks=[],
            predictions=[],
            settings=VerifyConfig(),
            outdated={"results/a/unet/train.json": told},
            commands=Commands("snakemake --configfile c.yaml", 1),
            record=tmp_path / "verify.json",
        )
    assert f"{told}\n    mend it:  snakemake --configfile c.yaml" in str(error.value)


def test_bf16_of_a_processor_with_other_instructions_is_not_called_damaged(
    tmp_path, make_volume, make_model, monkeypatch
):
    """Both have AVX-512; one multiplies in bf16, the other by way of fp32."""
    small_shards(monkeypatch)
    ingest = make_volume(SHAPE)
    note_content(ingest)
    chain = Chain(tmp_path / "run", ingest, make_model(), precision="bf16")
    native = (lambda *_: True, lambda _, precision: precision == "fp32")
    names = [f"unetpipe.network.{room}.has_arithmetic" for room in OF_ARITHMETIC]
    for name in names:
        monkeypatch.setattr(name, native[0])
    chain.run()
    for name in names:
        monkeypatch.setattr(name, native[1])
    verified = Verified(tmp_path, chain)
    (summary,) = verified(fraction=1.0)["predictions"]
    [told] = {block["differs_in"] for block in summary["blocks"]}
    assert "bf16 by fp32" in told
