"""The stage that brings the originals."""

import hashlib
import http.server
import json
import threading
import zipfile
from functools import partial

import pytest
import tifffile

from tests.phantoms import draw_phantom
from unetpipe.config import PhantomConfig
from unetpipe.errors import DataError
from unetpipe.stages.download_dataset import download_dataset

SMALL = PhantomConfig(shape=(2, 40, 50), num_cells=6)


def download(source, folder, sha256=None):
    download_dataset(
        source=str(source),
        source_sha256=sha256,
        phantom=SMALL,
        destination=folder / "data",
        manifest=folder / "data" / "manifest.json",
    )
    return json.loads((folder / "data" / "manifest.json").read_text())


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "stack.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("stack/train.tif", b"pixels")
    return path


def test_the_phantom_is_written_as_two_stacks(tmp_path):
    manifest = download("phantom:cells", tmp_path)
    root = tmp_path / "data" / "originals"
    assert (manifest["source"], manifest["kind"]) == ("phantom:cells", "phantom")
    assert manifest["root"] == str(root)
    image, labels = draw_phantom(**SMALL.model_dump())
    assert (tifffile.imread(root / "phantom/image.tif") == image).all()
    assert (tifffile.imread(root / "phantom/labels.tif") == labels).all()
    assert [f["path"] for f in manifest["files"]] == [
        "phantom/image.tif",
        "phantom/labels.tif",
    ]
    for file in manifest["files"]:
        content = (root / file["path"]).read_bytes()
        assert file["size"] == len(content)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_phantom_is_the_same_file_every_time(tmp_path):
    one = download("phantom:cells", tmp_path / "one")["files"]
    assert download("phantom:cells", tmp_path / "two")["files"] == one


def test_a_local_archive_is_unpacked_and_listed(tmp_path, archive):
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest = download(archive, tmp_path, sha256)
    assert manifest["kind"] == "archive"
    assert [(f["path"], f["size"]) for f in manifest["files"]] == [
        ("stack/train.tif", 6)
    ]


def test_a_folder_is_used_where_it_is(tmp_path, archive, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    manifest = download("~/images", tmp_path)
    assert (manifest["kind"], manifest["files"]) == ("folder", [])
    assert manifest["root"] == str(tmp_path / "images")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["manifest.json"]


def test_a_checksum_given_for_a_folder_is_said_to_be_useless(tmp_path, caplog):
    download(tmp_path, tmp_path, "0" * 64)
    assert "source is a folder: `source_sha256` is not compared" in caplog.text


def test_a_wrong_checksum_leaves_nothing(tmp_path, archive):
    with pytest.raises(DataError, match=f"`source_sha256` is {'0' * 64}"):
        download(archive, tmp_path, "0" * 64)
    assert [p.name for p in tmp_path.iterdir()] == ["stack.zip"]


def test_a_hostile_archive_leaves_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("fine.tif", b"1")
        file.writestr("../../evil.tif", b"2")
    with pytest.raises(
        DataError, match=r"'\.\./\.\./evil\.tif', which is no plain path"
    ):
        download(tmp_path / "bad.zip", tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "bad.zip"]


def test_a_source_that_is_not_there_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        download(tmp_path / "nowhere.zip", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def url(archive):
    """Address of the archive on a server on this machine."""
    handler = partial(QuietHandler, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stack.zip"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_an_archive_is_fetched_once_and_unpacked(tmp_path, archive, url):
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = tmp_path / "run"
    manifest = download(url, folder, sha256)
    assert (manifest["source"], manifest["kind"]) == (url, "archive")
    assert [f["path"] for f in manifest["files"]] == ["stack/train.tif"]
    archive.unlink()
    (folder / "data" / "originals" / "stack" / "train.tif").unlink()
    again = download(url, folder, sha256)  # from the archive that is there
    assert again["files"] == manifest["files"]


def test_a_wrong_checksum_of_a_url_leaves_nothing(tmp_path, url):
    with pytest.raises(DataError, match=f"{url} has sha256 .* is {'0' * 64}"):
        download(url, tmp_path / "run", "0" * 64)
    assert [p for p in (tmp_path / "run").rglob("*") if p.is_file()] == []
