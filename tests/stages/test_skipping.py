"""What is left out, recorded and verified; what is kept does not change a bit."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.stages.predicted import Chain, small_shards
from tests.stored import store_volume
from tests.variants import mostly_slow
from unetpipe.errors import ConfigError, DataError, IntegrityError
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.storage.volumes import open_volume, shard_path, write_shard

SHAPE = (3, 48, 64)
# Voxels of the tiles (1, 16, 32) that the rules below keep.
KEPT = np.zeros(SHAPE, bool)
KEPT[1, 16:48, 32:64] = True


@pytest.fixture
def chain(tmp_path, make_volume, make_model, monkeypatch):
    small_shards(monkeypatch)
    ingest, model = make_volume(SHAPE), make_model()

    def make(name="run", **prediction):
        return Chain(tmp_path / name, ingest, model, **prediction)

    return make


@pytest.fixture
def everything(chain):
    return chain("everything").run()


def check_kept(run, everything, kept=KEPT):
    """Run a chain; its kept voxels have the bits of the whole, all others are 0."""
    stored = run.run()
    assert np.array_equal(stored[:, kept], everything[:, kept])
    assert not stored[:, ~kept].any()
    assert everything[:, ~kept].any()
    return read_record(run.folder / "prediction.json")


def write_tiff(path, voxels):
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX"}, photometric="minisblack")


def make_mask(shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[1, 31, 40] = mask[1, 32, 63] = 7
    return mask


def test_a_box_keeps_the_tiles_that_it_touches(chain, everything):
    run = chain(roi=((1, 2), (20, 33), (40, 400)))
    record = check_kept(run, everything)
    assert record["tiles"] == {"predicted": 2, "outside the roi": 16}
    assert record["num_shards_skipped"] == 6
    plan = read_record(run.folder / "plan.json")
    assert plan["projected"]["num_tiles"] == 2
    assert plan["identity"]["selection"]["roi"] == [[1, 2], [20, 33], [40, 64]]


@pytest.mark.parametrize("form", mostly_slow(["level of its pyramid", "tiff", "store"]))
def test_a_mask_keeps_the_tiles_that_it_touches(chain, everything, tmp_path, form):
    path = tmp_path / "mask-vol.ome.zarr"
    if form == "tiff":
        path = tmp_path / "mask-vol.tif"
        write_tiff(path, make_mask())
    elif form == "store":
        store_volume(path, make_mask(), unlabelled=0)
    else:
        coarse = make_mask().reshape(3, 24, 2, 32, 2).max(axis=(2, 4))
        store_volume(tmp_path / "coarse.zarr", coarse, unlabelled=0)
        path = tmp_path / "coarse.zarr" / "0"
    cell = str(path).replace("mask-vol", "mask-{volume}")
    record = check_kept(chain(mask=cell), everything)
    assert record["tiles"] == {"predicted": 2, "outside the mask": 16}


def test_tiles_without_a_bright_voxel_are_left_out(chain, everything, monkeypatch):
    run = chain(empty_value=100)
    volume = read_record(run.ingest)
    array = open_volume(Path(volume["image"]["store"]), mode="r+")
    voxels = array[...]
    voxels[:, ~KEPT] = np.minimum(voxels[:, ~KEPT], 100)
    write_shard(array, (0, 0, 0), voxels[:, :2])
    write_shard(array, (1, 0, 0), voxels[:, 2:])
    darker = chain("darker").run()
    record = check_kept(run, darker)
    assert record["tiles"] == {"predicted": 2, "empty": 16}
    tolerant = chain("tolerant", empty_value=100, empty_fraction=1.0)
    tolerant.run()
    record = read_record(tolerant.folder / "prediction.json")
    assert record["tiles"] == {"empty": 18}
    assert record["num_shards_skipped"] == record["num_shards"]


@pytest.mark.parametrize("parts", mostly_slow([5, 1]))
@pytest.mark.parametrize("block_shards", [(1, 1, 1), (2, 2, 2)])
def test_what_is_left_out_does_not_depend_on_blocks_or_parts(
    chain, everything, parts, block_shards
):
    rules = {"roi": ((0, 2), (0, 48), (0, 64)), "empty_value": 254}
    first = chain("first", **rules).run()
    second = chain("second", parts=parts, block_shards=block_shards, **rules)
    assert np.array_equal(first, second.run())
    records = [
        read_record(run / "prediction.json")
        for run in (second.folder, second.folder.with_name("first"))
    ]
    assert records[0]["tiles"] == records[1]["tiles"]
    assert records[0]["content_sha256"] == records[1]["content_sha256"]


def test_a_skipped_shard_has_a_receipt_that_says_why_and_no_file(chain):
    run = chain(roi=((1, 2), (20, 33), (40, 64)))
    run.run()
    receipt = read_record(run.receipt((1, 0, 0)))
    assert receipt["skipped"] == "outside the roi"
    assert receipt["files"] == {}
    assert receipt["tiles"] == {"outside the roi": 2}
    assert not shard_path(run.array(), (1, 0, 0)).exists()
    mixed = read_record(run.receipt((0, 0, 1)))
    assert mixed["skipped"] is None
    assert mixed["tiles"] == {"predicted": 1, "outside the roi": 3}
    assert mixed["files"] == {
        "probability": hash_file(shard_path(run.array(), (0, 0, 1)))
    }


def test_a_stray_file_of_a_skipped_shard_is_found_and_removed(chain):
    run = chain(parts=1, roi=((1, 2), (20, 33), (40, 64)))
    expected = run.run()
    stray = shard_path(run.array(), (1, 1, 1))
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(shard_path(run.array(), (0, 0, 1)).read_bytes())
    with pytest.raises(IntegrityError, match="was skipped, but has a probability file"):
        run.finish()
    assert run.part(0)["num_computed"] == 1
    run.finish()
    assert np.array_equal(run.voxels(), expected)


def test_a_missing_receipt_of_a_skipped_shard_is_found(chain):
    run = chain(parts=1, roi=((1, 2), (20, 33), (40, 64)))
    run.run()
    run.receipt((1, 0, 0)).unlink()
    with pytest.raises(IntegrityError, match=r"shard \(1, 0, 0\) has no receipt"):
        run.finish()


def test_rules_are_part_of_the_identity(chain):
    stores = set()
    for rules in (
        {},
        {"roi": ((0, 3), (0, 48), (0, 40))},
        {"empty_value": 3},
        {"empty_value": 3, "empty_fraction": 0.5},
    ):
        run = chain(**rules)
        stores.add(run.plan()["outputs"]["probability"]["store"])
    assert len(stores) == 4


def test_a_mask_counts_by_the_tiles_that_it_touches(chain, tmp_path):
    identities = []
    for value, x in ((1, 40), (9, 63), (1, 2)):
        mask = np.zeros(SHAPE, np.uint8)
        mask[1, 20, x] = value
        write_tiff(tmp_path / "mask.tif", mask)
        run = chain(mask=str(tmp_path / "mask.tif"))
        identities.append(run.plan()["identity_sha256"])
    assert identities[0] == identities[1] != identities[2]


def test_changed_tiles_of_a_mask_are_refused(chain, tmp_path):
    write_tiff(tmp_path / "mask.tif", make_mask())
    run = chain(mask=str(tmp_path / "mask.tif"))
    plan = run.plan()
    tiles = Path(plan["receipts"]).parent / "tiles.npy"
    np.save(tiles, ~np.load(tiles))
    with pytest.raises(IntegrityError, match=r"tiles.npy is not what was planned"):
        run.part(0)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 47, 64), r"prediction.mask .*along y.*no whole factor fits"),
        (SHAPE, r"prediction.mask .*is 0 everywhere"),
        (None, r"prediction.mask .*no such file"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(chain, tmp_path, shape, said):
    path = tmp_path / "mask.tif"
    if shape:
        write_tiff(path, np.zeros(shape, np.uint8))
    run = chain(mask=str(path))
    with pytest.raises(DataError, match=said):
        run.plan()
    assert not list(run.folder.glob("prediction-*"))


def test_a_box_outside_the_volume_is_refused(chain):
    run = chain(roi=((0, 3), (48, 60), (0, 64)))
    with pytest.raises(ConfigError, match=r"prediction.roi is .*outside volume vol"):
        run.plan()


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_rules(chain, everything):
    rules = {"roi": ((1, 2), (20, 33), (40, 64))}
    whole = chain("whole", **rules).run()
    run = chain(**rules)
    run.plan()
    run.part(0)
    kept = sorted(p.name for p in run.receipt((0, 0, 0)).parent.iterdir())
    again = chain(parts=1, **rules)
    again.plan()
    assert again.part(0)["num_kept"] == len(kept)
    again.finish()
    assert np.array_equal(again.voxels(), whole)


def test_receipts_written_on_two_kinds_of_device_are_told(chain, caplog):
    run = chain(parts=1)
    run.run()
    path = run.receipt((1, 0, 0))
    receipt = json.loads(path.read_text())
    receipt["circumstances"]["device"] = "cuda (a GPU)"
    write_record(path, receipt)
    record = run.finish()
    assert len(record["devices"]) == 2
    assert "cuda (a GPU)" in record["devices"]
    assert "more than one kind of device" in caplog.text
