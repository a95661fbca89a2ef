"""Any image as a lazy array: cut anywhere, equal to what is stored."""

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

import unetpipe
from unetpipe.errors import DataError
from unetpipe.images.lazy import choose_dask_chunk

VOXELS = np.random.default_rng(0).integers(1, 60_000, (2, 5, 300, 280), np.uint16)


def write_tiff(path, **options):
    axes = {"axes": "CZYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    axes |= {"PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm"}
    axes |= {"PhysicalSizeY": 4, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.05}
    tifffile.imwrite(path, VOXELS, ome=True, metadata=axes, **options)


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        array = file.create_dataset("raw", data=VOXELS[0], chunks=(2, 64, 64))
        array.attrs["resolution"] = (50, 4, 4)


def write_sections(path):
    path.mkdir()
    for z, section in enumerate(VOXELS[0]):
        (path / f"{z}.png").write_bytes(imagecodecs.png_encode(section))


KINDS = {
    "tiles.tif": lambda p: write_tiff(p, tile=(64, 64), compression="zlib"),
    "raw.tif": write_tiff,
    "strips.tif": lambda p: write_tiff(p, rowsperstrip=17, compression="lzw"),
    "a.h5": write_hdf5,
    "sections": write_sections,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lazy_array_holds_what_the_file_holds(tmp_path, kind):
    KINDS[kind](tmp_path / kind)
    with unetpipe.open_image(tmp_path / kind) as image:
        expected = VOXELS[: image.shape[0]]
        assert image.dask.shape == image.shape == expected.shape
        assert image.dask.dtype == expected.dtype
        box = image.dask[:, 1:4, 13:290:3, 250:20:-7].compute()
        np.testing.assert_array_equal(box, expected[:, 1:4, 13:290:3, 250:20:-7])
        np.testing.assert_array_equal(image.dask.compute(), expected)
        assert len(image.files) == (5 if kind == "sections" else 1)


def test_names_sizes_and_where_they_stand_are_told(tmp_path):
    write_tiff(tmp_path / "a.tif")
    with unetpipe.open_image(str(tmp_path / "a.tif")) as image:
        assert image.channel_names == ("DAPI", "GFP")
        assert image.voxel_size_nm == pytest.approx((50, 4, 4))
        assert (image.voxel_size_from, image.remarks) == ("OME-XML", ())


def write_pyramid(path):
    group = zarr.create_group(path)
    levels = [VOXELS[0], VOXELS[0, :, ::2, ::2]]
    about = []
    for k, voxels in enumerate(levels):
        group.create_array(str(k), data=voxels, chunks=(1, 64, 64))
        scale = [{"type": "scale", "scale": [50, 4 * 2**k, 4 * 2**k]}]
        about.append({"path": str(k), "coordinateTransformations": scale})
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": about}]}


def write_tiff_pyramid(path):
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (64, 64), "photometric": "minisblack"}
        axes = {"axes": "ZYX", "PhysicalSizeX": 0.004, "PhysicalSizeY": 0.004}
        axes["PhysicalSizeZ"] = 0.05
        writer.write(VOXELS[0], subifds=1, metadata=axes, **options)
        writer.write(VOXELS[0, :, ::2, ::2], subfiletype=1, **options)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.zarr", write_pyramid), ("a.ome.tif", write_tiff_pyramid)],
)
def test_a_level_of_a_pyramid_has_its_own_size(tmp_path, name, write):
    write(tmp_path / name)
    with unetpipe.open_image(tmp_path / name, level=1) as image:
        assert image.voxel_size_nm == pytest.approx((50, 8, 8))
        np.testing.assert_array_equal(image.dask[0].compute(), VOXELS[0, :, ::2, ::2])
        assert image.ready_store is None
    with unetpipe.open_image(tmp_path / name) as image:
        np.testing.assert_array_equal(image.dask[0].compute(), VOXELS[0])
    with pytest.raises(DataError, match="2 resolution levels, but level is 2"):
        unetpipe.open_image(tmp_path / name, level=2)


def test_what_has_no_levels_says_so(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    with pytest.raises(DataError, match="has no pyramid, but level is 1"):
        unetpipe.open_image(tmp_path / "a.h5", level=1)


def test_chunks_of_a_lazy_array_are_whole_granules():
    for granule in ((1, 512, 512), (16, 240, 100), (3, 1, 280)):
        chunk = choose_dask_chunk((1, 40, 3000, 2800), granule, 2)
        assert all(c % g == 0 for c, g in zip(chunk[1:], granule[1:], strict=True))


def test_a_notebook_shows_what_was_opened(tmp_path):
    write_tiff(tmp_path / "a.tif")
    with unetpipe.open_image(tmp_path / "a.tif") as image:
        shown = repr(image)
    assert shown == (
        "<image (c, z, y, x) = (2, 5, 300, 280), uint16, voxels 50 x 4 x 4 nm "
        f"(OME-XML): {tmp_path / 'a.tif'}>"
    )
    write_sections(tmp_path / "s")
    with unetpipe.open_image(tmp_path / "s") as image:
        assert "voxels of unknown size: " in repr(image)
        assert repr(image).endswith("0.png and 4 more files>")
