"""Web servers for tests: with ranges, without, failing now and then."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Sends parts of files, as nginx does; notes what it sends."""

    knows_ranges = True
    disable_nagle_algorithm = True  # or headers and body wait for each other

    def __init__(self, *args, told, failures, **kwargs):
        self.told, self.failures = told, failures
        super().__init__(*args, **kwargs)

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self.failures and self.failures.pop():
            self.send_error(503)
            return
        if not path.is_file():
            self.send_error(404)
            return
        body, wanted = path.read_bytes(), self.headers.get("Range")
        size = len(body)
        if wanted and self.knows_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else size - int(last)
            stop = min(int(last) + 1, size) if first and last else size
            body = body[start:stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.told.append((self.path, len(body)))

    def do_HEAD(self):
        path = Path(self.translate_path(self.path))
        self.send_response(200 if path.is_file() else 404)
        if path.is_file():
            self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()

    def log_message(self, *args):
        """Say nothing."""


class Plain(Handler):
    """What ``python -m http.server`` does: whole files alone."""

    knows_ranges = False


@contextmanager
def serving(folder, kind=Handler, failures=()):
    """Serve a folder; yield its address and the list of what was sent."""
    told = []
    handler = partial(kind, directory=str(folder), told=told, failures=list(failures))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
