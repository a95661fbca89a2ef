"""A disk that is full: a small tmpfs, filled; then emptied, and all goes on."""

import os
import subprocess

import numpy as np
import pytest
import tifffile

from tests.stages.annotated import draw_instances, ingest
from tests.stages.ingested import ingest_volume
from tests.stages.predicted import SHAPE, Chain, small_shards
from tests.stages.test_train_unet import TRAINING, Training, rows_of
from unetpipe.config import IngestConfig
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import ResourceError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.volumes import open_volume

pytestmark = pytest.mark.faults

MEGABYTE = 2**20
NO_ROOM = r"no room on the disk .*; free some, then repeat the same command"


class Disk:
    """A disk of its own; ``leave`` fills it but for some bytes."""

    def __init__(self, folder):
        self.folder = folder
        self.ballast = folder / "ballast"

    def leave(self, num_bytes):
        self.ballast.unlink(missing_ok=True)
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        self.ballast.write_bytes(bytes(max(0, free - num_bytes)))

    def empty(self):
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NO FULL DISK HERE: mounting a tmpfs needs root")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_ingest_stops_with_the_remedy_and_leaves_nothing(disk, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (16, 512, 512)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image)
    write_record(
        tmp_path / "manifest.json", {"root": str(tmp_path), "files": [], "source": "x"}
    )
    header = "volume\timage\trole\taxes\n"
    (row,) = parse_sheet(f"{header}a\timage.tif\tpredict\tzyx\n").rows
    results = disk.folder / "results"
    arguments = {
        "manifest": tmp_path / "manifest.json",
        "volume": "a",
        "rows": [row.model_dump()],
        "pixel_sha256": {},
        "ingest": IngestConfig(chunk=(1, 64, 64), shard=(4, 512, 512)),
        "num_classes": 2,
        "image_store": results / "image.ome.zarr",
        "labels_store": results / "labels.ome.zarr",
        "record": results / "ingest.json",
    }
    disk.leave(2 * MEGABYTE)
    with pytest.raises(ResourceError, match=NO_ROOM):
        ingest_volume(**arguments)
    assert list(results.iterdir()) == []
    disk.empty()
    ingest_volume(**arguments)
    assert np.array_equal(open_volume(results / "image.ome.zarr")[0], image)


def test_a_part_keeps_its_finished_blocks(
    disk,
    make_volume,
    make_model,
    monkeypatch,
    tmp_path,
):
    small_shards(monkeypatch)
    volume, model = make_volume(SHAPE), make_model()
    expected = Chain(tmp_path / "undisturbed", volume, model, parts=1).run()
    run = Chain(disk.folder / "run", volume, model, parts=1)
    run.plan()
    disk.leave(100_000)
    with pytest.raises(ResourceError, match=NO_ROOM):
        run.part(0)
    assert not (run.folder / "parts" / "0.json").exists()
    disk.empty()
    done = run.part(0)
    assert done["num_kept"] > 0
    assert done["num_kept"] + done["num_computed"] == 36
    run.finish()
    assert np.array_equal(run.voxels(), expected)


def test_training_keeps_its_last_state(disk, tmp_path):
    rows = rows_of(ingest(tmp_path / "volumes" / "cells", draw_instances()))
    expected = Training(tmp_path / "undisturbed", rows)()
    training = Training(disk.folder / "unet", rows)
    training(training=TRAINING.model_copy(update={"steps": 3}))
    disk.leave(8192)
    with pytest.raises(ResourceError, match=NO_ROOM):
        training()
    states = list((training.folder / "state").glob("*/state-*"))
    assert [path.name[:14] for path in states] == ["state-00000003"]
    disk.empty()
    training()
    assert training.record["resumed_at"] == [3]
    assert training.model == expected.model
    assert read_record(training.folder / "train.json")["steps"] == 8
