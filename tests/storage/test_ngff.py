"""What stores say of themselves, as two validators and viewers read it."""

import json

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr

from unetpipe.images import open_image
from unetpipe.storage.ngff import (
    Channel,
    class_colours_of_ngff,
    ngff_channel_names,
    ngff_class_names,
    ngff_colour,
)
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    set_channels,
    set_colours,
    set_windows,
    write_shard,
)

GRID = {"shape": (1, 20, 30), "chunk": (1, 16, 16), "shard": (1, 32, 32)}
GRID |= {"voxel_size_nm": (50, 4, 4)}


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 16)


def create(path, dtype="uint8", **more):
    array = create_volume(path, dtype=dtype, **GRID, **more)
    write_shard(array, (0, 0, 0), np.zeros(array.shape, dtype))
    build_pyramid(path, is_labels="unlabelled" in more)
    return path


def ome(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


def channels(path):
    return ome(path)["omero"]["channels"]


def test_axes_have_no_unit_where_nobody_knows_the_size_of_a_voxel(tmp_path):
    size = {"voxel_size_nm": (1, 1, 1)}
    array = create_volume(tmp_path / "i.ome.zarr", dtype="uint8", **(GRID | size))
    write_shard(array, (0, 0, 0), np.ones(array.shape, np.uint8))
    yaozarrs.validate_zarr_store(tmp_path / "i.ome.zarr")
    (image,) = ome(tmp_path / "i.ome.zarr")["multiscales"]
    assert image["axes"] == [{"name": axis, "type": "space"} for axis in "zyx"]
    with open_image("i.ome.zarr", tmp_path) as reader:
        assert reader.voxel_size_nm is None


def test_z_has_no_unit_where_nobody_knows_how_thick_sections_are(
    tmp_path,
):
    size = {"voxel_size_nm": (None, 5, 4)}
    array = create_volume(tmp_path / "i.ome.zarr", dtype="uint8", **(GRID | size))
    write_shard(array, (0, 0, 0), np.ones(array.shape, np.uint8))
    yaozarrs.validate_zarr_store(tmp_path / "i.ome.zarr")
    (image,) = ome(tmp_path / "i.ome.zarr")["multiscales"]
    assert [axis.get("unit") for axis in image["axes"]] == [None, *["nanometer"] * 2]
    with open_image("i.ome.zarr", tmp_path) as reader:
        assert reader.source.voxel_size.zyx_nm == (None, 5, 4)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("image", "uint16"), ("image", "float32"), ("many", "uint8")]
)
def test_two_validators_accept_images_with_labels_of_both_kinds(tmp_path, kind, dtype):
    names = ("a",) if kind == "image" else ("a", "b", "c")
    path = create(tmp_path / "i.ome.zarr", dtype, channels=ngff_channel_names(names))
    labels = create_labels_group(path, ("objects", "classes"))
    create(labels / "objects", "uint64", unlabelled=0)
    create(labels / "classes", unlabelled=0)
    set_colours(labels / "classes", class_colours_of_ngff(4, 255))
    yaozarrs.validate_zarr_store(path)
    group = zarr.open_group(path, mode="r")
    image = ome_zarr_models.open_ome_zarr(group, version="0.5")
    assert type(image) is ome_zarr_models.v05.Image
    assert image.labels.attributes.ome.labels == ["objects", "classes"]
    for name in ("objects", "classes"):
        label = ome_zarr_models.v05.image_label.ImageLabel.from_zarr(
            group[f"labels/{name}"]
        )
        assert label.attributes.ome.image_label.source.image == "../../"


def test_axes_units_and_sizes_of_all_levels_are_told(tmp_path):
    (multiscale,) = ome(create(tmp_path / "i.ome.zarr", channels=("a",)))["multiscales"]
    assert multiscale["name"] == "i"
    assert multiscale["type"] == "mean"
    assert multiscale["axes"] == [{"name": "c", "type": "channel"}] + [
        {"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"
    ]
    (scale,), (scaled, moved) = (
        level["coordinateTransformations"] for level in multiscale["datasets"]
    )
    assert scale == {"type": "scale", "scale": [1, 50, 4, 4]}
    assert scaled == {"type": "scale", "scale": [1, 50, 8, 8]}
    assert moved == {"type": "translation", "translation": [0, 0, 2, 2]}


@pytest.mark.parametrize(
    ("dtype", "high"), [("uint8", 255), ("uint16", 65535), ("float32", 1)]
)
def test_windows_span_what_the_voxels_can_hold_until_it_is_known_better(
    tmp_path, dtype, high
):
    path = create(tmp_path / "i.ome.zarr", dtype, channels=("a", "b"))
    assert channels(path)[1]["window"] == {
        "min": 0,
        "max": high,
        "start": 0,
        "end": high,
    }
    set_windows(path, [(1, 2), (3, 4)])
    assert channels(path)[1]["window"] == {"min": 3, "max": 4, "start": 3, "end": 4}


def test_channels_differ_in_colour_and_can_be_renamed(tmp_path):
    path = create(tmp_path / "i.ome.zarr", channels=ngff_channel_names(["a"] * 3))
    assert len({c["color"] for c in channels(path)}) == 3
    set_channels(path, [Channel(n, "00FF00", (0, 9)) for n in "xyz"])
    assert [c["label"] for c in channels(path)] == ["x", "y", "z"]
    assert {c["color"] for c in channels(path)} == {"00FF00"}


def test_a_class_has_one_colour_as_probability_and_as_label():
    shown = ngff_class_names(("none", "cell", "wall"))
    assert [(c.name, c.is_shown) for c in shown] == [
        ("none", False),
        ("cell", True),
        ("wall", True),
    ]
    for k, rgba in class_colours_of_ngff(3).items():
        assert bytes(rgba[:3]).hex().upper() == shown[k].colour
    assert ngff_class_names(("none", "cell")) == (Channel("cell", ngff_colour(0)),)


def test_unlabelled_is_seen_through():
    assert class_colours_of_ngff(2, 255)[255][3] < 255
    assert 0 not in class_colours_of_ngff(2, 255)
