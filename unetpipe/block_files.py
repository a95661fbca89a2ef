"""Arrays of one block on disk, between the passes over a volume.

Each block is one file, written whole, and a receipt with its hash, written last. Each
array can be read without the others.
"""

import io
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import IntegrityError
from unetpipe.geometry import Zyx
from unetpipe.receipts import inspect_files, receipt_path, write_receipt
from unetpipe.records import hash_file, write_bytes_atomic

FILE = "block"


class BlockFiles:
    """A folder of blocks, each a file of named arrays.

    Parameters
    ----------
    folder : Path
        Made when the first block is saved.
    identity : str
        Hash of the recipe, the size of the blocks included.
    circumstances : dict
        Of this process; goes into each receipt.
    """

    def __init__(
        self, folder: Path, identity: str, circumstances: dict[str, Any]
    ) -> None:
        self.folder, self.identity = folder, identity
        self._circumstances = circumstances

    def save(self, index: Zyx, arrays: dict[str, NDArray[Any]]) -> None:
        """Write a block's file, then its receipt."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        path = self._path(index)
        write_bytes_atomic(path, content.getvalue())
        write_receipt(
            self.folder,
            index,
            files={FILE: hash_file(path)},
            tiles={},
            identity=self.identity,
            circumstances=self._circumstances,
        )

    def problem(self, index: Zyx) -> str | None:
        """Return None if a block is there and whole, else what is wrong with it."""
        files = {FILE: self._path(index)}
        return inspect_files(self.folder, index, files=files, identity=self.identity)[0]

    def read(self, index: Zyx, *names: str) -> list[NDArray[Any]]:
        """Return some arrays of a block.

        Raises
        ------
        IntegrityError
            If the file is gone or damaged.
        """
        path = self._path(index)
        try:
            with np.load(path) as stored:
                return [stored[name] for name in names]
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise IntegrityError(
                f"{path} is missing or damaged ({error}); delete {self.folder} and "
                "repeat the same command with --forcerun segment_part: the blocks are "
                "labelled again"
            ) from error

    def _path(self, index: Zyx) -> Path:
        return receipt_path(self.folder, index).with_suffix(".npz")
