"""Receipts: a shard counts as done only when its receipt says so (law 2).

A receipt is a small record, written last and atomically, that holds the sha256 of the
shard's files. It is kept by shard, not by job, so that the number of jobs may change.
A shard of which nothing was to be predicted has a receipt that says why, and no file.
"""

from pathlib import Path
from typing import Any

import zarr

from unetpipe.errors import DataError
from unetpipe.runtime.files import hash_file, read_record, write_record
from unetpipe.storage.volumes import shard_path
from unetpipe.tiling.boxes import Zyx

Arrays = dict[str, zarr.Array[Any]]


def receipt_path(folder: Path, index: Zyx) -> Path:
    """Return where the receipt of a shard lies: a folder for each layer along z.

    One folder for all would be more than file systems hold (ext4: about 10 million).
    """
    z, y, x = index
    return folder / str(z) / f"{y}.{x}.json"


def write_receipt(
    folder: Path,
    index: Zyx,
    *,
    files: dict[str, str],
    tiles: dict[str, int],
    identity: str,
    circumstances: dict[str, Any],
) -> None:
    """Declare a shard done.

    Parameters
    ----------
    folder : Path
        Folder of the receipts.
    index : (z, y, x)
        Shard number along each axis.
    files : dict
        Array name -> sha256 of the shard's file; empty for a skipped shard.
    tiles : dict
        How many of its tiles were predicted, and how many were left out for what
        reason.
    identity : str
        Hash of the recipe.
    circumstances : dict
        Host, device, versions.
    """
    record = {
        "shard": list(index),
        "files": files,
        "skipped": None if files else ", ".join(sorted(tiles)),
        "tiles": tiles,
        "identity": identity,
        "circumstances": circumstances,
    }
    write_record(receipt_path(folder, index), record)


def check_receipt(
    folder: Path, index: Zyx, *, arrays: Arrays, identity: str
) -> str | None:
    """Return None if a shard is done and whole, else what is wrong with it.

    The files are hashed: a truncated shard or a flipped byte is found here.
    """
    return inspect_shard(folder, index, arrays=arrays, identity=identity)[0]


def inspect_shard(
    folder: Path, index: Zyx, *, arrays: Arrays, identity: str
) -> tuple[str | None, dict[str, Any]]:
    """Return what is wrong with a shard, as ``check_receipt``, and its receipt."""
    files = {name: shard_path(array, index) for name, array in arrays.items()}
    return inspect_files(folder, index, files=files, identity=identity)


def inspect_files(
    folder: Path, index: Zyx, *, files: dict[str, Path], identity: str
) -> tuple[str | None, dict[str, Any]]:
    """Return what is wrong with the files that a receipt tells of, and the receipt."""
    path = receipt_path(folder, index)
    if not path.exists():
        return "has no receipt", {}
    try:
        record = read_record(path)
    except DataError:
        return "has an unreadable receipt", {}
    if record.get("identity") != identity:
        return "has the receipt of another recipe", record
    for name, file in files.items():
        if record.get("skipped"):
            if file.exists():
                return f"was skipped, but has a {name} file", record
            continue
        if not file.exists():
            return f"has a receipt, but its {name} file is missing", record
        if hash_file(file) != record.get("files", {}).get(name):
            return f"has a receipt, but its {name} file has other bytes", record
    return None, record
