"""Serve stores to viewers in a browser on this computer, and to nobody else.

::

    http://127.0.0.1:PORT/TOKEN/unet/cells/probability/0/c/0/0/0/0
                          |     |                      |
                          |     a store that is served a file in it, whole or a range
                          without it: 403

It listens on the loopback interface alone. Who has no token reads nothing, names of
stores included; a page of another origin may read with the token (CORS), for that is
what viewers are.
"""

import hmac
import re
import secrets
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
KINDS = {".json": "application/json"}
COPIED = 1 << 16  # bytes at once
SHARED_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range",
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-None-Match, Cache-Control",
    # A public page that asks this computer: Chrome's private network access.
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "600",
}


class StoreServer(ThreadingHTTPServer):
    """Serves the files of some folders; use it as a context manager.

    Parameters
    ----------
    stores : mapping
        Name, which may hold slashes -> folder.
    port : int, optional
        0: any that is free.

    Attributes
    ----------
    token : str
        Of this server: part of every path.
    page : bytes
        HTML at the token itself; may be set once the port is known.

    Raises
    ------
    OSError
        If the port is taken.
    """

    daemon_threads = True

    def __init__(self, stores: Mapping[str, Path], port: int = 0) -> None:
        self.stores = {name: Path(folder).resolve() for name, folder in stores.items()}
        self.token, self.page = secrets.token_urlsafe(16), b""
        super().__init__((HOST, port), _Handler)

    @property
    def address(self) -> str:
        """Where everything lies, with a slash at the end."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of viewers that hang up, as browsers do all the time."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def find(self, path: str) -> Path | None:
        """Return the file of a path behind the token, None if there is none.

        Nothing outside the stores is found, whatever the path and whatever links.
        """
        for name, folder in self.stores.items():
            if path.startswith(f"{name}/"):
                try:
                    found = (folder / path[len(name) + 1 :]).resolve()
                    is_there = found.is_relative_to(folder) and found.is_file()
                except (OSError, ValueError):
                    continue
                if is_there:
                    return found
        return None


def parse_http_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of one range and the one behind its last.

    None: it lies outside. What is no range of bytes, or several, is answered with the
    whole file, as RFC 9110 allows.

    Examples
    --------
    >>> parse_http_range("bytes=2-4", 10), parse_http_range("bytes=8-", 10)
    ((2, 5), (8, 10))
    >>> parse_http_range("bytes=-3", 10), parse_http_range("bytes=10-", 10)
    ((7, 10), None)
    """
    match = RANGE.fullmatch(text.strip())
    if not match or not (match[1] or match[2]):
        return 0, size
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return 0, size
    return (start, stop) if start < stop else None


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: StoreServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "unetpipe", ""
    timeout = 60  # seconds that a connection may be silent
    # Else a body waits 40 ms for its headers' receipt, on a connection that is kept.
    disable_nagle_algorithm = True

    def do_OPTIONS(self) -> None:
        """Say what other origins may ask."""
        if self._path() is None:
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        self._begin(HTTPStatus.NO_CONTENT, PREFLIGHT)

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Send a file, a range of it, or the page."""
        path = self._path()
        if path is None:
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not path:
            page = self.server.page
            told = {"Content-Type": "text/html; charset=utf-8"}
            self._begin(HTTPStatus.OK, told | {"Content-Length": str(len(page))})
            if self.command == "GET":
                self.wfile.write(page)
        elif (found := self.server.find(path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            try:
                with found.open("rb") as file:
                    self._send(found, file)
            except OSError:
                self.close_connection = True

    def _path(self) -> str | None:
        """Return what stands behind the token; None without it, or from another name.

        A name other than ours would be another site's that leads here.
        """
        try:
            host = urlsplit(f"//{self.headers.get('Host', HOST)}").hostname
            given = unquote(urlsplit(self.path).path).lstrip("/")
        except ValueError:  # no address at all
            return None
        token, _, rest = given.partition("/")
        is_known = hmac.compare_digest(token.encode(), self.server.token.encode())
        return rest if is_known and host in HOSTS else None

    def _send(self, path: Path, file: IO[bytes]) -> None:
        size = path.stat().st_size
        # A range is one of what is sent: to HEAD it says nothing (RFC 9110).
        wanted = self.headers.get("Range") if self.command == "GET" else None
        span = parse_http_range(wanted, size) if wanted else (0, size)
        if span is None:
            told = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            self._begin(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, told)
            return
        start, stop = span
        told = {
            "Content-Type": KINDS.get(path.suffix, "application/octet-stream"),
            "Content-Length": str(stop - start),
        }
        is_whole = stop - start == size
        if not is_whole:
            told["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._begin(HTTPStatus.OK if is_whole else HTTPStatus.PARTIAL_CONTENT, told)
        if self.command == "GET":
            file.seek(start)
            _copy(file, self.wfile, stop - start)

    def _refuse(self, status: HTTPStatus) -> None:
        self._begin(status, {"Content-Length": "0"})

    def _begin(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**SHARED_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a viewer asks for thousands of files."""


def _copy(source: IO[bytes], target: Any, num_bytes: int) -> None:
    """Copy so many bytes."""
    while num_bytes and (piece := source.read(min(COPIED, num_bytes))):
        target.write(piece)
        num_bytes -= len(piece)
