"""Files of other tools: OME-Zarr 0.1 to 0.5, OME-TIFF, ImageJ hyperstacks, HDF5."""

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.lengths import nm_per_unit

MOVIE = np.random.default_rng(0).integers(0, 60_000, (3, 2, 4, 16, 20), np.uint16)
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def axis_of(letter):
    kind = {"t": "time", "c": "channel"}.get(letter, "space")
    unit = {"unit": UNITS[letter]} if letter in UNITS else {}
    return {"name": letter, "type": kind, **unit}


def scale(*factors):
    return [{"type": "scale", "scale": list(factors)}]


def write_zarr(path, data, version, axes="tczyx", chunks=None, **more):
    """Write an image of two levels, as other tools do."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=data, chunks=chunks or (1, 1, 3, 7, 9)[-data.ndim :])
    coarse = data[..., ::2, ::2]
    group.create_array("s1", data=coarse, chunks=coarse.shape)
    image = {
        "axes": [axis_of(letter) for letter in axes],
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": scale(
                    *(0.5, 1, 0.05, 0.004, 0.004)[-data.ndim :]
                ),
            },
            {
                "path": "s1",
                "coordinateTransformations": scale(
                    *(0.5, 1, 0.05, 0.008, 0.008)[-data.ndim :]
                ),
            },
        ],
    }
    about = {"multiscales": [image | more]}
    about["omero"] = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    group.attrs.update(
        {"ome": {"version": "0.5", **about}} if version == "0.5" else about
    )
    return group


def read(path, **options):
    with open_image(path.name, path.parent, Reading(**options)) as image:
        return image, image.read_sections(0, image.zyx[0])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    "chunks", [(1, 1, 1, 16, 20), (3, 2, 4, 16, 20), (2, 2, 3, 5, 7)]
)
def test_any_version_and_chunking_of_ome_zarr_is_read(tmp_path, version, chunks):
    write_zarr(tmp_path / "a.zarr", MOVIE, version, chunks=chunks)
    image, voxels = read(tmp_path / "a.zarr", time=2)
    np.testing.assert_array_equal(voxels, MOVIE[2])
    assert image.voxel_size_nm == pytest.approx((50, 4, 4))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.ready_store is None
    image, voxels = read(tmp_path / "a.zarr", time=0, channels=["GFP"])
    np.testing.assert_array_equal(voxels, MOVIE[0, 1:])
    assert image.channel_names == ("GFP",)


def test_scales_of_the_whole_image_count_too(tmp_path):
    write_zarr(
        *(tmp_path / "a.zarr", MOVIE[0, 0], "0.4", "zyx"),
        coordinateTransformations=scale(2, 3, 3),
    )
    assert read(tmp_path / "a.zarr")[0].voxel_size_nm == pytest.approx((100, 12, 12))


@pytest.mark.parametrize("axes", [None, ["t", "c", "z", "y", "x"]])
def test_axes_of_the_first_versions_are_known(tmp_path, axes):
    group = write_zarr(tmp_path / "a.zarr", MOVIE, "0.4")
    image = {"datasets": [{"path": "s0"}]} | ({"axes": axes} if axes else {})
    group.attrs.put({"multiscales": [image]})
    image, voxels = read(tmp_path / "a.zarr", time=1)
    np.testing.assert_array_equal(voxels, MOVIE[1])
    assert (image.voxel_size_nm, image.channel_names) == (None, ())


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_and_wells_are_refused_with_a_field_to_name(tmp_path, version):
    def attributes(**about):
        return {"ome": {"version": "0.5", **about}} if version == "0.5" else about

    zarr_format = 3 if version == "0.5" else 2
    plate = zarr.create_group(tmp_path / "p.zarr", zarr_format=zarr_format)
    wells = [{"path": "B/3"}, {"path": "B/4"}]
    plate.attrs.update(attributes(plate={"wells": wells}))
    well = plate.create_group("B").create_group("3")
    well.attrs.update(attributes(well={"images": [{"path": "0"}]}))
    write_zarr(tmp_path / "p.zarr/B/3/0", MOVIE[0], version, "czyx")
    with pytest.raises(DataError, match=r"plate of 2 wells .B/3, B/4., .*p.zarr/B/3/0"):
        open_image("p.zarr", tmp_path)
    with pytest.raises(DataError, match=r"well of 1 fields .0., .* such as 3/0"):
        open_image("p.zarr/B/3", tmp_path)
    with open_image("p.zarr/B/3/0", tmp_path) as image:
        assert image.shape == (2, 4, 16, 20)


def test_of_a_converted_file_the_only_image_is_read(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_zarr(tmp_path / "a.zarr/0", MOVIE[0], "0.4", "czyx")
    group.create_group("OME")
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[1], MOVIE[0])
    write_zarr(tmp_path / "a.zarr/1", MOVIE[0], "0.4", "czyx")
    with pytest.raises(
        DataError, match=r"holds 2 images; .* a.zarr/N with N from 0, 1"
    ):
        open_image("a.zarr", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"axes": [axis_of(a) for a in "zyx"]},
            "names the axes z, y, x, but its array",
        ),
        (
            {"axes": [{"name": n} for n in ("t", "c", "dz", "y", "x")]},
            "names the axes t, c, dz",
        ),
        ({"axes": [axis_of(a) for a in "tcayx"]}, "column `axes`"),
        ({"datasets": []}, "IndexError"),
        ({"datasets": [{"path": "nowhere"}]}, "nowhere"),
        (
            {"datasets": [{"path": "s0", "coordinateTransformations": scale(1)}]},
            "ValueError",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_refused_in_words(tmp_path, change, message):
    group = write_zarr(tmp_path / "a.zarr", MOVIE, "0.4")
    (image,) = group.attrs["multiscales"]
    group.attrs["multiscales"] = [image | change]
    with pytest.raises(DataError, match=message):
        open_image("a.zarr", tmp_path, Reading(time=0))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_an_image_says_and_is_not_heeded_is_told(tmp_path, version):
    group = write_zarr(tmp_path / "a.zarr", MOVIE[0, 0], version, "zyx")
    about = dict(group.attrs.get("ome", group.attrs))
    (image,) = about["multiscales"]
    image["datasets"] = image["datasets"][::-1]
    turned = {"type": "affine", "affine": [[1, 0, 0, 5]] * 3}
    image["datasets"][0]["coordinateTransformations"].append(turned)
    about["multiscales"] = [image | {"name": "raw"}, image | {"name": "clean"}]
    group.attrs.put({"ome": about} if version == "0.5" else about)
    image, voxels = read(tmp_path / "a.zarr")
    assert voxels.shape[3] == MOVIE.shape[-1] // 2
    several, smaller, unheeded = image.remarks
    assert "holds 2 images (raw, clean), of which the first is read" in several
    assert "its first level (s1) is smaller than s0" in smaller
    assert "affine, which is not heeded" in unheeded


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_sizes_that_are_none_are_not_believed(tmp_path, factor):
    group = write_zarr(tmp_path / "a.zarr", MOVIE[0, 0], "0.4", "zyx")
    (image,) = group.attrs["multiscales"]
    image["datasets"][0]["coordinateTransformations"] = scale(factor, 1, 1)
    group.attrs["multiscales"] = [image]
    image = read(tmp_path / "a.zarr")[0]
    assert image.voxel_size_nm == pytest.approx((1000, 1000, 1000))
    assert not image.is_size_known
    doubt, filled = image.size_remarks
    assert f"scale of z = {float(factor)} micrometer, which cannot be true" in doubt
    assert "along y and x alone: how far sections are apart is not known" in filled


def test_an_ome_tiff_of_five_axes_is_read_with_names_and_sizes(tmp_path):
    metadata = {"axes": "TCZYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    for axis, (size, unit) in {
        "Z": (0.05, "µm"),
        "Y": (40, "Å"),
        "X": (4, "nm"),
    }.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", MOVIE, metadata=metadata, ome=True)
    image, voxels = read(tmp_path / "a.ome.tif", time=1, channels=["GFP", "DAPI"])
    np.testing.assert_array_equal(voxels, MOVIE[1, ::-1])
    assert image.voxel_size_nm == pytest.approx((50, 4, 4))
    assert image.channel_names == ("GFP", "DAPI")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_imagej_hyperstack_is_read_with_its_size(tmp_path, compression):
    tifffile.imwrite(
        tmp_path / "a.tif",
        MOVIE.transpose(0, 2, 1, 3, 4),
        imagej=True,
        resolution=(250, 250),
        metadata={"axes": "TZCYX", "spacing": 0.05, "unit": "um"},
        compression=compression,
    )
    image, voxels = read(tmp_path / "a.tif", time=2, channels=["1"], num_threads=2)
    np.testing.assert_array_equal(voxels, MOVIE[2, 1:])
    assert image.voxel_size_nm == pytest.approx((50, 4, 4))


def test_hdf5_of_five_axes_is_read_as_the_sheet_says(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("m/raw", data=MOVIE, chunks=(1, 2, 3, 8, 8))
        array.attrs["element_size_um"] = (0.05, 0.004, 0.004)
    options = {"axes": "tczyx", "time": 2, "channels": ["1"]}
    with open_image("a.h5:m/raw", tmp_path, Reading(**options)) as image:
        np.testing.assert_array_equal(image.read_sections(1, 3), MOVIE[2, 1:, 1:3])
        assert image.voxel_size_nm == pytest.approx((50, 4, 4))


@pytest.mark.parametrize("shape", [(3, 4, 16, 20), (4, 16, 20)])
def test_labels_of_a_movie_may_be_a_movie_too_or_not(tmp_path, shape):
    ids = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["ids"] = ids
    options = {"axes": "tczyx", "time": 2, "is_labels": True}
    with open_image("l.h5:ids", tmp_path, Reading(**options)) as labels:
        found = labels.read_sections(0, 4)[0]
    np.testing.assert_array_equal(found, ids[2] if ids.ndim == 4 else ids)


KNOWN = {"µm": 1e3, "\u03bcm": 1e3, "Meter": 1e9, "\\u00B5m": 1e3, "inch": 2.54e7}


@pytest.mark.parametrize(("unit", "nm"), KNOWN.items())
def test_units_of_length_are_known(unit, nm):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize("unit", ["pixel", "", None, 7])
def test_what_is_no_length_is_not_guessed(unit):
    assert nm_per_unit(unit) is None
