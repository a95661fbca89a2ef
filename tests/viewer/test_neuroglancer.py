"""Neuroglancer itself shows what ``snakemake view`` serves, in headless Chromium.

Its client is that of the Python package ``neuroglancer``; where it is not installed,
``UNETPIPE_NEUROGLANCER`` names the folder with its ``index.html``, of an unpacked wheel
or a build from npm. ``UNETPIPE_SHOTS=FOLDER`` keeps the pictures.
"""

import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, needs_chromium
from tests.records.whole import whole
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config.viewing import PrecomputedConfig
from unetpipe.report.page.commands import NEUROGLANCER
from unetpipe.report.store_server import StoreServer
from unetpipe.report.viewed import list_views
from unetpipe.runtime.files import write_record
from unetpipe.stages.export_precomputed import export_precomputed
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import create_volume, open_volume
from unetpipe.tiling.boxes import UNKNOWN_SIZE

pytestmark = [pytest.mark.slow, needs_chromium]

SHAPE, SHARD = (24, 64, 96), (24, 64, 96)
SIZE_NM = (40, 10, 10)
# The volume in the panel of x and y, and in that of three dimensions.
FIRST_PANEL = np.s_[215:305, 240:360]
LAST_PANEL = np.s_[500:, 50:550]
SECONDS = 240  # until everything is drawn, by a busy processor


def find_client() -> Path | None:
    """Return the folder of neuroglancer's page, None if there is none."""
    if given := os.environ.get("UNETPIPE_NEUROGLANCER"):
        return Path(given)
    package = find_spec("neuroglancer")
    folder = Path(package.origin).parent / "static/client" if package else None
    return folder if folder and (folder / "index.html").exists() else None


@pytest.fixture
def client():
    """Serve neuroglancer's page; yield its address."""
    folder = find_client()
    if folder is None:
        pytest.skip("neuroglancer is not installed: it was NOT opened")

    class Silent(SimpleHTTPRequestHandler):
        """The package's page wants to lie at ``/v/TOKEN``, a build does not mind."""

        def translate_path(self, path):
            return super().translate_path(path.removeprefix("/v/1"))

        def log_message(self, *_):
            pass

    serve = partial(Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v/1"
        server.shutdown()


@pytest.fixture(params=[SIZE_NM, UNKNOWN_SIZE], ids=["known", "unknown"])
def run(request, tmp_path):
    """A volume with two balls: image, probability and objects, as records."""
    size_nm = request.param
    z, y, x = np.ogrid[tuple(map(slice, SHAPE))]
    balls = [(4 * (z - 12)) ** 2 + (y - 32) ** 2 + (x - c) ** 2 < 400 for c in (24, 70)]
    inside = balls[0] | balls[1]
    stored = np.where(inside, 255, 0).astype(np.uint8)[None]
    predicted = store_prediction(tmp_path / "p q", stored, SHARD, voxel_size_nm=size_nm)
    Segmented(predicted, tmp_path / "s", connectivity="3d").run()
    store = tmp_path / "image.ome.zarr"
    create_volume(
        store,
        shape=SHAPE,
        dtype="uint8",
        chunk=(8, 32, 32),
        shard=SHARD,
        voxel_size_nm=size_nm,
        channels=("image",),
    )
    noise = np.random.default_rng(0).normal(0, 12, SHAPE)
    open_volume(store, mode="r+")[0] = np.where(inside, 190, 60) + noise
    build_pyramid(store, is_labels=False)
    record = {"volume": "cells", "voxel_size_nm": size_nm}
    record |= {"image": {"store": str(store)}}
    write_record(tmp_path / "ingest.json", whole("ingest", record))
    return {
        "model": "unet",
        "volume": "cells",
        "prediction": str(predicted / "prediction.json"),
        "segmentation": str(tmp_path / "s/segmentation.json"),
        "precomputed": str(tmp_path / "precomputed.json"),
    }


def open_run(run, client, folder, name):
    """Open the printed address with our client; return (picture, browser)."""
    (shown,) = list_views([folder / "ingest.json"], [run])
    with StoreServer(shown.stores) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = shown.neuroglancer(server.address).replace(NEUROGLANCER, client)
        with Browser(address, folder / "profile", has_webgl=True) as browser:
            picture = wait_for_colours(browser, folder / f"{name}.png")
        server.shutdown()
    if shots := os.environ.get("UNETPIPE_SHOTS"):
        Image.fromarray(picture).save(Path(shots) / f"{name}.png")
    return picture, browser


def wait_for_colours(browser, path):
    """Return the picture once ids are drawn, or the last one there was time for."""
    until = time.monotonic() + SECONDS
    picture, before = np.zeros((1, 1, 3), np.uint8), None
    while time.monotonic() < until:
        raw = browser.screenshot(path, whole=False)
        picture = np.asarray(Image.open(BytesIO(raw)).convert("RGB"))
        is_drawn = coloured_share(picture[FIRST_PANEL]) > 0.15
        if is_drawn and np.array_equal(picture, before):
            break
        before = picture
        time.sleep(1)
    return picture


def coloured_share(picture):
    """Return the share of what is drawn that is no grey: ids have colours."""
    return float((np.ptp(picture.astype(int), axis=-1) > 60).mean())


def answers(browser):
    """Return the addresses that were asked of stores, with how they were answered."""
    return [
        (event["params"]["response"]["url"], event["params"]["response"]["status"])
        for event in browser.events
        if event["method"] == "Network.responseReceived"
    ]


def test_neuroglancer_draws_image_probability_and_ids(run, client, tmp_path):
    picture, browser = open_run(run, client, tmp_path, "neuroglancer")
    assert coloured_share(picture[FIRST_PANEL]) > 0.15, "no ids, or not x across"
    asked = [(url, code) for url, code in answers(browser) if "zarr.json" in url]
    assert {code for _, code in asked} <= {200, 404}
    for store in ("image", "probability", "objects"):
        assert any(f"/{store}/0/zarr.json" in url for url, _ in asked), store


def test_neuroglancer_draws_surfaces(run, client, tmp_path):
    pytest.importorskip("zmesh", reason="zmesh is not installed: NO surface was drawn")
    pytest.importorskip("tensorstore")
    export_precomputed(
        ingest=tmp_path / "ingest.json",
        segmentation=Path(run["segmentation"]),
        settings=PrecomputedConfig(enabled=True, meshes="all"),
        folder=tmp_path,
        record=Path(run["precomputed"]),
    )
    picture, browser = open_run(run, client, tmp_path, "surfaces")
    assert coloured_share(picture[FIRST_PANEL]) > 0.15
    codes = {url.rpartition("/")[2]: code for url, code in answers(browser)}
    assert codes["info"] == 200
    assert coloured_share(picture[LAST_PANEL]) > 0.1, "no surface is drawn"
