"""Receipts: a shard counts as done only when its receipt says so (law 2).

A receipt is a small record, written last and atomically, that holds the sha256 of the
files it vouches for and the hash of their recipe. It is kept by shard, not by job, so
that the number of jobs may change. A shard of which nothing was to be predicted has a
receipt that says why, and no file.
"""

from collections.abc import Mapping
from pathlib import Path

from unetpipe.errors import DataError
from unetpipe.records.receipts import FilesReceipt, Receipt, ShardReceipt
from unetpipe.runtime.files import hash_file
from unetpipe.tiling.boxes import Zyx

NO_RECEIPT = "has no receipt"


def receipt_path(folder: Path, index: Zyx) -> Path:
    """Return where the receipt of a shard lies: a folder for each layer along z.

    One folder for all would be more than file systems hold (ext4: about 10 million).
    """
    z, y, x = index
    return folder / str(z) / f"{y}.{x}.json"


def read_receipt(
    path: Path, kind: type[Receipt], identity: str
) -> tuple[str | None, Receipt | None]:
    """Return what is wrong with a receipt itself, None if nothing is; and what it says.

    Parameters
    ----------
    path : Path
        Where it lies, if it is there.
    kind : type
        Of the receipt.
    identity : str
        Hash of the recipe that it must be of.
    """
    if not path.exists():
        return NO_RECEIPT, None
    try:
        receipt = kind.read(path)
    except DataError:
        return "has an unreadable receipt", None
    if receipt.identity != identity:
        return "has the receipt of another recipe", receipt
    return None, receipt


def inspect_files(
    folder: Path, index: Zyx, *, files: Mapping[str, Path], identity: str
) -> tuple[str | None, ShardReceipt | None]:
    """Return what is wrong with the files that a receipt tells of, and the receipt.

    The files are hashed: a truncated shard or a flipped byte is found here.
    """
    problem, receipt = read_receipt(receipt_path(folder, index), ShardReceipt, identity)
    if problem or receipt is None:
        return problem, receipt
    for name, file in files.items():
        if receipt.skipped:
            if file.exists():
                return f"was skipped, but has a {name} file", receipt
        elif not file.exists():
            return f"has a receipt, but its {name} file is missing", receipt
        elif hash_file(file) != receipt.files.get(name):
            return f"has a receipt, but its {name} file has other bytes", receipt
    return None, receipt


def differing_file(path: Path, root: Path, identity: str) -> Path | None:
    """Return the first file that is not as a receipt of files says; None: all are.

    Parameters
    ----------
    path : Path
        Where the receipt lies. Without a valid one it is the file that differs.
    root : Path
        Folder of the files.
    identity : str
        Hash of the recipe.
    """
    problem, receipt = read_receipt(path, FilesReceipt, identity)
    if problem or receipt is None:
        return path
    for name, sha256 in receipt.files.items():
        file = root / name
        if not file.exists() or hash_file(file) != sha256:
            return file
    return None
