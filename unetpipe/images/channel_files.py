"""Channels, and sections, in files of their own, told apart by parts of their names.

::

    a_z<z>_ch<c>.tif        a_z00_ch00.tif  a_z00_ch01.tif  a_z01_ch00.tif ...
    imagesTr/x_<c>.tif      imagesTr/x_0000.tif  imagesTr/x_0001.tif
    cells_<c>.png           cells_DAPI.png  cells_GFP.png
    <c:er,mito>/a.png       er/a.png  mito/a.png

``<z>`` stands for a number, ``<c>`` for a number or a word, in natural order, or for
the words that it lists, in theirs. Every channel must have every section. As labels,
files of channels are masks of the classes 1, 2, ...; one that is not there is a class
that does not occur.
"""

from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.endings import CHANNELS, SECTIONS
from unetpipe.images.files import (
    FILE_AXIS,
    file_name_pattern,
    listed_channels,
    natural_key,
)
from unetpipe.images.formats import opener_of
from unetpipe.images.sequence import SequenceSource
from unetpipe.images.source import ImageSource
from unetpipe.images.tiff import open_tiff

LISTED = 4  # missing files named in a message


class ChannelFiles(ImageSource):
    """One image whose channels lie in a file, or in a series of files, each.

    Parameters
    ----------
    channels : sequence of ImageSource
        Alike; their axes follow the channel's.
    names : sequence of str
        Of the channels, as the files' names have them.
    listed : sequence of str
        All that there should be; none: no others are known.
    """

    def __init__(
        self,
        channels: Sequence[ImageSource],
        names: Sequence[str],
        listed: Sequence[str] = (),
    ) -> None:
        first, self.channels = channels[0], tuple(channels)
        self.by_section = all(source.by_section for source in channels)
        self.names, self.listed = tuple(names), tuple(listed or names)
        self.files = tuple(path for source in channels for path in source.files)
        for name, source in zip(names, channels, strict=True):
            if (source.shape, source.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"channel {name} is {source.shape} {source.dtype} in "
                    f"{source.files[0]}, but channel {names[0]} is {first.shape} "
                    f"{first.dtype} in {first.files[0]}; save all channels alike"
                )
        self.dtype, self.voxel_size = first.dtype, first.voxel_size
        self.remarks = first.remarks
        self.granule = (1, *first.granule) if first.granule else ()
        self.shape = (len(channels), *first.shape)
        self.axes = f"c{first.axes}"
        is_named = not all(name.isdecimal() for name in names)
        self.channel_names = tuple(names) if is_named else ()

    def read(self, index: Index) -> NDArray[np.generic]:
        """Return a box of the channels."""
        chosen = self.channels[index[0]]
        return np.stack([source.read(index[1:]) for source in chosen])

    def where(self, section: int) -> str:
        """Name the file of a section, in the first channel."""
        return self.channels[0].where(section)

    def complete(self, axes: str) -> str:
        """Return what the sheet says of each file's axes, with those of the files."""
        is_series = isinstance(self.channels[0], SequenceSource)
        missing = "".join(
            axis for axis in ("cz" if is_series else "c") if axis not in axes
        )
        return f"{missing}{axes}"

    def close(self) -> None:
        """Close the files of all channels."""
        for source in self.channels:
            source.close()


class ClassFiles(ImageSource):
    """Classes, one mask each, as sections of class numbers, (z, y, x).

    Class k is the k-th mask; where masks overlap, the later class has the voxels.
    """

    def __init__(self, masks: ChannelFiles) -> None:
        self._masks, self.by_section = masks, masks.by_section
        self.files, self.dtype = masks.files, np.dtype(np.uint8)
        self.voxel_size, self.granule = masks.voxel_size, masks.granule[1:]
        self.shape, self.axes = masks.shape[1:], masks.axes[1:]
        self._classes = [masks.listed.index(name) + 1 for name in masks.names]
        self._overlap = 0

    def read(self, index: Index) -> NDArray[np.uint8]:
        """Return a box of the classes."""
        classes = np.zeros([i.stop - i.start for i in index], np.uint8)
        for number, source in zip(self._classes, self._masks.channels, strict=True):
            values = source.read(index)
            mask = values != 0
            inside = values[mask]
            if inside.size and inside.min() != inside.max():
                raise DataError(
                    f"the mask {source.files[0]} holds the values {inside.min()} to "
                    f"{inside.max()} beside 0; a mask of a class holds 0 and one "
                    "other: save one with soft edges, or from JPEG, with two values"
                )
            self._overlap += int(np.count_nonzero(classes[mask]))
            classes[mask] = number
        return classes

    def where(self, section: int) -> str:
        """Name the file of a section, of the first class."""
        return self._masks.where(section)

    def warnings(self) -> list[str]:
        """Say which classes have no file, and where masks overlap."""
        absent = [n for n in self._masks.listed if n not in self._masks.names]
        found = []
        if absent:
            found.append(
                f"there is no mask of {', '.join(absent)} beside {self.files[0]}; the "
                "class is taken not to occur"
            )
        if self._overlap:
            found.append(
                f"masks of classes overlap in {self._overlap} voxels; of "
                f"{', '.join(self._masks.listed)} the later has them"
            )
        return found

    def close(self) -> None:
        """Close the files of all classes."""
        self._masks.close()


def open_channel_files(
    paths: Sequence[Path], cell: str, *, colours: bool | None = None
) -> ImageSource:
    """Open the files that a cell with ``<c>`` or ``<z>`` names.

    Parameters
    ----------
    paths : sequence of Path
        That exist.
    cell : str
        With ``<c>``, ``<z>`` or both.
    colours : bool, optional
        As ``open_section`` takes it.

    Raises
    ------
    DataError
        If a channel lacks a section, two files have the same place, or files are not
        alike.
    """
    known = SECTIONS if "<z>" in cell else CHANNELS
    wrong = [path for path in paths if not path.name.lower().endswith(known)]
    if wrong:
        raise DataError(
            f"{cell!r} names {wrong[0]}; files of sections are TIFF or PNG, those of "
            "channels NIfTI, MRC or NRRD too"
        )
    grid = _arrange(paths, cell)
    if "<c" not in cell:
        return SequenceSource(grid[""], colours=colours)
    channels: list[ImageSource] = []
    for files in grid.values():
        if opener := opener_of(files[0]):
            channels.append(opener(files[0]))
            continue
        is_tiff = files[0].suffix.lower() != ".png"
        source = open_tiff(files[0]) if is_tiff and "<z>" not in cell else None
        if source is not None and len(source.shape) > 2 and "s" not in source.axes:
            channels.append(source)
            continue
        if source is not None:
            source.close()
        channels.append(SequenceSource(files, is_grey=True))
    return ChannelFiles(channels, list(grid), listed_channels(cell))


def _arrange(paths: Sequence[Path], cell: str) -> dict[str, list[Path]]:
    """Return the files of each channel, section by section; all there must be."""
    pattern = file_name_pattern(cell)
    found: dict[tuple[str, str], Path] = {}
    for path in paths:
        match = pattern.search(normalize("NFC", path.as_posix()))
        assert match is not None, path  # they were found by it
        place = match.groupdict().get("c") or "", match.groupdict().get("z") or ""
        if place in found:
            raise DataError(
                f"{cell!r} names {found[place]} and {path} for one channel and "
                "section; name each file once"
            )
        found[place] = path
    present = {c for c, _ in found}
    listed = [name for name in listed_channels(cell) if name in present]
    channels = listed or sorted(present, key=natural_key)
    sections = sorted({z for _, z in found}, key=natural_key)
    missing = [(c, z) for c in channels for z in sections if (c, z) not in found]
    if missing:
        names = [cell.replace("<c>", c).replace("<z>", z) for c, z in missing[:LISTED]]
        more = f" and {len(missing) - LISTED} more" if missing[LISTED:] else ""
        raise DataError(
            f"{cell!r} names {len(channels)} channels of {len(sections)} sections, but "
            f"{', '.join(names)}{more} is not there; every channel must have every "
            "section"
        )
    return {c: [found[c, z] for z in sections] for c in channels}


def _fill(cell: str, channel: str, section: str) -> str:
    """Return the name of one file."""
    return FILE_AXIS.sub(lambda m: section if m[1] == "z" else channel, cell)
