"""An image at another scale: resampled as it is read, box by box."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import AxisPlan, Index
from unetpipe.images.lengths import FoundSize
from unetpipe.images.partial import LabelPart, PartialSource, join_label_parts
from unetpipe.images.reader import ImageReader
from unetpipe.images.source import ImageSource
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx
from unetpipe.tiling.resampling import (
    first_nearest,
    nearest_voxels,
    resample,
    resampling_taps,
)

BAND_BYTES = 1 << 26  # of the original that are read at once


class ScaledSource(ImageSource):
    """The array (c, z, y, x) of an image that is seen at another scale.

    Parameters
    ----------
    original : ImageReader
        Stays open as long as this; closed with it.
    zyx : (z, y, x)
        Voxels that the same field of view shall have.
    is_labels : bool
        Ids: the nearest voxel counts.
    """

    def __init__(self, original: ImageReader, zyx: Zyx, *, is_labels: bool) -> None:
        self.original, self._is_labels = original, is_labels
        self.shape, self.axes = (original.shape[0], *zyx), "czyx"
        self.dtype, self.files = original.dtype, original.source.files
        self.channel_names = original.channel_names
        self.remarks = original.source.remarks
        pairs = zip(original.zyx, zyx, strict=True)
        self._ratio = [old / new for old, new in pairs]
        size = original.source.voxel_size
        self.voxel_size: FoundSize = size.times(self._ratio)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box, made section by section and band by band."""
        channels, sections, rows, columns = index
        shape = [i.stop - i.start for i in index[1:]]
        out = np.empty((self.shape[0], *shape), self.dtype)
        step = self._band(shape[2])
        for z in range(sections.start, sections.stop):
            for top in range(rows.start, rows.stop, step):
                low = min(top + step, rows.stop)
                place = slice(top - rows.start, low - rows.start)
                box = (slice(z, z + 1), slice(top, low), columns)
                k = z - sections.start
                out[:, k : k + 1, place] = self._read_box(box)
        return out[channels]

    def where(self, section: int) -> str:
        """Name the file of a section: of the nearest one."""
        numbers = nearest_voxels(
            self.original.zyx[0], self.shape[1], section, section + 1
        )
        return self.original.where(int(numbers[0]))

    def warnings(self) -> list[str]:
        """Return what is worth knowing of the original."""
        return self.original.source.warnings()

    def all_files(self) -> Any:
        """Return the files of the original."""
        return self.original.files

    def recorded(self) -> Any:
        """Return what a record lists of the original."""
        return self.original.recorded

    def close(self) -> None:
        """Close the original."""
        self.original.close()

    def _band(self, width: int) -> int:
        """Return how many rows are made at once."""
        row = prod(self._ratio) * width * self.shape[0] * self.dtype.itemsize
        return max(1, int(BAND_BYTES / max(row, 1)))

    def _nearest(self, box: tuple[slice, slice, slice]) -> list[NDArray[np.int64]]:
        """Return which voxels of the original are those of a box, by axis."""
        lengths = zip(self.original.zyx, self.shape[1:], box, strict=True)
        return [nearest_voxels(n, m, i.start, i.stop) for n, m, i in lengths]

    def _read_box(self, box: tuple[slice, slice, slice]) -> NDArray[Any]:
        if self._is_labels:
            places = self._nearest(box)
            seen = [slice(int(p[0]), int(p[-1]) + 1) for p in places]
            voxels = self._read_original(*seen)
            for axis, own in enumerate(places, start=1):
                voxels = np.take(voxels, own - own[0], axis)
            return voxels
        lengths = zip(self.original.zyx, self.shape[1:], box, strict=True)
        z, y, x = (resampling_taps(n, m, i.start, i.stop) for n, m, i in lengths)
        return resample(self._read_original(z.seen, y.seen, x.seen), (z, y, x))

    def _read_original(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return self.original.read_box(z.start, z.stop, y, x)


def rescaled_reader(
    reader: ImageReader, zyx: Zyx, *, is_labels: bool = False
) -> ImageReader:
    """Return a reader of the same image with another number of voxels.

    Images are averaged where they shrink and interpolated where they grow, labels are
    those of the nearest voxel: see ``tiling.resampling``.
    """
    source = ScaledSource(reader, zyx, is_labels=is_labels)
    return ImageReader(source, AxisPlan("czyx", source.shape), num_threads=1)


def at_own_scale(reader: ImageReader) -> ImageReader:
    """Return the reader of the original behind one at another scale, or itself."""
    source = reader.source
    return source.original if isinstance(source, ScaledSource) else reader


class ScaledBox(ScaledSource):
    """Labels of a box of an image, seen at another scale of the whole image.

    ::

        | o | o | o [ o | o | o ] o |     voxels of the image, and the box
        |   .   |   . [ .   |   . ] |     each new voxel has the nearest one: the box
                                          is of those whose nearest lies in it

    Parameters
    ----------
    part : LabelPart
        Its box is of the image as its file has it.
    old, new : (z, y, x)
        Shapes of the image.

    Attributes
    ----------
    box : Roi
        The same box at the other scale.
    """

    def __init__(self, part: LabelPart, old: Zyx, new: Zyx) -> None:
        ends = (part.box.start, part.box.stop)
        start, stop = (as_zyx(map(first_nearest, old, new, end)) for end in ends)
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            raise DataError(
                f"{part.reader.files[0]} labels the voxels {part.box.start} to "
                f"{part.box.stop}, too few to leave one where the image is resampled "
                f"from {old} to {new}; leave the box out, or set ingest.scale: keep"
            )
        self.box = Roi(start, stop)
        super().__init__(part.reader, self.box.shape, is_labels=True)
        self._from, self._old, self._new = part.box.start, old, new

    def _nearest(self, box: tuple[slice, slice, slice]) -> list[NDArray[np.int64]]:
        axes = zip(self._old, self._new, self.box.start, self._from, box, strict=True)
        return [
            nearest_voxels(n, m, i.start + first, i.stop + first) - corner
            for n, m, first, corner, i in axes
        ]

    def where(self, section: int) -> str:
        """Name the file of a section: of the nearest one."""
        corner = (slice(section, section + 1), slice(0, 1), slice(0, 1))
        numbers, _, _ = self._nearest(corner)
        return self.original.where(int(numbers[0]))


def label_parts_at_scale(partial: PartialSource, new: Zyx) -> ImageReader:
    """Return labels of parts of an image whose voxels have another size.

    Bit for bit what labels of the whole image would be, unlabelled outside of the
    parts, each voxel with the nearest one.
    """
    old = as_zyx(partial.shape[1:])
    boxes: Sequence[ScaledBox] = [ScaledBox(p, old, new) for p in partial.parts]
    parts = [
        LabelPart(ImageReader(s, AxisPlan("czyx", s.shape), num_threads=1), s.box)
        for s in boxes
    ]
    field = partial.field
    if field is not None:
        field = rescaled_reader(
            field, (min(field.zyx[0], new[0]), *new[1:]), is_labels=True
        )
    return join_label_parts(parts, new, field)
