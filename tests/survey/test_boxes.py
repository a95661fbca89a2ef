"""Labels of boxes of an image: found by what their files say of their place."""

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from unetpipe.survey.understanding import understand

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (12, 64, 80), np.uint8)
CORNERS = [(2, 8, 16), (3, 30, 40)]
BOX = np.zeros((4, 20, 24), np.uint32)
BOX[:, 2:9, 2:9], BOX[:, 11:18, 5:15] = 1, 2


def write_image(path, array, *, translation=None):
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=array, chunks=array.shape)
    moves = [{"type": "scale", "scale": [40.0, 4.0, 4.0]}]
    if translation:
        moves.append({"type": "translation", "translation": translation})
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    levels = [{"path": "0", "coordinateTransformations": moves}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]


def in_one_store(folder):
    write_image(folder / "brain.zarr", IMAGE)
    labels = [f"brain.zarr/labels/cells{k}" for k in (1, 2)]
    for name, (z, y, x) in zip(labels, CORNERS, strict=True):
        write_image(folder / name, BOX, translation=[40.0 * z, 4.0 * y, 4.0 * x])
    return "brain.zarr", labels


def beside_the_image(folder):
    tifffile.imwrite(folder / "brain.tif", IMAGE, photometric="minisblack")
    labels = [f"brain_labels_{k}.zarr" for k in (1, 2)]
    for name, (z, y, x) in zip(labels, CORNERS, strict=True):
        write_image(folder / name, BOX, translation=[40.0 * z, 4.0 * y, 4.0 * x])
    return "brain.tif", labels


def in_hdf5(folder):
    with h5py.File(folder / "sample.h5", "w") as file:
        file.create_dataset("volumes/raw", data=IMAGE)
        labels = file.create_dataset("volumes/labels/neuron_ids", data=BOX)
        labels.attrs["resolution"] = (40.0, 4.0, 4.0)
        labels.attrs["offset"] = (80.0, 32.0, 64.0)
    return "sample.h5:volumes/raw", ["sample.h5:volumes/labels/neuron_ids"]


@pytest.mark.parametrize("write", [in_one_store, beside_the_image, in_hdf5])
def test_boxes_are_found_and_their_sections_share_the_roles(tmp_path, write):
    image, labels = write(tmp_path)
    found = understand(tmp_path, "m", "auto", "auto")
    (volume,) = {row.volume for row in found.rows}
    assert (volume.image, volume.labels) == (image, ";".join(labels))
    assert [box.start for box in volume.boxes] == CORNERS[: len(labels)]
    sections = {z for row in found.rows for z in row.sections}
    assert sections == set(range(2, 6 if write is in_hdf5 else 7))
    assert found.kind.label_kind == "instances"
