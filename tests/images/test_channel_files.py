"""Channels and sections that lie in files of their own."""

from itertools import product

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.files import find_image_files

VOXELS = np.random.default_rng(0).integers(0, 255, (2, 11, 6, 5), np.uint8)


def write(path, section):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(section))
    else:
        tifffile.imwrite(path, section, photometric="minisblack")


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        return image.read_sections(0, image.zyx[0])


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("name", ["a_z{z:02}_ch{c:02}", "c{c}/a_z{z}"])
def test_files_by_channel_and_section_are_one_image(tmp_path, suffix, name):
    for c, z in product(range(2), range(11)):
        write(tmp_path / f"{name.format(c=c, z=z)}.{suffix}", VOXELS[c, z])
    write(tmp_path / f"b_z00_ch00.{suffix}", VOXELS[0, 0])
    cell = f"{name.replace('{z:02}', '<z>').replace('{c:02}', '<c>')}.{suffix}"
    cell = cell.replace("{z}", "<z>").replace("{c}", "<c>")
    assert len(find_image_files(cell, tmp_path)) == 22
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


def masks(tmp_path, **places):
    for name, (y, x) in places.items():
        mask = np.zeros((6, 5), np.uint8)
        mask[y, x] = 255
        write(tmp_path / name / "a.png", mask)


def test_masks_of_classes_become_class_numbers_in_the_order_of_the_list(tmp_path):
    masks(
        tmp_path,
        mito=(slice(0, 3), slice(0, 3)),
        er=(slice(2, 5), slice(2, 4)),
        image=(slice(0, 6), slice(0, 5)),
    )
    with open_image(
        "<c:er,mito,golgi>/a.png", tmp_path, Reading(is_labels=True)
    ) as labels:
        classes = labels.read_sections(0, 1)
        absent, overlap = labels.source.warnings()
        assert {path.parent.name for path in labels.files} == {"er", "mito"}
    expected = np.zeros((1, 1, 6, 5), np.uint8)
    expected[..., 2:5, 2:4] = 1
    expected[..., 0:3, 0:3] = 2
    np.testing.assert_array_equal(classes, expected)
    assert "there is no mask of golgi beside" in absent
    assert "overlap in 1 voxels; of er, mito, golgi the later" in overlap
    with pytest.raises(DataError, match="lists 3 channels, but there are files of er"):
        open_image("<c:er,mito,golgi>/a.png", tmp_path)


def test_the_same_word_may_stand_in_folder_and_file(tmp_path):
    for name in ("er", "mito"):
        write(tmp_path / name / f"a_{name}.png", np.eye(6, 5, dtype=np.uint8))
    write(tmp_path / "er" / "a_mito.png", np.eye(6, 5, dtype=np.uint8))
    found = find_image_files("<c:er,mito>/a_<c:er,mito>.png", tmp_path)
    assert [path.name for path in found] == ["a_er.png", "a_mito.png"]


def test_a_mask_of_a_class_with_several_values_is_refused_by_name(tmp_path):
    masks(tmp_path, er=(slice(0, 2), slice(0, 2)))
    write(tmp_path / "mito" / "a.png", np.arange(30, dtype=np.uint8).reshape(6, 5))
    with (
        open_image("<c:er,mito>/a.png", tmp_path, Reading(is_labels=True)) as labels,
        pytest.raises(DataError, match=r"mito/a\.png holds the values 1 to 29"),
    ):
        labels.read_sections(0, 1)
