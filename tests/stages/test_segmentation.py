"""Objects are the same for any blocks, parts, order and interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cc3d
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from scipy.ndimage import gaussian_filter

from tests.segmentation.drawn import OFFSETS, draw_affinities
from tests.stages.segmented import (
    Segmented,
    by_first_voxel,
    components,
    store_prediction,
)
from tests.variants import mostly_slow
from unetpipe.errors import ConfigError, IntegrityError
from unetpipe.images import Reading, open_image
from unetpipe.records.segmentation import Segmentation
from unetpipe.runtime.files import read_record, write_record
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.segmentation.mutex import MutexRule
from unetpipe.segmentation.passes import ARITHMETIC
from unetpipe.segmentation.store import SegmentationStore
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.storage.receipts import inspect_files
from unetpipe.storage.volumes import open_volume, shard_path
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.quantised import threshold_mask
from unetpipe.tiling.unet_spec import UNetSpec

SHARD = (4, 16, 16)  # 12 of them
KINDS = ("learnt", "depth", "cores", "probability")


def blobs(shape=(11, 30, 27), seed=0, channels=1, smooth=1):
    """Return random smooth probabilities, uint8 (c, z, y, x)."""
    rng = np.random.default_rng(seed)
    noise = rng.random((channels, *shape))
    for axis in (1, 2, 3) * smooth:
        noise = (noise + np.roll(noise, 1, axis)) / 2
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (255 * noise).astype(np.uint8)


@pytest.fixture
def stored(tmp_path):
    probability = blobs()
    return probability[0], store_prediction(tmp_path / "p", probability, SHARD)


def whole(probability, connectivity="3d"):
    return components(probability > 127, connectivity)


@pytest.mark.parametrize("connectivity", mostly_slow(["3d", "2d"]))
def test_ids_equal_those_of_the_whole_volume(stored, tmp_path, connectivity):
    probability, predicted = stored
    expected = whole(probability, connectivity)
    assert expected.max() > 10
    for parts, block_shards in ((1, (1, 1, 1)), (3, (2, 1, 2)), (20, (1, 2, 1))):
        run = Segmented(
            predicted,
            tmp_path / f"{parts}",
            connectivity=connectivity,
            parts=parts,
            block_shards=block_shards,
        )
        record = run.run()
        assert np.array_equal(run.objects(), expected)
        assert np.array_equal(run.mask(), probability > 127)
        assert record["num_objects"] == expected.max()
        assert record["num_foreground_voxels"] == (probability > 127).sum()


def test_the_bits_do_not_depend_on_parts_or_blocks(stored, tmp_path):
    _, predicted = stored
    one = Segmented(predicted, tmp_path / "one", connectivity="3d")
    many = Segmented(
        predicted, tmp_path / "many", connectivity="3d", parts=4, block_shards=(1, 2, 2)
    )
    records = [one.run(), many.run()]
    assert records[0]["identity_sha256"] == records[1]["identity_sha256"]
    for store in ("store", "objects"):
        files = [
            sorted(
                open_volume(run._path(r[store])).store_path.store.root.rglob("c/*/*/*")
            )
            for run, r in zip((one, many), records, strict=True)
        ]
        assert len(files[0]) == len(files[1]) > 0
        for a, b in zip(*files, strict=True):
            assert a.read_bytes() == b.read_bytes()
    assert records[0]["table"]["csv"]["sha256"] == records[1]["table"]["csv"]["sha256"]


def test_the_table_tells_of_each_object(stored, tmp_path):
    probability, predicted = stored
    run = Segmented(
        predicted, tmp_path / "run", connectivity="3d", smallest_object_vox=3
    )
    record = run.run()
    objects = run.objects()
    table = pq.read_table(record["table"]["parquet"]["path"]).to_pylist()
    assert csv.read_csv(record["table"]["csv"]["path"]).num_rows == len(table)
    assert [row["id"] for row in table] == list(range(1, int(objects.max()) + 1))
    for row in table:
        where = np.argwhere(objects == row["id"])
        assert row["voxels"] == len(where) >= 3
        assert row["class"] == 1
        for axis, name in enumerate("zyx"):
            assert row[f"start_{name}"] == where[:, axis].min()
            assert row[f"stop_{name}"] == where[:, axis].max() + 1
            assert row[f"centroid_{name}_vox"] == pytest.approx(where[:, axis].mean())
            assert row[f"centroid_{name}_nm"] == pytest.approx(
                where[:, axis].mean() * (50, 4, 4)[axis]
            )
        mean = probability[objects == row["id"]].mean() / 255
        assert row["mean_probability"] == pytest.approx(mean)


def test_where_nobody_knows_the_size_of_a_voxel_nothing_is_in_nanometres(tmp_path):
    sizes = {"voxel_size_nm": (1, 1, 1), "voxel_size_from": "nobody"}
    predicted = store_prediction(tmp_path / "p", blobs(), SHARD, **sizes)
    record = Segmented(predicted, tmp_path / "run").run()
    names = pq.read_table(record["table"]["parquet"]["path"]).column_names
    assert "centroid_x_vox" in names
    assert not [name for name in names if name.endswith("_nm")]


def test_objects_are_told_no_length_along_time(tmp_path):
    sizes = {"voxel_size_nm": (4, 4, 4), "is_depth_known": False}
    predicted = store_prediction(tmp_path / "p", blobs(), SHARD, **sizes)
    record = Segmented(predicted, tmp_path / "run").run()
    names = pq.read_table(record["table"]["parquet"]["path"]).column_names
    told = [name for name in names if name.endswith("_nm")]
    assert told == ["centroid_y_nm", "centroid_x_nm"]
    for store in ("store", "objects"):
        attributes = read_record(Path(record[store]) / "zarr.json")["attributes"]
        (image,) = attributes["ome"]["multiscales"]
        units = [axis.get("unit") for axis in image["axes"]]
        assert units == [None, "nanometer", "nanometer"]


def test_classes_make_objects_of_their_own(tmp_path):
    probability = blobs(channels=4)
    classes = probability.argmax(axis=0).astype(np.uint8)
    predicted = store_prediction(tmp_path / "p", probability, SHARD, classes)
    run = Segmented(
        predicted, tmp_path / "run", connectivity="3d", object_classes=(1, 3)
    )
    record = run.run()
    chosen = np.where(np.isin(classes, (1, 3)), classes, 0)
    expected = by_first_voxel(cc3d.connected_components(chosen, connectivity=6))
    assert np.array_equal(run.objects(), expected)
    assert np.array_equal(run.mask(), classes)
    for row in pq.read_table(record["table"]["parquet"]["path"]).to_pylist():
        inside = expected == row["id"]
        assert (classes[inside] == row["class"]).all()
        mean = probability[row["class"]][inside].mean() / 255
        assert row["mean_probability"] == pytest.approx(mean)


def test_an_empty_volume_has_no_objects(tmp_path):
    predicted = store_prediction(
        tmp_path / "p", np.zeros((1, 5, 9, 9), np.uint8), SHARD
    )
    for method in ("components", "watershed"):
        run = Segmented(predicted, tmp_path / method, method=method)
        assert run.run()["num_objects"] == 0
        assert not run.objects().any()


def test_a_result_unlike_what_was_annotated_is_told(tmp_path):
    probability = np.zeros((1, 5, 9, 9), np.uint8)
    probability[0, 1:4, 2:8, 2:8] = 255
    predicted = store_prediction(tmp_path / "p", probability, SHARD)
    run = Segmented(predicted, tmp_path / "out", connectivity="2d")
    run.run()
    record = Segmentation.read(run.folder / "segmentation.json")
    assert record.warnings == ()
    assert record.sections.num_objects == (0, 1, 1, 1, 0)
    assert record.sections.foreground_vox == (0, 36, 36, 36, 0)
    span = {"lowest": 0.9, "median": 0.9, "highest": 0.9, "deviation": 0.0}
    learnt = {"num_sections": 2, "foreground_share": span}
    model = predicted / "model.json"
    write_record(model, read_record(model) | {"learnt_sections": learnt})
    run.run()
    (told,) = Segmentation.read(run.folder / "segmentation.json").warnings
    assert "share of foreground 0.444, there 0.9" in told


@pytest.mark.parametrize(
    ("object_classes", "num_told"), [((2,), 0), ((1, 2, 3), 1), (None, 1)]
)
def test_objects_of_some_classes_are_not_compared_with_all_that_was_annotated(
    tmp_path, object_classes, num_told
):
    """Membranes were annotated too, but nobody asked for them as objects."""
    probability = blobs(channels=4)
    classes = probability.argmax(axis=0).astype(np.uint8)
    predicted = store_prediction(tmp_path / "p", probability, SHARD, classes)
    span = {"lowest": 1e-6, "median": 1e-6, "highest": 1e-6, "deviation": 0.0}
    learnt = {"num_sections": 2, "foreground_share": span}
    model = predicted / "model.json"
    write_record(model, read_record(model) | {"learnt_sections": learnt})
    run = Segmented(predicted, tmp_path / "run", object_classes=object_classes)
    run.run()
    record = Segmentation.read(run.folder / "segmentation.json")
    assert len(record.warnings) == num_told


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.stages.segmented import Segmented
from unetpipe.segmentation import passes as segmenting
predicted, folder, step, fatal = sys.argv[1:]
name = {"label": "_label", "relabel": "_relabel"}[step]
original, calls = getattr(segmenting.Segmentation, name), []
def dying(self, number):
    calls.append(1)
    if len(calls) == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, number)
setattr(segmenting.Segmentation, name, dying)
Segmented(Path(predicted), Path(folder), connectivity="3d").run()
"""


@pytest.mark.parametrize("step", mostly_slow(["label", "relabel"]))
def test_a_killed_job_loses_only_the_block_in_flight(stored, tmp_path, step):
    probability, predicted = stored
    folder = tmp_path / "run"
    arguments = [predicted, folder, step, 6]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "segmentation.json").exists()
    run = Segmented(predicted, folder, connectivity="3d", parts=2)
    labelled = sum(run.label(part)["num_kept"] for part in range(2))
    assert labelled == (5 if step == "label" else 12)
    run.merge()
    written = sum(run.relabel(part)["num_kept"] for part in range(2))
    assert written == (0 if step == "label" else 5)
    run.finish()
    assert np.array_equal(run.objects(), whole(probability))


MEASURE = """
import json, sys
from pathlib import Path
from tests.stages.segmented import Segmented

made = Segmented(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3])).run()
print(made["peak_rss_bytes"], made["projected_peak_rss_bytes"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("roughness", [3.0, 0.8])  # voxels: wide cells, or noise
@pytest.mark.parametrize(
    "settings",
    [{}, {"largest_hole_vox": 50}, {"method": "watershed"}],
    ids=["components", "holes", "watershed"],
)
def test_peak_memory_stays_below_the_projection(tmp_path, settings, roughness):
    rough = np.random.default_rng(0).normal(size=(8, 272, 272))
    smooth = gaussian_filter(rough, (1, roughness, roughness), mode="wrap")
    grey = np.uint8(np.clip(128 + 90 * smooth / smooth.std(), 0, 255))
    store_prediction(tmp_path, np.tile(grey, (1, 1, 4, 4)), (8, 544, 544))
    settings = json.dumps(settings | {"block_shards": (1, 2, 2)})
    code = [sys.executable, "-c", MEASURE, str(tmp_path), str(tmp_path), settings]
    done = subprocess.run(code, check=True, capture_output=True, text=True)
    measured, projected = map(int, done.stdout.split())
    print(f"{measured / 2**20:.0f} of {projected / 2**20:.0f} MiB")
    assert projected / 1.5 < measured < projected


def test_running_again_writes_nothing(stored, tmp_path):
    _, predicted = stored
    run = Segmented(predicted, tmp_path / "run", parts=3)
    run.run()
    assert [run.label(part)["num_computed"] for part in range(3)] == [0, 0, 0]
    run.merge()
    assert [run.relabel(part)["num_computed"] for part in range(3)] == [0, 0, 0]
    assert run.finish()["num_objects"] == run.objects().max()


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_finished_is_hashed_once(tmp_path, monkeypatch, parts):
    predicted = store_prediction(tmp_path / "p", blobs((4, 12, 28)), (2, 16, 16))
    run = Segmented(predicted, tmp_path / "run", parts=parts)
    first = run.run()
    seen = []

    def look(receipts, index, **known):
        seen.append(index)
        return inspect_files(receipts, index, **known)

    monkeypatch.setattr("unetpipe.storage.growing_arrays.inspect_files", look)
    assert run.finish()["files_sha256"] == first["files_sha256"]
    assert sorted(seen) == [(z, 0, x) for z in range(2) for x in range(2)]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_damaged_shard_is_found_and_written_again(stored, tmp_path, parts):
    probability, predicted = stored
    run = Segmented(predicted, tmp_path / "run", connectivity="3d", parts=parts)
    record = run.run()
    file = shard_path(open_volume(run._path(record["objects"])), (1, 1, 1))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    if parts > 1:
        with pytest.raises(
            IntegrityError, match=r"shard \(1, 1, 1\) has a receipt, but"
        ):
            run.finish()
        assert not any(r.exists() for r in run.records["relabel"]), "a repeat mends it"
    run.run()
    assert np.array_equal(run.objects(), whole(probability))


@pytest.mark.parametrize(
    ("parts", "lost"), mostly_slow([(1, "labels"), (2, "zarr.json"), (2, ".")])
)
def test_a_deleted_store_is_made_again(tmp_path, parts, lost):
    probability = blobs((4, 12, 12), seed=1)
    predicted = store_prediction(tmp_path / "p", probability, (2, 16, 16))
    run = Segmented(predicted, tmp_path / "run", connectivity="3d", parts=parts)
    record = run.run()
    deleted = run._path(record["store"]) / lost
    shutil.rmtree(deleted) if deleted.is_dir() else deleted.unlink()
    assert run.run()["files_sha256"] == record["files_sha256"]
    assert np.array_equal(run.objects(), whole(probability[0]))


def test_a_volume_smaller_than_a_chunk_is_one_object(tmp_path):
    probability = np.full((1, 1, 5, 3), 200, np.uint8)
    predicted = store_prediction(tmp_path / "p", probability, (2, 8, 8))
    for method in ("components", "watershed"):
        for connectivity in ("2d", "3d"):
            run = Segmented(
                predicted,
                tmp_path / f"{method}-{connectivity}",
                method=method,
                connectivity=connectivity,
            )
            run.run()
            assert (run.objects() == 1).all()


def test_the_identity_tells_of_all_that_decides_bits():
    decides = {"unetpipe.segmentation.watershed", "unetpipe.segmentation.runs"}
    assert decides < set(ARITHMETIC)
    assert code_fingerprint(*ARITHMETIC) != code_fingerprint(*ARITHMETIC[1:])


def test_blocks_that_runs_cannot_count_are_refused(tmp_path):
    predicted = store_prediction(
        tmp_path / "p", np.zeros((1, 1, 2, 2), np.uint8), (1, 2, 2)
    )
    record = read_record(predicted / "prediction.json")
    record["geometry"]["volume_shape"] = [1024, 2048, 2048]
    write_record(predicted / "prediction.json", record)
    run = Segmented(predicted, tmp_path / "run", block_shards=(1024, 1024, 1024))
    with pytest.raises(ConfigError, match=r"block_shards .* 4294967296 voxels"):
        run.label(0)


def test_another_setting_gets_another_store(stored, tmp_path):
    _, predicted = stored
    first = Segmented(predicted, tmp_path / "run").run()
    second = Segmented(predicted, tmp_path / "run", smallest_object_vox=5).run()
    assert first["store"] != second["store"]
    assert read_record(tmp_path / "run" / "segmentation.json") == second
    assert open_volume(tmp_path / first["store"])[...].any()


def test_no_scratch_files_are_left(stored, tmp_path, monkeypatch):
    _, predicted = stored
    run = Segmented(predicted, tmp_path / "run", parts=2)
    with monkeypatch.context() as killed:
        killed.setattr(SegmentationStore, "tidy", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.run()
    assert list((tmp_path / "run").glob("segmentation-*/scratch-*"))
    run.finish()
    (home,) = (tmp_path / "run").glob("segmentation-*/")
    left = {path.name for path in home.iterdir()}
    assert left == {
        "segmentation.ome.zarr",
        "receipts",
        "objects.parquet",
        "objects.csv",
        "finished.json",
        "segmentation.json",
    }
    assert os.access(home / "objects.csv", os.R_OK)


@pytest.mark.parametrize("connectivity", mostly_slow(["3d", "2d"]))
@pytest.mark.parametrize("seeds", mostly_slow(KINDS))
def test_a_watershed_cuts_the_same_objects_from_any_blocks(
    tmp_path, connectivity, seeds
):
    probability = blobs((8, 48, 40), seed=3, smooth=8)
    core = None
    if seeds == "learnt":
        core = np.where(probability[0] > 190, probability[0], 0)
        probability = np.stack([probability[0], core])
    settings = {
        "core_threshold": 0.7,
        "method": "watershed",
        "connectivity": connectivity,
        "seeds": seeds,
        "seed_distance_vox": 1.5,
        "seed_reach_vox": 4,
        "flood_threshold": 0.3,
        "seed_threshold": 0.6,
        "smallest_object_vox": 30,
    }
    rule = SeedRule(connectivity, 1.5, 4, (50.0, 4.0, 4.0), seeds, 0.7)
    chosen = rule.objects(probability[0], 0.6, 0.3, core=core)
    sizes = np.bincount(chosen.ravel())
    expected = by_first_voxel(np.where(sizes[chosen] < 30, 0, chosen))
    assert len(np.unique(expected)) > 10
    identities = set()
    for shard, block_shards, parts in (
        ((8, 48, 48), (1, 1, 1), 1),
        ((4, 16, 16), (1, 1, 1), 2),
        ((4, 16, 16), (1, 3, 2), 1),
    ):
        name = f"{shard[1]}-{parts}"
        predicted = store_prediction(tmp_path / name, probability, shard)
        run = Segmented(
            predicted,
            tmp_path / f"run-{name}",
            parts=parts,
            block_shards=block_shards,
            **settings,
        )
        record = run.run()
        identities.add(record["identity_sha256"])
        assert np.array_equal(run.objects(), expected), "those of the whole"
        assert np.array_equal(run.mask(), probability[0] > 127)
        assert record["num_foreground_voxels"] == np.sum(probability[0] > 127)
        rows = pq.read_table(record["table"]["parquet"]["path"]).to_pylist()
        found = np.bincount(expected.ravel().astype(np.int64))[1:]
        assert [row["voxels"] for row in rows] == found.tolist()
    assert len(identities) == 1


def store_affinities(folder, stored, shard):
    predicted = store_prediction(folder, stored, shard)
    spec = UNetSpec(
        ndim=3, head="sigmoid", targets="affinities", affinity_offsets=OFFSETS
    )
    model = read_record(predicted / "model.json")
    model |= {"spec": spec.to_json(), "thresholds": {"merge_threshold": 0.55}}
    write_record(predicted / "model.json", model)
    return predicted


@pytest.mark.parametrize("connectivity", mostly_slow(["3d", "2d"]))
def test_affinities_make_the_same_objects_from_any_blocks_and_parts(
    tmp_path, connectivity
):
    stored, _ = draw_affinities((11, 26, 30), 5)
    predicted = store_affinities(tmp_path / "p", stored, (6, 12, 12))
    settings = {
        "connectivity": connectivity,
        "fragment_vox": (4, 7, 6),
        "flood_threshold": 0.45,
        "smallest_object_vox": 4,
    }
    runs = [
        Segmented(
            predicted, tmp_path / name, parts=parts, block_shards=block, **settings
        )
        for name, parts, block in (
            ("one", 1, (2, 3, 3)),
            ("parts", 3, (1, 1, 1)),
            ("wide", 2, (1, 2, 1)),
        )
    ]
    records = [run.run() for run in runs]
    assert records[0]["identity"]["settings"]["method"] == "mutex"
    assert records[0]["identity"]["settings"]["merge_threshold"] == 0.55
    assert len({record["identity_sha256"] for record in records}) == 1
    objects = runs[0].objects()
    assert objects.max() > 20
    region = threshold_mask(stored[0], 0.45)
    rule = MutexRule(connectivity, OFFSETS, (4, 7, 6))
    assert np.array_equal(objects, by_first_voxel(objects)), "numbered as they come"
    assert not objects[~region].any()
    assert rule.used == [0, 1, 2, 3, 4, 5] if connectivity == "3d" else [1, 2, 4, 5]
    for run, record in zip(runs[1:], records[1:], strict=True):
        assert np.array_equal(run.objects(), objects)
        assert np.array_equal(run.mask(), runs[0].mask())
        assert record["files_sha256"] == records[0]["files_sha256"]
        assert record["num_foreground_voxels"] == (stored[0] > 127).sum()
    table = pq.read_table(records[0]["table"]["parquet"]["path"]).to_pylist()
    assert [row["voxels"] for row in table] == np.bincount(objects.ravel())[1:].tolist()


def test_an_interrupted_mutex_watershed_goes_on_to_the_same_bits(tmp_path):
    stored, _ = draw_affinities((11, 26, 30), 5)
    predicted = store_affinities(tmp_path / "p", stored, (6, 12, 12))
    settings = {"connectivity": "3d", "fragment_vox": (4, 7, 6), "parts": 2}
    whole_run = Segmented(predicted, tmp_path / "a", **settings)
    record = whole_run.run()
    broken = Segmented(predicted, tmp_path / "b", **settings)
    broken.label(1)
    (scratch,) = (tmp_path / "b").glob("segmentation-*/scratch-*/labelled")
    lost = sorted(scratch.rglob("*.arrays"))[0]
    lost.unlink()
    assert broken.label(1)["num_computed"] == 1, "what was lost, and no more"
    assert broken.run()["files_sha256"] == record["files_sha256"]


def test_without_affinities_there_is_no_mutex_watershed(stored, tmp_path):
    _, predicted = stored
    with pytest.raises(ConfigError, match="not trained to predict affinities"):
        Segmented(predicted, tmp_path / "run", method="mutex").run()


@pytest.mark.slow
def test_neurons_cut_into_blocks_are_the_same_neurons(real_data, tmp_path):
    root = real_data / "fib25-medulla"
    cell = "training_sample2/groundtruth.h5.gz:stack->transforms"
    with open_image(cell, root, Reading(is_labels=True, axes="zyx")) as reader:
        labels = reader.read_sections(0, reader.zyx[0])[0]
    probability = np.where(separate_touching(labels) > 0, 200, 50).astype(np.uint8)
    predicted = store_prediction(tmp_path / "p", probability[None], (64, 128, 128))
    run = Segmented(predicted, tmp_path / "run", connectivity="3d")
    record = run.run()
    assert record["num_blocks"] == 16
    assert record["num_objects"] > 500
    assert np.array_equal(run.objects(), whole(probability))
