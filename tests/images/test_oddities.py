"""What files say, and readers do not heed: told, not swallowed."""

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.images.test_tiff_sets import SCHEMA, ome_xml
from unetpipe.errors import DataError
from unetpipe.images import open_image
from unetpipe.images.lengths import FoundSize, Lengths

VOXELS = np.random.default_rng(0).integers(1, 255, (2, 5, 48, 40), np.uint8)


def read(cell, root):
    with open_image(cell, root) as image:
        return image, image.read_sections(0, image.zyx[0])


def write_companion(folder):
    """Write two channels whose OME-XML lies in a file of its own."""
    files = [f"c{c}.ome.tif" for c in range(2)]
    planes = {(c, z): (files[c], z) for c in range(2) for z in range(5)}
    companion = folder / "set.companion.ome"
    companion.write_text(ome_xml("companion", VOXELS.shape, planes))
    for file, voxels in zip(files, VOXELS, strict=True):
        xml = (
            f'<OME xmlns="{SCHEMA}" UUID="urn:uuid:{file}"><BinaryOnly '
            f'MetadataFile="{companion.name}" UUID="urn:uuid:companion"/></OME>'
        )
        more = {"metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(folder / file, voxels, description=xml, **more)
    return companion, files


def test_ome_xml_in_a_companion_file_is_read_and_hashed(tmp_path):
    companion, files = write_companion(tmp_path)
    for file in files:
        image, voxels = read(file, tmp_path)
        np.testing.assert_array_equal(voxels, VOXELS)
        assert {p.name for p in image.files} == {companion.name, *files}
        assert not image.remarks


def test_a_companion_file_that_is_missing_is_said(tmp_path):
    companion, (file, _) = write_companion(tmp_path)
    companion.unlink()
    image, voxels = read(file, tmp_path)
    np.testing.assert_array_equal(voxels, VOXELS[:1])
    (remark,) = image.remarks
    assert "set.companion.ome, which is not beside it" in remark


def test_pages_that_ome_xml_does_not_tell_of_are_counted(tmp_path):
    planes = {(0, z): ("a.ome.tif", z) for z in range(3)}
    xml = ome_xml("a.ome.tif", (1, 3, 48, 40), planes)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for z, page in enumerate(VOXELS[0]):
            more = {"metadata": None, "contiguous": False}
            writer.write(page, description=None if z else xml, **more)
    image, voxels = read("a.ome.tif", tmp_path)
    np.testing.assert_array_equal(voxels, VOXELS[:1, :3])
    (remark,) = image.remarks
    assert "tells of 3 of its 5 pages; the other 2 are not read" in remark


def test_a_pyramid_has_no_pages_that_nobody_told_of(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as writer:
        page = np.kron(VOXELS[0, 0], np.ones((4, 4), np.uint8))
        for k in range(3):
            more = {"subifds": 2} if k == 0 else {"subfiletype": 1}
            writer.write(page[:: 2**k, :: 2**k], tile=(16, 16), **more)
    assert not read("a.ome.tif", tmp_path)[0].remarks


@pytest.mark.parametrize("ending", [".tif", ".jpg"])
def test_an_image_that_is_to_be_seen_turned_is_said(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".tif":
        tag = [(274, "H", 1, 6, True)]
        tifffile.imwrite(path, VOXELS[0, 0], extratags=tag)
    else:
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + bytes(6)
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        jpeg = imagecodecs.jpeg_encode(VOXELS[0, 0], level=90)
        path.write_bytes(jpeg[:2] + segment + jpeg[2:])
    image, voxels = read(path.name, tmp_path)
    assert voxels.shape == (1, 1, 48, 40)
    (remark,) = image.remarks
    assert "orientation 6 says that it is to be seen turned" in remark


@pytest.mark.parametrize("length", [1e-4, 1e30])
def test_a_length_that_no_voxel_has_is_not_believed(length):
    lengths = Lengths("OME-XML")
    assert lengths.read("PhysicalSizeZ", length, "nm") is None
    assert "which cannot be true" in lengths.doubts[0]


def test_pixels_that_are_far_from_square_are_doubted():
    _, doubts = FoundSize((1.0, 1e5, 100.0), "OME-XML").complete(3)
    assert "100000 nm along y and 100 nm along x" in doubts[0]
    assert FoundSize((1.0, 300.0, 100.0), "OME-XML").complete(3)[1] == ()


def test_voxels_of_a_virtual_dataset_that_lie_nowhere_are_counted(tmp_path):
    stack = VOXELS[0]
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["data"] = stack
    layout = h5py.VirtualLayout(stack.shape, stack.dtype)
    for z in (0, 1, 3, 4):
        layout[z] = h5py.VirtualSource("p.h5", "data", shape=stack.shape)[z]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    image, _ = read("v.h5:raw", tmp_path)
    (remark,) = image.remarks
    assert f"have {4 * 48 * 40} of its {5 * 48 * 40} voxels" in remark


def test_a_png_that_is_cut_off_is_refused_before_it_is_decoded(tmp_path):
    content = imagecodecs.png_encode(VOXELS[0, 0])
    (tmp_path / "more.png").write_bytes(content + b"a text that nobody reads")
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(read("more.png", tmp_path)[1][0, 0], VOXELS[0, 0])
    with pytest.raises(DataError, match=r"cut\.png is truncated: it ends at byte"):
        open_image("cut.png", tmp_path)


def test_how_a_picture_is_printed_is_no_size_of_a_voxel(tmp_path):
    for dpi in (72, 1000):
        about = {"axes": "ZYX", "unit": "inch", "spacing": 1.0}
        path = tmp_path / f"{dpi}.tif"
        tifffile.imwrite(
            path, VOXELS[0], imagej=True, resolution=(dpi, dpi), metadata=about
        )
    image, _ = read("72.tif", tmp_path)
    assert image.voxel_size_nm is None
    assert "72 pixels an inch along y, which is how" in image.remarks[0]
    known, _ = read("1000.tif", tmp_path)
    assert known.voxel_size_nm == pytest.approx((2.54e7, 25400, 25400))


PAGE = np.random.default_rng(1).integers(0, 255, (256, 256), np.uint8)


def write_pages(path, *pages):
    """Write pages, each with its subfile type: 1 is reduced, 4 a mask."""
    with tifffile.TiffWriter(path) as writer:
        for voxels, kind in pages:
            writer.write(voxels, subfiletype=kind, metadata=None)


@pytest.mark.parametrize("small_first", [False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_a_page_that_says_it_is_a_thumbnail_is_no_image(tmp_path, number, small_first):
    pages = [PAGE + np.uint8(k) for k in range(number)]
    pairs = [[(page, 0), (page[::8, ::8], 1)] for page in pages]
    listed = [p for pair in pairs for p in (pair[::-1] if small_first else pair)]
    write_pages(tmp_path / "a.tif", *listed, (PAGE > 9, 4))
    image, voxels = read("a.tif", tmp_path)
    np.testing.assert_array_equal(voxels, [pages])
    assert image.zyx == (number, 256, 256)


def test_an_image_that_is_shown_inverted_is_said(tmp_path):
    for k, kind in enumerate(("miniswhite", "minisblack")):
        tifffile.imwrite(tmp_path / f"a{k}.tif", PAGE, photometric=kind)
    image, voxels = read("a0.tif", tmp_path)
    np.testing.assert_array_equal(voxels[0, 0], PAGE)
    (remark,) = image.remarks
    assert "says that 0 is white" in remark
    assert read("a*.tif", tmp_path)[0].remarks == (remark,)


def write_imagej(path, pages, **about):
    text = "\n".join(["ImageJ=1.53t", *(f"{k}={v}" for k, v in about.items()), ""])
    with tifffile.TiffWriter(path) as writer:
        for k, page in enumerate(pages):
            more = {"metadata": None, "contiguous": False}
            writer.write(page, description=None if k else text, **more)


def test_signed_voxels_of_imagej_are_signed(tmp_path):
    signed = VOXELS[0].astype(np.int16) - 100
    stored = (signed.astype(np.int32) + 32768).astype(np.uint16)
    about = {"images": 5, "slices": 5, "cf": 0, "c0": -32768.0, "c1": 1.0}
    write_imagej(tmp_path / "a.tif", stored, **about)
    image, voxels = read("a.tif", tmp_path)
    np.testing.assert_array_equal(voxels[0], signed)
    assert image.dtype == np.int16
    with open_image("a.tif", tmp_path) as image:
        box = image.read_box(1, 3, slice(2, 9), slice(3, 8))
    np.testing.assert_array_equal(box[0], signed[1:3, 2:9, 3:8])


def test_pages_that_imagej_does_not_tell_of_are_no_truncation(tmp_path):
    about = {"images": 6, "channels": 2, "slices": 2, "hyperstack": "true"}
    write_imagej(tmp_path / "a.tif", PAGE[:6, :, None], **about)
    with pytest.raises(DataError, match=r"describes 4 pages and holds 6.*save it as"):
        open_image("a.tif", tmp_path)


def test_images_of_one_page_each_are_said_to_be_taken_as_a_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for name in ("liver", "lung"):
            writer.write(PAGE, metadata={"axes": "YX", "Name": name})
    image, _ = read("a.ome.tif", tmp_path)
    assert image.zyx[0] == 2
    (remark,) = image.remarks
    assert "2 images of one page each (liver, lung) are taken as the sections" in remark
