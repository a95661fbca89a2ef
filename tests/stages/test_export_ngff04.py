"""The export for tools that read NGFF 0.4 only: valid, the same voxels, resumable."""

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr

from tests.records.whole import whole
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.export_ngff04 import export_ngff04
from unetpipe.storage import ngff04
from unetpipe.storage.named_files import changed_files
from unetpipe.storage.ngff import ngff_class_names
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    write_shard,
)

SHAPE, SHARD = (3, 50, 70), (2, 32, 32)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 60_000, (2, *SHAPE), np.uint16)
PROBABILITY = RNG.integers(0, 256, (1, *SHAPE), np.uint8)
OBJECTS = RNG.integers(0, 9, SHAPE).astype(np.uint64) << 40


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 32)


def store(path, voxels, **more):
    array = create_volume(
        path,
        shape=SHAPE,
        dtype=voxels.dtype,
        chunk=(1, 16, 16),
        shard=SHARD,
        voxel_size_nm=(50, 4, 4),
        **more,
    )
    for index in np.ndindex(2, 2, 3):
        inside = tuple(
            slice(i * s, i * s + s) for i, s in zip(index, SHARD, strict=True)
        )
        write_shard(array, index, voxels[(..., *inside)])
    build_pyramid(path, is_labels="unlabelled" in more)
    return str(path)


@pytest.fixture
def results(tmp_path):
    """Three records and their stores."""
    names = ngff_class_names(("background", "cell"))
    segmentation = tmp_path / "segmentation.ome.zarr"
    store(segmentation, PROBABILITY[0])
    objects = create_labels_group(segmentation, ("objects",)) / "objects"
    records = {
        "ingest": {
            "volume": "a",
            "image": {
                "store": store(tmp_path / "i.zarr", IMAGE, channels=("x", "y")),
                "content_sha256": "1",
            },
        },
        "prediction": {
            "outputs": {
                "probability": {
                    "store": store(tmp_path / "p.zarr", PROBABILITY, channels=names)
                }
            },
            "content_sha256": "2",
        },
        "segmentation": {
            "objects": store(objects, OBJECTS, unlabelled=0),
            "identity": {"threshold": 0.5},
        },
    }
    for name, record in records.items():
        write_record(tmp_path / f"{name}.json", whole(name, record))
    return tmp_path


def export(folder, *levels):
    export_ngff04(
        ingest=folder / "ingest.json",
        prediction=folder / "prediction.json",
        segmentation=folder / "segmentation.json",
        levels=levels,
        folder=folder / "out",
        record=folder / "ngff04.json",
    )
    record = read_record(folder / "ngff04.json")
    return folder / "out" / record["folder"].rpartition("/")[2], record


@pytest.mark.slow
def test_two_validators_accept_it_as_0_4(results):
    folder, record = export(results, 0, 1)
    assert record["stores"] == [
        "image.ome.zarr",
        "image.ome.zarr/labels/objects",
        "probability.ome.zarr",
    ]
    for name in record["stores"]:
        assert not list((folder / name).rglob("zarr.json"))
    for name in ("image.ome.zarr", "probability.ome.zarr"):
        yaozarrs.validate_zarr_store(folder / name)
        group = zarr.open_group(folder / name, mode="r")
        found = ome_zarr_models.open_ome_zarr(group, version="0.4")
        assert type(found) is ome_zarr_models.v04.Image
    image = zarr.open_group(folder / "image.ome.zarr", mode="r")
    label = ome_zarr_models.v04.image_label.ImageLabel.from_zarr(
        image["labels/objects"]
    )
    assert label.attributes.image_label.source.image == "../../"


@pytest.mark.slow
def test_it_holds_the_voxels_axes_and_sizes_of_the_levels_asked_for(results):
    folder, _ = export(results, 1, 0, 7)
    for name, source, level in (
        ("image.ome.zarr", "i.zarr", 0),
        ("image.ome.zarr", "i.zarr", 1),
        ("probability.ome.zarr", "p.zarr", 1),
        ("image.ome.zarr/labels/objects", "segmentation.ome.zarr/labels/objects", 1),
    ):
        copy = zarr.open_array(folder / name / str(level), mode="r")
        original = open_volume(results / source, level=level)
        assert np.array_equal(copy[...], original[...])
        assert (copy.metadata.zarr_format, copy.chunks) == (2, original.chunks)
        assert copy.metadata.dimension_separator == "/"
    about = zarr.open_group(folder / "image.ome.zarr").attrs
    (multiscale,) = about["multiscales"]
    assert [a["name"] for a in multiscale["axes"]] == ["c", "z", "y", "x"]
    scales = [
        d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]
    ]
    assert scales == [[1, 50, 4, 4], [1, 50, 8, 8]]
    assert [c["label"] for c in about["omero"]["channels"]] == ["x", "y"]


def test_a_damaged_chunk_of_a_copy_is_found(results):
    target, _ = export(results, 0, 1)
    record = results / "ngff04.json"
    assert changed_files(record) == []
    chunks = sorted((target / "image.ome.zarr/labels/objects/1").rglob("[0-9]*"))
    damaged = next(path for path in chunks if path.is_file())
    damaged.unlink()
    assert changed_files(record) == [f"{damaged} is missing"]


def test_a_coarse_level_alone_is_level_0_of_the_copy(results):
    export(results, 9)
    folder, record = export(results, 9)  # the same again: nothing to copy
    assert record["levels_copied"]["image.ome.zarr"] == [2]
    about = zarr.open_group(folder / "probability.ome.zarr").attrs
    (dataset,) = about["multiscales"][0]["datasets"]
    assert dataset["path"] == "0"
    assert dataset["coordinateTransformations"][0]["scale"] == [1, 50, 16, 16]


def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(
    results, monkeypatch
):
    whole, _ = export(results, 0, 1)

    def contents(folder):
        return {
            file.relative_to(folder).as_posix(): hash_file(file)
            for file in folder.rglob("*")
            if file.is_file()
        }

    expected = contents(whole)
    whole.rename(results / "kept")
    read, calls = ngff04.read_stored_roi, []

    def die_later(array, roi):
        calls.append(roi)
        if len(calls) == 16:
            raise KeyboardInterrupt
        return read(array, roi)

    monkeypatch.setattr(ngff04, "read_stored_roi", die_later)
    with pytest.raises(KeyboardInterrupt):
        export(results, 0, 1)
    assert not whole.exists()
    (partial,) = (results / "out").glob("*.partial")
    chunk = partial / "image.ome.zarr/0/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    export(results, 0, 1)
    assert contents(whole) == expected
    num_blocks = 3 * (12 + 4)
    assert len(calls) == num_blocks + 2  # the one in flight and the damaged one again
    left = sorted(p.name for p in (results / "out").iterdir())
    assert left == [whole.name, f"{whole.name}.receipts"]
    export(results, 0, 1)
    assert len(calls) == num_blocks + 2
