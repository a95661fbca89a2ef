"""TIFF in several files, in tiles, with tiles that nobody wrote."""

import numpy as np
import pytest
import tifffile

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.tiff import TiffSource

VOXELS = np.random.default_rng(0).integers(1, 255, (2, 5, 48, 40), np.uint8)
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def ome_xml(own, shape, planes, name="Image:0"):
    """Return OME-XML of one image whose planes lie in several files."""
    size_c, size_z, height, width = shape
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
        f'<UUID FileName="{file}">urn:uuid:{file}</UUID></TiffData>'
        for (c, z), (file, ifd) in planes.items()
    )
    channels = "".join(f'<Channel ID="Channel:0:{c}"/>' for c in range(size_c))
    return (
        f'<OME xmlns="{SCHEMA}" UUID="urn:uuid:{own}"><Image ID="{name}" '
        f'Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        f'SizeX="{width}" SizeY="{height}" SizeZ="{size_z}" SizeC="{size_c}" '
        f'SizeT="1">{channels}{data}</Pixels></Image></OME>'
    )


def write_set(folder, voxels, place, **options):
    """Write planes to files, each with the OME-XML of all."""
    folder.mkdir(exist_ok=True)
    planes, own = {}, {}
    for c, z in np.ndindex(voxels.shape[:2]):
        file = place(c, z)
        planes[c, z] = file, len(own.setdefault(file, []))
        own[file].append(voxels[c, z])
    for file, pages in own.items():
        with tifffile.TiffWriter(folder / file) as writer:
            for k, page in enumerate(pages):
                xml = None if k else ome_xml(file, voxels.shape, planes)
                more = {"metadata": None, "contiguous": False, **options}
                writer.write(page, description=xml, photometric="minisblack", **more)
    return sorted(own)


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        return image.read_sections(0, image.zyx[0]), [p.name for p in image.files]


PLACES = {
    "a channel a file": lambda c, z: f"c{c}.ome.tif",
    "a plane a file": lambda c, z: f"c{c}z{z}.ome.tif",
    "odd and even": lambda c, z: f"{z % 2}.ome.tif",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_any_file_of_a_set_gives_all_planes_and_names_all_files(
    tmp_path, place, options
):
    files = write_set(tmp_path, VOXELS, PLACES[place], **options)
    for file in files[:3]:
        for num_threads in (1, 3):
            found, named = read(file, tmp_path, num_threads=num_threads)
            np.testing.assert_array_equal(found, VOXELS)
            assert sorted(named) == files
            assert named[0] == file


@pytest.mark.parametrize("cell", ["s", "s/*.tif", "s/**/*.ome.tif"])
def test_all_files_of_a_set_are_one_image(tmp_path, cell):
    files = write_set(tmp_path / "s", VOXELS[:1], PLACES["a plane a file"])
    found, named = read(cell, tmp_path)
    np.testing.assert_array_equal(found, VOXELS[:1])
    assert sorted(named) == files


def test_some_files_of_a_set_and_files_of_others_are_refused(tmp_path):
    write_set(tmp_path / "s", VOXELS[:1], PLACES["a plane a file"])
    with pytest.raises(
        DataError, match=r"names 2 files, .* some are missing: name all"
    ):
        open_image("s/c0z[01]*", tmp_path)
    tifffile.imwrite(tmp_path / "s/other.tif", VOXELS[0, 0])
    with pytest.raises(DataError, match="others are among them: give each image a row"):
        open_image("s", tmp_path)


def test_a_file_of_a_set_that_is_not_there_is_named(tmp_path):
    write_set(tmp_path, VOXELS, PLACES["a channel a file"])
    (tmp_path / "c1.ome.tif").unlink()
    with pytest.raises(DataError, match=r"c1\.ome\.tif is not beside it") as error:
        open_image("c0.ome.tif", tmp_path)
    assert "copy" not in str(error.value)


def test_a_truncated_file_of_a_set_is_named(tmp_path):
    write_set(tmp_path, VOXELS, PLACES["a channel a file"])
    content = (tmp_path / "c1.ome.tif").read_bytes()
    (tmp_path / "c1.ome.tif").write_bytes(content[:-500])
    with pytest.raises(DataError, match=r"c1\.ome\.tif is truncated or corrupt: page"):
        open_image("c0.ome.tif", tmp_path)


def test_a_set_cannot_lead_out_of_its_folder(tmp_path):
    write_set(tmp_path / "other", VOXELS, lambda c, z: f"c{c}.ome.tif")
    write_set(tmp_path / "s", VOXELS, lambda c, z: f"c{c}.ome.tif")
    path = tmp_path / "s/c0.ome.tif"
    content = path.read_bytes().replace(
        b'FileName="c1.ome.tif">urn:uuid:c1',
        b'FileName="../other/c1.ome.tif">urn:uuid:c1',
    )
    tifffile.imwrite(
        path,
        VOXELS[0],
        description=content[
            content.index(b"<OME") : content.index(b"</OME>") + 6
        ].decode(),
        metadata=None,
    )
    (tmp_path / "s/c1.ome.tif").unlink()
    with pytest.raises(DataError, match="outside its folder"):
        open_image("c0.ome.tif", tmp_path / "s")


def test_of_several_positions_each_file_gives_its_own(tmp_path):
    ids = ("p0.ome.tif", "p1.ome.tif")
    images = [
        ome_xml(ids[0], VOXELS[:1].shape, {(0, z): (file, z) for z in range(5)}, file)
        for file in ids
    ]
    inner = "".join(
        xml[xml.index("<Image ") : xml.index("</OME>")].replace(
            "Pixels:0", f"Pixels:{k}"
        )
        for k, xml in enumerate(images)
    )
    for own, voxels in zip(ids, VOXELS, strict=True):
        xml = f'<OME xmlns="{SCHEMA}" UUID="urn:uuid:{own}">{inner}</OME>'
        with tifffile.TiffWriter(tmp_path / own) as writer:
            for k, page in enumerate(voxels):
                about = None if k else xml
                writer.write(page, description=about, metadata=None, contiguous=False)
    for own, voxels in zip(ids, VOXELS, strict=True):
        found, named = read(own, tmp_path)
        np.testing.assert_array_equal(found[0], voxels)
        assert named == [own]


def write_sparse(path, voxels, absent, tile=(16, 16), **options):
    """Write a tiled page without some tiles."""
    height, width = voxels.shape
    tiles = (
        None if (y, x) in absent else voxels[y : y + 16, x : x + 16]
        for y in range(0, height, 16)
        for x in range(0, width, 16)
    )
    tifffile.imwrite(
        *(path, tiles),
        **{"shape": voxels.shape, "dtype": voxels.dtype, "tile": tile, **options},
        metadata=None,
        photometric="minisblack",
    )


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles_that_are_declared_empty_are_zero_and_said(tmp_path, compression):
    voxels = np.random.default_rng(0).integers(1, 4095, (64, 80), np.uint16)
    voxels[48:, 64:] = voxels[:16, 16:32] = 0
    absent = {(48, 64), (0, 16)}
    write_sparse(tmp_path / "a.tif", voxels, absent, compression=compression)
    with open_image("a.tif", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 1)[0, 0], voxels)
        box = image.read_box(0, 1, slice(40, 64), slice(50, 80))
        np.testing.assert_array_equal(box[0, 0], voxels[40:64, 50:80])
        (remark,) = image.remarks
    assert remark.endswith("2 of 20 strips or tiles are declared empty and read as 0")


def test_a_file_that_was_never_filled_is_refused(tmp_path):
    write_sparse(tmp_path / "a.tif", np.zeros((64, 80), np.uint8), set())
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for tag in ("TileOffsets", "TileByteCounts"):
            file.pages.first.tags[tag].overwrite([0] * 20)
    with pytest.raises(DataError, match="each of its 20 strips or tiles is declared"):
        open_image("a.tif", tmp_path)


LAYOUTS = {
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "raw tiles": {"tile": (16, 32)},
    "strips": {"rowsperstrip": 7, "compression": "lzw"},
    "raw strips": {"rowsperstrip": 7},
    "whole pages": {"compression": "zstd"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", ["series", "pages", "colours"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_box_holds_what_the_whole_holds(tmp_path, layout, how, num_threads):
    rng = np.random.default_rng(0)
    path, options = tmp_path / "a.tif", LAYOUTS[layout]
    if how == "colours":
        voxels = rng.integers(0, 255, (70, 90, 3), np.uint8)
        tifffile.imwrite(path, voxels, photometric="rgb", **options)
        voxels = np.moveaxis(voxels, -1, 0)[:, None]
    else:
        voxels = rng.integers(0, 255, (4, 70, 90), np.uint16)
        with tifffile.TiffWriter(path) as writer:
            for page in [voxels] if how == "series" else voxels:
                writer.write(page, photometric="minisblack", **options)
        voxels = voxels[None]
    with open_image("a.tif", tmp_path, Reading(num_threads=num_threads)) as image:
        last = image.zyx[0]
        box = image.read_box(last // 2, last, slice(13, 50), slice(20, 77))
        np.testing.assert_array_equal(box, voxels[:, last // 2 :, 13:50, 20:77])
        np.testing.assert_array_equal(image.read_sections(0, last), voxels)


def test_the_label_and_macro_of_a_slide_are_no_images_of_it(tmp_path):
    rng = np.random.default_rng(0)
    slide = rng.integers(0, 255, (256, 320, 3), np.uint8)
    aperio = "Aperio Image Library v1.0\n320x256 (16x16)|AppMag = 20|MPP = 0.5"
    kind = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(slide, description=aperio, **kind)
        writer.write(slide[::8, ::8], description=aperio, metadata=None)
        writer.write(slide[::4, ::4], description=aperio, **kind)
        writer.write(slide[:40, :50], description=aperio + "\nlabel", metadata=None)
    with open_image("a.svs", tmp_path) as image:
        assert image.shape == (3, 1, 256, 320)
        found = image.read_sections(0, 1)[:, 0]
        np.testing.assert_array_equal(found, np.moveaxis(slide, -1, 0))
        assert image.voxel_size_nm == pytest.approx((500, 500, 500))
    source = TiffSource(tmp_path / "a.svs", level=1)
    assert source.shape == (64, 80, 3)
    assert source.voxel_size.zyx_nm == (None, 2000, 2000)
    source.close()


def test_files_whose_names_were_exchanged_are_told(tmp_path):
    write_set(tmp_path, VOXELS, lambda c, z: f"c{c}.ome.tif")
    with open_image("c0.ome.tif", tmp_path) as image:
        assert image.remarks == ()
    (tmp_path / "c0.ome.tif").rename(tmp_path / "x")
    (tmp_path / "c1.ome.tif").rename(tmp_path / "c0.ome.tif")
    (tmp_path / "x").rename(tmp_path / "c1.ome.tif")
    with open_image("c0.ome.tif", tmp_path) as image:
        (remark,) = image.remarks
    assert "another file was called c0.ome.tif" in remark
