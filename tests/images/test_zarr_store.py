"""Zarr: chunks under whatever names, dimensions by their names, levels."""

import json

import numpy as np
import pytest
import zarr

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.zarr_store import ZarrSource

VOXELS = np.random.default_rng(0).integers(1, 255, (4, 64, 80), np.uint8)


def write_image(path, voxels, axes="zyx", zarr_format=2, **options):
    group = zarr.create_group(path, zarr_format=zarr_format)
    chunks = (1,) * (voxels.ndim - 2) + (32, 32)
    group.create_array("0", data=voxels, **{"chunks": chunks, **options})
    names = [{"name": n, "type": "channel" if n == "c" else "space"} for n in axes]
    about = {"version": "0.4", "axes": names, "datasets": [{"path": "0"}]}
    about = {"multiscales": [about]}
    group.attrs.update(about if zarr_format == 2 else {"ome": about})
    return group


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        return image.read_sections(0, image.zyx[0]), image


def forget_separator(path):
    about = json.loads(path.read_text())
    about.pop("dimension_separator", None)
    path.write_text(json.dumps(about))


def test_nested_chunks_are_found_where_metadata_do_not_say_so(tmp_path):
    slashes = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    write_image(tmp_path / "a.zarr", VOXELS, **slashes)
    forget_separator(tmp_path / "a.zarr/0/.zarray")
    found, image = read("a.zarr", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    (remark,) = image.source.remarks
    assert remark.endswith("promise chunks named 0.0.0; they are named 0/0/0, and read")


@pytest.mark.parametrize("said", [".", "/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_named_the_other_way_are_found(tmp_path, zarr_format, said):
    name, is_v2 = ("v2", True) if zarr_format == 2 else ("default", False)
    encoding = {"name": name, "separator": "/" if said == "." else "."}
    write_image(
        *(tmp_path / "a.zarr", VOXELS),
        zarr_format=zarr_format,
        chunk_key_encoding=encoding,
    )
    path = tmp_path / "a.zarr/0" / (".zarray" if is_v2 else "zarr.json")
    about = json.loads(path.read_text())
    if is_v2:
        about["dimension_separator"] = said
    else:
        about["chunk_key_encoding"]["configuration"]["separator"] = said
    path.write_text(json.dumps(about))
    np.testing.assert_array_equal(read("a.zarr", tmp_path)[0][0], VOXELS)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_without_a_chunk_is_no_black_volume(tmp_path, zarr_format):
    with zarr.config.set({"array.write_empty_chunks": False}):
        write_image(tmp_path / "a.zarr", VOXELS * 0, zarr_format=zarr_format)
    with pytest.raises(DataError, match="none of its chunks is there under the names"):
        open_image("a.zarr", tmp_path)
    assert not read("a.zarr", tmp_path, is_labels=True)[0].any()


def test_chunks_that_are_not_there_are_counted(tmp_path):
    write_image(tmp_path / "a.zarr", VOXELS)
    for name in ("0.0.0", "3.1.2"):
        (tmp_path / "a.zarr/0" / name).unlink()
    source = ZarrSource(tmp_path / "a.zarr")
    (warning,) = source.warnings()
    assert "2 of 24 chunks are not there and read as 0" in warning
    assert len(source.all_files()) == 22 + 4


def test_a_chunk_that_was_never_fetched_is_named(tmp_path):
    write_image(tmp_path / "a.zarr", VOXELS)
    chunk = tmp_path / "a.zarr/0/2.0.0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "annex")
    with pytest.raises(DataError, match=r"2\.0\.0 is a link to .*annex"):
        ZarrSource(tmp_path / "a.zarr").all_files()


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["c", "y", "x"], (4, 1, 64, 80)),
        (["Channel", "Y", "X"], (4, 1, 64, 80)),
        (["plane", "row", "column"], (1, 4, 64, 80)),
        (["x", "y", "z"], (1, 80, 64, 4)),
        (["y", "x", "c"], (80, 1, 4, 64)),
    ],
)
@pytest.mark.parametrize("how", ["v3", "xarray v2", "xarray v3"])
def test_dimensions_are_known_by_their_names(tmp_path, how, names, shape):
    own = {"dimension_names": names} if how == "v3" else {}
    zarr_format = 2 if how.endswith("v2") else 3
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, data=VOXELS, zarr_format=zarr_format, **own)
    if not own:
        array.attrs["_ARRAY_DIMENSIONS"] = names
    found, image = read("a.zarr", tmp_path)
    assert image.shape == shape
    letters = image.plan.letters
    lengths = [dict(zip(letters, VOXELS.shape, strict=True)).get(a, 1) for a in "czyx"]
    assert found.shape == tuple(lengths)
    place = [letters.index(a) for a in "czyx" if a in letters]
    np.testing.assert_array_equal(found.squeeze(), VOXELS.transpose(place))


def test_names_that_tell_nothing_leave_the_axes_open(tmp_path):
    names = {"dimension_names": ["dim_0", "dim_1", "dim_2", "dim_3"]}
    zarr.create_array(tmp_path / "a.zarr", data=np.stack([VOXELS] * 2), **names)
    with pytest.raises(DataError, match="says nothing about its axes"):
        open_image("a.zarr", tmp_path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_one_image_of_a_converted_file_is_used_where_it_is(tmp_path, zarr_format):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=zarr_format)
    layout = {"bioformats2raw.layout": 3}
    group.attrs.update(layout if zarr_format == 2 else {"ome": layout})
    path = tmp_path / "a.zarr/0"
    write_image(path, VOXELS[None], "czyx", zarr_format=zarr_format)
    found, image = read("a.zarr", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert image.ready_store == path


def test_an_array_inside_an_image_keeps_axes_and_scale(tmp_path):
    group = write_image(tmp_path / "a.zarr", np.stack([VOXELS] * 2, 1), "zcyx")
    coarse = np.ascontiguousarray(np.stack([VOXELS] * 2, 1)[:, :, ::2, ::2])
    group.create_array("deep/1", data=coarse)
    (image,) = group.attrs["multiscales"]
    for axis in image["axes"]:
        axis.update({"unit": "nanometer"} if axis["name"] != "c" else {})
    image["datasets"].append({"path": "deep/1"})
    for k, level in enumerate(image["datasets"]):
        scale = [50, 1, 4 * 2**k, 4 * 2**k]
        level["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    group.attrs["multiscales"] = [image]
    found, reader = read("a.zarr/deep/1", tmp_path)
    np.testing.assert_array_equal(found, coarse.swapaxes(0, 1))
    assert reader.voxel_size_nm == (50, 8, 8)
    source = ZarrSource(tmp_path / "a.zarr", level=1)
    assert (source.shape, source.axes) == (coarse.shape, "zcyx")
    assert source.voxel_size.zyx_nm == (50, 8, 8)
    with pytest.raises(DataError, match="has 2 resolution levels, but level is 2"):
        ZarrSource(tmp_path / "a.zarr", level=2)
