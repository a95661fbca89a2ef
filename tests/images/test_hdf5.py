"""HDF5: by every name, in whatever files, in whatever packing."""

import h5py
import imagecodecs
import numpy as np
import pytest

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image

VOXELS = np.random.default_rng(0).integers(1, 255, (5, 32, 40), np.uint8)


def read(cell, root, **options):
    with open_image(cell, root, Reading(**options)) as image:
        return image.read_sections(0, image.zyx[0])[0]


@pytest.mark.parametrize(
    "name", ["volumes/raw_s0", "volumes/raw", "alias", "/soft", "group/raw_s0", "up"]
)
def test_every_name_of_a_dataset_gives_its_voxels(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw_s0"] = VOXELS
        file["volumes/raw"] = h5py.SoftLink("/volumes/raw_s0")
        file["alias"] = file["volumes/raw_s0"]
        file["soft"] = h5py.SoftLink("volumes/raw")  # a link to a link
        file["group"] = h5py.SoftLink("/volumes")
        file["up"] = h5py.SoftLink("group/raw")
    np.testing.assert_array_equal(read(f"a.h5:{name}", tmp_path), VOXELS)
    np.testing.assert_array_equal(read("a.h5", tmp_path), VOXELS)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        *[("/nowhere", "is a link to '/nowhere', which is not in the file")],
        *[("raw", "is a link to '//raw', which is not"), ("/away", "file 'other.h5'")],
    ],
)
def test_a_link_to_nothing_or_elsewhere_names_its_target(tmp_path, target, message):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = VOXELS
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = h5py.SoftLink(target)
        file["away"] = h5py.ExternalLink("other.h5", "raw")
    with pytest.raises(DataError) as error:
        open_image("a.h5:raw" if target != "/away" else "a.h5:away", tmp_path)
    assert message in str(error.value)


def write_virtual(path, names, voxels=VOXELS, *, is_cut=False):
    layout = h5py.VirtualLayout(voxels.shape, voxels.dtype)
    for z, name in enumerate(names):
        part = h5py.VirtualSource(name, "data", shape=voxels[z].shape)
        if is_cut:
            layout[z, :, 4:] = part[:, 4:]
        else:
            layout[z] = part
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("raw", layout)


def write_parts(folder, names):
    for z, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / name, "w") as file:
            file["data"] = VOXELS[z]


NAMES = [f"parts/part{z}.h5" for z in range(5)]


def test_a_virtual_dataset_is_read_and_all_its_files_are_told(tmp_path):
    write_parts(tmp_path, NAMES)
    write_virtual(tmp_path / "v.h5", NAMES)
    with open_image("v.h5:raw", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 5)[0], VOXELS)
        found = [path.relative_to(tmp_path).as_posix() for path in image.files]
    assert found == ["v.h5", *NAMES]
    write_virtual(tmp_path / "cut.h5", NAMES, is_cut=True)
    cut = VOXELS.copy()
    cut[..., :4] = 0
    np.testing.assert_array_equal(read("cut.h5", tmp_path), cut)


def test_a_virtual_dataset_of_a_virtual_dataset_tells_all_files(tmp_path):
    write_parts(tmp_path, NAMES)
    write_virtual(tmp_path / "inner.h5", NAMES)
    layout = h5py.VirtualLayout(VOXELS.shape, VOXELS.dtype)
    layout[:] = h5py.VirtualSource("inner.h5", "raw", shape=VOXELS.shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    with open_image("v.h5", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 5)[0], VOXELS)
        assert len(image.files) == 7


def damage(folder, how):
    path = folder / NAMES[3]
    if how == "gone":
        path.unlink()
    elif how == "link to nothing":
        path.unlink()
        path.symlink_to(folder / "parts/nowhere")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:600])
    elif how == "renamed":
        with h5py.File(path, "w") as file:
            file["other"] = VOXELS[3]
    elif how == "smaller":
        with h5py.File(path, "w") as file:
            file["data"] = VOXELS[3, :16]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        *[
            ("gone", "which is missing"),
            ("link to nothing", "a link to .*nowhere, which is not there"),
        ],
        *[("truncated", "truncated"), ("renamed", "has no dataset 'data'")],
        ("smaller", r"wants more of .*than it holds, which is \(16, 40\)"),
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_part_of_a_virtual_dataset_that_was_lost_is_named(
    tmp_path, how, message, is_cut
):
    write_parts(tmp_path, NAMES)
    write_virtual(tmp_path / "v.h5", NAMES, is_cut=is_cut)
    damage(tmp_path, how)
    with pytest.raises(DataError, match=message) as error:
        open_image("v.h5", tmp_path)
    assert "part3.h5" in str(error.value)


def test_a_virtual_dataset_cannot_lead_out_of_its_folder(tmp_path):
    write_parts(tmp_path, NAMES)
    (tmp_path / "in").mkdir()
    write_virtual(tmp_path / "in/v.h5", [f"../{name}" for name in NAMES])
    with pytest.raises(DataError, match=r"keeps voxels in '\.\./parts/part0\.h5'"):
        open_image("v.h5", tmp_path / "in")


def write_filtered(path, code, encode, chunks=range(2)):
    """Write chunks as a filter would that is not installed."""
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((1, 32, 40))
        plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1, 1280, 5, 1, 0))
        space = h5py.h5s.create_simple((2, 32, 40))
        kind = h5py.h5t.NATIVE_UINT8
        array = h5py.h5d.create(file.id, b"raw", kind, space, plan)
        for z in chunks:
            array.write_direct_chunk((z, 0, 0), encode(VOXELS[z]), 0)


@pytest.mark.parametrize(
    ("code", "name", "encode"),
    [
        (32001, "blosc", lambda a: imagecodecs.blosc_encode(a, level=5)),
        (32015, "zstd", imagecodecs.zstd_encode),
        (32099, "of its maker", lambda a: a.tobytes()),
    ],
)
def test_a_packing_that_is_not_installed_is_named(tmp_path, code, name, encode):
    write_filtered(tmp_path / "a.h5", code, encode)
    if h5py.h5z.filter_avail(code):
        np.testing.assert_array_equal(read("a.h5", tmp_path), VOXELS[:2])
        return
    with pytest.raises(DataError) as error:
        open_image("a.h5", tmp_path)
    assert f"the HDF5 filter {code} ({name}), which is not installed" in str(
        error.value
    )
    assert "hdf5plugin" in str(error.value)
    assert "copy" not in str(error.value)


def test_chunks_that_were_never_written_are_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = {"chunks": (1, 32, 40), "fillvalue": 7}
        array = file.create_dataset("raw", VOXELS.shape, "u1", **kind)
        array[:3] = VOXELS[:3]
        file.create_dataset("nothing", VOXELS.shape, "u1", **kind)
    with open_image("a.h5:raw", tmp_path) as image:
        (remark,) = image.remarks
        assert np.unique(image.read_sections(3, 5)).tolist() == [7]
    assert remark.endswith("2 of 5 chunks were never written and read as 7")
    with pytest.raises(DataError, match="holds no voxels"):
        open_image("a.h5:nothing", tmp_path)
    assert not (read("a.h5:nothing", tmp_path, is_labels=True) - 7).any()


def test_dimensions_that_are_named_or_have_scales_are_known(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["long"] = file["scaled"] = VOXELS[:3]
        for k, name in enumerate(("channel", "y", "x")):
            file["long"].dims[k].label = name
            scale = file.create_dataset(name, data=np.arange(VOXELS[:3].shape[k]))
            scale.make_scale(name)
            file["scaled"].dims[k].attach_scale(scale)
    for name in ("long", "scaled"):
        with open_image(f"a.h5:{name}", tmp_path) as image:
            assert image.shape == (3, 1, 32, 40)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("axes", "xyzc"),
        ("axes", ["x", "y", "z", "channel"]),
        ("AXES", "XYZC"),
        ("axis_order", "x, y, z, c"),
        ("DIMENSIONS", "x:y:z:channel"),
    ],
)
def test_an_attribute_may_name_the_axes(tmp_path, key, value):
    channels = np.stack([VOXELS, VOXELS + 1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = channels.T
        file["raw"].attrs[key] = value
        file["odd"] = VOXELS
        file["odd"].attrs[key] = "something else"
    with open_image("a.h5:raw", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 5), channels)
    np.testing.assert_array_equal(read("a.h5:odd", tmp_path), VOXELS)


@pytest.mark.parametrize("key", ["unit", "units", "resolution_unit"])
@pytest.mark.parametrize("unit", ["um", ["um"] * 3, np.array([b"um"] * 3)])
def test_a_resolution_may_say_its_unit(tmp_path, key, unit):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["raw"].attrs["resolution"] = (0.04, 0.008, 0.004)
        file["raw"].attrs[key] = unit
    with open_image("a.h5", tmp_path) as image:
        assert image.voxel_size_nm == pytest.approx((40, 8, 4))


@pytest.mark.parametrize(
    ("axes", "voxels", "resolution"),
    [
        ("xyz", VOXELS.T, (4, 8, 40)),
        ("yzx", VOXELS.transpose(1, 0, 2), (8, 40, 4)),
        ("zyxc", VOXELS[..., None], (40, 8, 4)),
        (["sweep", "y", "x"], VOXELS, (40, 8, 4)),
    ],
)
def test_a_resolution_follows_the_axes_that_are_named(
    tmp_path, axes, voxels, resolution
):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels
        attributes = file["raw"].attrs
        attributes["axes"], attributes["resolution"] = axes, resolution
        attributes["offset"] = np.array(resolution) * [1, 2, 3]
    with open_image("a.h5", tmp_path) as image:
        np.testing.assert_array_equal(image.read_sections(0, 5)[0], VOXELS)
        assert image.voxel_size_nm == (40, 8, 4)
        steps = dict(zip(resolution, (1, 2, 3), strict=True))
        assert image.source.origin == (steps[40], steps[8], steps[4])


@pytest.mark.parametrize("unit", ["grey value", "", ["", "", ""]])
def test_a_unit_of_something_else_hides_no_resolution(tmp_path, unit):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["raw"].attrs["resolution"] = (40, 8, 4)
        file["raw"].attrs["unit"] = unit
    with open_image("a.h5", tmp_path) as image:
        assert image.voxel_size_nm == (40, 8, 4)


def test_a_resolution_in_pixels_is_no_length(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["raw"].attrs["resolution"] = (1, 1, 1)
        file["raw"].attrs["unit"] = "pixel"
    with open_image("a.h5", tmp_path) as image:
        assert image.voxel_size_nm is None


@pytest.mark.parametrize("values", [(40, -4, 4), (40, np.nan, 4), (40, np.inf, 4)])
def test_a_resolution_that_cannot_be_true_is_not_believed(tmp_path, values):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["raw"].attrs["resolution"] = values
    with open_image("a.h5", tmp_path) as image:
        assert image.voxel_size_nm == (40, 4, 4)
        assert "attribute resolution says y = " in image.remarks[0]
