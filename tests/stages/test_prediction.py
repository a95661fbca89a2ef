"""Laws 1, 2, 3 and 5 on stored volumes: exact, whole, resumable, never mixed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.network.openvino_needed import needs_openvino
from tests.oracles import assert_agree, one_pass
from tests.stages.predicted import SHAPE, Chain, small_shards
from tests.variants import mostly_slow
from unetpipe.errors import (
    ConfigError,
    IdentityError,
    IntegrityError,
    Interrupted,
    ResourceError,
)
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.weights import load_network
from unetpipe.records.model import Model
from unetpipe.runtime import locks
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.volumes import open_volume, shard_path
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import normalise
from unetpipe.tiling.unet_spec import UNetSpec


@pytest.fixture
def chain(tmp_path, make_volume, make_model):
    ingest, model = make_volume(SHAPE), make_model()

    def make(name="run", **prediction):
        return Chain(tmp_path / name, ingest, model, **prediction)

    return make


def test_stored_bits_equal_one_pass_over_the_whole_section(chain):
    run = chain()
    stored = run.run()
    volume = read_record(run.ingest)
    image = open_volume(Path(volume["image"]["store"]))[...]
    mean, std = (
        np.array([c[key] for c in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    expected = one_pass(
        load_network(run.model, Model.read(run.model_json)),
        normalise(image, mean=mean, std=std),
    )
    assert expected.std() > 0.05
    assert_agree(stored, expected)


@pytest.mark.parametrize("precision", mostly_slow(["fp32", "bf16"]))
def test_bits_do_not_depend_on_parts_blocks_or_order(chain, precision, monkeypatch):
    small_shards(monkeypatch)
    common = {"precision": precision, "largest_flip_fraction": 1}
    expected = chain("one", parts=1, **common).run()
    for parts, block_shards in ((3, (1, 1, 1)), (2, (2, 1, 2)), (50, (1, 2, 1))):
        run = chain(f"{parts}", parts=parts, block_shards=block_shards, **common)
        assert np.array_equal(run.run(), expected)
        done = read_record(run.folder / "prediction.json")["parts"]
        plan = read_record(run.folder / "plan.json")
        geometry = TileGrids.from_json(plan["geometry"])
        assert sum(part["num_tiles"] for part in done) == geometry.num_tiles
        assert sum(part["num_voxels"] for part in done) == np.prod(SHAPE)


def test_a_multi_class_network_stores_classes_taken_before_quantising(
    tmp_path, make_volume, make_model
):
    spec = UNetSpec(base_channels=4, depth=2, num_classes=5, in_channels=2)
    run = Chain(tmp_path / "run", make_volume(SHAPE, channels=2), make_model(spec))
    probability = run.run()
    classes = run.voxels("classes")
    assert probability.shape == (5, *SHAPE)
    assert classes.shape == SHAPE
    chosen = np.take_along_axis(probability, classes[None].astype(np.intp), axis=0)[0]
    assert (chosen == probability.max(axis=0)).all()
    assert len(np.unique(classes)) > 1


def test_a_network_with_cores_stores_them_beside_the_foreground(
    tmp_path, make_volume, make_model
):
    spec = UNetSpec(base_channels=4, depth=2, targets="border")
    run = Chain(tmp_path / "run", make_volume(SHAPE), make_model(spec))
    foreground, core = run.run().astype(int)
    plan = read_record(run.folder / "plan.json")
    assert list(plan["outputs"]) == ["probability"]
    assert plan["outputs"]["probability"]["channels"] == ["foreground", "core"]
    assert (core <= foreground + 1).all()
    assert (core < foreground).any()
    assert plan["identity"]["spec"]["targets"] == "border"


@pytest.mark.slow
def test_the_number_of_parts_may_change_between_runs(chain, monkeypatch):
    small_shards(monkeypatch)
    first = chain(parts=3)
    first.plan()
    first.part(1)
    kept = read_record(first.folder / "parts" / "1.json")["num_computed"]
    second = chain(parts=1)
    second.plan()
    done = second.part(0)
    assert kept > 0
    assert done["num_kept"] == kept
    second.finish()
    assert np.array_equal(second.voxels(), chain("other").run())


def test_running_again_computes_nothing(chain):
    run = chain()
    run.run()
    assert run.part(0)["num_computed"] == 0
    assert run.part(0)["num_tiles"] == 0


@pytest.mark.parametrize(
    "damage", mostly_slow(["flipped byte", "missing file", "truncated"])
)
def test_a_damaged_shard_is_found_and_computed_again(chain, damage, monkeypatch):
    small_shards(monkeypatch)
    run = chain(parts=1)
    expected = run.run()
    file = shard_path(run.array(), (0, 1, 1))
    content = bytearray(file.read_bytes())
    if damage == "missing file":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-7])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"shard \(0, 1, 1\) has a receipt, but"):
        run.finish()
    assert not (run.folder / "parts" / "0.json").exists(), "a repeated run mends it"
    assert run.part(0)["num_computed"] == 1
    run.finish()
    assert np.array_equal(run.voxels(), expected)


def test_a_receipt_with_a_wrong_hash_does_not_count(chain, monkeypatch):
    small_shards(monkeypatch)
    run = chain(parts=1)
    run.run()
    receipts = Path(read_record(run.folder / "plan.json")["receipts"])
    path = receipt_path(receipts, (1, 0, 0))
    receipt = json.loads(path.read_text())
    receipt["files"]["probability"] = hashlib.sha256(b"other").hexdigest()
    path.write_text(json.dumps(receipt))
    with pytest.raises(IntegrityError, match=r"shard \(1, 0, 0\)"):
        run.finish()


def test_an_existing_shard_file_without_a_receipt_does_not_count(chain, monkeypatch):
    small_shards(monkeypatch)
    run = chain(parts=1)
    expected = run.run()
    receipts = Path(read_record(run.folder / "plan.json")["receipts"])
    receipt_path(receipts, (2, 2, 3)).unlink()
    with pytest.raises(IntegrityError, match="has no receipt"):
        run.finish()
    assert run.part(0)["num_computed"] == 1
    assert np.array_equal(run.voxels(), expected)


def test_other_weights_get_another_store_and_leave_the_old_one(
    tmp_path, make_volume, make_model, caplog
):
    ingest = make_volume(SHAPE)
    first = Chain(tmp_path / "run", ingest, make_model())
    before = first.run()
    old_store = read_record(first.folder / "plan.json")["outputs"]["probability"]
    second = Chain(tmp_path / "run", ingest, make_model(seed=1, name="other"))
    caplog.set_level("INFO")
    after = second.run()
    assert "this recipe differs in weights_sha256" in caplog.text
    assert not np.array_equal(before, after)
    assert np.array_equal(open_volume(Path(old_store["store"]))[...], before)


WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # an import fails
from unetpipe.stages.predict_part import predict_part
*paths, part = sys.argv[1:]
folder, model, description = map(Path, paths)
predict_part(plan=folder / "plan.json", model=model, model_json=description,
             part=int(part), record=folder / "parts" / f"{part}.json")
"""


def test_a_part_without_blocks_does_without_torch(chain):
    run = chain(parts=50)
    geometry = TileGrids.from_json(run.plan()["geometry"])
    empty = next(p for p in range(50) if not geometry.blocks_of_part(p, 50))
    arguments = map(str, (run.folder, run.model, run.model_json, empty))
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], check=True)
    done = read_record(run.folder / "parts" / f"{empty}.json")
    assert (done["num_computed"], done["num_kept"], done["tiles"]) == (0, 0, {})


def test_a_part_refuses_weights_that_were_not_planned(
    tmp_path, make_volume, make_model
):
    run = Chain(tmp_path / "run", make_volume(SHAPE), make_model())
    run.plan()
    run.model, run.model_json = make_model(seed=1, name="other")
    with pytest.raises(IdentityError, match="other weights than"):
        run.part(0)


def test_damaged_weights_are_refused(chain):
    run = chain()
    run.plan()
    content = bytearray(run.model.read_bytes())
    content[-1] ^= 1
    run.model.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged or replaced"):
        run.part(0)


def test_planning_refuses_a_precision_that_flips_too_many_labels(chain):
    run = chain(precision="bf16", largest_flip_fraction=0)
    with pytest.raises(ConfigError, match=r"prediction.precision is bf16, which flips"):
        run.plan()
    assert not list(run.folder.glob("prediction-*"))


def test_the_tile_is_chosen_to_fit_the_memory(chain):
    roomy = chain("roomy", stride=None)
    assert roomy.plan()["geometry"]["stride"] == [1, 72, 104]
    needed = read_record(roomy.folder / "probe.json")["projected_activation_bytes"]
    tight = chain("tight", stride=None, memory_gb=0.9 * needed / 2**30)
    assert np.prod(tight.plan()["geometry"]["stride"]) < 72 * 104
    with pytest.raises(ResourceError, match=r"no tile fits 1e-06 GiB"):
        chain("none", stride=None, memory_gb=1e-6).plan()


@pytest.mark.parametrize("number", mostly_slow([signal.SIGTERM, signal.SIGUSR1]))
def test_a_signal_finishes_the_block_in_flight(chain, monkeypatch, number):
    small_shards(monkeypatch)
    expected = chain("other").run()
    run = chain(parts=1)
    run.plan()
    original = TilePredictor.quantised

    def signalled(self, *args, **kwargs):
        os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(TilePredictor, "quantised", signalled)
    with pytest.raises(Interrupted, match=r"told to stop after 1 of 36 blocks"):
        run.part(0)
    monkeypatch.undo()
    done = run.part(0)
    assert (done["num_kept"], done["num_computed"]) == (1, 35)
    run.finish()
    assert np.array_equal(run.voxels(), expected)


KILLED = """
import os, signal, sys
from pathlib import Path
from unetpipe.network.predictor import TilePredictor
from unetpipe.stages.predict_part import predict_part
folder, model, model_json, fatal = sys.argv[1:]
original, calls = TilePredictor.quantised, []
def dying(self, *args, **kwargs):
    calls.append(1)
    if len(calls) == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
TilePredictor.quantised = dying
predict_part(plan=Path(folder) / "plan.json", model=Path(model),
    model_json=Path(model_json), part=0, record=Path(folder) / "parts/0.json")
"""


@pytest.mark.parametrize(
    "fatal",
    [25, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 90))],
)
def test_a_killed_part_resumes_at_block_level(chain, fatal, monkeypatch):
    small_shards(monkeypatch)
    run = chain(parts=1)
    run.plan()
    arguments = [run.folder, run.model, run.model_json, fatal]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (run.folder / "parts" / "0.json").exists()
    done = run.part(0)
    in_flight = 3  # computed, waiting, being written; a block has at most 4 tiles
    assert done["num_kept"] >= (fatal - 1) // 4 - in_flight
    assert done["num_kept"] + done["num_computed"] == 36
    run.finish()
    assert np.array_equal(run.voxels(), chain("other").run())


def test_a_full_disk_is_refused_before_the_store_is_created(chain, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(
        "unetpipe.runtime.machine.shutil.disk_usage", lambda path: usage
    )
    run = chain()
    with pytest.raises(ResourceError, match="GiB free, about"):
        run.plan()
    assert not list(run.folder.glob("prediction-*"))


# Processors that libraries can be told to be; AVX2 without arithmetic in bf16.
KINDS = {
    "this": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "spec", "settings"),
    [
        (SHAPE, UNetSpec(base_channels=4, depth=2), {}),
        pytest.param(
            SHAPE,
            UNetSpec(base_channels=4, depth=2),
            {"backend": "openvino"},
            marks=needs_openvino,
        ),
        pytest.param(  # of blocks that are full
            (2, 1100, 1100),
            UNetSpec(base_channels=16, depth=3),
            {"stride": (1, 528, 528)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (3, 560, 600),
            UNetSpec(base_channels=12, num_classes=3),
            {"stride": None, "precision": "bf16", "largest_flip_fraction": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_peak_memory_stays_below_the_projection(
    tmp_path, make_volume, make_model, shape, spec, settings, kind
):
    run = Chain(
        tmp_path / "run", make_volume(shape), make_model(spec), parts=1, **settings
    )
    plan = run.plan()
    code = KILLED.replace("SIGKILL", "SIGCONT")  # never fatal: a clean process
    arguments = [run.folder, run.model, run.model_json, 0]
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        env=os.environ | KINDS[kind],
    )
    measured = read_record(run.folder / "parts" / "0.json")["peak_rss_bytes"]
    projected = plan["projected"]["peak_rss_bytes"]
    print(f"{kind}: {measured / 2**20:.0f} of {projected / 2**20:.0f} MiB")
    assert projected / 1.5 < measured < projected


def test_a_store_of_another_recipe_under_the_same_name_is_refused(chain):
    run = chain()
    plan = run.plan()
    store = Path(plan["outputs"]["probability"]["store"])
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["unetpipe"]["identity"]["precision"] = "bf16"
    write_record(store / "zarr.json", metadata)
    with pytest.raises(IdentityError, match="made from another recipe"):
        run.plan()


@pytest.mark.parametrize("discoverer", mostly_slow(["part", "finish"]))
def test_a_store_that_was_deleted_is_filled_again(chain, discoverer, monkeypatch):
    """Its receipts stay; they must not count without their files."""
    small_shards(monkeypatch)
    run = chain(parts=1)
    expected = run.run()
    shutil.rmtree(
        read_record(run.folder / "plan.json")["outputs"]["probability"]["store"]
    )
    with pytest.raises(IntegrityError, match=r"is gone, for which .* repeat the same"):
        run.part(0) if discoverer == "part" else run.finish()
    assert not (run.folder / "plan.json").exists(), "so the next run plans again"
    run.plan()
    assert run.part(0)["num_computed"] == 36
    run.finish()
    assert np.array_equal(run.voxels(), expected)


def paused(run):
    """Start a job that waits before its first tile, and return it when it waits."""
    waiting = 'len(calls) > 1 or print("waiting", flush=True) or sys.stdin.readline()'
    code = KILLED.replace("calls.append(1)", f"calls.append(1); {waiting}")
    arguments = [run.folder, run.model, run.model_json, 0]
    job = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout.readline() == "waiting\n"
    return job


@pytest.mark.slow
def test_a_second_job_on_the_same_part_waits_and_computes_nothing(
    chain, caplog, monkeypatch
):
    run = chain(parts=1)
    run.plan()
    with paused(run) as first, monkeypatch.context() as patch:
        patch.setattr(locks.time, "sleep", lambda _: first.communicate("go on\n"))
        second = run.part(0)
    assert first.returncode == 0
    assert "is at work on part 0 of" in caplog.text
    assert second["num_computed"] == 0
    assert list((run.folder / "parts").iterdir()) == [run.folder / "parts" / "0.json"]
    run.finish()
    assert np.array_equal(run.voxels(), chain("other").run())


@pytest.mark.slow
def test_jobs_that_cannot_wait_write_the_same_shards_side_by_side(chain, monkeypatch):
    small_shards(monkeypatch)
    monkeypatch.setattr(locks, "SECONDS_TO_WAIT", 0)
    run = chain(parts=1)
    run.plan()
    original, calls = TilePredictor.quantised, []

    def releasing(self, *args, **kwargs):
        if not calls:
            first.stdin.write("go on\n")
            first.stdin.flush()
        calls.append(1)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch, paused(run) as first:
        patch.setattr(TilePredictor, "quantised", releasing)
        assert run.part(0)["num_computed"] > 0
    assert first.returncode == 0
    run.finish()
    assert np.array_equal(run.voxels(), chain("other").run())
