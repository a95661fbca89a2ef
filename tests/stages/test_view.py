"""A run is served until it is ended, with addresses that lead to its stores."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import numpy as np
import pytest

from tests.browser import Browser, needs_chromium
from tests.records.whole import whole
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.errors import ConfigError, DataError
from unetpipe.records.prediction import Output, Outputs, Prediction
from unetpipe.report.page.commands import (
    PRECOMPUTED,
    Layer,
    neuroglancer_state,
    probability_layer,
)
from unetpipe.report.page.templates import render
from unetpipe.report.store_server import StoreServer
from unetpipe.report.viewed import list_views
from unetpipe.runtime.files import write_record
from unetpipe.stages.view import _page, view
from unetpipe.storage.dropping import NOTE
from unetpipe.storage.volumes import create_volume
from unetpipe.tiling.boxes import UNKNOWN_SIZE


@pytest.fixture
def run(tmp_path):
    """Return the records of a run: one predicted volume, one that is stored only."""
    stored = np.zeros((1, 2, 16, 16), np.uint8)
    stored[:, :, 3:9, 3:9] = 255
    predicted = store_prediction(tmp_path / "p q", stored, (2, 16, 16))
    made = Segmented(predicted, tmp_path / "s", connectivity="2d")
    made.run()
    ingests = []
    for name in ("cells", "other"):
        store = tmp_path / name / "image.ome.zarr"
        kinds = {"dtype": "uint8", "chunk": (2, 16, 16), "shard": (2, 16, 16)}
        create_volume(
            store,
            shape=(2, 16, 16),
            **kinds,
            voxel_size_nm=(50, 4, 4),
            channels=("image",),
        )
        record = whole("ingest", {"volume": name, "image": {"store": str(store)}})
        ingests.append(tmp_path / name / "ingest.json")
        write_record(ingests[-1], record)
    files = {
        "model": "unet",
        "volume": "cells",
        "prediction": str(predicted / "prediction.json"),
        "segmentation": str(tmp_path / "s/segmentation.json"),
        "precomputed": str(tmp_path / "s/precomputed.json"),
    }
    missing = files | {"model": "later", "prediction": "no.json", "segmentation": "no"}
    return {"ingests": ingests, "predictions": [files, missing], "run": "tiny"}


def test_addresses_lead_to_stores_that_are_served(run):
    views = list(list_views(run["ingests"], run["predictions"]))
    assert [one.title for one in views] == ["cells by unet", "other"]
    with StoreServer({k: v for one in views for k, v in one.stores.items()}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found = unquote(views[0].neuroglancer(server.address)).partition("#!")[2]
        state = json.loads(found)
        assert list(state["dimensions"]) == ["x", "y", "z"]
        layers = state["layers"]
        assert [(one["type"], one["name"]) for one in layers] == [
            ("image", "image"),
            ("image", "probability"),
            ("segmentation", "objects"),
        ]
        for layer in layers:
            assert layer["source"].startswith(f"zarr3://{server.address}")
            url = layer["source"].removeprefix("zarr3://")
            with urlopen(f"{url}/zarr.json") as answer:
                assert "ome" in json.load(answer)["attributes"]
        server.shutdown()


@pytest.mark.parametrize(
    ("size_nm", "dimension"),
    [((40.0, 10.0, 10.0), [1e-8, "m"]), (UNKNOWN_SIZE, [1, ""])],
)
def test_precomputed_voxels_lie_where_those_of_the_image_do(size_nm, dimension):
    """Neuroglancer has the centre of an OME-Zarr's voxel where it has their corner."""
    layers = [
        Layer("image", "image", "i"),
        Layer("segmentation", "ids", "p", PRECOMPUTED),
    ]
    state = json.loads(neuroglancer_state(layers, "http://a/", size_nm))
    assert state["dimensions"]["x"] == dimension
    image, ids = (layer["source"] for layer in state["layers"])
    assert image == "zarr3://http://a/i"
    assert ids["url"] == "precomputed://http://a/p"
    for side in ("inputDimensions", "outputDimensions"):  # or units would not fit
        assert ids["transform"][side] == state["dimensions"]
    expected = np.column_stack([np.eye(3), np.full(3, -0.5)])
    np.testing.assert_array_equal(ids["transform"]["matrix"], expected)


@pytest.mark.parametrize("is_of_classes", [False, True])
def test_viewers_begin_with_the_foreground(is_of_classes):
    """Neuroglancer's own choice is the channel in the middle: of affinities any one."""
    store = Output(store=Path("p.ome.zarr"))
    outputs = Outputs(probability=store, classes=store if is_of_classes else None)
    layers = [Layer("image", "image", "i"), probability_layer(outputs, "p")]
    shown = json.loads(neuroglancer_state(layers, "a/", UNKNOWN_SIZE))["layers"]
    assert [one["localPosition"] for one in shown] == [[0], [int(is_of_classes)]]
    assert {tuple(one["localDimensions"]) for one in shown} == {("c'",)}


def test_frames_are_as_long_as_pixels_and_have_no_unit_in_neuroglancer():
    state = json.loads(neuroglancer_state([], "http://a/", (None, 10.0, 10.0)))
    assert state["dimensions"]["z"] == [10, ""]
    assert state["dimensions"]["y"] == [1e-8, "m"]
    # Else a frame would be shown 1e9 times as thick as its pixels are wide.
    assert state["relativeDisplayScales"] == {"z": 1e-9}


def test_napari_opens_image_probability_and_mask(run):
    command = next(list_views(run["ingests"], run["predictions"])).napari_command()
    assert command.startswith("napari --plugin napari-ome-zarr ")
    assert "p q/probability.ome.zarr'" in command
    assert command.endswith("segmentation.ome.zarr")


def test_a_probability_that_was_dropped_is_not_shown(run):
    predicted = Prediction.read(Path(run["predictions"][0]["prediction"]))
    write_record(predicted.outputs.home / NOTE, {"num_bytes": 1, "stores": []})
    (first, _) = list_views(run["ingests"], run["predictions"])
    assert [layer.name for layer in first.layers] == ["image", "objects"]


def test_what_cannot_be_served_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="nothing to see"):
        view(ingests=[tmp_path / "no.json"], predictions=[], port=0, run="tiny")
    with StoreServer({}) as other, pytest.raises(ConfigError, match="another one"):
        view(**run, port=other.server_port)


SERVED = """
import json, sys
from pathlib import Path
from unetpipe.stages.view import view
asked = json.load(sys.stdin)
view(**asked | {"ingests": [Path(path) for path in asked["ingests"]]}, port=0)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_ended(run, ending):
    asked = json.dumps(run | {"ingests": [str(path) for path in run["ingests"]]})
    with subprocess.Popen(
        [sys.executable, "-c", SERVED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        process.stdin.write(asked)
        process.stdin.close()
        told = ""
        while "Control-C" not in told:
            told += process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", told)[0]
        with urlopen(address) as answer:
            assert b"open in neuroglancer" in answer.read()
        process.send_signal(ending)
        assert process.wait() == 0
    assert "neuroglancer-demo" in told
    assert "napari --plugin" in told
    assert "1 more" in told


@needs_chromium
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_and_asks_nobody(run, tmp_path, width):
    views = list(list_views(run["ingests"], run["predictions"]))
    page = tmp_path / "page.html"
    address = "http://127.0.0.1:4321/" + "t" * 22 + "/"
    page.write_bytes(render("view.html", _page("tiny", views, address)))
    with Browser(page, tmp_path / "profile", width=width) as browser:
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.links.length") == 2 + 1
        assert browser.requests == []
        assert browser.complaints == []
        if shots := os.environ.get("UNETPIPE_SHOTS"):
            browser.screenshot(Path(shots, f"view-{width}.png"))
