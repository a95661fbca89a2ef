"""Volumes at another scale than a network has learnt at: there and back again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from tests.stages.ingested import ingest_volume
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config import IngestConfig
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError
from unetpipe.records.segmentation import Segmentation
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.original_grid import differing_object_shards
from unetpipe.stages.verify import _verify_objects
from unetpipe.storage.downsampling import downsample
from unetpipe.storage.verification import Commands
from unetpipe.storage.volumes import (
    open_volume,
    read_stored_roi,
    shard_path,
    write_shard,
)
from unetpipe.tiling.boxes import as_zyx, grid_cell
from unetpipe.tiling.resampling import nearest_voxels

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (6, 80, 120), np.uint8)
LABELS = RNG.integers(0, 9, (6, 80, 120), np.uint16)
FINE = "50,4,4"


def ingest(
    folder,
    *,
    size=FINE,
    learnt=(50, 8, 8),
    ndim=2,
    sections="",
    tags=(),
    files=None,
    cells=None,
    **options,
):
    folder.mkdir(exist_ok=True)
    written = {"image.tif": IMAGE, "labels.tif": LABELS} | (files or {})
    for name, voxels in written.items():
        tifffile.imwrite(
            folder / name, voxels, photometric="minisblack", extratags=tags
        )
    manifest = {"source": "x", "kind": "folder", "root": str(folder), "files": []}
    write_record(folder / "manifest.json", manifest)
    write_record(folder / "model.json", {"voxel_size_nm": learnt})
    row = {"volume": "a", "image": "image.tif", "labels": "labels.tif", "role": "test"}
    row |= {"voxel_size_nm": size, "sections": sections} | (cells or {})
    rows = parse_sheet("\n".join("\t".join(p) for p in (row, row.values()))).rows
    layout = {"chunk": (2, 16, 16), "shard": (2, 16, 32), "scale": "match"}
    ingest_volume(
        manifest=folder / "manifest.json",
        volume="a",
        rows=[row.model_dump() for row in rows],
        ingest=IngestConfig(**(layout | options)),
        num_classes=2,
        image_store=folder / "image.ome.zarr",
        labels_store=folder / "labels.ome.zarr",
        record=folder / "ingest.json",
        scales=(folder / "model.json",),
        ndim=ndim,
    )
    return json.loads((folder / "ingest.json").read_text())


def stored(record, name):
    return np.asarray(open_volume(Path(record[name]["store"]))[...])


def test_image_and_labels_are_brought_to_the_scale_of_the_network(
    tmp_path, monkeypatch
):
    record = ingest(tmp_path / "a")
    assert (record["shape"], record["voxel_size_nm"]) == ([6, 40, 60], [50, 8, 8])
    assert record["original"] == {"shape": [6, 80, 120], "voxel_size_nm": [50, 4, 4]}
    expected = downsample(IMAGE[None], (1, 2, 2), is_labels=False)
    assert np.array_equal(stored(record, "image"), expected)
    rows, columns = nearest_voxels(80, 40, 0, 40), nearest_voxels(120, 60, 0, 60)
    ids = LABELS[:, rows][:, :, columns]
    assert np.array_equal(stored(record, "labels"), ids)
    assert record["axes_of_file"] == "zyx"
    assert [file["path"] for file in record["image"]["files"]] == ["image.tif"]
    monkeypatch.setattr("unetpipe.images.scaled.BAND_BYTES", 1000)
    monkeypatch.setattr("unetpipe.ingestion.slabs.BOX_BYTES", 1)
    other = ingest(tmp_path / "b", chunk=(1, 8, 8), shard=(1, 8, 8))
    assert other["image"]["content_sha256"] == record["image"]["content_sha256"]
    assert other["labels"]["content_sha256"] == record["labels"]["content_sha256"]


UNLABELLED = 2**16 - 1
CORNERS, SIDES = ((1, 3, 5), (0, 41, 66)), ((3, 20, 31), (6, 37, 44))


@pytest.mark.parametrize("learnt", [(50, 8, 8), (50, 9.3, 6.1), (50, 3, 2.5)])
@pytest.mark.parametrize("with_field", [False, True])
def test_labels_of_boxes_are_those_of_the_whole_volume_at_the_other_scale(
    tmp_path, learnt, with_field
):
    whole, files = np.full(IMAGE.shape, UNLABELLED, np.uint16), {}
    for k, (corner, sides) in enumerate(zip(CORNERS, SIDES, strict=True)):
        box = tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))
        files[f"box{k}.tif"] = whole[box] = LABELS[box]
    field = np.ones(IMAGE.shape[1:], np.uint8)
    field[10:20, 6:30] = 0
    if with_field:
        whole[:, field == 0] = UNLABELLED
    pasted = {"labels": "whole.tif", "unlabelled": str(UNLABELLED)}
    at = "; ".join(",".join(map(str, corner)) for corner in CORNERS)
    boxed = {"labels": "box0.tif; box1.tif", "labels_at": at}
    boxed |= {"field_of_view": "field.tif"} if with_field else {}
    files |= {"whole.tif": whole, "field.tif": field}
    records = [
        ingest(tmp_path / name, learnt=learnt, files=files, cells=cells)
        for name, cells in (("pasted", pasted), ("boxed", boxed))
    ]
    one, two = (stored(record, "labels") for record in records)
    unknown = [record["labels"]["unlabelled"] for record in records]
    np.testing.assert_array_equal(one == unknown[0], two == unknown[1])
    np.testing.assert_array_equal(one[one != unknown[0]], two[two != unknown[1]])
    boxes = records[1]["labels"]["boxes"]
    known = np.zeros(one.shape, bool)
    for box in boxes:
        known[tuple(map(slice, box["start"], box["stop"]))] = True
    assert with_field or np.array_equal(known, one != unknown[0])


def test_a_box_that_no_voxel_is_left_of_is_refused(tmp_path):
    files = {"box.tif": LABELS[:, :1, :1]}
    cells = {"labels": "box.tif", "labels_at": "0,0,0"}
    with pytest.raises(DataError, match="too few to leave one where the image is"):
        ingest(tmp_path / "a", learnt=(50, 40, 40), files=files, cells=cells)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"learnt": None}, "the network has learnt at"), ({"size": ""}, "it has")],
)
def test_where_a_size_is_not_known_nothing_is_resampled_and_that_is_said(
    tmp_path, values, said
):
    record = ingest(tmp_path / "a", **values)
    assert record.get("original") is None
    assert record["shape"] == [6, 80, 120]
    assert any(f"which voxel size {said}" in text for text in record["warnings"])


def test_at_the_same_scale_the_voxels_are_those_of_the_file(tmp_path):
    record = ingest(tmp_path / "a", learnt=(100, 4, 4))
    assert record.get("original") is None
    assert np.array_equal(stored(record, "image")[0], IMAGE)


def test_sections_of_the_sheet_are_refused_where_sections_are_resampled(tmp_path):
    learnt = {"learnt": (100, 4, 4), "ndim": 3}
    assert ingest(tmp_path / "a", **learnt)["shape"] == [3, 80, 120]
    with pytest.raises(DataError, match=r"from 6 to 3 sections.*leave the column"):
        ingest(tmp_path / "b", sections="0-2", **learnt)


GEO = {
    33550: ("d", (0.5, 0.5, 0.0)),
    33922: ("d", (0.0, 0.0, 0.0, 5e5, 4.6e6, 0.0)),
    34735: ("H", (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)),
}


def test_where_on_the_earth_an_image_lies_is_told_of_its_objects(tmp_path):
    tags = [(code, kind, len(v), v) for code, (kind, v) in GEO.items()]
    record = ingest(tmp_path / "a", tags=tags, scale="keep")
    told = record["georeference"]
    assert told["ModelPixelScale"] == [0.5, 0.5, 0.0]
    assert told["ProjectedCSTypeGeoKey"] == 32633
    probability = np.full((1, 1, 16, 16), 255, np.uint8)
    predicted = store_prediction(tmp_path / "p", probability, (1, 16, 16))
    values = read_record(predicted / "ingest.json") | {"georeference": told}
    write_record(predicted / "ingest.json", values)
    made = Segmented(predicted, tmp_path / "made").run()
    assert made["georeference"] == told
    for store in (made["store"], made["objects"]):
        attributes = zarr.open_group(store, mode="r").attrs["unetpipe"]
        assert attributes["georeference"] == told
        assert attributes["identity"]


def test_parts_and_another_scale_are_refused_together():
    with pytest.raises(ValueError, match="parts is 2, but scale match"):
        IngestConfig(parts=2, scale="match")


def test_objects_are_written_back_on_the_original_grid(tmp_path):
    probability = np.zeros((1, 4, 32, 48), np.uint8)
    probability[:, :, 4:12, 6:20] = probability[:, 1:3, 20:28, 30:44] = 255
    predicted = store_prediction(tmp_path, probability, (2, 16, 16))
    ingested = read_record(predicted / "ingest.json")
    grid = {"shape": [4, 65, 97], "voxel_size_nm": [50, 3.94, 3.96]}
    write_record(predicted / "ingest.json", ingested | {"original": grid})
    made = Segmented(predicted, tmp_path / "made")
    record = made.run()
    assert record["num_objects"] == 6, "4 and 2 sections"
    places = [
        nearest_voxels(m, n, 0, n)
        for m, n in zip((4, 32, 48), (4, 65, 97), strict=True)
    ]
    for name, ours in (("objects", made.objects()), ("store", made.mask())):
        array = open_volume(made._path(record["original"][name]))
        assert array.dtype == ours.dtype
        assert np.array_equal(array[...], ours[np.ix_(*places)])
    assert record["original"]["shape"] == [4, 65, 97]
    again = made.finish()
    assert again["original"] == record["original"]
    path = made.folder / "segmentation.json"
    _check_damage_is_found(predicted, path)
    shutil.rmtree(made._path(record["original"]["store"]))  # as it is told to
    made.finish()
    assert differing_object_shards(Segmentation.read(path)) == []


def _check_damage_is_found(predicted: Path, record: Path) -> None:
    segmented = Segmentation.read(record)
    assert differing_object_shards(segmented) == []
    assert segmented.original
    array = open_volume(segmented.original.objects, mode="r+")
    damaged = shard_path(array, (0, 0, 0))
    whole = damaged.read_bytes()
    box = grid_cell((0, 0, 0), as_zyx(array.shards), as_zyx(array.shape))
    write_shard(array, (0, 0, 0), read_stored_roi(array, box) + 1)
    assert differing_object_shards(segmented) == [damaged]
    damaged.write_bytes(whole[:-9])
    assert differing_object_shards(segmented) == [damaged]
    shutil.copy(predicted / "prediction.json", record.parent)
    said = [
        str(finding) for finding in _verify_objects(record, Commands("snakemake", 1))
    ]
    assert len(said) == 1
    assert f"rm -r {segmented.original.store} && snakemake --forcerun" in said[0]


def test_a_number_brings_volumes_that_are_learnt_from_to_another_scale_too(tmp_path):
    """Nobody need know the size of a voxel, and no network need be there."""
    record = ingest(tmp_path / "a", size="", learnt=None, scale=0.5)
    assert (record["shape"], record["voxel_size_from"]) == ([6, 40, 60], "nobody")
    expected = downsample(IMAGE[None], (1, 2, 2), is_labels=False)
    assert np.array_equal(stored(record, "image"), expected)
    assert record["original"]["shape"] == [6, 80, 120]
    assert record["voxel_size_nm"] == [1, 1, 1], "unknown before, unknown after"
    volumetric = ingest(tmp_path / "b", scale=0.5, ndim=3)
    assert (volumetric["shape"], volumetric["voxel_size_nm"]) == (
        [3, 40, 60],
        [100, 8, 8],
    )
