"""Cutting a volume into blocks changes no bit of its weight map, and bounds memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.records.whole import whole
from tests.small_stores import store_voxels
from tests.stages.annotated import draw_instances, ingest, weigh
from tests.targets.annotated import separate_cells
from tests.variants import mostly_slow
from unetpipe.config import WeightMapConfig
from unetpipe.errors import DataError, ResourceError
from unetpipe.runtime.files import read_record
from unetpipe.storage.volumes import create_volume, open_volume, store_shard
from unetpipe.targets.weight_blocks import choose_weight_block
from unetpipe.targets.weight_map import (
    cells_to_instances,
    compute_border_term,
    separate_touching,
)
from unetpipe.tiling.boxes import Halo

SHAPE = (3, 150, 170)

VOXEL_NM = (50.0, 4.0, 4.0)  # of ingested test volumes


def small_blocks(monkeypatch):
    """One shard a block: 64 x 64 voxels of a section, 2 x 32 x 32 of a volume."""
    monkeypatch.setattr("unetpipe.targets.weight_blocks.MOST_VOXELS", 1)
    stores = "unetpipe.targets.whole_volumes"
    monkeypatch.setattr(f"{stores}.CHUNK_3D", (2, 16, 16))
    monkeypatch.setattr(f"{stores}.SHARD_3D", (2, 32, 32))


def snake():
    """One cell that winds through all blocks, and lone cells between its turns."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 5:145:20, 5:165] = 1
    mask[:, 5:125:40, 163:165] = 1
    for turn in range(5, 125, 20):
        column = 160 if turn % 40 == 5 else 5
        mask[:, turn : turn + 21, column : column + 5] = 1
    mask[:, 14:16, 20:150:9] = 1
    mask[1, 40:70] = 0
    return mask


def as_classes(mask):
    return np.where(mask == 1, 2, 1).astype(np.uint8)


def with_unlabelled(labels, value):
    labels = labels.copy()
    labels[:, 60:70, 60:130] = value
    return labels


def store_deeper(folder, labels):
    """Store labels again, in chunks of two sections."""
    path = folder / "labels.ome.zarr"
    shutil.rmtree(path)
    options = {"chunk": (2, 32, 32), "shard": (2, 64, 64), "voxel_size_nm": (1, 1, 1)}
    store_voxels(path, labels, unlabelled=0, **options)


CASES = {
    "instances": (with_unlabelled(draw_instances(SHAPE), 9999), 9999, {}),
    "binary": (with_unlabelled(snake(), 255), 255, {}),
    "classes": (as_classes(snake()), None, {"border_class": 1, "sigma_vox": 4.0}),
}


def results(record):
    values = read_record(record)
    stores = {
        name: open_volume(record.parent / f"{name}.ome.zarr")[...]
        for name in ("border_term", "target")
    }
    del values["circumstances"]
    for name in stores:
        del values[name]["store"]
    return values, stores


@pytest.mark.parametrize("ndim", mostly_slow([3, 2]))
@pytest.mark.parametrize("kind", CASES)
def test_the_bits_do_not_depend_on_the_blocks(tmp_path, monkeypatch, kind, ndim):
    labels, unlabelled, settings = CASES[kind]
    more = {
        "num_classes": 3 if kind == "classes" else 2,
        "ndim": ndim,
        "config": WeightMapConfig(**settings),
    }
    whole = weigh(
        ingest(tmp_path / "whole", labels, kind=kind, unlabelled=unlabelled), **more
    )
    small_blocks(monkeypatch)
    path = ingest(tmp_path / "parts", labels, kind=kind, unlabelled=unlabelled)
    store_deeper(tmp_path / "parts", labels)
    parts = weigh(path, **more)
    (record, stores), (expected, whole_stores) = results(parts), results(whole)
    for name in stores:
        np.testing.assert_array_equal(stores[name], whole_stores[name])
    assert whole_stores["border_term"].max() > 0.5
    assert record | {"volume": ""} == expected | {"volume": ""}
    assert not list(tmp_path.rglob("components*"))


@pytest.mark.parametrize("ndim", mostly_slow([3, 2]))
def test_a_cell_that_winds_through_all_blocks_is_one(tmp_path, monkeypatch, ndim):
    small_blocks(monkeypatch)
    mask = snake()
    record = weigh(ingest(tmp_path / "cells", mask, kind="binary"), ndim=ndim)
    _, stores = results(record)
    if ndim == 2:
        expected = np.stack(
            [
                compute_border_term(cells_to_instances(section, "binary"))
                for section in mask
            ]
        )
    else:
        expected = compute_border_term(
            cells_to_instances(mask, "binary"), voxel_size=VOXEL_NM
        )
    np.testing.assert_array_equal(stores["border_term"], expected)
    cells = read_record(record)["num_cells"]
    assert cells[0] == 1 + len(range(20, 150, 9))


def test_cells_that_touch_across_blocks_lie_apart(tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    ids = np.zeros(SHAPE, np.uint32)
    ids[:, 10:140, :64] = 3
    ids[:, 10:140, 64:100] = 8
    record = weigh(ingest(tmp_path / "cells", ids))
    _, stores = results(record)
    np.testing.assert_array_equal(stores["target"][0], separate_touching(ids[0]) > 0)
    assert (stores["target"][:, 10:140, 63:65] == 0).all()
    assert (stores["border_term"][:, 20:130, 63:65] > 8).all()


@pytest.mark.parametrize("ndim", mostly_slow([3, 2]))
def test_thin_cells_are_kept_whatever_the_blocks(tmp_path, monkeypatch, ndim):
    ids = np.zeros(SHAPE, np.uint32)
    place = np.indices(SHAPE)
    ids[:] = 1 + place[1] // 2 + 100 * (place[2] // 3)
    if ndim == 2:
        ids += 10_000 * place[0].astype(np.uint32)
    ids[:, :, :61] = 9
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    one, stores = results(weigh(ingest(whole, ids), ndim=ndim))
    small_blocks(monkeypatch)
    other, in_blocks = results(weigh(ingest(cut, ids), ndim=ndim))
    assert one["num_lost"] == other["num_lost"] == 0
    for name in stores:
        np.testing.assert_array_equal(stores[name], in_blocks[name])
    kept = np.where(stores["target"] == 1, ids, 0)
    if ndim == 2:
        parts = zip(kept, map(separate_cells, ids), strict=True)
    else:
        parts = [(kept, separate_cells(ids))]
    for found, wanted in parts:
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(separate_touching(found), found)


def test_an_error_names_where_the_block_is(tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    classes = np.zeros(SHAPE, np.uint8)
    classes[2, 80, 100] = 9
    path = ingest(tmp_path / "cells", classes, kind="classes")
    with pytest.raises(DataError, match=r"cells, section 2: labels hold class 9"):
        weigh(path, num_classes=3)
    with pytest.raises(DataError, match=r"cells, at \(2, 64, 96\): labels hold class"):
        weigh(path, num_classes=3, ndim=3)
    assert not list(tmp_path.rglob("*.partial"))


def test_too_little_memory_is_said_before_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", type("M", (), {"available": 1000}))
    path = ingest(tmp_path / "cells", draw_instances())
    with pytest.raises(ResourceError, match=r"cells: weight map needs .* MB of memory"):
        weigh(path)


@pytest.mark.parametrize(
    ("shape", "shard", "ndim", "expected"),
    [
        ((30, 512, 512), (1, 512, 512), 2, (1, 512, 512)),
        ((30, 2000, 2000), (1, 1024, 1024), 2, (1, 1024, 1024)),
        ((9, 20_000, 20_000), (1, 1024, 1024), 2, (1, 1024, 1024)),
        ((9, 100, 90_000), (1, 128, 1024), 2, (1, 128, 4096)),
        ((500, 2000, 2000), (64, 256, 256), 3, (64, 256, 256)),
    ],
)
def test_blocks_are_whole_shards_that_fit_into_memory(shape, shard, ndim, expected):
    around = (31 if ndim == 3 else 0, 31, 31)
    assert choose_weight_block(shape, shard, Halo(around, around), ndim) == expected


MEASURE = """
import json, logging, sys
from pathlib import Path
import unetpipe.targets.weight_blocks as blocks
from tests.stages.annotated import weigh
logging.basicConfig(level=logging.INFO)
blocks.MOST_VOXELS = 1_300_000
for folder in sys.argv[1:]:
    weigh(Path(folder) / "ingest.json")
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_section(tmp_path):
    """A section of 4096 x 4096 would take a GB at once."""
    for name, side in (("small", 512), ("few", 2048), ("many", 4096)):
        folder = tmp_path / name
        ids = np.kron(
            np.arange(1, (side // 64) ** 2 + 1, dtype=np.uint32).reshape(
                side // 64, -1
            ),
            np.ones((64, 64), np.uint32),
        )
        create_volume(
            folder / "labels.ome.zarr",
            shape=(1, side, side),
            dtype=np.uint32,
            chunk=(1, 256, 256),
            shard=(1, 1024, 1024),
            voxel_size_nm=(1, 1, 1),
            unlabelled=0,
        )
        array = open_volume(folder / "labels.ome.zarr", mode="r+")
        for y in range(-(-side // 1024)):
            for x in range(-(-side // 1024)):
                part = ids[1024 * y : 1024 * y + 1024, 1024 * x : 1024 * x + 1024]
                store_shard(array, (0, y, x), part[None])
        labels = {
            "store": str(folder / "labels.ome.zarr"),
            "label_kind": "instances",
            "unlabelled": None,
        }
        record = {"volume": name, "labels": labels, "voxel_size_nm": [1, 1, 1]}
        (folder / "ingest.json").write_text(json.dumps(whole("ingest", record)))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            *(tmp_path / n for n in ("small", "few", "many")),
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    small, few, many = (int(line) / 1024 for line in done.stdout.split())  # MB
    projected = int(done.stderr.split("many: weight map: at most ")[1].split()[0])
    assert many - small < projected < 330
    assert many - few < projected / 2


def test_boxes_in_layers_that_follow_each_other_see_each_others_cells(
    tmp_path, monkeypatch
):
    small_blocks(monkeypatch)
    boxes = [{"start": (0, 0, 0), "stop": (2, 30, 30)}]
    boxes.append({"start": (5, 0, 0), "stop": (7, 30, 30)})
    mask = np.full((8, 40, 40), 255, np.uint8)
    for box in boxes:
        (first, *_), (stop, *_) = box["start"], box["stop"]
        mask[first:stop, :30, :30] = 0
        mask[first:stop, 8:12, 8:20] = mask[first:stop, 15:19, 8:20] = 1
    path = ingest(tmp_path / "cells", mask, kind="binary", unlabelled=255)
    _, expected = results(weigh(path, ndim=3))
    record = json.loads(path.read_text())
    record["labels"]["boxes"] = boxes
    path.write_text(json.dumps(record))
    _, found = results(weigh(path, ndim=3))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert expected["border_term"].max() > 0.5
