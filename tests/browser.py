"""A headless Chromium that tells what it saw: requests, messages, pictures, printing.

It is driven through two pipes (``--remote-debugging-pipe``), so no port is opened.
"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no chromium: the pages were NOT looked at"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--hide-scrollbars"),
    *("--disable-component-update", "--remote-debugging-pipe"),
)
IMAGES = "[...document.images].map(i => [i.alt, i.naturalWidth])"


# WebGL without a GPU, for viewers of volumes.
DRAWN_BY_PROCESSORS = (
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--ignore-gpu-blocklist",
)


class Browser:
    """One tab on one page, light or dark; use it as a context manager.

    A page is a file or an address. ``has_webgl``: three dimensions, drawn slowly.
    """

    def __init__(
        self,
        page: Path | str,
        profile: Path,
        *,
        dark: bool = False,
        width=1200,
        has_webgl: bool = False,
    ):
        self.dark, self.width = dark, width
        self.page = page if isinstance(page, str) else page.as_uri()
        flags = [flag for flag in FLAGS if not (has_webgl and flag == "--disable-gpu")]
        flags += DRAWN_BY_PROCESSORS if has_webgl else ()
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        command = [CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&"$0" 4>&"$OUT"', str(to_browser), *command],
            pass_fds=(to_browser, from_browser),
            env={**os.environ, "OUT": str(from_browser)},
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self) -> "Browser":
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send(
            "Target.attachToTarget", targetId=target, flatten=True
        )["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        scheme = "dark" if self.dark else "light"
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=self.width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.send("Page.navigate", url=self.page)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._receive()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def evaluate(self, expression: str) -> Any:
        found = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open_all(self) -> None:
        """Open every fold of the page, and let hidden pictures be decoded."""
        self.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
        self.evaluate("Promise.all([...document.images].map(i => i.decode()))")

    @property
    def requests(self) -> list[str]:
        """Addresses of all requests but the page itself and what is inside it."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        inside = ("data:", self.page)
        return [address for address in asked if not address.startswith(inside)]

    @property
    def complaints(self) -> list[str]:
        """What the console said, and uncaught errors."""
        kinds = (
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
        )
        return [json.dumps(e["params"]) for e in self.events if e["method"] in kinds]

    def screenshot(self, path: Path, *, whole: bool = True) -> bytes:
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path.read_bytes()

    def print_pdf(self, path: Path) -> bytes:
        printed = self.send("Page.printToPDF", printBackground=True)
        path.write_bytes(base64.b64decode(printed["data"]))
        return path.read_bytes()

    def press_tab(self) -> str:
        """Press Tab; return the tag, address or text of what then has the focus."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9
            )
        focus = "document.activeElement"
        name = f"({focus}.getAttribute('href') || {focus}.ariaLabel || '')"
        return str(self.evaluate(f"({focus}.tagName + ' ' + {name}).trim()"))
