"""TIFF of every flavour: read as it is, or refused when something is missing."""

import random

import numpy as np
import pytest
import tifffile

import unetpipe
from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image

STACK = np.random.default_rng(0).integers(0, 255, (5, 48, 40), np.uint8)
GREY = {"photometric": "minisblack"}


def write_pages(path, stack, **options):
    with tifffile.TiffWriter(path) as file:
        for page in stack:
            file.write(page, **options)


FLAVOURS = {
    "raw": lambda p: tifffile.imwrite(p, STACK, **GREY),
    "strips": lambda p: tifffile.imwrite(p, STACK, rowsperstrip=16, **GREY),
    "big endian": lambda p: tifffile.imwrite(p, STACK, byteorder=">", **GREY),
    "zlib": lambda p: tifffile.imwrite(p, STACK, compression="zlib", **GREY),
    "lzw": lambda p: tifffile.imwrite(p, STACK, compression="lzw", **GREY),
    "zstd": lambda p: tifffile.imwrite(p, STACK, compression="zstd", **GREY),
    "tiles": lambda p: tifffile.imwrite(
        p, STACK, tile=(16, 16), compression="zlib", **GREY
    ),
    "bigtiff": lambda p: tifffile.imwrite(p, STACK, bigtiff=True, **GREY),
    "ome": lambda p: tifffile.imwrite(
        p, STACK, ome=True, metadata={"axes": "ZYX"}, **GREY
    ),
    "ome zlib": lambda p: tifffile.imwrite(
        p, STACK, ome=True, bigtiff=True, metadata={"axes": "ZYX"}, compression="zlib"
    ),
    "imagej": lambda p: tifffile.imwrite(
        p, STACK, imagej=True, metadata={"axes": "ZYX"}
    ),
    "page by page": lambda p: write_pages(p, STACK, compression="zlib"),
    "page by page, plain": lambda p: write_pages(p, STACK, metadata=None),
    "page by page, contiguous": lambda p: write_pages(p, STACK, contiguous=True),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_every_flavour_reads_the_same_sections(tmp_path, flavour, num_threads):
    FLAVOURS[flavour](tmp_path / "a.tif")
    with open_image("a.tif", tmp_path, Reading(num_threads=num_threads)) as image:
        assert image.shape == (1, *STACK.shape)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image.read_sections(0, 5)[0], STACK)
        np.testing.assert_array_equal(image.read_sections(1, 4)[0], STACK[1:4])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("fraction", [0.95, 0.9, 0.5, 0.2])
def test_a_truncated_file_is_refused_by_name(tmp_path, flavour, fraction):
    path = tmp_path / "a.tif"
    FLAVOURS[flavour](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with (
        pytest.raises(DataError, match=r"a\.tif.* (truncated|corrupt)"),
        open_image("a.tif", tmp_path) as image,
    ):
        image.read_sections(0, 5)


def test_a_truncated_file_is_refused_with_the_page(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", **GREY)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * 0.99)])
    with pytest.raises(DataError, match=r"page 4 has \d+ bytes of pixels at byte \d+"):
        open_image("a.tif", tmp_path)


@pytest.mark.parametrize("flavour", ["zlib", "tiles", "page by page"])
def test_flipped_bytes_in_a_compressed_page_are_refused(tmp_path, flavour):
    FLAVOURS[flavour](tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    for seed in range(5):
        place = random.Random(seed).randrange(len(content) // 5, len(content) * 4 // 5)
        damaged = bytearray(content)
        damaged[place : place + 32] = bytes(
            b ^ 0x5A for b in damaged[place : place + 32]
        )
        (tmp_path / "a.tif").write_bytes(damaged)
        with (
            pytest.raises(DataError, match="copy or download it again"),
            open_image("a.tif", tmp_path) as image,
        ):
            image.read_sections(0, 5)


def test_channels_of_ome_and_imagej_come_first(tmp_path):
    stack = np.random.default_rng(1).integers(0, 999, (3, 2, 20, 24), np.uint16)
    tifffile.imwrite(tmp_path / "ij.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(tmp_path / "ome.tif", stack, ome=True, metadata={"axes": "ZCYX"})
    for name in ("ij.tif", "ome.tif"):
        with open_image(name, tmp_path, Reading(num_threads=2)) as image:
            assert image.shape == (2, 3, 20, 24)
            np.testing.assert_array_equal(
                image.read_sections(0, 3), stack.transpose(1, 0, 2, 3)
            )


def test_the_sheet_can_turn_time_into_sections(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(DataError, match="write axes zyx"):
        open_image("a.tif", tmp_path)
    with open_image("a.tif", tmp_path, Reading(axes="zyx")) as image:
        np.testing.assert_array_equal(image.read_sections(0, 5)[0], STACK)


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_dtypes_are_kept_in_the_machines_byte_order(tmp_path, dtype, byteorder):
    tifffile.imwrite(tmp_path / "a.tif", STACK.astype(dtype), byteorder=byteorder)
    with open_image("a.tif", tmp_path) as image:
        sections = image.read_sections(0, 5)
        assert sections.dtype == np.dtype(dtype)
        assert sections.dtype.isnative
        np.testing.assert_array_equal(sections[0], STACK)


def test_a_colour_image_has_three_channels_unless_it_is_grey(tmp_path):
    colour = np.random.default_rng(2).integers(0, 255, (20, 24, 3), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colour, photometric="rgb")
    grey = np.repeat(colour[..., :1], 3, axis=2)
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="rgb")
    with open_image("rgb.tif", tmp_path) as image:
        np.testing.assert_array_equal(
            image.read_sections(0, 1)[:, 0], colour.transpose(2, 0, 1)
        )
    with open_image("grey.tif", tmp_path) as image:
        assert image.shape == (1, 1, 20, 24)
    with open_image("grey.tif", tmp_path, Reading(axes="yxc")) as image:
        assert image.shape == (3, 1, 20, 24)


def test_four_sections_that_a_writer_took_for_colours_are_asked_about(tmp_path):
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite(tmp_path / "a.tif", STACK[:4], photometric=None)
    with pytest.raises(DataError, match="zyx for sections"):
        open_image("a.tif", tmp_path)
    with open_image("a.tif", tmp_path, Reading(axes="zyx")) as image:
        np.testing.assert_array_equal(image.read_sections(0, 4)[0], STACK[:4])


def test_pages_of_different_shapes_are_listed(tmp_path):
    write_pages(tmp_path / "a.tif", [STACK[0], STACK[1, :30]])
    with pytest.raises(DataError) as error:
        open_image("a.tif", tmp_path)
    assert "holds 2 images of shapes (48, 40) uint8; (30, 40) uint8" in str(error.value)


def test_voxel_sizes_are_taken_from_ome_and_imagej(tmp_path):
    tifffile.imwrite(
        tmp_path / "ome.tif",
        STACK,
        ome=True,
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": 4.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 5.0,
            "PhysicalSizeYUnit": "nm",
            "PhysicalSizeZ": 0.05,
            "PhysicalSizeZUnit": "µm",
        },
    )
    tifffile.imwrite(
        tmp_path / "ij.tif",
        STACK,
        imagej=True,
        resolution=(250.0, 200.0),
        metadata={"axes": "ZYX", "spacing": 0.05, "unit": "um"},
    )
    for name in ("ome.tif", "ij.tif"):
        with open_image(name, tmp_path) as image:
            assert image.voxel_size_nm == pytest.approx((50.0, 5.0, 4.0))


def test_a_tiny_file_that_promises_gigabytes_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.images.source.BOMB_BYTES", 1_000_000)  # as gigabytes
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2000, 2000), np.uint8), compression="zlib")
    with pytest.raises(DataError, match="promises 4000000 bytes of voxels in") as error:
        open_image("a.tif", tmp_path)
    assert "decompression bomb" in str(error.value)


def test_what_is_no_tiff_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"a\.tif is corrupt, or no TIFF"):
        open_image("a.tif", tmp_path)


def test_a_thumbnail_behind_single_pages_is_no_reason_to_lose_sections(tmp_path):
    """The smaller page makes the first image look like a pyramid."""
    sections = np.random.default_rng(0).integers(0, 255, (3, 32, 40), np.uint8)
    path = tmp_path / "scan.tif"
    with tifffile.TiffWriter(path) as file:
        for section in sections:
            file.write(section, **GREY)
        file.write(sections[0, ::4, ::4].copy(), subfiletype=1, **GREY)
    with unetpipe.open_image(path) as image:
        np.testing.assert_array_equal(image.dask[0], sections)
        assert image.dask[0, 1:, 3:9, 5:7].compute().shape == (2, 6, 2)
    with pytest.raises(DataError, match="stack of 3 single pages, without resolution"):
        unetpipe.open_image(path, level=1)
