"""A sequence of files, one section each, in natural order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.files import number_of
from unetpipe.images.png import PngSource
from unetpipe.images.source import ImageSource
from unetpipe.images.tiff import open_tiff

LISTED = 5  # offenders named in a message


class SequenceSource(ImageSource):
    """Files of one section each, all of one shape and dtype."""

    by_section = True

    def __init__(self, files: Sequence[Path], *, colours: bool = False) -> None:
        self.files, self._colours = tuple(files), colours
        first = open_section(files[0], colours=colours)
        self.dtype, self.voxel_size_nm = first.dtype, first.voxel_size_nm
        self.shape = (len(files), *first.shape)
        # A letter that a file does not know may stand for anything but sections.
        self.axes = f"z{first.axes}"
        self.is_palette = first.is_palette
        first.close()
        self._check_alike(first)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the sequence."""
        sections, inside = index[0], index[1:]
        shape = tuple(i.stop - i.start for i in index)
        out = np.empty(shape, self.dtype)
        for k, path in enumerate(self.files[sections]):
            source = open_section(path, colours=self._colours)
            try:
                out[k] = source.read(inside)
            finally:
                source.close()
        return out

    def where(self, section: int) -> str:
        """Name the file of a section."""
        return str(self.files[section])

    def numbers(self) -> list[int | None]:
        """Return the last number in each file's name."""
        return [number_of(path) for path in self.files]

    def _check_alike(self, first: ImageSource) -> None:
        odd = []
        for path in self.files[1:]:
            other = open_section(path, colours=self._colours)
            other.close()
            self.is_palette |= other.is_palette
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                odd.append(f"{path.name} {other.shape} {other.dtype}")
        if odd:
            more = f" and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
            raise DataError(
                f"{self.files[0]} is {first.shape} {first.dtype}, but of the "
                f"{len(self.files)} files of its sequence {len(odd)} differ: "
                f"{', '.join(odd[:LISTED])}{more}; save all with one shape and dtype, "
                "or narrow the pattern in the sheet"
            )


def open_section(path: Path, *, colours: bool = False) -> ImageSource:
    """Open a file of which one section is expected."""
    if path.suffix.lower() == ".png":
        return PngSource(path)
    source = open_tiff(path, colours=colours)
    if len(source.shape) > 2 and "z" in source.axes.replace("q", "z").replace("i", "z"):
        source.close()
        raise DataError(
            f"{path} has the shape {source.shape}, but in a sequence each file is one "
            "section; name the one stack in the sheet, or narrow the pattern"
        )
    return source
