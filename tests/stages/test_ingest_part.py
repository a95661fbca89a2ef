"""An image stored by several jobs: stores and record are those of one job."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.injected import forked, wait_until_ended
from tests.stages.ingested import ingest_volume
from tests.stages.test_ingest_volume import Originals
from tests.variants import mostly_slow
from unetpipe.config import IngestConfig
from unetpipe.errors import DataError
from unetpipe.ingestion import layers as ingestion_parts
from unetpipe.stages.ingest_part import ingest_part

LAYOUT = {"chunk": (1, 16, 16), "shard": (2, 32, 32), "percentiles": (2, 98)}
VOLATILE = ("circumstances",)


class Parts(Originals):
    """A volume in a folder of its own, ingested in any number of parts."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.image_cell = "image.tif"

    def part(self, part, num_parts):
        record = self.results / f"ingest/parts/{part}.json"
        ingest_part(
            manifest=self.folder / "manifest.json",
            volume="a",
            row=self.rows(image=self.image_cell)[0],
            ingest=IngestConfig(**LAYOUT, parts=num_parts),
            part=part,
            folder=self.results / "ingest",
            record=record,
        )
        return json.loads(record.read_text())

    def finish(self, num_parts=1, pixels=None):
        records = self.results / "ingest/parts"
        numbers = range(num_parts) if num_parts > 1 else ()
        ingest_volume(
            manifest=self.folder / "manifest.json",
            volume="a",
            rows=self.rows(image=self.image_cell),
            pixel_sha256=pixels or {},
            ingest=IngestConfig(**LAYOUT, parts=num_parts),
            num_classes=2,
            image_store=self.results / "image.ome.zarr",
            labels_store=self.results / "image.ome.zarr/labels/annotated",
            record=self.results / "ingest.json",
            parts=[records / f"{n}.json" for n in numbers],
            parts_folder=self.results / "ingest",
        )
        return self.outcome()

    def run(self, num_parts):
        for part in reversed(range(num_parts)):
            if num_parts > 1:
                self.part(part, num_parts)
        return self.finish(num_parts)

    def outcome(self):
        """Return every file of the store, and the record."""
        store = self.results / "image.ome.zarr"
        files = {
            str(path.relative_to(store)): path.read_bytes()
            for path in store.rglob("*")
            if path.is_file()
        }
        record = json.loads((self.results / "ingest.json").read_text())
        return files, {k: v for k, v in record.items() if k not in VOLATILE}

    @property
    def receipts(self):
        return sorted((self.results / "ingest").glob("????????/receipts/*.json"))


def write(folder, image, labels=None):
    labels = np.arange(image.size, dtype=np.uint16) % 7 if labels is None else labels
    folder.tiff("image.tif", image)
    folder.tiff("labels.tif", labels.reshape(image.shape))


@pytest.fixture
def volume(tmp_path):
    folder = Parts(tmp_path / "volume")
    write(folder, np.random.default_rng(0).integers(0, 4000, (9, 40, 50), np.uint16))
    return folder


@settings(
    max_examples=settings.default.max_examples // 8,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
@given(
    shape=st.tuples(st.integers(1, 11), st.integers(17, 70), st.integers(17, 70)),
    dtype=st.sampled_from(["u1", "u2", "i2", "f4"]),
    num_parts=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_any_number_of_parts_gives_the_same_stores_and_record(
    tmp_path_factory, shape, dtype, num_parts, seed
):
    rng = np.random.default_rng(seed)
    image = (rng.normal(100, 30, shape) * (1 if dtype != "f4" else 1e-3)).astype(dtype)
    folder = Parts(tmp_path_factory.mktemp("volume") / "volume")
    write(folder, image)
    files, record = folder.run(1)
    again, recorded = folder.run(num_parts)
    assert recorded == record
    assert again == files


def test_layers_that_another_reader_made_are_not_taken_over(volume, monkeypatch):
    assert volume.part(0, 2)["num_layers_written"] == 2
    assert volume.part(0, 2)["num_layers_written"] == 0
    monkeypatch.setattr(ingestion_parts, "code_fingerprint", lambda *_: "edited")
    assert volume.part(0, 2)["num_layers_written"] == 2


def test_without_links_shards_are_copied_to_the_disk_itself(volume, monkeypatch):
    synced, sync, link = set(), os.fsync, os.link

    def note(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def refuse(old, new):
        if "c" in Path(new).parts:
            raise PermissionError("no links here")
        link(old, new)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "link", refuse)
    volume.run(2)
    shards = [
        p for p in (volume.results / "image.ome.zarr/0/c").rglob("*") if p.is_file()
    ]
    assert len(shards) == 20
    assert {path.stat().st_ino for path in shards} <= synced
    assert {path.stat().st_nlink for path in shards} == {1}


def test_another_number_of_parts_goes_on_from_the_same_layers(volume):
    expected = volume.run(1)
    assert volume.part(0, 2)["num_layers_written"] == 2
    assert [volume.part(p, 5)["num_layers_written"] for p in range(5)] == [
        0,
        0,
        1,
        1,
        1,
    ]
    assert volume.finish(5) == expected
    assert volume.part(1, 3)["num_layers_written"] == 0


def test_the_last_job_copies_what_a_lost_layer_held(volume):
    expected = volume.run(1)
    volume.run(3)
    shards = sorted((volume.results / "ingest").glob("*/image.ome.zarr/0/c/**/*"))
    files = [path for path in shards if path.is_file()]
    files[0].unlink()
    files[-1].write_bytes(files[-1].read_bytes()[:-1] + b"\0")
    volume.receipts[2].unlink()
    assert volume.finish(3) == expected
    assert len(volume.receipts) == 5


@pytest.mark.parametrize("moment", mostly_slow([0, 1, 7, 8, 20], quick=[7]))
def test_a_killed_part_goes_on_after_its_last_layer(volume, monkeypatch, moment):
    """kill -9 in the middle of a layer: only that layer is written again."""
    expected = volume.run(1)
    per_layer = 4

    def killed(*arguments):
        if len(written) == moment:
            os._exit(9)
        written.append(arguments[1])
        return write_shard(*arguments)

    write_shard, written = ingestion_parts.write_shard, []
    monkeypatch.setattr(ingestion_parts, "num_slab_threads", lambda: 1)
    monkeypatch.setattr(ingestion_parts, "write_shard", killed)
    code = wait_until_ended(forked(lambda: volume.part(0, 1)))
    monkeypatch.undo()
    assert code == (9 if moment < 5 * per_layer else 0)
    assert len(volume.receipts) == min(moment // per_layer, 5)
    assert volume.part(0, 1)["num_layers_written"] == 5 - min(moment // per_layer, 5)
    volume.part(0, 2)
    volume.part(1, 2)
    assert volume.finish(2) == expected


def test_shards_take_their_room_on_the_disk_once(volume):
    volume.run(2)
    store = volume.results / "image.ome.zarr/0/c"
    links = {path.stat().st_nlink for path in store.rglob("*") if path.is_file()}
    assert links == {2}


def test_another_image_or_a_single_job_leaves_no_layers_behind(volume):
    volume.run(2)
    (old,) = (volume.results / "ingest").glob("????????")
    write(volume, np.zeros((9, 40, 50), np.uint16))
    volume.run(2)
    (new,) = (volume.results / "ingest").glob("????????")
    assert new != old
    volume.run(1)
    assert not (volume.results / "ingest").exists()


def test_pixels_that_are_pinned_are_compared_in_parts_too(volume):
    _, record = volume.run(2)
    pinned = {"image": record["image"]["pixel_sha256"]}
    assert volume.finish(2, pixels=pinned)[1] == record
    with pytest.raises(DataError, match="pixel_sha256"):
        volume.finish(2, pixels={"image": "0" * 64})


def test_files_are_hashed_once_by_the_parts(volume):
    _, record = volume.run(3)
    parts = [json.loads(p.read_text()) for p in volume.results.glob("ingest/parts/*")]
    assert [f for part in parts for f in part["files"]] == record["image"]["files"]


def test_an_image_that_is_used_where_it_is_is_only_measured(volume, tmp_path):
    volume.run(1)
    other = Parts(tmp_path / "other")
    write(other, np.zeros((9, 40, 50), np.uint16))
    (volume.results / "image.ome.zarr").rename(other.root / "ready.ome.zarr")
    other.image_cell = "ready.ome.zarr"
    _, record = other.run(1)
    assert not record["image"]["is_copied"]
    files, recorded = other.run(3)
    assert recorded == record
    assert files == {}
    assert len(other.receipts) == 5


def test_voxels_that_are_not_finite_stop_their_part(tmp_path):
    folder = Parts(tmp_path / "volume")
    image = np.zeros((6, 20, 20), np.float32)
    image[3, 4, 5:7] = np.nan
    write(folder, image)
    folder.part(0, 3)
    with pytest.raises(DataError, match=r"sections 2 to 3 .* hold 2 NaN.* 3, 4, 5"):
        folder.part(1, 3)
    with pytest.raises(ValueError, match="parts is 2, but nan_policy replace"):
        IngestConfig(parts=2, nan_policy="replace")
    assert not (folder.results / "image.ome.zarr").exists()


def test_parts_that_start_together_share_one_store(volume):
    expected = volume.run(1)
    children = [forked(lambda part=part: volume.part(part, 4)) for part in range(4)]
    assert [wait_until_ended(child) for child in children] == [0] * 4
    assert volume.finish(4) == expected
    assert not list(Path(volume.results).rglob("*.partial"))
