"""Images whose well-kept library gives an array that can be cut."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.lengths import FoundSize
from unetpipe.images.source import ImageSource, check_promised_voxels


class ArraySource(ImageSource):
    """An array that a library cuts, such as a memory-mapped one.

    Parameters
    ----------
    path : Path
        The file, for messages and hashes.
    array : array-like
        With shape and dtype; slices give arrays.
    axes : str
        One letter for each axis.
    voxel_size : FoundSize
        As far as the file says so.
    close : callable, optional
        Closes the file.
    """

    def __init__(
        self,
        path: Path,
        array: Any,
        axes: str,
        voxel_size: FoundSize,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.files, self._array, self.axes = (path,), array, axes
        self.shape = tuple(map(int, array.shape))
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.voxel_size, self._close = voxel_size, close
        size = path.stat().st_size
        check_promised_voxels(str(path), array.size * self.dtype.itemsize, size)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        try:
            return np.asarray(self._array[index], self.dtype)
        except Exception as error:  # of whatever kind, on a damaged file
            raise DataError(
                f"{self.files[0]} cannot be read at "
                f"{[(i.start, i.stop) for i in index]} ({type(error).__name__}: "
                f"{error}); copy or download it again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._close:
            self._close()


def load_format_library(
    name: str, package: str, path: Path | str, *, extra: str = "formats"
) -> ModuleType:
    """Return the library that reads a format.

    Raises
    ------
    DataError
        If it is not installed: how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{path} is read by the library {package}, which is not installed: pip "
            f"install {package} (or unetpipe[{extra}])"
        ) from error


def refuse_damaged(path: Path, kind: str, error: Exception) -> DataError:
    """Return an error for a file that its library cannot open."""
    return DataError(
        f"{path} is truncated, or no {kind} file ({type(error).__name__}: {error}); "
        "copy or download it again"
    )
