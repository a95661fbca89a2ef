"""int8: scales from training rows alone, scored, named by the store, or refused."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.network.openvino_needed import needs_openvino
from tests.stages.annotated import draw_instances, ingest, weigh
from tests.stages.predicted import Chain, small_shards
from tests.variants import mostly_slow
from unetpipe.config import PredictionConfig
from unetpipe.errors import ConfigError, DataError, IntegrityError
from unetpipe.network.notebook import load_trained
from unetpipe.network.openvino_network import OpenVinoUNet, describe_backend
from unetpipe.records.calibration import Calibration
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.calibrate_network import calibrate_network
from unetpipe.stages.join_networks import join_networks
from unetpipe.storage.volumes import open_volume
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training import calibration

SPEC = UNetSpec(base_channels=4, depth=1)
RECIPE = {"patch": [1, 30, 30], "validation_metric": "dice"}
INT8 = {"precision": "int8", "largest_flip_fraction": 1, "largest_score_loss": 1}


@dataclass
class Calibrated:
    """A network, its rows, and its calibration."""

    model: tuple[Path, Path]
    rows: list[AnnotatedRow]

    @property
    def folder(self):
        return self.model[0].parent

    @property
    def ingest(self):
        return self.rows[0].ingest

    def calibrate(self, rows=None):
        calibrate_network(
            rows=self.rows if rows is None else rows,
            model=self.model[0],
            model_json=self.model[1],
            prediction=PredictionConfig(threads=1, **INT8),
            quantised=self.folder / "int8.safetensors",
            record=self.folder / "calibration.json",
        )
        return Calibration.read(self.folder / "calibration.json")

    def chain(self, folder, **more):
        settings = {"calibrated": [self.folder], **INT8} | more
        return Chain(folder, self.ingest, self.model, **settings)


@pytest.fixture
def network(tmp_path, make_model, monkeypatch):
    """Return a function that makes a network that knows what it has learnt from."""
    monkeypatch.setattr(calibration, "NUM_PATCHES", 2)
    record = ingest(tmp_path / "volume", draw_instances((3, 40, 50)))
    weights = weigh(record)
    rows = [
        AnnotatedRow(ingest=record, weight_map=weights, sections=(z,), role=role)
        for z, role in enumerate(("train", "validate", "test"))
    ]

    def make(spec=SPEC, **more):
        return Calibrated(make_model(spec, recipe=RECIPE, **more), rows)

    return make


@needs_openvino
@pytest.mark.slow
def test_int8_from_rows_to_the_store(network, tmp_path, monkeypatch):
    """One chain through all stages, because each calibration takes a second."""
    small_shards(monkeypatch)
    one = network()
    made = one.calibrate()
    assert made.num_patches == 2
    assert [row["sections"] for row in made.rows] == [[0]], "training rows alone"
    assert made.metric == "dice"
    assert abs(made.score_loss) < 0.5
    chain = one.chain(tmp_path / "one", parts=3)
    stored = chain.run()
    plan, probe = (read_record(chain.folder / f"{n}.json") for n in ("plan", "probe"))
    identity = plan["identity"]
    assert identity["backend"] == "openvino"
    assert identity["precision"] == probe["precision"] == "int8"
    assert identity["calibration_sha256"] == [made.quantised_sha256]
    assert probe["flip_places"], "labels are compared with those of fp32"
    fp32 = one.chain(tmp_path / "fp32", precision="fp32", calibrated=[])
    exact = fp32.run()
    assert 0 < np.abs(stored.astype(int) - exact).mean() < 20
    assert "backend" not in read_record(fp32.folder / "plan.json")["identity"]
    # Other parts, other threads: the same bits under the same name.
    other = one.chain(tmp_path / "other", parts=1, threads=2, block_shards=(2, 1, 1))
    assert np.array_equal(other.run(), stored)
    named = read_record(other.folder / "plan.json")["identity_sha256"]
    assert named == plan["identity_sha256"]
    # In a notebook too.
    image = open_volume(one.ingest.parent / "image.ome.zarr")[...]
    here = load_trained(one.folder, precision="int8")
    probability, _ = here.predict(image, stride=tuple(probe["stride"]))
    assert np.array_equal(probability, stored)


# As by a process on an older processor: both libraries heed it.
OLDER = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
VERIFY = """
import logging, sys
from pathlib import Path
from unetpipe.config import VerifyConfig
from unetpipe.stages.verify import verify
from unetpipe.storage.verification import Commands
logging.basicConfig(level=logging.INFO)
*_, record = sys.argv
names = "prediction", "segmentation", "ingest", "model", "model_json", "quantised"
verify(volumes=[], networks=[], predictions=[dict(zip(names, sys.argv[1:-1]))],
       settings=VerifyConfig(), commands=Commands("snakemake", 1), record=Path(record))
"""


@needs_openvino
@pytest.mark.slow
def test_another_kind_of_processor_agrees_and_says_that_it_is_one(network, tmp_path):
    one = network(UNetSpec(base_channels=16, depth=1))
    one.calibrate()
    chain = one.chain(tmp_path / "chain", parts=1)
    chain.run()
    folder, record = chain.folder, tmp_path / "verify.json"
    files = [folder / "prediction.json", folder / "segmentation.json", chain.ingest]
    files += [*one.model, *chain.quantised, record]
    there = subprocess.run(
        [sys.executable, "-c", VERIFY, *map(str, files)],
        env=os.environ | OLDER,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert there.returncode == 0, there.stderr
    own = describe_backend(torch.device("cpu"), "openvino", "int8")
    [made] = read_record(record)["predictions"]
    for block in made["blocks"]:
        assert block["differs_in"].startswith(f"device: {own}, here cpu (openvino, ")
        assert block["num_beyond"] <= block["most_beyond"]
    assert "so they are compared within 16 of 255, but for" in there.stderr


@needs_openvino
@pytest.mark.parametrize("precision", mostly_slow(["fp32", "bf16"], quick=0))
def test_the_backend_alone_is_another_store_with_the_same_labels(
    network, tmp_path, precision
):
    one = network()
    backend = {"precision": precision, "backend": "openvino", "calibrated": []}
    stored = one.chain(tmp_path / "openvino", **backend).run()
    chain = one.chain(tmp_path / "torch", precision="fp32", calibrated=[])
    expected = chain.run()
    assert np.abs(stored.astype(int) - expected).max() <= (
        1 if precision == "fp32" else 9
    )
    plans = [read_record(tmp_path / n / "plan.json") for n in ("openvino", "torch")]
    assert plans[0]["identity_sha256"] != plans[1]["identity_sha256"]


def record_of(one, **more):
    """Write a calibration without calibrating."""
    record = {
        "weights_sha256": read_record(one.model[1])["weights_sha256"],
        "quantised_sha256": "0" * 64,
        "patch": [1, 30, 30],
        "num_patches": 2,
        "rows": [],
        "circumstances": Calibration.model_fields["circumstances"]
        .annotation.here()
        .to_json(),
    }
    write_record(one.folder / "calibration.json", record | more)


@pytest.mark.parametrize(
    ("metric", "fp32", "int8", "is_refused"),
    mostly_slow(
        [
            ("v_rand", 0.95, 0.947, True),
            ("loss", 0.31, 0.3, False),
            ("v_rand", 0.95, 0.949, False),
            ("v_rand", 0.95, 0.97, False),
            ("loss", 0.3, 0.31, True),
            ("loss", 0.3, None, True),
            ("v_rand", None, None, True),
        ],
        quick=2,
    ),
)
def test_a_score_that_loses_too_much_is_refused(
    network, tmp_path, metric, fp32, int8, is_refused
):
    one = network()
    chain = one.chain(tmp_path / "chain", precision="fp32", calibrated=[])
    chain.plan()
    record_of(one, metric=metric, score_fp32=fp32, score_int8=int8)
    chain.calibrations = [one.folder / "calibration.json"]
    chain.prediction = PredictionConfig(stride=(1, 16, 32), threads=1)
    if not is_refused:
        chain.plan_only()
        return
    with pytest.raises(ConfigError, match=rf"in which {metric} .*use fp32 or bf16"):
        chain.plan_only()


@needs_openvino
@pytest.mark.slow
def test_a_score_that_int8_has_not_is_no_score_of_fp32(network, monkeypatch, caplog):
    one = network()
    known = calibration._Scorer.rank

    def rank(self, network, *rest):
        is_int8 = isinstance(network, OpenVinoUNet)
        return float("nan") if is_int8 else known(self, network, *rest)

    monkeypatch.setattr(calibration._Scorer, "rank", rank)
    made = one.calibrate()
    assert made.score_fp32 is not None
    assert made.is_undefined
    assert "dice of the validation rows is undefined in int8" in caplog.text


@needs_openvino
def test_a_file_that_was_exchanged_is_refused(network, tmp_path):
    one = network()
    (one.folder / "int8.safetensors").write_bytes(b"other")
    record_of(one)
    with pytest.raises(IntegrityError, match="is not the network in int8"):
        one.chain(tmp_path / "chain").plan()
    record_of(one, weights_sha256="1" * 64)
    with pytest.raises(IntegrityError, match="is the calibration of other weights"):
        one.chain(tmp_path / "chain").plan()


@needs_openvino
@pytest.mark.slow
def test_an_ensemble_computes_with_the_calibrations_of_its_members(network, tmp_path):
    members = [network(seed=seed, name=f"fold-{seed}") for seed in (0, 1)]
    for member in members:
        member.calibrate()
    home = tmp_path / "ensemble"
    home.mkdir()
    files = home / "model.safetensors", home / "model.json"
    join_networks(
        names=["fold-0", "fold-1"],
        models=[member.model[0] for member in members],
        model_jsons=[member.model[1] for member in members],
        model=files[0],
        model_json=files[1],
    )
    joined = Calibrated(files, members[0].rows)
    folders = [member.folder for member in members]
    chain = joined.chain(tmp_path / "chain", calibrated=folders)
    stored = chain.run()
    exact = joined.chain(tmp_path / "fp32", precision="fp32", calibrated=[]).run()
    assert 0 < np.abs(stored.astype(int) - exact).mean() < 20
    image = open_volume(joined.ingest.parent / "image.ome.zarr")[...]
    here = load_trained(home, precision="int8")
    stride = tuple(read_record(chain.folder / "probe.json")["stride"])
    assert np.array_equal(here.predict(image, stride=stride)[0], stored)
    with pytest.raises(IntegrityError, match="of other weights"):
        joined.chain(tmp_path / "swapped", calibrated=folders[::-1]).plan()


@needs_openvino
@pytest.mark.slow
def test_objects_are_scored_as_the_network_has_chosen_to_make_them(
    network, monkeypatch
):
    """By components at the best threshold an int8 that merges cells looks worse."""
    asked = []
    known = calibration.ObjectJudge

    def judge(by, rule, thresholds):
        asked.append((by, rule, thresholds))
        return known(by, rule, thresholds)

    monkeypatch.setattr(calibration, "ObjectJudge", judge)
    chosen = {"segmentation": 0.7, "smallest_object_vox": 4.0, "seeds": 1.0}
    chosen |= {"seed_distance_vox": 5.0, "seed_reach_vox": 20.0, "seed_threshold": 0.8}
    one = network(thresholds=chosen)
    described = read_record(one.model[1])
    described["recipe"]["validation_metric"] = "f1"
    write_record(one.model[1], described)
    assert one.calibrate().metric == "f1"
    [(by, rule, thresholds), again] = asked
    assert again == (by, rule, thresholds), "both precisions alike"
    assert (by, thresholds, rule.method, rule.seeds) == (
        *("f1", [0.7], "watershed", "depth"),
    )
    assert (rule.smallest_object_vox, rule.seed_distance_vox) == (4, 5.0)
    assert (rule.seed_reach_vox, rule.seed_threshold) == (20, 0.8)


@needs_openvino
@pytest.mark.slow
def test_without_validation_rows_no_score_is_known(network, caplog):
    one = network()
    made = one.calibrate([row for row in one.rows if row.role == "train"])
    assert made.score_loss is None
    assert "none tells what int8 costs" in caplog.text


def test_a_network_that_was_never_calibrated_is_refused_in_a_notebook(network):
    for wrong in ({"backend": "torch"}, {"device": "cuda"}):
        with pytest.raises(ValueError, match="precision"):
            load_trained(network(name="other").folder, precision="int8", **wrong)
    with pytest.raises(DataError, match="nobody knows the scales of int8"):
        load_trained(network().folder, precision="int8")


def test_a_network_that_does_not_tell_what_it_learnt_from_is_refused(
    network, make_model
):
    one = Calibrated(make_model(SPEC), network(name="other").rows)
    with pytest.raises(DataError, match="does not tell what the network has learnt"):
        one.calibrate()


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"precision": "int8", "backend": "torch"}, "no such arithmetic"),
        ({"precision": "fp16", "backend": "openvino"}, "use fp32, bf16 or int8"),
        ({"precision": "int8", "device": "cuda"}, "computes on processors"),
        ({"precision": "int8", "compile": True}, "compile is torch's"),
    ],
)
def test_what_the_backend_cannot_do_is_refused(section, told):
    with pytest.raises(ValueError, match=told):
        PredictionConfig(**section)
