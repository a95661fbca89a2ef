"""CZI, ND2 and LIF: axes, sizes, names, and what is said where several images lie."""

import sys
from types import ModuleType, SimpleNamespace

import dask.array
import numpy as np
import pytest

from unetpipe.errors import DataError
from unetpipe.images import open_image

VOXELS = np.random.default_rng(0).integers(0, 2000, (2, 3, 40, 50), np.uint16)


@pytest.fixture
def czi():
    return pytest.importorskip("pylibCZIrw.czi", reason="needs the extra `microscopes`")


def write_czi(library, path, *, scenes=1, at=(0, 0)):
    with library.create_czi(str(path)) as file:
        for scene in range(scenes):
            for c, z in np.ndindex(*VOXELS.shape[:2]):
                file.write(
                    np.ascontiguousarray(VOXELS[c, z, ..., None]) + scene,
                    location=(at[0] + 100 * scene, at[1]),
                    plane={"C": c, "Z": z, "T": 0},
                    scene=scene,
                )
        names = {0: "DAPI", 1: "GFP"}
        scales = {"scale_x": 1e-7, "scale_y": 2e-7, "scale_z": 5e-7}
        file.write_metadata("x", channel_names=names, **scales)


@pytest.mark.parametrize("at", [(0, 0), (-30, 70)])
def test_a_czi_is_read_with_its_size_and_names(tmp_path, czi, at):
    write_czi(czi, tmp_path / "a.czi", at=at)
    with open_image("a.czi", tmp_path) as image:
        assert image.plan.letters == "tczyx"
        assert np.array_equal(image.read_sections(0, 3), VOXELS)
        box = image.read_box(1, 2, slice(5, 20), slice(7, 40))
        assert np.array_equal(box, VOXELS[:, 1:2, 5:20, 7:40])
        assert image.voxel_size_nm == pytest.approx((500, 200, 100))
        assert image.channel_names == ("DAPI", "GFP")


def test_a_scene_of_several_is_named(tmp_path, czi):
    write_czi(czi, tmp_path / "a.czi", scenes=2)
    with pytest.raises(DataError, match=r"holds 2 scenes .0, 1.*such as a\.czi:0"):
        open_image("a.czi", tmp_path)
    with open_image("a.czi:1", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 3), VOXELS + 1)


def test_colours_of_a_czi_are_red_green_blue(tmp_path, czi):
    colours = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(np.ascontiguousarray(colours[..., ::-1]), plane={"C": 0, "T": 0})
    with open_image("a.czi", tmp_path) as image:
        assert np.array_equal(
            image.read_sections(0, 1)[:, 0], np.moveaxis(colours, 2, 0)
        )


def write_planes(library, path, planes):
    """Write planes, (t, z) each, of ten times z and one more."""
    with library.create_czi(str(path)) as file:
        for t, z in planes:
            voxels = np.full((40, 50, 1), 10 * z + 1, np.uint8)
            file.write(voxels, plane={"T": t, "C": 0, "Z": z})


def test_a_czi_may_begin_at_another_plane_than_the_first(tmp_path, czi):
    write_planes(czi, tmp_path / "a.czi", [(3, z) for z in (5, 6, 7)])
    with open_image("a.czi", tmp_path) as image:
        assert image.read_sections(0, 3)[0, :, 0, 0].tolist() == [51, 61, 71]
        assert image.remarks == ()


def test_planes_that_a_czi_lacks_are_told(tmp_path, czi):
    write_planes(czi, tmp_path / "a.czi", [(0, z) for z in (0, 1, 3)])
    with open_image("a.czi", tmp_path) as image:
        assert image.read_sections(0, 4)[0, :, 0, 0].tolist() == [1, 11, 0, 31]
        (remark,) = image.remarks
    assert "1 of its 4 planes (the first: t 0, c 0, z 2) are not in the file" in remark


def test_a_czi_in_several_files_is_known_by_its_ids(tmp_path, czi):
    for name, z in (("a", 0), ("a (1)", 1), ("a (2)", 2)):
        write_planes(czi, tmp_path / f"{name}.czi", [(0, z)])
    master = (tmp_path / "a.czi").read_bytes()[64:80]
    with open_image("a.czi", tmp_path) as image:  # a name alone tells nothing
        assert image.zyx[0] == 1
    part = bytearray((tmp_path / "a (1).czi").read_bytes())
    part[48:64], part[80] = master, 1
    (tmp_path / "a (1).czi").write_bytes(part)
    with pytest.raises(DataError, match=r"keeps voxels in a \(1\)\.czi too"):
        open_image("a.czi", tmp_path)
    with pytest.raises(DataError, match=r"a \(1\)\.czi is part 1 of a CZI in several"):
        open_image("a (1).czi", tmp_path)
    with open_image("a (2).czi", tmp_path) as image:
        assert image.zyx[0] == 1


def test_a_damaged_czi_is_said_to_be_damaged(tmp_path, czi):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(600))
    with pytest.raises(DataError, match=r"a\.czi is truncated, or no CZI file"):
        open_image("a.czi", tmp_path)


def stand_in(monkeypatch, name, **members):
    """Put a library in place that nothing can write files for."""
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_a_position_of_an_nd2_is_read_lazily(tmp_path, monkeypatch):
    whole = np.stack([VOXELS, VOXELS + 1])
    told = [SimpleNamespace(channel=SimpleNamespace(name=n)) for n in ("a", "b")]
    file = SimpleNamespace(
        sizes={"P": 2, "C": 2, "Z": 3, "Y": 40, "X": 50},
        to_dask=lambda: dask.array.from_array(whole),
        voxel_size=lambda: SimpleNamespace(x=0.1, y=0.1, z=0.3),
        metadata=SimpleNamespace(channels=told),
        close=lambda: None,
        _rdr=SimpleNamespace(_frame_offsets=dict.fromkeys(range(5), 0)),
    )
    stand_in(monkeypatch, "nd2", ND2File=lambda path: file)
    (tmp_path / "a.nd2").write_bytes(b"x")
    with pytest.raises(DataError, match="holds 2 positions"):
        open_image("a.nd2", tmp_path)
    with open_image("a.nd2:1", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 3), VOXELS + 1)
        assert image.voxel_size_nm == pytest.approx((300, 100, 100))
        assert image.channel_names == ("a", "b")
        (remark,) = image.remarks
        assert "1 of its 6 frames were never written, and are read as 0" in remark


def test_an_image_of_a_lif_is_named(tmp_path, monkeypatch):
    def image(name, voxels):
        coords = {"Z": np.arange(3) * 5e-7, "Y": np.arange(40) * -2e-7}
        return SimpleNamespace(
            name=name,
            sizes={"C": 2, "Z": 3, "Y": 40, "X": 50},
            dtype=voxels.dtype,
            nbytes=voxels.nbytes,
            coords=coords | {"X": np.arange(50) * 1e-7},
            asarray=lambda: voxels,
            memory_block=SimpleNamespace(size=voxels.nbytes if name == "two" else 0),
        )

    images = [image("one", VOXELS), image("two", VOXELS + 1)]
    closed: list[int] = []
    file = SimpleNamespace(images=images, close=lambda: closed.append(1))
    stand_in(monkeypatch, "liffile", LifFile=lambda path: file)
    (tmp_path / "a.lif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"2 images .one, two.*a\.lif:one"):
        open_image("a.lif", tmp_path)
    with open_image("a.lif:two", tmp_path) as image:
        assert np.array_equal(image.read_sections(0, 3), VOXELS + 1)
        assert image.voxel_size_nm == pytest.approx((500, 200, 100))
        assert image.remarks == ()
    with pytest.raises(DataError, match=r"a\.lif:one lacks its 24000 bytes"):
        open_image("a.lif:one", tmp_path)
    images[1].sizes["X"] = "many"
    with pytest.raises(DataError, match=r"a\.lif is truncated, or no LIF file"):
        open_image("a.lif:two", tmp_path)
    assert len(closed) == 4
    images[1].sizes["X"] = 50
    (tmp_path / "a.lifext").write_bytes(b"x")
    with open_image("a.lif:two", tmp_path) as image:
        (remark,) = image.remarks
        assert "a.lifext beside it" in remark


@pytest.mark.parametrize(
    ("name", "package"),
    [("a.czi", "pylibCZIrw"), ("a.nd2", "nd2"), ("a.lif", "liffile")],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, name, package):
    (tmp_path / name).write_bytes(b"x")
    for module in (package, f"{package}.czi"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"pip install {package} .or unetpipe\[micro"):
        open_image(name, tmp_path)
