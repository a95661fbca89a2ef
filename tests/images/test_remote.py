"""Images on servers: the same voxels, few bytes, and what is said when they fail."""

import os
import shutil
import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.images.servers import Plain, serving
from tests.stages.ingested import ingest_volume
from unetpipe.config import IngestConfig
from unetpipe.config.missing_files import leave_out_missing
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError
from unetpipe.images import open_image
from unetpipe.images.files import is_remote
from unetpipe.images.remote import explain_server_error
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.volumes import open_volume

pytest.importorskip("obstore", reason="needs the extra `cloud`")

RNG = np.random.default_rng(0)
VOXELS = RNG.integers(0, 255, (2, 20, 90, 110), np.uint8)
AXES = [{"name": "c", "type": "channel"}] + [
    {"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"
]


def store(folder, version, shards=None):
    """Write an OME-Zarr of two channels."""
    options = {"compressors": None} if version == 3 else {}
    group = zarr.create_group(folder, zarr_format=version)
    array = group.create_array(
        "0",
        shape=VOXELS.shape,
        chunks=(1, 8, 32, 32),
        shards=shards,
        dtype="uint8",
        **options,
    )
    array[...] = VOXELS
    scale = [{"type": "scale", "scale": [1, 50, 4, 4]}]
    level = {"path": "0", "coordinateTransformations": scale}
    about = {"multiscales": [{"version": "0.4", "axes": AXES, "datasets": [level]}]}
    group.attrs.update(about if version == 2 else {"ome": {"version": "0.5", **about}})


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    patience = {"max_retries": 4, "retry_timeout": timedelta(seconds=600)}
    waits = {"init_backoff": timedelta(milliseconds=5), "base": 2}
    waits["max_backoff"] = timedelta(milliseconds=20)
    monkeypatch.setattr(
        "unetpipe.images.remote.RETRIES", {**patience, "backoff": waits}
    )


@pytest.mark.parametrize(
    ("version", "shards"), [(2, None), (3, None), (3, (1, 16, 64, 64))]
)
def test_a_store_on_a_web_server_has_the_voxels_of_the_one_on_the_disk(
    tmp_path, version, shards
):
    store(tmp_path / "a.zarr", version, shards)
    with serving(tmp_path) as (address, told):
        with open_image(f"{address}/a.zarr", Path()) as image:
            assert image.shape == VOXELS.shape
            assert image.voxel_size_nm == (50, 4, 4)
            assert np.array_equal(image.read_sections(0, 20), VOXELS)
            before = len(told)
            assert np.array_equal(image.read_sections(0, 20), VOXELS)
            assert len(told) == before, "what was sent once is kept"
            sent = sum(size for _, size in told)
            assert image.source.traffic[1] >= sent - 2000
        with open_image(f"{address}/a.zarr/0", Path()) as level:
            assert (level.plan.letters, level.voxel_size_nm) == ("czyx", (50, 4, 4))
            lazy = level.dask[1, 3, :9, :9].compute()
            assert np.array_equal(lazy, VOXELS[1, 3, :9, :9])


def bring_in(folder, address, **options):
    rows = parse_sheet(f"volume\timage\trole\na\t{address}\tpredict").rows
    manifest = {"source": ".", "kind": "folder", "root": str(folder), "files": []}
    folder.mkdir(exist_ok=True)
    write_record(folder / "manifest.json", manifest)
    ingest_volume(
        manifest=folder / "manifest.json",
        volume="a",
        rows=[row.model_dump() for row in rows],
        ingest=IngestConfig(chunk=(2, 32, 32), shard=(2, 32, 64)),
        num_classes=2,
        image_store=folder / "image.ome.zarr",
        labels_store=folder / "labels.ome.zarr",
        record=folder / "ingest.json",
        parts_folder=folder / "layers",
    )
    return read_record(folder / "ingest.json")


def test_ingest_fetches_each_voxel_about_once(tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.ingestion.slabs.BOX_BYTES", 1)
    store(tmp_path / "a.zarr", 3, (1, 16, 64, 64))
    with serving(tmp_path, failures=[0, 1, 0, 0, 1, 0]) as (address, told):
        record = bring_in(tmp_path / "run", f"{address}/a.zarr")
    voxels = np.asarray(open_volume(Path(record["image"]["store"]))[...])
    assert np.array_equal(voxels, VOXELS)
    chunks = 2 * 24 * 96 * 128  # whole chunks, as they are stored
    assert sum(size for _, size in told) / chunks <= 1.3
    (file,) = record["image"]["files"]
    assert file["path"] == f"{address}/a.zarr"
    assert file["size"] > 0
    assert record["image"]["is_copied"]


def test_what_was_fetched_before_a_server_died_is_kept(tmp_path):
    store(tmp_path / "a.zarr", 2)
    lost = tmp_path / "a.zarr" / "0" / "0.2.0.0"
    shutil.move(lost, tmp_path / "lost")
    (tmp_path / "a.zarr" / "0" / "0.2.0.0").write_bytes(b"damaged")
    with serving(tmp_path) as (address, told):
        with pytest.raises(DataError, match=r"a\.zarr") as caught:
            bring_in(tmp_path / "run", f"{address}/a.zarr")
        assert "\n" not in str(caught.value).strip().partition("\n  ")[2]
        shutil.move(tmp_path / "lost", lost)
        first = len(told)
        record = bring_in(tmp_path / "run", f"{address}/a.zarr")
        assert len(told) - first < first, "the first layers are not fetched again"
    voxels = np.asarray(open_volume(Path(record["image"]["store"]))[...])
    assert np.array_equal(voxels, VOXELS)


def test_a_server_without_ranges_is_named_where_parts_are_wanted(tmp_path):
    store(tmp_path / "whole.zarr", 3)
    store(tmp_path / "parts.zarr", 3, (1, 16, 64, 64))
    with serving(tmp_path, Plain) as (address, _):
        with open_image(f"{address}/whole.zarr", Path()) as image:
            assert np.array_equal(image.read_sections(0, 1), VOXELS[:, :1])
        with (
            open_image(f"{address}/parts.zarr", Path()) as image,
            pytest.raises(DataError, match="knows no ranges"),
        ):
            image.read_sections(0, 1)


def test_a_dead_server_and_a_missing_store_are_one_line_each(tmp_path):
    holds_none = pytest.raises(DataError, match=r"a\.zarr holds no Zarr store")
    with serving(tmp_path) as (address, _), holds_none:
        open_image(f"{address}/a.zarr", Path())
    with pytest.raises(DataError, match="cannot be reached; repeat") as caught:
        open_image(f"{address}/a.zarr", Path())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["json-metadata", "range-403", "credentials"])
def test_what_an_address_is_made_of_says_nothing_of_what_failed(name):
    address = f"http://127.0.0.1:40301/{name}.zarr"
    error = OSError(f"GET {address}/zarr.json in 401.403ms: error sending request")
    assert "cannot be reached" in str(explain_server_error(address, error))


@pytest.mark.parametrize(
    "cell", ["https://me:secret@host/a.zarr", "https://host/a.zarr?signature=secret"]
)
def test_addresses_with_secrets_are_refused_without_telling_them(cell):
    with pytest.raises(DataError, match="leave them out") as caught:
        open_image(cell, Path())
    assert "secret" not in str(caught.value)


def test_an_address_is_no_file_that_is_missing(tmp_path):
    rows = "volume\timage\trole\na\ts3://bucket/a.zarr\tpredict"
    sheet = parse_sheet(rows)
    assert leave_out_missing(sheet, str(tmp_path)) == (sheet, {})
    assert is_remote("gs://b/a.zarr")
    assert not is_remote("folder/a.zarr")


@pytest.fixture(scope="module")
def s3():
    """The address of a stand-in for S3 on this machine, with a bucket."""
    program = os.environ.get("UNETPIPE_MOTO_SERVER") or shutil.which("moto_server")
    if not program:
        pytest.skip(
            "no S3 server: install moto[s3,server] in an environment of its own and "
            "set UNETPIPE_MOTO_SERVER to its moto_server"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_a_bucket_is_read_with_credentials_of_the_environment(
    tmp_path, s3, monkeypatch, caplog
):
    import obstore

    secret = "aVerySecretKey"
    for name, value in (
        ("AWS_ENDPOINT_URL", s3),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    _make_bucket(s3)
    store(tmp_path / "a.zarr", 3, (1, 16, 64, 64))
    bucket = obstore.store.from_url(
        "s3://cells/data", client_options={"allow_http": True}
    )
    for path in (tmp_path / "a.zarr").rglob("*"):
        if path.is_file():
            inside = path.relative_to(tmp_path).as_posix()
            obstore.put(bucket, inside, path.read_bytes())
    with caplog.at_level("DEBUG", "unetpipe"):
        record = bring_in(tmp_path / "run", "s3://cells/data/a.zarr")
    voxels = np.asarray(open_volume(Path(record["image"]["store"]))[...])
    assert np.array_equal(voxels, VOXELS)
    assert secret not in (tmp_path / "run" / "ingest.json").read_text() + caplog.text
    with pytest.raises(DataError, match=r"s3://cells/none\.zarr holds no Zarr store"):
        open_image("s3://cells/none.zarr", Path())


def _make_bucket(address):
    """Create a bucket once the server answers."""
    import time
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    for _ in range(400):
        try:
            urlopen(Request(f"{address}/cells", method="PUT")).close()
        except URLError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the S3 server does not answer")
