"""napari with its ome-zarr plugin opens what leaves the program.

`make test-napari` installs both and runs this; elsewhere it is skipped. The picture of
a window needs OpenGL, which `xvfb-run` (packages xvfb and libgl1-mesa-dri) provides on
a machine without a screen.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from matplotlib.image import imread

from tests.phantoms import draw_phantom
from tests.records.whole import whole
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.export_ngff04 import export_ngff04
from unetpipe.storage.ngff import class_colours_of_ngff, ngff_class_names
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    set_colours,
    write_shard,
)

if find_spec("napari") is None or find_spec("napari_ome_zarr") is None:
    pytest.skip(
        "napari and napari-ome-zarr are not installed: run `make test-napari`",
        allow_module_level=True,
    )

SHAPE, SIZE = (4, 600, 600), (50.0, 4.0, 4.0)


def store(path, voxels, **more):
    array = create_volume(
        path,
        shape=SHAPE,
        dtype=voxels.dtype,
        chunk=(1, 200, 200),
        shard=SHAPE,
        voxel_size_nm=SIZE,
        **more,
    )
    write_shard(array, (0, 0, 0), voxels)
    build_pyramid(path, is_labels="unlabelled" in more)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Image with annotated labels, probability with objects, and a 0.4 export."""
    folder = tmp_path_factory.mktemp("stores")
    image, cells = draw_phantom(shape=SHAPE, num_cells=60, noise=12.0, seed=1)
    inside = (cells > 0).astype(np.uint8)
    made = {"image": store(folder / "image.ome.zarr", image[None], channels=("image",))}
    labels = create_labels_group(made["image"], ("annotated",))
    store(labels / "annotated", inside, unlabelled=0)
    set_colours(labels / "annotated", class_colours_of_ngff(2))
    made["probability"] = store(
        folder / "probability.ome.zarr",
        255 * inside[None],
        channels=ngff_class_names(("background", "cell")),
    )
    objects = create_labels_group(made["probability"], ("objects",)) / "objects"
    store(objects, cells.astype(np.uint32), unlabelled=0)
    records = {
        "ingest": {
            "volume": "a",
            "image": {"store": str(made["image"]), "content_sha256": "1"},
        },
        "prediction": {
            "outputs": {"probability": {"store": str(made["probability"])}},
            "content_sha256": "2",
        },
        "segmentation": {"objects": str(objects), "identity": {}},
    }
    for name, record in records.items():
        write_record(folder / f"{name}.json", whole(name, record))
    export_ngff04(
        **{name: folder / f"{name}.json" for name in records},
        levels=(0, 1),
        folder=folder,
        record=folder / "ngff04.json",
    )
    exported = folder / read_record(folder / "ngff04.json")["folder"]
    return made | {"exported": exported / "image.ome.zarr", "cells": cells}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Settings of napari's own, and no screen."""
    folder = tmp_path_factory.mktemp("napari")
    return os.environ | {
        "NAPARI_CONFIG": str(folder / "settings.yaml"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="module")
def opened(stores, environment):
    """What layers each store becomes in a fresh napari."""
    names = ("image", "probability", "exported")
    command = [sys.executable, "-m", "tests.viewer.napari_layers"]
    command += [str(stores[name]) for name in names]
    done = subprocess.run(
        command, check=True, env=environment, timeout=300, stdout=subprocess.PIPE
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[str(stores[name])] for name in names}


def sha256(voxels):
    return hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()


def test_an_image_opens_with_its_labels_at_their_size(stores, opened):
    image, labels = opened["image"]
    assert (image["kind"], labels["kind"]) == ("Image", "Labels")
    assert (image["name"], labels["name"]) == (
        "image: image",
        "labels/labels/annotated",
    )
    for layer in (image, labels):
        assert layer["shapes"] == [list(SHAPE), [4, 300, 300]]
        assert layer["scale"] == list(SIZE)
        assert set(layer["units"]) == {"nanometer"}
    inside = (stores["cells"] > 0).astype(np.uint8)
    assert labels["sha256"] == sha256(inside)
    expected = np.array(class_colours_of_ngff(2)[1]) / 255
    assert labels["colour"] == pytest.approx(expected, abs=0.01)


def test_a_probability_opens_in_the_colour_of_its_class_with_its_objects(
    stores, opened
):
    shown, objects = opened["probability"]
    assert shown["name"].endswith("cell")
    assert shown["limits"] == [0, 255]
    expected = np.array(class_colours_of_ngff(2)[1]) / 255
    assert shown["colour"] == pytest.approx(expected, abs=0.01)
    assert objects["sha256"] == sha256(stores["cells"].astype(np.uint32))


def test_the_export_of_0_4_opens_too(stores, opened):
    image, objects = opened["exported"]
    assert image["scale"] == list(SIZE)
    assert len(image["shapes"]) == 2
    assert objects["sha256"] == sha256(stores["cells"].astype(np.uint32))


def test_a_window_shows_image_probability_and_objects(stores, environment, tmp_path):
    if shutil.which("xvfb-run") is None:
        pytest.skip("no picture taken: xvfb-run is not installed (apt install xvfb)")
    picture = tmp_path / "napari.png"
    command = ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24", sys.executable]
    command += ["-m", "tests.viewer.napari_window", str(stores["image"])]
    command += [str(stores["probability"]), str(picture)]
    software = {"QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1"}
    subprocess.run(command, check=True, env=environment | software, timeout=300)
    canvas = imread(picture)[:, -600:, :3]
    colours = {tuple(c) for c in np.round(canvas[::7, ::7].reshape(-1, 3) * 7)}
    assert len(colours) > 30  # cells of many colours over grey
