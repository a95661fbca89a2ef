"""N5 and precomputed volumes: axes, sizes, the same voxels on disk and server."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.images.servers import serving
from unetpipe.errors import DataError
from unetpipe.images import open_image

tensorstore = pytest.importorskip("tensorstore", reason="needs the extra `cloud`")

VOXELS = np.random.default_rng(0).integers(0, 255, (5, 40, 50), np.uint16)  # z, y, x


def write_n5(folder, **attributes):
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    metadata = {"dimensions": VOXELS.shape[::-1], "blockSize": [16, 16, 4]}
    metadata |= {"dataType": "uint16", "compression": {"type": "gzip"}}
    spec |= {"metadata": metadata, "create": True}
    tensorstore.open(spec).result().write(VOXELS.T).result()
    about = folder / "attributes.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | attributes))


def write_precomputed(folder):
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "multiscale_metadata": {
            "type": "segmentation",
            "data_type": "uint64",
            "num_channels": 1,
        },
        "scale_metadata": {
            "size": VOXELS.shape[::-1],
            "resolution": [8, 4, 40],
            "voxel_offset": [100, 200, 30],
            "encoding": "compressed_segmentation",
            "compressed_segmentation_block_size": [8, 8, 8],
            "chunk_size": [16, 16, 4],
        },
        "create": True,
    }
    array = tensorstore.open(spec).result()
    array.write(VOXELS.T[..., None].astype(np.uint64)).result()


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({}, None),
        (
            {"pixelResolution": {"dimensions": [8, 4, 40], "unit": "nm"}},
            (40, 4, 8),
        ),
        ({"resolution": [8, 4, 40], "units": ["nm"] * 3}, (40, 4, 8)),
        (
            {
                "transform": {
                    "axes": ["z", "y", "x"],
                    "scale": [40, 4, 8],
                    "units": ["nm"] * 3,
                }
            },
            (40, 4, 8),
        ),
    ],
)
def test_n5_is_read_with_its_axes_and_its_size(tmp_path, attributes, size):
    write_n5(tmp_path / "a.n5" / "s0", **attributes)
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.0"}')
    for cell in ("a.n5", "a.n5/s0"):
        with open_image(cell, tmp_path) as image:
            assert np.array_equal(image.read_sections(0, 5)[0], VOXELS)
            assert image.voxel_size_nm == size
            assert len(image.files) > 20
    with (
        serving(tmp_path) as (address, _),
        open_image(f"n5://{address}/a.n5/s0", Path()) as image,
    ):
        assert np.array_equal(image.read_sections(2, 3)[0], VOXELS[2:3])


def test_precomputed_is_read_wherever_its_origin_is(tmp_path):
    write_precomputed(tmp_path / "a")
    with open_image("a", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 5)[0], VOXELS)
        assert image.voxel_size_nm == (40, 4, 8)
    with (
        serving(tmp_path) as (address, _),
        open_image(f"precomputed://{address}/a", Path()) as image,
    ):
        assert np.array_equal(image.read_sections(4, 5)[0], VOXELS[4:])
        assert str(image.files[0]) == f"{address}/a"


def test_a_group_of_n5_without_arrays_says_what_to_name(tmp_path):
    (tmp_path / "a.n5").mkdir()
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "2.5.0"}')
    with pytest.raises(DataError, match=r"a\.n5"):
        open_image("a.n5", tmp_path)


@pytest.mark.parametrize("axes", [["z", "y", "x"], ["Depth", "height", "Width"]])
@pytest.mark.parametrize(
    "about",
    [
        {"resolution": [4, 8, 40], "units": ["nm"] * 3},
        {"pixelResolution": {"dimensions": [4, 8, 40], "unit": "nm"}},
        {"pixelResolution": [0.004, 0.008, 0.04]},
    ],
)
def test_sizes_of_n5_follow_the_axes_that_it_names(tmp_path, axes, about):
    write_n5(tmp_path / "a.n5" / "s0", axes=axes, **about)
    with open_image("a.n5", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 50)[0], VOXELS.T)
        assert image.voxel_size_nm == (4, 8, 40)


def test_an_axis_of_channels_of_n5_is_known_by_its_whole_name(tmp_path):
    about = {
        "axes": ["x", "y", "Channel"],
        "resolution": [4, 8, 1],
        "units": ["nm"] * 3,
    }
    write_n5(tmp_path / "a.n5" / "s0", **about)
    with open_image("a.n5", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 1)[:, 0], VOXELS)


@pytest.mark.parametrize("write", [write_n5, write_precomputed])
def test_chunks_that_are_not_there_are_told(tmp_path, write):
    folder = tmp_path / "a.n5"
    write(folder)
    chunks = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".json"]
    chunks = [p for p in chunks if p.name != "info"]
    for chunk in chunks[3:]:
        chunk.unlink()
    with open_image("a.n5", tmp_path) as image:
        (told,) = image.source.warnings()
        assert f"{len(chunks) - 3} of {len(chunks)} chunks are not there" in told
    for chunk in chunks[:3]:
        chunk.unlink()
    with pytest.raises(DataError, match="holds no voxels"):
        open_image("a.n5", tmp_path)


def test_of_a_group_its_arrays_are_named(tmp_path):
    write_n5(tmp_path / "a.n5" / "em" / "s0")
    write_n5(tmp_path / "a.n5" / "labels")
    with pytest.raises(DataError, match=r"it holds em/s0, labels: .*a\.n5/em/s0"):
        open_image("a.n5", tmp_path)
