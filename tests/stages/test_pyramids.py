"""Pyramids beside the stages that write the stores: the same bytes, with or without."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from yaozarrs import validate_zarr_store

from tests.stages.ingested import ingest_volume
from unetpipe.config import IngestConfig
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.coarsen_part import coarsen_part
from unetpipe.stages.finish_pyramid import finish_pyramid
from unetpipe.storage.named_files import changed_files

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 60_000, (3, 2, 50, 70), np.uint16)
LABELS = RNG.integers(0, 3, (3, 50, 70), np.uint8)


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 16)
    monkeypatch.setattr("unetpipe.storage.pyramid.BLOCK_BYTES", 2**15)


def ingest(folder, image="image.tif", **options):
    tifffile.imwrite(
        folder / "image.tif", IMAGE, imagej=True, metadata={"axes": "ZCYX"}
    )
    tifffile.imwrite(folder / "labels.tif", LABELS, photometric="minisblack")
    manifest = {"source": "x", "kind": "folder", "root": str(folder), "files": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    row = {"volume": "a", "image": image, "labels": "labels.tif", "axes": ""}
    row |= {"sections": None, "role": "train", "fold": "", "unlabelled": None}
    row |= {"voxel_size_nm": (50, 4, 4), "label_kind": "classes"}
    ingest_volume(
        manifest=folder / "manifest.json",
        volume="a",
        rows=[row],
        pixel_sha256={},
        ingest=IngestConfig(chunk=(1, 8, 8), shard=(2, 16, 16)),
        num_classes=3,
        palette=None,
        image_store=folder / "image.ome.zarr",
        labels_store=folder / "image.ome.zarr" / "labels" / "annotated",
        record=folder / "ingest.json",
        **options,
    )
    return read_record(folder / "ingest.json")


def contents(store):
    return {
        file.relative_to(store).as_posix(): hash_file(file)
        for file in store.rglob("*")
        if file.is_file()
    }


def metadata(store):
    return zarr.open_group(store, mode="r").attrs["ome"]


def test_an_image_and_its_labels_get_levels_while_they_are_stored(tmp_path):
    record = ingest(tmp_path)
    store = tmp_path / "image.ome.zarr"
    validate_zarr_store(store)
    assert record["labels"]["store"] == str(store / "labels/annotated")
    for place in (store, store / "labels/annotated"):
        assert len(metadata(place)["multiscales"][0]["datasets"]) == 4
    assert metadata(store / "labels") == {"version": "0.5", "labels": ["annotated"]}


def test_a_damaged_level_is_found_and_made_again(tmp_path):
    ingest(tmp_path, with_pyramid=False)
    record, store = tmp_path / "ingest.json", tmp_path / "image.ome.zarr"
    assert changed_files(record) == []
    finish_pyramid(source=record, record=tmp_path / "pyramid.json")
    assert changed_files(record) == []
    damaged = next(p for p in sorted((store / "1/c").rglob("*")) if p.is_file())
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    assert changed_files(record) == [f"{damaged} is not the file that was written"]
    finish_pyramid(source=record, record=tmp_path / "pyramid.json")
    assert damaged.read_bytes() == whole
    assert changed_files(record) == []


def test_receipts_of_an_image_that_was_replaced_tell_nothing(tmp_path):
    """Its blocks are not those of today's, which may have fewer."""
    record = tmp_path / "ingest.json"
    ingest(tmp_path, with_pyramid=False)
    finish_pyramid(source=record, record=tmp_path / "pyramid.json")
    rest = Path(read_record(record)["pyramids"][0]["receipts"]) / "rest.json"
    known, stale = read_record(rest), rest.with_name("9-9-9.json")
    gone = known | {"files": {"9/c/0/0/0/0": "1" * 64}}
    write_record(stale, gone | {"identity": "0" * 64})
    assert changed_files(record) == []
    write_record(stale, gone)
    assert len(changed_files(record)) == 1, "one of today's image tells"


def test_parts_write_what_one_job_writes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "parts").mkdir()
    ingest(tmp_path / "one")
    folder = tmp_path / "parts"
    ingest(folder, with_pyramid=False)
    store = folder / "image.ome.zarr"
    assert len(metadata(store)["multiscales"][0]["datasets"]) == 1
    written = 0
    for part in (1, 0):
        record = folder / "pyramids" / "ingest" / f"{part}.json"
        coarsen_part(
            source=folder / "ingest.json", part=part, num_parts=2, record=record
        )
        written += sum(read_record(record)["num_blocks_written"].values())
    assert written > 4
    finish_pyramid(source=folder / "ingest.json", record=folder / "pyramid.json")
    assert set(read_record(folder / "pyramid.json")["num_levels"].values()) == {4}
    assert contents(store) == contents(tmp_path / "one" / "image.ome.zarr")
    validate_zarr_store(store)


def test_channels_and_classes_have_names_windows_and_colours(tmp_path):
    ingest(tmp_path)
    store = tmp_path / "image.ome.zarr"
    channels = metadata(store)["omero"]["channels"]
    assert [c["label"] for c in channels] == ["channel 0", "channel 1"]
    assert len({c["color"] for c in channels}) == 2
    for c, channel in enumerate(channels):
        low, high = int(IMAGE[:, c].min()), int(IMAGE[:, c].max())
        window = {"min": low, "max": high, "start": low, "end": high}
        assert channel["window"] == window
    label = metadata(store / "labels/annotated")["image-label"]
    assert [c["label-value"] for c in label["colors"]] == [1, 2]
    assert label["source"] == {"image": "../../"}


def test_an_image_used_where_it_is_stays_as_it_is(tmp_path):
    ingest(tmp_path)
    (tmp_path / "image.ome.zarr").rename(tmp_path / "theirs.zarr")
    original = tmp_path / "theirs.zarr"
    before = contents(original)
    record = ingest(tmp_path, image="theirs.zarr")
    assert contents(original) == before
    assert record["labels"]["store"] == str(tmp_path / "labels.ome.zarr")
    assert [job["store"] for job in record["pyramids"]] == [record["labels"]["store"]]
    assert not (tmp_path / "image.ome.zarr").exists()
    validate_zarr_store(tmp_path / "labels.ome.zarr")
