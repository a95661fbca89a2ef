"""What every kind of file looks like to us: an array in the file's own axis order."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.lengths import FoundSize

# Beyond this many bytes a file must not promise more than so many times its own size.
BOMB_BYTES, BOMB_RATIO = 1 << 28, 200


class ImageSource(ABC):
    """An n-dimensional array in a file or a folder, read box by box.

    Attributes
    ----------
    shape : tuple of int
        In the file's own axis order.
    dtype : dtype
        In the machine's byte order.
    axes : str
        One letter for each axis as far as the file says so: see ``interpret_axes``.
    voxel_size : FoundSize
        As far as the file says so.
    channel_names : tuple of str
        Of all channels, if the file names them.
    files : tuple of Path
        What was read, to be hashed.
    remarks : tuple of str
        What is allowed but worth knowing, as far as the headers tell.
    granule : tuple of int
        Lengths of what is decoded at once, along the axes of the file; empty: sections
        as wholes.
    origin : (z, y, x) or None
        Where its first voxel lies, in its own voxels, as far as the file says so.
    georeference : dict or None
        Where on the earth it lies, by the names of GeoTIFF; None: nowhere.
    is_unwritten : bool
        Whether nothing was ever written: all voxels are what the file fills in.
    by_section : bool
        Whether sections are best read one by one, each in its own thread.
    is_palette : bool
        Whether the values are colours from a palette, so that label ids are lost.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str = ""
    voxel_size: FoundSize = FoundSize()
    channel_names: tuple[str, ...] = ()
    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()
    granule: tuple[int, ...] = ()
    by_section: bool = False
    is_palette: bool = False

    is_unwritten: bool = False
    origin: tuple[float, float, float] | None = None
    georeference: dict[str, Any] | None = None

    @abstractmethod
    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array; slices are whole and in range.

        Raises
        ------
        DataError
            If the file is damaged; the message names file and page.
        """

    def all_files(self) -> tuple[Path, ...]:
        """Return every file that voxels lie in, and those that describe them."""
        return self.files

    def recorded(self) -> tuple[Path, ...]:
        """Return what a record lists: files, or a folder for all files in it."""
        return self.all_files()

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what is open."""

    def warnings(self) -> list[str]:
        """Return what is allowed but worth knowing, once all has been read."""
        return []

    def where(self, section: int) -> str:
        """Name the file of a section, for messages."""
        return f"{self.files[0]}, section {section}"


def tell_missing_chunks(
    folder: Path, shape: Sequence[int], side: Sequence[int], found: int, read_as: Any
) -> list[str]:
    """Say how many chunks of a store have no file, and what their voxels are then."""
    pairs = zip(shape, side, strict=True)
    expected = prod(-(-length // edge) for length, edge in pairs)
    if found >= expected:
        return []
    return [
        f"{folder}: {expected - found} of {expected} chunks are not there "
        f"and read as {read_as}: were they written?"
    ]


def check_promised_voxels(name: str, promised: int, stored: int) -> None:
    """Refuse a file that promises far more voxels than its bytes can honestly hold.

    Raises
    ------
    DataError
        With both sizes.
    """
    if promised > BOMB_BYTES and promised > BOMB_RATIO * stored:
        raise DataError(
            f"{name} promises {promised} bytes of voxels in {stored} bytes, as a "
            "decompression bomb does; if you trust it, save it with less compression"
        )
