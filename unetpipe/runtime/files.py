"""Small JSON records: written whole or not at all, with the recipe they came from."""

import hashlib
import json
import os
import platform
import socket
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unetpipe.errors import DataError
from unetpipe.runtime.json_text import indented_json
from unetpipe.runtime.machine import enough_disk

LIBRARIES = (
    *("unetpipe", "numpy", "scipy", "torch", "zarr", "numcodecs", "snakemake"),
    "openvino",
)


def write_bytes_atomic(
    path: Path, *buffers: bytes | memoryview, is_synced: bool = True
) -> None:
    """Write a file that is either absent, old, or whole and on disk.

    Written beside the target under a name that only this process on this machine has,
    synced, renamed, and the folder synced: nothing is ever seen half-written under its
    final name. What a killed process leaves is hidden and ends with ``.partial``.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    *buffers : bytes or memoryview of bytes
        Its content, one after another.
    is_synced : bool
        False: a power cut may cost it, or leave it empty; a kill may not. For what is
        hashed before it is believed, and soon made again.

    Raises
    ------
    ResourceError
        If the disk is full.
    """
    with enough_disk(path, f"the {sum(map(len, buffers))} bytes"):
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = f"{socket.gethostname()}.{os.getpid()}"
        temporary = path.with_name(f".{path.name}.{writer}.partial")
        try:
            with temporary.open("wb") as file:
                file.writelines(buffers)
                if is_synced:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if is_synced:
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(path: Path, link: Path) -> None:
    """Give a file a second name; a copy where the file system has no hard links."""
    try:
        os.link(path, link)
    except OSError:
        write_bytes_atomic(link, path.read_bytes())


def write_record(path: Path, record: dict[str, Any], *, is_synced: bool = True) -> None:
    """Write a JSON record atomically."""
    text = indented_json(record, _plain)
    write_bytes_atomic(path, f"{text}\n".encode(), is_synced=is_synced)


def add_to_record(path: Path, key: str, value: Any) -> None:
    """Add a field to a record, as its last, or in the place where it has it."""
    text, end = path.read_text(), "\n}\n"
    if f'"{key}"' in text or not text.endswith(f"{end}") or text == "{}\n":
        write_record(path, read_record(path) | {key: value})
        return
    added = indented_json({key: value}, _plain).removeprefix("{")
    write_bytes_atomic(path, f"{text.removesuffix(end)},{added}\n".encode())


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON record.

    Raises
    ------
    DataError
        If the file is missing or not a JSON object; the message names it.
    """
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run the rule that writes it") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}); delete it and run again"
        ) from None
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object; delete it and run again")
    return record


def hash_of(value: Any) -> str:
    """Return the sha256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(_compact(value)).hexdigest()


def _compact(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return text.encode()


class ListHash:
    """``hash_of`` a list that is never in memory as a whole.

    Examples
    --------
    >>> items = ListHash()
    >>> items.add({"a": 1})
    >>> items.add(2)
    >>> items.hexdigest() == hash_of([{"a": 1}, 2])
    True
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"[")
        self._comma = b""

    def add(self, item: Any) -> None:
        """Append an item."""
        self._digest.update(self._comma + _compact(item))
        self._comma = b","

    def hexdigest(self) -> str:
        """Return the sha256 of the list so far."""
        whole = self._digest.copy()
        whole.update(b"]")
        return whole.hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def process_circumstances(**extra: Any) -> dict[str, Any]:
    """Return where and with what a result was made: recorded, never compared.

    Parameters
    ----------
    **extra
        What only the caller knows: device, threads, seconds.
    """
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES} | _versions_of_cuda(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **extra,
    }


def _versions_of_cuda() -> dict[str, str]:
    """Return what torch computes with on a GPU, where a job has loaded such a build."""
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:
        return {}
    return {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    """Turn NumPy scalars, arrays and paths into JSON values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} into a record")
