"""Arrays of one block on disk, between the passes over a volume.

::

    | length of the index | index (JSON) | array | array | ...

Each block is one file, written whole, and a receipt with its hash, written last. Each
array can be read without the others, and its checksum is compared. An archive of NumPy
would do the same, but opening one takes longer than reading a face.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import IntegrityError
from unetpipe.records.receipts import FilesReceipt
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.storage.receipts import read_receipt, receipt_path
from unetpipe.tiling.boxes import Zyx

FILE = "block"
LENGTH_BYTES = 8
ALIGNMENT = 64


class BlockFiles:
    """A folder of blocks, each a file of named arrays.

    Parameters
    ----------
    folder : Path
        Made when the first block is saved.
    identity : str
        Hash of the recipe, the size of the blocks included.
    is_synced : bool
        Whether a power cut may cost no block that is saved. A lost one is found by its
        hash, so what one job makes and reads need not be.
    """

    def __init__(self, folder: Path, identity: str, *, is_synced: bool = True) -> None:
        self.folder, self.identity, self._is_synced = folder, identity, is_synced

    def save(self, index: Zyx, arrays: dict[str, NDArray[Any]]) -> None:
        """Write a block's file, then its receipt."""
        about, contents, offset = {}, [], 0
        for name, array in arrays.items():
            voxels = array.tobytes()
            about[name] = (array.dtype.str, array.shape, offset, crc32(voxels))
            contents.append(_pad(voxels))
            offset += len(contents[-1])
        head = json.dumps(about).encode()
        head = _pad(len(head).to_bytes(LENGTH_BYTES, "little") + head)
        content = b"".join([head, *contents])
        write_bytes_atomic(self._path(index), content, is_synced=self._is_synced)
        receipt = FilesReceipt(
            files={FILE: hashlib.sha256(content).hexdigest()}, identity=self.identity
        )
        path = receipt_path(self.folder, index)
        receipt.write(path, is_synced=self._is_synced)

    def problem(self, index: Zyx) -> str | None:
        """Return None if a block is there and whole, else what is wrong with it."""
        problem, receipt = read_receipt(
            receipt_path(self.folder, index), FilesReceipt, self.identity
        )
        if problem or receipt is None:
            return problem
        path = self._path(index)
        if not path.exists() or hash_file(path) != receipt.files.get(FILE):
            return "has a receipt, but its file is missing or has other bytes"
        return None

    def read(self, index: Zyx, *names: str) -> list[NDArray[Any]]:
        """Return some arrays of a block.

        Raises
        ------
        IntegrityError
            If the file is gone or damaged.
        """
        with self._open(index) as file:
            about, start = _read_index(file)
            return [_read_array(file, start, *about[name]) for name in names]

    def map(self, index: Zyx, name: str) -> NDArray[Any]:
        """Return an array of a block that stays on disk; its bytes are not checked.

        Raises
        ------
        IntegrityError
            If the file is gone or damaged.
        """
        with self._open(index) as file:
            about, start = _read_index(file)
            kind, shape, offset, _ = about[name]
            return np.memmap(file, kind, "r", start + offset, tuple(shape))

    @contextmanager
    def _open(self, index: Zyx) -> Iterator[BufferedReader]:
        path = self._path(index)
        try:
            with path.open("rb") as file:
                yield file
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{path} is missing or damaged ({error}); delete {self.folder} and "
                "repeat the same command with --forcerun segment_part: the blocks are "
                "labelled again"
            ) from error

    def _path(self, index: Zyx) -> Path:
        return receipt_path(self.folder, index).with_suffix(".arrays")


def _pad(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)


def _read_index(file: BufferedReader) -> tuple[dict[str, Any], int]:
    """Return what the index says, and where the arrays begin."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    about: dict[str, Any] = json.loads(file.read(length))
    stop = LENGTH_BYTES + length
    return about, stop + -stop % ALIGNMENT


def _read_array(
    file: BufferedReader,
    start: int,
    kind: str,
    shape: list[int],
    offset: int,
    check: int,
) -> NDArray[Any]:
    dtype = np.dtype(kind)
    content = bytearray(prod(shape) * dtype.itemsize)
    file.seek(start + offset)
    if file.readinto(content) != len(content) or crc32(content) != check:
        raise ValueError("an array has not the bytes that were written")
    return np.frombuffer(content, dtype).reshape(shape)
