"""Sizes of voxels: with their units, and only those that can be true."""

import numpy as np
import pytest
import tifffile

from unetpipe.images import Reading, open_image
from unetpipe.images.lengths import FoundSize, nm_per_unit

STACK = np.zeros((5, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        *[("dm", 1e8), ("km", 1e12), ("Mm", 1e15), ("mm", 1e6), ("MM", 1e6)],
        *[("\u00b5m", 1e3), ("\u03bcm", 1e3), ("um", 1e3), ("\u212b", 0.1)],
        *[("kilometer", 1e12), ("Decimetre", 1e8), ("inch", 2.54e7)],
        *[("pixel", None), ("reference frame", None), ("", None), ("second", None)],
    ],
)
def test_units_of_every_prefix_are_known(unit, nm):
    assert nm_per_unit(unit) == nm


def write_ome(path, stack=STACK, **sizes):
    axes = "ZYX"[-stack.ndim :]
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": axes, **sizes})


def sizes_of(path):
    with open_image(path.name, path.parent) as image:
        return image.voxel_size_nm, image.size_remarks


def test_a_size_keeps_the_unit_of_its_own_axis(tmp_path):
    write_ome(tmp_path / "a.tif", PhysicalSizeX=4.0, PhysicalSizeXUnit="nm")
    size, remarks = sizes_of(tmp_path / "a.tif")
    assert size == (4.0, 4.0, 4.0)
    assert remarks == (
        "OME-XML tells the voxel size along x alone: y is taken as 4 nm too, how far "
        "sections are apart is not known; if you do, write voxel_size_nm into the "
        "sheet",
    )


def test_a_distance_in_decimetres_is_one(tmp_path):
    about = {"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}
    about |= {"PhysicalSizeZ": 1e-5, "PhysicalSizeZUnit": "dm"}
    write_ome(tmp_path / "a.tif", **about)
    assert sizes_of(tmp_path / "a.tif") == (pytest.approx((1000, 300, 300)), ())


@pytest.mark.parametrize("value", [-0.1, 0.0, float("nan"), float("inf"), "wide"])
@pytest.mark.parametrize("axis", "XYZ")
def test_a_size_that_cannot_be_true_is_not_believed_and_the_others_are(
    tmp_path, axis, value
):
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.1}
    write_ome(tmp_path / "a.tif", **sizes | {f"PhysicalSize{axis}": value})
    size, (doubt, filled) = sizes_of(tmp_path / "a.tif")
    assert size == (100.0, 100.0, 100.0)
    assert f"says PhysicalSize{axis} = {value}" in doubt
    taken = f"{axis.lower()} is taken as 100 nm too"
    assert filled.endswith(
        f"alone: {taken}"
        if axis != "Z"
        else "alone: how far sections are apart is not known; if you do, write "
        "voxel_size_nm into the sheet"
    )


def test_frames_are_no_length_apart_so_none_is_missed(tmp_path):
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, ome=True, metadata=metadata)
    with open_image("a.ome.tif", tmp_path, Reading(axes="zyx")) as image:
        assert image.size_remarks == ()


def test_of_one_section_nobody_asks_how_thick_it_is(tmp_path):
    write_ome(tmp_path / "a.tif", STACK[0], PhysicalSizeX=0.1, PhysicalSizeY=0.1)
    assert sizes_of(tmp_path / "a.tif") == ((100.0, 100.0, 100.0), ())


def test_sections_a_known_distance_apart_do_not_tell_how_wide_pixels_are(tmp_path):
    write_ome(tmp_path / "a.tif", PhysicalSizeZ=0.3)
    size, remarks = sizes_of(tmp_path / "a.tif")
    assert size is None
    assert remarks == ("OME-XML tells the voxel size along z alone, not y and x",)


def write_imagej(path, stack=STACK, axes="ZYX", resolution=(10.0, 10.0), **about):
    about = {"axes": axes, **about}
    tifffile.imwrite(path, stack, imagej=True, resolution=resolution, metadata=about)


@pytest.mark.parametrize(
    ("unit", "nm"), [("um", 1000), ("micron", 1000), ("nm", 1), ("inch", 2.54e7)]
)
def test_imagej_leaves_out_a_distance_of_exactly_one_unit(tmp_path, unit, nm):
    write_imagej(tmp_path / "a.tif", unit=unit)
    assert sizes_of(tmp_path / "a.tif")[0] == pytest.approx((nm, nm / 10, nm / 10))
    write_imagej(tmp_path / "a.tif", unit=unit, spacing=0.3)
    assert sizes_of(tmp_path / "a.tif")[0] == pytest.approx(
        (nm * 0.3, nm / 10, nm / 10)
    )


def test_imagej_writes_units_of_y_and_z_only_where_they_differ(tmp_path):
    write_imagej(tmp_path / "a.tif", unit="um", yunit="nm", zunit="mm", spacing=0.002)
    assert sizes_of(tmp_path / "a.tif")[0] == pytest.approx((2000, 0.1, 100))


def test_frames_of_imagej_are_no_sections_one_unit_apart(tmp_path):
    write_imagej(tmp_path / "a.tif", axes="TYX", unit="um")
    with open_image("a.tif", tmp_path, Reading(time=0)) as image:
        assert image.voxel_size_nm == pytest.approx((100, 100, 100))
        assert image.size_remarks == ()


def test_pixels_without_a_unit_have_no_size(tmp_path):
    write_imagej(tmp_path / "a.tif", spacing=3.0)
    write_imagej(tmp_path / "b.tif", unit="pixel", spacing=3.0)
    assert sizes_of(tmp_path / "a.tif") == sizes_of(tmp_path / "b.tif") == (None, ())


def test_a_distance_of_imagej_that_cannot_be_true_is_not_believed(tmp_path):
    write_imagej(tmp_path / "a.tif", unit="um", spacing=float("inf"))
    size, remarks = sizes_of(tmp_path / "a.tif")
    assert size == pytest.approx((100, 100, 100))
    assert "spacing = inf um, which cannot be true" in remarks[0]


def test_larger_voxels_keep_what_is_unknown():
    assert FoundSize((None, 2.0, 3.0), "a").times((2, 4, 4)).zyx_nm == (None, 8, 12)
