"""Precomputed volumes: the voxels that tensorstore reads, surfaces, resumable."""

import numpy as np
import pytest

from tests.records.whole import whole
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config.viewing import PrecomputedConfig
from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.records.segmentation import Segmentation
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.stages.export_precomputed import export_precomputed
from unetpipe.storage import precomputed
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import create_volume, open_volume, write_shard
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume

tensorstore = pytest.importorskip("tensorstore")

SHAPE, SHARD = (4, 40, 70), (2, 32, 32)
SIZE_NM = (50, 4, 4)


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 32)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def results(tmp_path):
    """An image of two channels, and five objects, one of them in four shards."""
    probability = np.zeros((1, *SHAPE), np.uint8)
    probability[:, 1:3, 20:38, 20:50] = 255
    for corner in (0, 50, 60):
        probability[:, :2, 2:6, corner : corner + 5] = 255
    predicted = store_prediction(tmp_path / "p", probability, SHARD)
    store = tmp_path / "image.ome.zarr"
    create_volume(
        store,
        shape=SHAPE,
        dtype="uint16",
        chunk=(1, 16, 16),
        shard=SHARD,
        voxel_size_nm=SIZE_NM,
        channels=("x", "y"),
    )
    array = open_volume(store, mode="r+")
    image = np.random.default_rng(0).integers(0, 60_000, (2, *SHAPE), np.uint16)
    for index in iterate_grid(whole_volume(SHAPE), SHARD):
        roi = grid_cell(index, SHARD, SHAPE)
        write_shard(array, index, image[(..., *roi.slices)])
    build_pyramid(store, is_labels=False)
    Segmented(predicted, tmp_path / "s", connectivity="3d").run()
    record = {"volume": "a", "voxel_size_nm": SIZE_NM, "image": {"store": str(store)}}
    write_record(tmp_path / "ingest.json", whole("ingest", record))
    return tmp_path


def export(folder, **settings):
    export_precomputed(
        ingest=folder / "ingest.json",
        segmentation=folder / "s/segmentation.json",
        settings=PrecomputedConfig(enabled=True, **settings),
        folder=folder / "out",
        record=folder / "precomputed.json",
    )
    record = read_record(folder / "precomputed.json")
    return folder / "out" / record["folder"].rpartition("/")[2], record


def read(folder, level):
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(folder)},
        "scale_index": level,
    }
    found = tensorstore.open(spec).result()
    sizes = [unit.multiplier for unit in found.dimension_units[:3]]
    return found.read().result().T, sizes[::-1]


def objects_of(folder):
    return Segmentation.read(folder / "s/segmentation.json").objects


def test_tensorstore_reads_the_voxels_and_sizes_of_all_levels(results):
    folder, _ = export(results)
    for name, store in (
        ("image", results / "image.ome.zarr"),
        ("objects", objects_of(results)),
    ):
        for level, size_nm in enumerate((SIZE_NM, (50, 8, 8))):
            voxels, sizes = read(folder / name, level)
            original = open_volume(store, level=level)[...]
            np.testing.assert_array_equal(
                voxels, original if name == "image" else original[None]
            )
            assert sizes == list(size_nm)
    about = read_record(folder / "objects/info")
    assert about["type"] == "segmentation"
    assert about["mesh"] == "mesh"
    assert about["scales"][0]["encoding"] == "compressed_segmentation"


def test_our_own_reader_opens_it_with_its_size(results):
    folder, _ = export(results)
    with open_image(str(folder / "image"), results, Reading()) as reader:
        assert reader.zyx == SHAPE
        assert reader.voxel_size_nm == SIZE_NM


def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(
    results, monkeypatch
):
    whole_one, _ = export(results)

    def contents(folder):
        return {
            file.relative_to(folder).as_posix(): hash_file(file)
            for file in folder.rglob("*")
            if file.is_file()
        }

    expected = contents(whole_one)
    whole_one.rename(results / "kept")
    real, calls = precomputed.read_stored_roi, []

    def die_later(array, roi):
        calls.append(roi)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(array, roi)

    monkeypatch.setattr(precomputed, "read_stored_roi", die_later)
    with pytest.raises(KeyboardInterrupt):
        export(results)
    (partial,) = (results / "out").glob("*.partial")
    chunk = partial / "image/0/0-16_0-16_0-1"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    export(results)
    assert contents(whole_one) == expected
    assert sorted(p.name for p in (results / "out").iterdir()) == [whole_one.name]


def test_chosen_objects_have_surfaces_and_large_ones_are_told(results, caplog):
    pytest.importorskip("zmesh", reason="zmesh is not installed: NO mesh was made")
    ids = open_volume(objects_of(results))[...]
    large = int(ids[1, 30, 30])
    small = int(ids[0, 3, 2])
    folder, record = export(results, meshes=[large, small, 99])
    mesh = folder / "objects/mesh"
    assert sorted(p.name for p in mesh.iterdir()) == sorted(
        ["info", *(f"{n}:0{end}" for n in (large, small) for end in ("", ":0"))]
    )
    assert "no objects [99]" in caplog.text
    raw = (mesh / f"{large}:0:0").read_bytes()
    count = int.from_bytes(raw[:4], "little")
    vertices = np.frombuffer(raw, "<f4", 3 * count, 4).reshape(-1, 3)
    np.testing.assert_allclose(vertices.min(axis=0), (80, 80, 50), atol=4)
    np.testing.assert_allclose(vertices.max(axis=0), (200, 152, 150), atol=4)
    _, record = export(results, meshes="all", smallest_mesh_vox=1, largest_mesh_vox=99)
    assert (record["num_meshes"], record["without_mesh"]) == (3, [large])


def test_numbers_that_the_format_lacks_are_refused(results, monkeypatch):
    monkeypatch.setattr(precomputed, "DTYPES", ("uint8",))
    with pytest.raises(DataError, match="uint16"):
        export(results)
