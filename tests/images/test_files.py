"""Cells of the sheet: sequences, PNG, HDF5, OME-Zarr, and what is not there."""

import json
import struct
import zlib
from unicodedata import normalize

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image, open_masks
from unetpipe.images.files import FORMS, find_image_files, natural_key
from unetpipe.storage.volumes import create_volume, write_shard

STACK = np.random.default_rng(0).integers(0, 255, (12, 16, 20), np.uint8)


def write_png(path, section):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(section)))


@pytest.fixture
def sections(tmp_path):
    for z, section in enumerate(STACK):
        write_png(tmp_path / "train" / f"{z}.png", section)
    (tmp_path / "train" / "README.txt").write_text("hello")
    (tmp_path / "train" / ".hidden.png").write_bytes(b"")
    return tmp_path


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        return image.read_sections(0, image.zyx[0])


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=2))
def test_numbers_in_names_sort_by_value(numbers):
    names = [f"t{n}.png" for n in numbers]
    assert sorted(names, key=natural_key) == [f"t{n}.png" for n in sorted(numbers)]


@pytest.mark.parametrize("cell", ["train", "train/*.png", "**/*.png", "none|train"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_sequence_is_read_in_natural_order(sections, cell, num_threads):
    np.testing.assert_array_equal(
        read(cell, sections, num_threads=num_threads)[0], STACK
    )


@pytest.mark.parametrize(
    "names",
    [
        ("z-10", "z-2", "z0", "z3"),
        ("a_-0.5um", "a_0.25um", "a_0.5um", "a_10.0um"),
        ("z-10", "z-5", "z0", "z5", "z10"),
        ("pos-z-2", "pos-z-1", "pos-z3"),
        ("focus-2", "focus-1", "focus0", "focus1"),  # a run across 0
        ("x-1", "x-2", "x-10"),  # a hyphen, no sign
        ("cell1", "cell2", "cell-1", "cell-2"),
        ("img0", *(f"img-{k}" for k in range(1, 13))),
        ("cell0", "cell1", "cell-0", "cell-1"),
        ("z1", "z2", "z-1", "z-2"),
        ("a-1", "a-2", "a--1", "a--2"),
        ("s1.9", "s1.10"),  # a version, no length
    ],
)
def test_sections_are_in_the_order_of_their_numbers(tmp_path, names):
    for k, name in enumerate(names):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((8, 8), k, np.uint8))
    for cell in (".", "*.tif"):
        with open_image(cell, tmp_path) as image:
            found = image.read_sections(0, image.zyx[0])[0, :, 0, 0]
        assert found.tolist() == list(range(len(names)))


def test_tif_and_tiff_are_one_kind(tmp_path):
    for k in range(4):
        name = f"s{k}.{('tif', 'TIFF')[k % 2]}"
        tifffile.imwrite(tmp_path / name, np.full((8, 8), k, np.uint8))
    with open_image(".", tmp_path) as image:
        assert image.read_sections(0, 4)[0, :, 0, 0].tolist() == [0, 1, 2, 3]


def test_an_absolute_path_needs_no_root(sections, tmp_path):
    np.testing.assert_array_equal(
        read(str(sections / "train"), tmp_path / "x")[0], STACK
    )
    pattern = str(sections / "train" / "*.png")
    np.testing.assert_array_equal(read(pattern, tmp_path / "x")[0], STACK)


def test_hidden_folders_above_the_data_do_not_hide_it(tmp_path):
    write_png(tmp_path / ".cache" / "a" / "0.png", STACK[0])
    assert read(str(tmp_path / ".cache" / "*" / "*.png"), tmp_path).shape[1] == 1
    with pytest.raises(DataError, match="no such file"):
        open_image("**/*.png", tmp_path)


def test_the_first_alternative_that_exists_counts(sections):
    write_png(sections / "b" / "0.png", STACK[3])
    np.testing.assert_array_equal(read("a|b|train", sections)[0], STACK[3:4])


def test_tiff_sections_are_a_sequence_too(tmp_path):
    for z in (2, 10, 1):
        tifffile.imwrite(tmp_path / f"t{z:03d}.tif", STACK[z], compression="zlib")
    np.testing.assert_array_equal(read("*.tif", tmp_path)[0], STACK[[1, 2, 10]])


def test_the_file_of_a_section_can_be_named(sections):
    with open_image("train", sections) as image:
        assert image.where(10) == str(sections / "train" / "10.png")


def test_files_that_differ_are_listed(sections):
    write_png(sections / "train" / "3.png", STACK[3, :9])
    write_png(sections / "train" / "11.png", STACK[3].astype(np.uint16))
    with pytest.raises(DataError) as error:
        open_image("train", sections)
    message = str(error.value)
    assert (
        "0.png is (16, 20) uint8, but of the 12 files of its sequence 2 differ"
        in message
    )
    assert "3.png (9, 20) uint8, 11.png (16, 20) uint16" in message


def test_a_stack_among_sections_is_refused(tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", STACK, photometric="minisblack")
    with pytest.raises(
        DataError, match=r"a\.tif has the shape \(12, 16, 20\), but in a"
    ):
        open_image("*.tif", tmp_path)


def test_a_folder_of_two_kinds_is_refused(sections):
    tifffile.imwrite(sections / "train" / "0.tif", STACK[0])
    with pytest.raises(DataError, match=r"sections as \.png and \.tif; name one kind"):
        open_image("train", sections)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no PNG or TIFF"):
        open_image("empty", tmp_path)


def test_what_is_not_there_is_named_with_what_is(sections):
    with pytest.raises(DataError) as error:
        open_image("test/*.png|test.tif", sections)
    message = str(error.value)
    assert (
        f"'test/*.png|test.tif': there is no such file or folder in {sections}"
        in message
    )
    assert "there are: train/0.png, train/1.png, train/2.png" in message


def test_a_file_of_an_unknown_kind_is_refused(sections):
    with pytest.raises(
        DataError, match=r"README\.txt, which cannot be read as an image"
    ):
        open_image("train/README.txt", sections)


def test_a_packed_file_is_to_be_unpacked(tmp_path):
    (tmp_path / "a.tif.gz").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"a\.tif\.gz is packed, which is not read; unpack it"
    ):
        open_image("a.tif.gz", tmp_path)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_grey_png_with_colours_and_transparency_has_one_channel(tmp_path, samples):
    colour = np.repeat(STACK[0][..., None], samples, axis=2)
    if samples != 3:
        colour[..., -1] = 255
    write_png(tmp_path / "a.png", colour)
    np.testing.assert_array_equal(read("a.png", tmp_path)[0], STACK[:1])


def test_a_coloured_png_has_three_channels(tmp_path):
    write_png(tmp_path / "a.png", STACK[:3].transpose(1, 2, 0))
    np.testing.assert_array_equal(read("a.png", tmp_path)[:, 0], STACK[:3])


def test_colour_that_begins_in_a_later_section_is_refused(tmp_path):
    write_png(tmp_path / "0.png", np.repeat(STACK[0][..., None], 3, axis=2))
    write_png(tmp_path / "1.png", STACK[:3].transpose(1, 2, 0))
    with pytest.raises(DataError, match=r"1\.png is coloured, but section 0 is grey"):
        read("*.png", tmp_path)
    assert read("*.png", tmp_path, axes="yxc").shape == (3, 2, 16, 20)


def test_varying_transparency_is_refused(tmp_path):
    write_png(tmp_path / "a.png", STACK[:4].transpose(1, 2, 0))
    with pytest.raises(
        DataError, match=r"a\.png has varying transparency \(alpha 0 to"
    ):
        read("a.png", tmp_path)


def test_one_bit_png_is_0_and_255(tmp_path):
    mask = STACK[0] > 100
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in mask)
    head = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, chunks))
    )
    np.testing.assert_array_equal(read("a.png", tmp_path)[0, 0], mask * np.uint8(255))


def chunk(named):
    kind, content = named
    return (
        struct.pack(">I4s", len(content), kind)
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9, 0.999])
def test_a_truncated_png_is_refused_by_name(sections, fraction):
    path = sections / "train" / "7.png"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(DataError, match=r"7\.png is (truncated|no PNG)"):
        read("train", sections, num_threads=2)


def test_one_flipped_bit_in_a_png_is_refused(sections):
    path = sections / "train" / "7.png"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"7\.png.*chunk IDAT at byte 33 fails its check"
    ):
        read("train", sections)


def test_a_png_that_promises_gigabytes_is_refused_unread(tmp_path):
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk((b"IHDR", head)) + bytes(50)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        DataError, match="promises 3600000000 bytes of voxels in 83 bytes"
    ):
        open_image("a.png", tmp_path)


@pytest.fixture
def hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("volumes/raw", data=STACK, chunks=(4, 8, 8))
        raw.attrs["resolution"] = (40.0, 4.0, 5.0)
        file.create_dataset("multi", data=STACK.reshape(2, 6, 16, 20))
        file.create_dataset("table", data=np.arange(5))
    return tmp_path


@pytest.mark.parametrize("cell", ["a.h5:volumes/raw", "**/*.h5:/volumes/raw"])
def test_a_dataset_of_hdf5_is_read(hdf5, cell):
    with open_image(cell, hdf5, Reading(num_threads=3)) as image:
        assert image.voxel_size_nm == (40.0, 4.0, 5.0)
        np.testing.assert_array_equal(image.read_sections(3, 9)[0], STACK[3:9])


@pytest.mark.parametrize(
    ("cell", "text"), [("a.h5", "several datasets"), ("a.h5:raw", "no dataset 'raw'")]
)
def test_datasets_to_choose_from_are_listed(hdf5, cell, text):
    with pytest.raises(DataError, match=text) as error:
        open_image(cell, hdf5)
    assert "it holds multi, volumes/raw" in str(error.value)


def test_axes_of_hdf5_come_from_its_tags_or_the_sheet(hdf5):
    with pytest.raises(DataError, match="czyx or zcyx"):
        open_image("a.h5:multi", hdf5)
    assert read("a.h5:multi", hdf5, axes="czyx").shape == (2, 6, 16, 20)
    with h5py.File(hdf5 / "a.h5", "r+") as file:
        tags = {"axes": [{"key": key} for key in "zcyx"]}
        file["multi"].attrs["axistags"] = json.dumps(tags)
    assert read("a.h5:multi", hdf5).shape == (6, 2, 16, 20)


def test_a_truncated_hdf5_is_refused(hdf5):
    content = (hdf5 / "a.h5").read_bytes()
    (hdf5 / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.h5 is truncated or no HDF5"):
        open_image("a.h5:multi", hdf5)


def test_our_own_ome_zarr_is_read(tmp_path):
    array = create_volume(
        tmp_path / "a.ome.zarr",
        shape=STACK.shape,
        dtype=np.uint8,
        chunk=(4, 8, 8),
        shard=(12, 16, 24),
        voxel_size_nm=(50.0, 4.0, 4.0),
        channels=("image",),
    )
    write_shard(array, (0, 0, 0), STACK[None])
    with open_image("*.ome.zarr", tmp_path) as image:
        assert image.plan.letters == "czyx"
        assert image.voxel_size_nm == (50.0, 4.0, 4.0)
        np.testing.assert_array_equal(image.read_sections(2, 7)[0], STACK[2:7])


def test_ome_zarr_0_4_is_read(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("s0", data=STACK[None, None], chunks=(1, 1, 4, 8, 8))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 0.05, 0.004, 0.004]}
    levels = [{"path": "s0", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    with open_image("a.zarr", tmp_path) as image:
        assert image.voxel_size_nm == pytest.approx((50.0, 4.0, 4.0))
        np.testing.assert_array_equal(image.read_sections(0, 12)[0], STACK)


def test_a_plain_zarr_array_is_read_and_a_group_asks_for_one(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("raw", data=STACK, chunks=(4, 8, 8))
    np.testing.assert_array_equal(read("a.zarr/raw", tmp_path)[0], STACK)
    with pytest.raises(
        DataError, match="without `multiscales`; name an array in it: raw"
    ):
        open_image("a.zarr", tmp_path)


def paletted_png(path, indices, colours):
    height, width = indices.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    chunks = ((b"IHDR", head), (b"PLTE", colours.tobytes()))
    chunks += ((b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, chunks)))


def paletted_tiff(path, indices, colours):
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(colours)] = colours.T.astype(np.uint16) * 257
    tifffile.imwrite(path, indices, photometric="palette", colormap=table)


def painted_png(path, indices, colours):
    write_png(path, colours[indices])


def painted_tiff(path, indices, colours):
    tifffile.imwrite(path, colours[indices], photometric="rgb")


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (paletted_png, "png"),
        (paletted_tiff, "tif"),
        (painted_png, "png"),
        (painted_tiff, "tif"),
    ],
)
@pytest.mark.parametrize("cell", ["0.", "*."])
def test_painted_labels_are_read_as_colours(tmp_path, write, suffix, cell):
    colours = np.array([[0, 0, 0], [9, 9, 9], [255, 0, 7]], np.uint8)
    indices = np.array([[[0, 1], [1, 0]], [[2, 1], [0, 0]]], np.uint8)  # first is grey
    for z, section in enumerate(indices):
        write(tmp_path / f"{z}.{suffix}", section, colours)
    found = read(f"{cell}{suffix}", tmp_path, is_labels=True, has_palette=True)
    expected = np.moveaxis(colours[indices], -1, 0)
    np.testing.assert_array_equal(found, expected[:, : found.shape[1]])


def test_without_a_palette_of_ours_indices_of_tiff_are_ids(tmp_path):
    paletted_tiff(tmp_path / "a.tif", STACK[0], np.eye(3, dtype=np.uint8))
    np.testing.assert_array_equal(
        read("a.tif", tmp_path, is_labels=True)[0, 0], STACK[0]
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_entries_of_a_png_palette_are_ids_and_its_colours_an_image(tmp_path, bits):
    rng = np.random.default_rng(bits)
    indices = rng.integers(0, 2**bits, (9, 16), np.uint8)
    colours = rng.integers(0, 255, (2**bits, 3), np.uint8)
    places = indices[..., None] >> np.arange(bits - 1, -1, -1) & 1
    rows = np.packbits(places.reshape(9, -1), axis=1)
    head = struct.pack(">IIBBBBB", 16, 9, bits, 3, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", head), (b"PLTE", colours.tobytes()), (b"tRNS", b"\0"))
    chunks += ((b"IDAT", content), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, chunks))
    )
    ids = read("a.png", tmp_path, is_labels=True)
    np.testing.assert_array_equal(ids[0, 0], indices)


def test_a_palette_of_greys_stands_for_the_greys(tmp_path):
    """As programs that make files small write a mask; each file has its own palette."""
    for name, greys in (("a", [0, 255]), ("b", [255, 0])):
        table = np.repeat(np.array(greys, np.uint8)[:, None], 3, axis=1)
        mask = np.array([[0, 255], [255, 0]], np.uint8)
        indices = np.uint8(mask == greys[1])
        paletted_png(tmp_path / f"{name}.png", indices, table)
        found = read(f"{name}.png", tmp_path, is_labels=True)[0, 0]
        np.testing.assert_array_equal(found, mask)


def save(path, mode, grey):
    """Write one grey section as a PNG of some kind."""
    alpha = np.full_like(grey, 255)
    parts = {"L": grey, "LA": [grey, alpha], "RGB": [grey] * 3}
    parts["RGBA"] = [grey, grey, grey, alpha]
    array = parts[mode] if mode == "L" else np.stack(parts[mode], axis=-1)
    path.write_bytes(imagecodecs.png_encode(array))


@pytest.mark.parametrize("first", ["L", "LA", "RGB", "RGBA"])
def test_greys_saved_in_several_ways_are_one_series(tmp_path, first):
    modes = [first, "L", "LA", "RGB", "RGBA"]
    sections = np.random.default_rng(0).integers(0, 255, (5, 7, 6), np.uint8)
    for z, (mode, section) in enumerate(zip(modes, sections, strict=True)):
        save(tmp_path / f"{z}.png", mode, section)
    np.testing.assert_array_equal(read("*.png", tmp_path), sections[None])


def test_a_colour_file_among_greys_is_refused_by_name(tmp_path):
    save(tmp_path / "0.png", "L", np.zeros((4, 4), np.uint8))
    coloured = np.zeros((4, 4, 3), np.uint8)
    coloured[1, 2, 0] = 9
    (tmp_path / "1.png").write_bytes(imagecodecs.png_encode(coloured))
    with pytest.raises(DataError, match=r"1\.png is coloured, but others"):
        read("*.png", tmp_path)


def test_opaque_and_plain_colours_are_one_series(tmp_path):
    sections = np.random.default_rng(0).integers(0, 255, (2, 5, 4, 3), np.uint8)
    opaque = np.full((5, 4, 1), 255, np.uint8)
    (tmp_path / "0.png").write_bytes(
        imagecodecs.png_encode(np.concatenate([sections[0], opaque], axis=2))
    )
    (tmp_path / "1.png").write_bytes(imagecodecs.png_encode(sections[1]))
    found = read("*.png", tmp_path)
    np.testing.assert_array_equal(found, np.moveaxis(sections, -1, 0))


def masks_of(folder, *masks):
    for k, mask in enumerate(masks):
        write_png(folder / f"{k}.png", np.array(mask, np.uint8))


def read_masks(cell, root, **options):
    with open_masks(cell, root, **options) as labels:
        return labels.read_sections(0, labels.zyx[0])[0], labels.source.warnings()


def test_each_folder_of_masks_makes_up_a_section(tmp_path):
    masks_of(tmp_path / "a2" / "masks", [[255, 0, 0]], [[0, 0, 255]])
    masks_of(tmp_path / "a10" / "masks", [[0, 1, 0]])
    ids, warnings = read_masks("*/masks/*.png", tmp_path, num_threads=2)
    assert ids.tolist() == [[[1, 0, 2]], [[0, 3, 0]]]
    assert warnings == []
    ids, _ = read_masks("a10/masks", tmp_path)
    assert ids.tolist() == [[[0, 1, 0]]]


def test_where_masks_overlap_the_smaller_object_has_the_voxels(tmp_path):
    masks_of(
        tmp_path / "masks",
        [[1, 1, 0, 0, 0, 0]],
        [[0, 1, 1, 1, 1, 0]],
        [[0, 0, 0, 0, 1, 1]],
    )
    ids, warnings = read_masks("masks", tmp_path)
    assert ids.tolist() == [[[1, 1, 2, 2, 3, 3]]]
    assert warnings == [
        f"masks overlap in 1 of 1 sections, 2 voxels, first in {tmp_path / 'masks'}; "
        "the smaller object has them"
    ]


@pytest.mark.parametrize(
    ("masks", "text"),
    [
        ([[[1, 1]], [[1, 1]]], r"1\.png lies wholly under others; remove it"),
        ([[[1, 0]], [[0, 0]]], r"1\.png is empty; remove it"),
        ([[[1, 2]]], r"0\.png holds the values 1 to 2 beside 0"),
    ],
)
def test_masks_that_are_no_objects_are_refused_by_name(tmp_path, masks, text):
    masks_of(tmp_path / "masks", *masks)
    with pytest.raises(DataError, match=text):
        read_masks("masks", tmp_path)


def test_masks_of_several_shapes_are_refused(tmp_path):
    masks_of(tmp_path / "masks", [[1, 1]], [[1, 0, 0]])
    with pytest.raises(
        DataError, match=r"has the shape \(1, 2\), others differ: .*1\.p"
    ):
        open_masks("masks", tmp_path)


def test_masks_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_masks("masks/*.png", tmp_path)
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"a\.npy, which is no mask; .* a file an object"
    ):
        open_masks("*.npy", tmp_path)


def test_links_to_nothing_are_named_wherever_they_are(tmp_path):
    (tmp_path / "raw").mkdir()
    for k in range(4):
        target = tmp_path / "annex" / f"k{k}.png"
        if k != 2:
            write_png(target, np.full((4, 4), k, np.uint8))
        (tmp_path / "raw" / f"s{k}.png").symlink_to(target)
    for cell in ("raw", "raw/*.png", "raw/s2.png", "nowhere.png | raw/*.png"):
        for use in (open_image, find_image_files):
            with pytest.raises(DataError, match=r"s2\.png is a link to .*k2\.png, "):
                use(cell, tmp_path)
    assert find_image_files("raw/s[013].png", tmp_path)


@pytest.mark.parametrize(("on_disk", "in_sheet"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_letter_with_an_accent_is_one_however_it_is_spelled(
    tmp_path, on_disk, in_sheet
):
    spelled = {form: normalize(form, "Zellen \u00e4/B\u00fcld ") for form in FORMS}
    for k in range(2):
        path = tmp_path / f"{spelled[on_disk]}{k}.png"
        write_png(path, np.full((4, 4), k, np.uint8))
    wanted = spelled[in_sheet]
    assert read(f"{wanted}1.png", tmp_path).max() == 1
    for cell in (f"{wanted}*.png", wanted.split("/")[0]):
        assert read(cell, tmp_path)[0, :, 0, 0].tolist() == [0, 1]
