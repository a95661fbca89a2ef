"""Arrays as large as a section, kept out of memory where sections are large.

What is above a size lies in nameless files, which go with the process however that
ends. Pages that were looked at are handed back piece by piece (``forget``), so that
memory does not grow with the section; what they hold stays.
"""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MOST_BYTES = 1 << 22  # of an array in memory
SCATTERED_BYTES = 18 << 20  # of one that is looked at all over: 4096 x 4096 voxels
# A look at a file brings so many bytes into memory, with large folios some more.
BLOCK_BYTES = 1 << 16
MOST_JUMPS = 32  # from block to block, before memory is handed back


class Scratch:
    """Makes arrays that nobody keeps.

    Parameters
    ----------
    folder : Path, optional
        Of the files; usually that of the result, whose disk is large enough.
    most : int, optional
        Bytes of an array in memory, if not the usual ones.

    Examples
    --------
    >>> scratch = Scratch()
    >>> places = scratch.zeros((3,), np.int64)
    >>> places[1] = 7
    >>> scratch.forget()
    >>> places
    array([0, 7, 0])
    """

    def __init__(self, folder: Path | None = None, most: int | None = None) -> None:
        self.folder, self._most = folder, MOST_BYTES if most is None else most
        self._maps: list[mmap.mmap] = []

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64))
        if size * dtype.itemsize <= self._most:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(size * dtype.itemsize)
            mapped = mmap.mmap(file.fileno(), size * dtype.itemsize)
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype).reshape(shape)

    @property
    def most_jumps(self) -> int:
        """How often a loop may jump from block to block before ``forget``."""
        return MOST_JUMPS if self._maps else 1 << 48

    def forget(self) -> None:
        """Hand back the memory of arrays that lie in files."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)
