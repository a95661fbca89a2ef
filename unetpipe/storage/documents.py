"""The small JSON documents of stores: what groups say, and what arrays are.

The library reads and writes each of them in an event loop of its own, some seventy
times for a small volume. Here they are plain files, with the same bytes, and arrays
that are opened again and again are described once.
"""

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.storage import LocalStore, StorePath

from unetpipe.runtime.files import hash_of
from unetpipe.runtime.json_text import indented_json
from unetpipe.storage.disks import DiskStore

DOCUMENT = "zarr.json"
MOST_KEPT = 64  # arrays and descriptions

Mode = Literal["r", "r+"]
_opened: "OrderedDict[tuple[Any, ...], zarr.Array[Any]]" = OrderedDict()
_descriptions: "OrderedDict[str, bytes]" = OrderedDict()


def read_zarr_group(path: Path) -> dict[str, Any]:
    """Return the attributes of a group.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If its document is damaged.
    """
    about = json.loads((path / DOCUMENT).read_bytes())
    return dict(about.get("attributes", {}))


def write_group(path: Path, attributes: dict[str, Any]) -> None:
    """Create a group with these attributes, or give it these instead of its own."""
    about = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    _put(path, indented_json(about, dict).encode())


def update_group(path: Path, **attributes: Any) -> None:
    """Set some attributes of a group; nothing is written where they are set already."""
    before = read_zarr_group(path)
    after = before | attributes
    if after != before:
        write_group(path, after)


def create_array(path: Path, **settings: Any) -> None:
    """Create an empty array, as ``zarr.create_array`` does with these settings.

    Parameters
    ----------
    path : Path
        Its folder, without an array.
    **settings
        Of ``zarr.create_array``.
    """
    key = hash_of({name: repr(value) for name, value in settings.items()})
    known = _descriptions.get(key)
    if known is None:
        zarr.create_array(DiskStore(path), **settings)
        _keep(_descriptions, key, (path / DOCUMENT).read_bytes())
    else:
        _put(path, known)


def open_zarr_array(path: Path, mode: Mode = "r") -> zarr.Array[Any]:
    """Open an array; the same object again while its document says the same.

    Raises
    ------
    FileNotFoundError, ValueError, KeyError
        If there is none.
    """
    try:
        said = (path / DOCUMENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return zarr.open_array(path, mode=mode)  # of an older format, or none
    key = (path, mode, said)
    array = _opened.get(key)
    if array is None:
        # What `zarr.open_array` does, without an event loop for a file that is read.
        store = LocalStore(path, read_only=mode == "r")
        array = zarr.Array.from_dict(StorePath(store), json.loads(said))
        _keep(_opened, key, array)
    return array


def _keep(kept: "OrderedDict[Any, Any]", key: Any, value: Any) -> None:
    kept[key] = value
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)


def _put(path: Path, content: bytes) -> None:
    """Write a document whole, as the library does."""
    path.mkdir(parents=True, exist_ok=True)
    temporary = path / f".{DOCUMENT}.{os.getpid()}.partial"
    temporary.write_bytes(content)
    temporary.replace(path / DOCUMENT)
