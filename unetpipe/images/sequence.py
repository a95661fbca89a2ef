"""A sequence of files, one section each, in natural order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.endings import PICTURES
from unetpipe.images.files import file_numbers
from unetpipe.images.pictures import PictureSource
from unetpipe.images.png import PngSource
from unetpipe.images.source import ImageSource
from unetpipe.images.tiff import open_tiff

LISTED = 5  # offenders named in a message


class SequenceSource(ImageSource):
    """Files of one section each, all of one shape and dtype.

    Grey files, with or without transparency, may lie among colour files that show greys
    only: all are read as grey.

    Parameters
    ----------
    files : sequence of Path
        In their order.
    colours : bool, optional
        As ``open_section`` takes it.
    is_grey : bool
        All must be grey, or show greys only.
    """

    by_section = True

    def __init__(
        self,
        files: Sequence[Path],
        *,
        colours: bool | None = None,
        is_grey: bool = False,
    ) -> None:
        self.files, self._colours = tuple(files), colours
        first = open_section(files[0], colours=colours)
        self.dtype, self.voxel_size = first.dtype, first.voxel_size
        self.is_palette = first.is_palette
        self._told = list(first.remarks)
        first.close()
        shape, axes = self._check_alike(first)
        self.remarks = _shorten(self._told)
        if is_grey and axes == "yxs":
            shape, axes = shape[:2], "yx"
        self.shape = (len(files), *shape)
        # A letter that a file does not know may stand for anything but sections.
        self.axes = f"z{axes}"
        self.granule = (1, *first.granule[: len(shape)]) if first.granule else ()

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the sequence."""
        sections, inside = index[0], index[1:]
        shape = tuple(i.stop - i.start for i in index)
        out = np.empty(shape, self.dtype)
        for k, path in enumerate(self.files[sections]):
            source = open_section(path, colours=self._colours)
            try:
                out[k] = self._read(source, inside)
            finally:
                source.close()
        return out

    def _read(self, source: ImageSource, inside: Index) -> NDArray[Any]:
        """Return a box of one section, with as many samples as all sections have."""
        if len(source.shape) == len(self.shape) - 1 and (
            source.shape[2:] == self.shape[3:]
        ):
            return source.read(inside)
        every = (*inside[:2], *(slice(0, n) for n in source.shape[2:]))
        samples = source.read(every)
        number = samples.shape[2]
        colours, alpha = np.split(samples, [number - (number in (2, 4))], axis=2)
        if alpha.size and alpha.min() != alpha.max():
            raise DataError(
                f"{source.files[0]} has varying transparency, and others of its "
                "sequence have none; save all without"
            )
        if len(self.shape) == 4:
            return colours[..., inside[2]]
        if (colours != colours[..., :1]).any():
            raise DataError(
                f"{source.files[0]} is coloured, but others of its sequence are grey, "
                "or it is one channel of several; save all as grey, or all in colours"
            )
        return colours[..., 0]

    def where(self, section: int) -> str:
        """Name the file of a section."""
        return str(self.files[section])

    def numbers(self) -> list[int | None]:
        """Return the number of each file that tells it from the others."""
        return file_numbers(self.files)

    def _check_alike(self, first: ImageSource) -> tuple[tuple[int, ...], str]:
        """Return shape and axes of all files; refuse files that are not alike."""
        shapes, odd = [first.shape], []
        for path in self.files[1:]:
            other = open_section(path, colours=self._colours)
            other.close()
            self.is_palette |= other.is_palette
            self._told += other.remarks
            shapes.append(other.shape)
            planes = (other.shape[:2], first.shape[:2])
            may_differ = _has_samples(first) and _has_samples(other)
            is_alike = planes[0] == planes[1] if may_differ else False
            if other.dtype != first.dtype or not (
                is_alike or other.shape == first.shape
            ):
                odd.append(f"{path.name} {other.shape} {other.dtype}")
        if odd:
            more = f" and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
            raise DataError(
                f"{self.files[0]} is {first.shape} {first.dtype}, but of the "
                f"{len(self.files)} files of its sequence {len(odd)} differ: "
                f"{', '.join(odd[:LISTED])}{more}; save all with one shape and dtype, "
                "or narrow the pattern in the sheet"
            )
        if len(set(shapes)) == 1:
            return first.shape, first.axes
        numbers = {shape[2] if len(shape) > 2 else 1 for shape in shapes}
        if numbers & {1, 2}:
            return first.shape[:2], "yx"
        return (*first.shape[:2], 3), "yxs"


def _shorten(remarks: Sequence[str]) -> tuple[str, ...]:
    """Return the first remarks of all files, and how many there are more."""
    more = len(remarks) - LISTED
    told = tuple(remarks[:LISTED])
    return (*told, f"{more} more remarks on its files") if more > 1 else tuple(remarks)


def _has_samples(section: ImageSource) -> bool:
    """Tell whether a file is a grey or a colour image, and knows which."""
    return section.axes in ("yx", "yxs") and len(section.shape) == len(section.axes)


def open_section(path: Path, *, colours: bool | None = None) -> ImageSource:
    """Open a file of which one section is expected.

    Parameters
    ----------
    path : Path
        Of the file.
    colours : bool, optional
        Of a palette, give the colours or the numbers of its entries; None: what is
        usual, of PNG the colours, of TIFF the entries, which are its grey values.
    """
    if path.suffix.lower() == ".png":
        return PngSource(path, colours=colours is not False)
    if path.suffix.lower() in PICTURES:
        return PictureSource(path)
    source = open_tiff(path, colours=bool(colours))
    if len(source.shape) > 2 and "z" in source.axes.replace("q", "z").replace("i", "z"):
        source.close()
        raise DataError(
            f"{path} has the shape {source.shape}, but in a sequence each file is one "
            "section; name the one stack in the sheet, or narrow the pattern"
        )
    return source
