"""Channels and sections that lie in files of their own."""

from itertools import product

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetpipe.errors import DataError
from unetpipe.images import open_image
from unetpipe.images.files import find_files

VOXELS = np.random.default_rng(0).integers(0, 255, (2, 11, 6, 5), np.uint8)


def write(path, section):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(section))
    else:
        tifffile.imwrite(path, section, photometric="minisblack")


def read(cell, root, **options):
    with open_image(cell, root, **options) as image:
        return image.read_sections(0, image.zyx[0])


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("name", ["a_z{z:02}_ch{c:02}", "c{c}/a_z{z}"])
def test_files_by_channel_and_section_are_one_image(tmp_path, suffix, name):
    for c, z in product(range(2), range(11)):
        write(tmp_path / f"{name.format(c=c, z=z)}.{suffix}", VOXELS[c, z])
    write(tmp_path / f"b_z00_ch00.{suffix}", VOXELS[0, 0])
    cell = f"{name.replace('{z:02}', '<z>').replace('{c:02}', '<c>')}.{suffix}"
    cell = cell.replace("{z}", "<z>").replace("{c}", "<c>")
    assert len(find_files(cell, tmp_path)) == 22
    np.testing.assert_array_equal(read(cell, tmp_path), VOXELS)
    with open_image(cell, tmp_path) as image:
        assert len(image.files) == 22
        found = image.source.read((slice(1, 2), slice(3, 9), slice(2, 4), slice(0, 5)))
    np.testing.assert_array_equal(found, VOXELS[1:2, 3:9, 2:4])


def test_stacks_of_one_channel_each_are_one_image(tmp_path):
    for c in range(2):
        write(tmp_path / f"x_{c:04}.tif", VOXELS[c])
    np.testing.assert_array_equal(read("x_<c>.tif", tmp_path, axes="zyx"), VOXELS)


def test_channels_may_have_names_and_be_chosen_by_them(tmp_path):
    for c, name in enumerate(("DAPI", "GFP")):
        write(tmp_path / f"x_{name}.png", np.stack([VOXELS[c, 0]] * 3, axis=-1))
    np.testing.assert_array_equal(read("x_<c>.png", tmp_path), VOXELS[:, :1])
    green = read("x_<c>.png", tmp_path, channels=("GFP",))
    np.testing.assert_array_equal(green, VOXELS[1:, :1])


def test_sections_alone_are_a_series(tmp_path):
    for z in range(11):
        write(tmp_path / f"z{z}_v2.tif", VOXELS[0, z])
    np.testing.assert_array_equal(read("z<z>_v2.tif", tmp_path), VOXELS[:1])


def test_a_missing_section_is_named_and_so_is_a_place_taken_twice(tmp_path):
    for c, z in product(range(2), range(3)):
        write(tmp_path / f"z{z}_c{c}.tif", VOXELS[c, z])
    (tmp_path / "z1_c1.tif").unlink()
    with pytest.raises(DataError, match=r"2 channels of 3 sections, but z1_c1\.tif"):
        read("z<z>_c<c>.tif", tmp_path)
    write(tmp_path / "b" / "z0_c0.tif", VOXELS[0, 0])
    write(tmp_path / "b" / "z0_c1.tif", VOXELS[0, 0])
    write(tmp_path / "d" / "z0_c0.tif", VOXELS[0, 0])
    with pytest.raises(DataError, match="for one channel and section"):
        read("?/z<z>_c<c>.tif", tmp_path)


def test_channels_of_several_sizes_are_refused_by_name(tmp_path):
    write(tmp_path / "x_0.tif", VOXELS[0, 0])
    write(tmp_path / "x_1.tif", VOXELS[1, 0, :4])
    with pytest.raises(DataError, match=r"channel 1 is .*x_1\.tif, but channel 0"):
        read("x_<c>.tif", tmp_path)
