"""Stores over HTTP: as viewers ask for them, and nothing else."""

import http.client
import socket
import struct
import threading
import time
from contextlib import closing
from urllib.parse import urlsplit

import numpy as np
import pytest
import zarr

from unetpipe.report.store_server import StoreServer
from unetpipe.storage.volumes import create_volume, open_volume

ORIGIN = "https://neuroglancer-demo.appspot.com"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A sharded store, a secret beside it, and the server."""
    folder = tmp_path_factory.mktemp("served")
    store = folder / "image.ome.zarr"
    shape = (4, 32, 32)
    kinds = {"dtype": "uint16", "chunk": (1, 16, 16), "shard": (2, 32, 32)}
    create_volume(
        store, shape=shape, **kinds, voxel_size_nm=(50, 4, 4), channels=("image",)
    )
    array = open_volume(store, mode="r+")
    array[...] = np.arange(4 * 32 * 32).reshape(1, *shape)
    (folder / "secret.txt").write_text("secret")
    (store / "way_out").symlink_to(folder / "secret.txt")
    with StoreServer({"unet/cells/image": store}) as server:
        server.page = b"<p>all</p>"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server, store
        server.shutdown()


def ask(server, path, method="GET", host=None, **headers):
    """Return status, headers and body; ``path`` is sent as it is."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.server_port, timeout=600
    )
    named = {"Host": host or f"127.0.0.1:{server.server_port}"}
    connection.putrequest(method, path, skip_host=True)
    for name, value in (named | headers).items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        return answer.status, dict(answer.headers), answer.read()


def below(server, rest):
    return urlsplit(server.address).path + rest


def test_zarr_reads_a_sharded_store_through_it(served):
    obstore = pytest.importorskip("obstore.store", reason="needs the extra `cloud`")
    server, store = served
    options = {"allow_http": True}
    url = f"{server.address}unet/cells/image"
    web = obstore.HTTPStore.from_url(url, client_options=options)
    found = zarr.open_group(zarr.storage.ObjectStore(web, read_only=True), mode="r")
    remote = found[found.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]]
    assert remote.shards is not None
    np.testing.assert_array_equal(remote[...], open_volume(store)[...])
    np.testing.assert_array_equal(
        remote[0, 3, 5:7, 20:], open_volume(store)[0, 3, 5:7, 20:]
    )


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=3-9", 206, slice(3, 10)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-99999999", 200, slice(None)),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges_are_those_of_the_file(served, asked, status, part):
    server, store = served
    whole = (store / "zarr.json").read_bytes()
    path = below(server, "unet/cells/image/zarr.json")
    found, headers, body = ask(server, path, Range=asked)
    assert (found, body) == (status, whole[part])
    assert int(headers["Content-Length"]) == len(body)
    if status == 206:
        start = range(len(whole))[part][0]
        stop = start + len(body) - 1
        assert headers["Content-Range"] == f"bytes {start}-{stop}/{len(whole)}"


def test_a_range_beyond_the_file_is_none(served):
    server, store = served
    size = (store / "zarr.json").stat().st_size
    path = below(server, "unet/cells/image/zarr.json")
    status, headers, body = ask(server, path, Range=f"bytes={size}-")
    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == f"bytes */{size}"


def test_a_page_of_another_origin_may_ask(served):
    server, _ = served
    path = below(server, "unet/cells/image/zarr.json")
    status, headers, body = ask(
        server,
        path,
        "OPTIONS",
        Origin=ORIGIN,
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="range",
        Access_Control_Request_Private_Network="true",
    )
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Range" in headers["Access-Control-Allow-Headers"]
    assert headers["Access-Control-Allow-Private-Network"] == "true"
    _, headers, _ = ask(server, path, Origin=ORIGIN)
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Range" in headers["Access-Control-Expose-Headers"]


def test_head_tells_the_length_alone(served):
    server, store = served
    path = below(server, "unet/cells/image/zarr.json")
    status, headers, body = ask(server, path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == (store / "zarr.json").stat().st_size


def test_head_asks_for_no_range(served):
    server, store = served
    path = below(server, "unet/cells/image/zarr.json")
    status, headers, _ = ask(server, path, "HEAD", Range="bytes=1-2")
    assert status == 200
    assert int(headers["Content-Length"]) == (store / "zarr.json").stat().st_size


@pytest.mark.parametrize(
    "told", ["GET http://[x/ HTTP/1.1", "GET {path} HTTP/1.1\r\nRange: bytes={digits}-"]
)
def test_what_is_no_request_is_answered_without_a_traceback(served, told, capfd):
    server, _ = served
    path = below(server, "unet/cells/image/zarr.json")
    head = told.format(path=path, digits="9" * 5000)
    address = ("127.0.0.1", server.server_port)
    with socket.create_connection(address, timeout=600) as connection:
        connection.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert connection.recv(12).startswith(b"HTTP/1.1 ")
    assert not capfd.readouterr().err


def test_no_body_waits_until_its_headers_have_arrived(served, monkeypatch):
    server, _ = served
    seen, shut = [], server.shutdown_request

    def note(request):
        seen.append(request.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        shut(request)

    monkeypatch.setattr(server, "shutdown_request", note)
    assert ask(server, below(server, ""))[0] == 200
    while not seen:
        time.sleep(0.01)
    assert all(seen)


def test_a_viewer_that_hangs_up_leaves_no_traceback(served, capfd):
    server, _ = served
    address = ("127.0.0.1", server.server_port)
    at_once = struct.pack("ii", 1, 0)  # a reset in place of a farewell
    for _ in range(3):
        connection = socket.create_connection(address, timeout=600)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        connection.sendall(b"GET /half")
        connection.close()
    while any("process_request" in one.name for one in threading.enumerate()):
        time.sleep(0.01)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("token", ["", "wrong", "wrong/unet/cells/image/zarr.json"])
def test_without_the_token_nothing_is_told(served, method, token):
    server, _ = served
    status, headers, body = ask(server, f"/{token}", method)
    assert (status, body) == (403, b"")
    assert "Access-Control-Allow-Methods" not in headers


def test_another_name_of_this_computer_is_refused(served):
    """A site whose name was made to lead to this computer."""
    server, _ = served
    path = below(server, "unet/cells/image/zarr.json")
    for host in ("evil.example:80", "evil.example", "127.0.0.1.evil.example", "[x"):
        assert ask(server, path, host=host)[0] == 403
    assert ask(server, path, host="127.0.0.1")[0] == 200
    assert ask(server, path, host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "unet/cells/image/../secret.txt",
        "unet/cells/image/%2e%2e/secret.txt",
        "unet/cells/image/..%2fsecret.txt",
        "unet/cells/image//etc/passwd",
        "unet/cells/image/way_out",
        "unet/cells/image/%00",
        "unet/cells/image",
        "unet/cells/image/",
        "unet/cells/image/0",
        "../secret.txt",
        "unet/cells/image_/zarr.json",
        "unet/cells/image/" + "a" * 5000,
    ],
)
def test_no_path_leads_out_of_the_stores(served, path):
    server, _ = served
    status, _, body = ask(server, below(server, path))
    assert (status, body) == (404, b"")


def test_the_page_lies_at_the_token(served):
    server, _ = served
    status, headers, body = ask(server, below(server, ""))
    assert (status, body) == (200, b"<p>all</p>")
    assert headers["Content-Type"].startswith("text/html")
    assert ask(server, below(server, ""), "POST")[0] == 501


def test_it_listens_on_this_computer_alone(served):
    server, _ = served
    assert server.server_address[0] == "127.0.0.1"
    with StoreServer({}) as other:
        assert other.token != server.token
        assert len(other.token) >= 20
