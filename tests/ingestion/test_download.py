"""Transfers: from a server on this machine, whole and of the right checksum."""

import contextlib
import hashlib
import http.server
import logging
import threading
from types import SimpleNamespace

import pytest

from unetpipe.errors import ConfigError, DataError, ResourceError
from unetpipe.images.files import source_kind
from unetpipe.ingestion.download import (
    _refuse_downgrade,
    check_sha256,
    download_file,
    name_of_download,
    unpack_originals,
)

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers with what ``answers`` says, and counts the requests of each path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.count = {}
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        attempt = self.server.count[self.path] = self.server.count.get(self.path, 0) + 1
        if self.path == "/silent":
            self.server.released.wait(10)
            return
        if self.path == "/endless":  # announces nothing, and never stops by itself
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    self.wfile.write(CONTENT)
            return
        if self.path == "/missing" or (self.path == "/flaky" and attempt < 3):
            self.send_error(404 if self.path == "/missing" else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        is_cut = self.path == "/cut" or (self.path == "/cut-once" and attempt == 1)
        self.wfile.write(CONTENT[: 100_000 if is_cut else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_a_file_arrives_whole(server, tmp_path):
    target = tmp_path / "archive" / "a.bin"
    download_file(f"{server.url}/a.bin", target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_without_a_checksum_the_one_found_is_said(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    download_file(f"{server.url}/a.bin", tmp_path / "a.bin", sha256=None)
    assert f"set `source_sha256: {SHA256}`" in caplog.text


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_is_there_is_not_fetched_again(server, tmp_path, sha256):
    for _ in range(2):
        download_file(f"{server.url}/a.bin", tmp_path / "a.bin", sha256=sha256)
    assert server.count == {"/a.bin": 1}


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"damaged")
    download_file(f"{server.url}/a.bin", tmp_path / "a.bin", sha256=SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_names_both_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError) as error:
        download_file(f"{server.url}/a.bin", tmp_path / "a.bin", sha256="0" * 64)
    message = str(error.value)
    assert f"{server.url}/a.bin has sha256 {SHA256}" in message
    assert f"`source_sha256` is {'0' * 64}" in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_page_is_final_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"could not be fetched after 1 attempt .*404"):
        download_file(
            f"{server.url}/missing", tmp_path / "a", sha256=None, pauses=(0.0,)
        )
    assert server.count == {"/missing": 1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/flaky", "/cut-once"])
def test_a_failing_server_is_asked_again(server, tmp_path, path):
    download_file(
        f"{server.url}{path}", tmp_path / "a", sha256=SHA256, pauses=(0.0, 0.0)
    )
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_transfer_that_always_breaks_off_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"after 2 attempts .* fetch it by hand"):
        download_file(f"{server.url}/cut", tmp_path / "a", sha256=None, pauses=(0.0,))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr("unetpipe.ingestion.download.TIMEOUT_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"after 2 attempts .*timed out"):
        download_file(
            f"{server.url}/silent", tmp_path / "a", sha256=None, pauses=(0.0,)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/a.bin", "/endless"])
def test_more_than_the_cap_is_broken_off_at_once(server, tmp_path, path):
    with pytest.raises(DataError, match=r"larger than 0\.0002 GB.*largest_download_gb"):
        download_file(
            f"{server.url}{path}", tmp_path / "a", sha256=None, largest_gb=2e-4
        )
    assert server.count == {path: 1}
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_cannot_fit_the_disk_is_not_begun(
    server, tmp_path, monkeypatch
):
    usage = type("Usage", (), {"free": len(CONTENT) - 1})
    monkeypatch.setattr(
        "unetpipe.runtime.machine.shutil.disk_usage", lambda path: usage
    )
    with pytest.raises(ResourceError, match="GiB free"):
        download_file(f"{server.url}/a.bin", tmp_path / "a", sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_led_from_https_to_http_without_a_checksum():
    led = SimpleNamespace(
        url="https://x.org/a.zip", headers={"Location": "http://evil.org/a.zip"}
    )
    with pytest.raises(DataError, match=r"leads to http://evil\.org/a\.zip"):
        _refuse_downgrade(led)
    led.headers["Location"] = "https://y.org/a.zip"
    _refuse_downgrade(led, timeout=1)


def test_nobody_listening_is_an_error_with_the_address(tmp_path):
    with pytest.raises(
        DataError, match=r"http://127\.0\.0\.1:9/a could not be fetched"
    ):
        download_file("http://127.0.0.1:9/a", tmp_path / "a", sha256=None, pauses=())
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_instead_of_an_archive_is_shown(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(DataError) as error:
        unpack_originals(tmp_path / "a.zip", tmp_path / "out", "http://x/a.zip")
    assert "http://x/a.zip is neither an archive" in str(error.value)
    assert "<!DOCTYPE html>" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_single_image_needs_no_archive(tmp_path):
    (tmp_path / "download").write_bytes(b"II*\0" + bytes(20))
    unpack_originals(tmp_path / "download", tmp_path / "out", "http://x/download")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["download.tif"]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("phantom:cells", "phantom"),
        ("https://example.org/a.zip", "url"),
        ("HTTP://example.org/a.zip", "url"),
        (".", "folder"),
        ("~", "folder"),
    ],
)
def test_sources_are_told_apart(source, kind):
    assert source_kind(source) == kind


@pytest.mark.parametrize(
    "source",
    ["phantom:nuclei", "s3://bucket/a.zip", "ftp://x.org/a.zip", "file:///etc"],
)
def test_an_unknown_source_is_a_configuration_error(source):
    with pytest.raises(ConfigError, match="source is"):
        source_kind(source)


def test_a_source_that_is_not_there_names_the_full_path(tmp_path):
    with pytest.raises(DataError) as error:
        source_kind(str(tmp_path / "data"))
    assert f"there is no file or folder {tmp_path / 'data'};" in str(error.value)


def test_a_plain_image_as_source_is_pointed_to_its_folder(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match="for plain images give their folder"):
        source_kind(str(tmp_path / "a.tif"))


def test_a_local_file_of_another_checksum_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    check_sha256(tmp_path / "a.zip", SHA256, "a.zip")
    with pytest.raises(DataError, match=f"a.zip has sha256 {SHA256}, but"):
        check_sha256(tmp_path / "a.zip", "1" * 64, "a.zip")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.org/", "download"),
        ("https://x.org/.hidden?x=1", "hidden"),
        ("https://x.org/..%2F..%2Fetc%2Fpasswd", "_.._etc_passwd"),
        ("https://x.org/a%00b.zip", "a_b.zip"),
    ],
)
def test_no_url_can_choose_a_folder(url, name):
    assert name_of_download(url) == name
