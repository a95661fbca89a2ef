"""Arrays as large as a section, kept out of memory where sections are large.

What is above a size lies in nameless files, which go with the process however that
ends. Pages that were looked at are handed back piece by piece (``forget``), so that
memory does not grow with the section; what they hold stays.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetpipe.runtime.machine import enough_disk

MOST_BYTES = 1 << 22  # of an array in memory
SCATTERED_BYTES = 72 << 20  # of one that is looked at all over: ids of 4096 x 4096
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
        """Return an array of zeros.

        Raises
        ------
        ResourceError
            If the disk has no room for it.
        """
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64))
        if size * dtype.itemsize <= self._most:
            return np.zeros(shape, dtype)
        num_bytes = size * dtype.itemsize
        path = Path(self.folder or tempfile.gettempdir(), "scores")
        with (
            enough_disk(path, f"{num_bytes >> 20} MB of scratch"),
            tempfile.TemporaryFile(dir=self.folder) as file,
        ):
            _reserve(file.fileno(), num_bytes)
            mapped = mmap.mmap(file.fileno(), num_bytes)
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


def _reserve(file: int, num_bytes: int) -> None:
    """Make a file so long, and take its room: a full disk would kill who writes."""
    try:
        os.posix_fallocate(file, 0, num_bytes)
    except (AttributeError, OSError) as error:
        cannot = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
        if isinstance(error, OSError) and error.errno not in cannot:
            raise
        os.ftruncate(file, num_bytes)
