"""Formats of other fields, written by their own libraries."""

import builtins
import importlib
import zipfile

import h5py
import imagecodecs
import numpy as np
import pytest
import zarr

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image

VOXELS = np.random.default_rng(0).integers(1, 250, (5, 32, 40), np.uint8)


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        box = image.read_box(1, 4, slice(3, 30), slice(5, 39))
        whole = image.read_sections(0, image.zyx[0])
        np.testing.assert_array_equal(box, whole[:, 1:4, 3:30, 5:39])
        return whole, image


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti_is_read_with_its_size(tmp_path, ending):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VOXELS.T, np.diag([4e-6, 4e-6, 5e-5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / f"a.{ending}")
    found, opened = read(f"a.{ending}", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.voxel_size_nm == pytest.approx((50, 4, 4), rel=1e-6)


def test_mrc_is_read_with_its_size(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VOXELS.astype(np.int16))
        file.set_volume()
        file.voxel_size = (40.0, 40.0, 500.0)
    found, opened = read("a.mrc", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.voxel_size_nm == pytest.approx((50, 4, 4))


def write_mrc(path, voxels, **header):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path) as file:
        file.set_data(voxels)
        file.set_volume()
        file.voxel_size = (40.0, 40.0, 500.0)
        for key, value in header.items():
            setattr(file.header, key, value)


IMOD = b"IMOD"  # its stamp, at byte 152; what follows says whether bytes are signed


@pytest.mark.parametrize(
    ("stamp", "flags", "most", "is_signed"),
    [
        (IMOD, 0, 100, False),
        (IMOD, 1, 100, True),
        (bytes(4), 0, 249, False),
        (bytes(4), 0, 121, True),
    ],
)
def test_bytes_of_mrc_are_signed_or_not_as_their_program_says(
    tmp_path, stamp, flags, most, is_signed
):
    voxels = VOXELS.view(np.int8)
    write_mrc(tmp_path / "a.mrc", voxels, dmax=most)
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[152:157] = stamp + bytes([flags])
    (tmp_path / "a.mrc").write_bytes(content)
    found, _ = read("a.mrc", tmp_path)
    np.testing.assert_array_equal(found[0], voxels if is_signed else VOXELS)


def test_a_mode_of_mrc_that_is_not_read_is_not_called_damage(tmp_path):
    write_mrc(tmp_path / "a.mrc", VOXELS.view(np.int8))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[12] = 101  # two voxels of 4 bits in a byte
    (tmp_path / "a.mrc").write_bytes(content)
    with pytest.raises(DataError, match=r"mode '101'.; save them as bytes"):
        open_image("a.mrc", tmp_path)


def test_mrc_says_which_axis_its_columns_are(tmp_path):
    write_mrc(tmp_path / "a.mrc", VOXELS.T.astype(np.int16), mapc=3, mapr=2, maps=1)
    found, opened = read("a.mrc", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.zyx == (5, 32, 40)


@pytest.mark.parametrize(
    ("samples", "kind"), [(3, "uint8"), (4, "uint8")], ids=["RGB", "RGBA"]
)
def test_colours_of_nifti_are_channels(tmp_path, samples, kind):
    nibabel = pytest.importorskip("nibabel")
    colours = np.stack([VOXELS.T, VOXELS.T + 1, VOXELS.T + 2, VOXELS.T * 0], -1)
    dtype = np.dtype([(name, kind) for name in "RGBA"[:samples]])
    voxels = np.ascontiguousarray(colours[..., :samples]).view(dtype)[..., 0]
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    found, _ = read("a.nii", tmp_path)
    np.testing.assert_array_equal(found, [VOXELS, VOXELS + 1, VOXELS + 2])


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_nrrd_is_read_with_its_size(tmp_path, encoding):
    nrrd = pytest.importorskip("nrrd")
    header = {"space directions": np.diag([4.0, 4.0, 50.0]), "encoding": encoding}
    header |= {"space dimension": 3, "space units": ["nm"] * 3}
    nrrd.write(str(tmp_path / "a.nrrd"), VOXELS.T.astype(np.uint16), header)
    found, opened = read("a.nrrd", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.voxel_size_nm == pytest.approx((50, 4, 4))


def write_nrrd(path, voxels, *lines):
    """Write a header by hand: ``nrrd.write`` knows too little of them."""
    sizes = " ".join(map(str, voxels.shape[::-1]))
    header = ["NRRD0004", "type: uint8", f"dimension: {voxels.ndim}"]
    header += [f"sizes: {sizes}", "encoding: raw", *lines, ""]
    path.write_bytes("\n".join([*header, ""]).encode() + voxels.tobytes())


COLOURS = np.stack([VOXELS[0], VOXELS[1], VOXELS[2]], -1)
DIRECTIONS = "space directions: none (4,0,0) (0,4,0)"


@pytest.mark.parametrize(
    "lines",
    [
        ("kinds: 3-color domain domain",),
        ("kinds: 3-vector space space",),
        ("kinds: point domain domain",),
        ("space dimension: 3", DIRECTIONS),
        ('labels: "channel" "x" "y"',),
        ('labels: "DAPI" "x" "y"', "kinds: list domain domain"),
    ],
)
def test_nrrd_tells_channels_from_space(tmp_path, lines):
    pytest.importorskip("nrrd")
    write_nrrd(tmp_path / "a.nrrd", COLOURS, *lines)
    with open_image("a.nrrd", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 1)[:, 0], VOXELS[:3])


def test_nrrd_names_its_axes_and_their_units(tmp_path):
    pytest.importorskip("nrrd")
    lines = ('labels: "z" "x" "y"', 'units: "nm" "nm" "nm"', "spacings: 50 8 4")
    write_nrrd(tmp_path / "a.nrrd", VOXELS.transpose(1, 2, 0), *lines)
    found, opened = read("a.nrrd", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.voxel_size_nm == (50, 4, 8)


@pytest.mark.parametrize(
    ("voxels", "lines", "channels"),
    [
        (
            np.stack([VOXELS, VOXELS + 1], -1),
            ('labels: "component" "x" "y" "z"', "kinds: vector space space space"),
            [VOXELS, VOXELS + 1],
        ),
        (VOXELS[:, None], ('labels: "x" "y" "channel" "depth of focus"',), [VOXELS]),
        (VOXELS, ('labels: "x" "y"',), [VOXELS]),
        (VOXELS, ("kinds: domain domain",), [VOXELS]),
        (VOXELS, ("kinds: domain domain domain list",), [VOXELS]),
        (VOXELS, ("spacings: 4 4",), [VOXELS]),
        (VOXELS, ("space dimension: 2", "space directions: (4,0) (0,4)"), [VOXELS]),
    ],
)
def test_what_nrrd_leaves_out_about_its_axes_is_filled_in(
    tmp_path, voxels, lines, channels
):
    pytest.importorskip("nrrd")
    write_nrrd(tmp_path / "a.nrrd", voxels, *lines)
    found, _ = read("a.nrrd", tmp_path)
    np.testing.assert_array_equal(found, channels)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (("kinds: list list domain domain",), "write into the sheet's column `axes`"),
        (("spacings: 4 4 many 4",), "is truncated, or no NRRD file"),
    ],
)
def test_what_nrrd_cannot_mean_by_its_axes_is_refused_by_name(tmp_path, lines, problem):
    pytest.importorskip("nrrd")
    write_nrrd(tmp_path / "a.nrrd", np.stack([COLOURS, COLOURS]), *lines)
    with pytest.raises(DataError, match=rf"a\.nrrd.*{problem}"):
        open_image("a.nrrd", tmp_path)


def test_units_of_nrrd_that_are_empty_hide_nothing(tmp_path):
    pytest.importorskip("nrrd")
    space = ("space: left-posterior-superior", 'units: "" "" ""')
    directions = "space directions: (0.004,0,0) (0,0.004,0) (0,0,0.05)"
    write_nrrd(tmp_path / "a.nrrd", VOXELS, *space, directions)
    _, opened = read("a.nrrd", tmp_path)
    assert opened.voxel_size_nm == pytest.approx((50_000, 4000, 4000))


@pytest.mark.parametrize("skip", ["line skip: 1", "lineskip: 1", "byte skip: 12"])
def test_nrrd_skips_what_stands_before_its_voxels(tmp_path, skip):
    pytest.importorskip("nrrd")
    write_nrrd(tmp_path / "a.nrrd", VOXELS, skip)
    content = (tmp_path / "a.nrrd").read_bytes()
    at = len(content) - VOXELS.size
    text = content[:at] + b"hello there\n" + content[at:]
    (tmp_path / "a.nrrd").write_bytes(text)
    found, _ = read("a.nrrd", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)


def letters(text):
    return np.array(list(str(text)), "S1")


def write_imaris(path):
    with h5py.File(path, "w") as file:
        for c in range(2):
            place = f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {c}"
            padded = np.zeros((8, 64, 64), np.uint8)
            padded[:5, :32, :40] = VOXELS + c
            data = file.create_dataset(f"{place}/Data", data=padded, chunks=(8, 32, 32))
            for axis, length in zip("ZYX", VOXELS.shape, strict=True):
                data.parent.attrs[f"ImageSize{axis}"] = letters(length)
            about = file.create_group(f"DataSetInfo/Channel {c}")
            about.attrs["Name"] = letters(("DAPI", "GFP")[c])
        about = file.create_group("DataSetInfo/Image")
        about.attrs["Unit"] = letters("um")
        for k, length in enumerate((40 * 0.004, 32 * 0.004, 5 * 0.05)):
            about.attrs[f"ExtMin{k}"] = letters(1.0)
            about.attrs[f"ExtMax{k}"] = letters(1.0 + length)


def test_imaris_is_read_without_its_padding(tmp_path):
    write_imaris(tmp_path / "a.ims")
    found, opened = read("a.ims", tmp_path)
    np.testing.assert_array_equal(found, np.stack([VOXELS, VOXELS + 1]))
    assert opened.channel_names == ("DAPI", "GFP")
    assert opened.voxel_size_nm == pytest.approx((50, 4, 4))
    place = "a.ims:DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"
    with open_image(place, tmp_path) as image:
        assert image.shape == (1, 8, 64, 64)


def link_to_others(data):
    parent = data.parent
    del parent["Data"]
    parent["Data"] = h5py.ExternalLink("other.h5", "raw")


def map_to_others(data):
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[...] = h5py.VirtualSource("other.h5", "raw", shape=data.shape)
    parent = data.parent
    del parent["Data"]
    parent.create_virtual_dataset("Data", layout)


@pytest.mark.parametrize("lead_out", [link_to_others, map_to_others])
def test_imaris_may_not_read_other_files_as_voxels(tmp_path, lead_out):
    write_imaris(tmp_path / "a.ims")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = np.ones((8, 64, 64), np.uint8)
    with h5py.File(tmp_path / "a.ims", "r+") as file:
        lead_out(file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"])
    with pytest.raises(DataError, match=r"a\.ims keeps voxels in other files"):
        open_image("a.ims", tmp_path)


@pytest.mark.parametrize("ending", ["ozx", "zip"])
@pytest.mark.parametrize("folder", ["", "a.ome.zarr/"])
def test_a_zipped_ome_zarr_is_read(tmp_path, ending, folder):
    group = zarr.create_group(tmp_path / "store")
    group.create_array("0", data=VOXELS, chunks=(2, 16, 16))
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [50, 4, 4]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [level]}]}
    with zipfile.ZipFile(tmp_path / f"a.{ending}", "w") as packed:
        for path in sorted((tmp_path / "store").rglob("*")):
            if path.is_file():
                name = path.relative_to(tmp_path / "store").as_posix()
                packed.write(path, f"{folder}{name}")
    found, opened = read(f"a.{ending}", tmp_path)
    np.testing.assert_array_equal(found[0], VOXELS)
    assert opened.voxel_size_nm == (50, 4, 4)
    assert [path.name for path in opened.files] == [f"a.{ending}"]


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg"])
def test_pictures_are_sections_where_there_are_no_others(tmp_path, ending):
    encode = {
        "bmp": imagecodecs.bmp_encode,
        "gif": imagecodecs.gif_encode,
        "jpg": lambda a: imagecodecs.jpeg_encode(a, level=100),
    }[ending]
    flat = VOXELS // 128 * 255
    (tmp_path / "s").mkdir()
    for z, section in enumerate(flat):
        (tmp_path / "s" / f"{z}.{ending}").write_bytes(encode(section))
    for cell in ("s", f"s/*.{ending}"):
        found, opened = read(cell, tmp_path)
        assert opened.shape == (1, *VOXELS.shape)
        if ending != "jpg":
            np.testing.assert_array_equal(found[0], flat)


@pytest.mark.parametrize("name", ["a.nii", "a.mrc", "a.nrrd", "a.ims"])
def test_what_is_damaged_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00nothing of the kind" * 99)
    with pytest.raises(DataError, match=rf"{name} is truncated, or no "):
        open_image(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "package"),
    [("a.nii.gz", "nibabel"), ("a.mrc", "mrcfile"), ("a.nrrd", "pynrrd")],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, name, package):
    def refuse(wanted, *_):
        raise ImportError(wanted)

    monkeypatch.setattr(importlib, "import_module", refuse)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"pip install {package}"):
        open_image(name, tmp_path)
    assert builtins.__import__ is not refuse


def test_formats_to_convert_are_named(tmp_path):
    (tmp_path / "a.vsi").write_bytes(b"II")
    with pytest.raises(
        DataError, match=r"a\.vsi is Olympus VSI, which is not read; con"
    ):
        open_image("a.vsi", tmp_path)


@pytest.mark.parametrize(
    ("name", "said"), [("a.nhdr", "a header of NRRD.*as one"), ("a.img", "half of a")]
)
def test_files_of_two_halves_are_named(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"{name} is {said}"):
        open_image(name, tmp_path)


def test_a_group_of_n5_is_named(tmp_path):
    pytest.importorskip("tensorstore", reason="only the extra `cloud` brings it")
    (tmp_path / "v.n5/raw").mkdir(parents=True)
    (tmp_path / "v.n5/raw/attributes.json").write_text('{"dataType": "uint8"}')
    for cell in ("v.n5", "v.n5/raw"):
        with pytest.raises(DataError, match="is a group of N5, not an array"):
            open_image(cell, tmp_path)
