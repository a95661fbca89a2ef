"""An image at another scale: resampled as it is read, box by box."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.images.axes import AxisPlan, Index
from unetpipe.images.lengths import FoundSize
from unetpipe.images.reader import ImageReader
from unetpipe.images.source import ImageSource
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.resampling import nearest, resample, taps

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
        numbers = nearest(self.original.zyx[0], self.shape[1], section, section + 1)
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

    def _read_box(self, box: tuple[slice, slice, slice]) -> NDArray[Any]:
        lengths = zip(self.original.zyx, self.shape[1:], box, strict=True)
        if self._is_labels:
            places = [nearest(n, m, i.start, i.stop) for n, m, i in lengths]
            seen = [slice(int(p[0]), int(p[-1]) + 1) for p in places]
            voxels = self._read_original(*seen)
            for axis, own in enumerate(places, start=1):
                voxels = np.take(voxels, own - own[0], axis)
            return voxels
        z, y, x = (taps(n, m, i.start, i.stop) for n, m, i in lengths)
        return resample(self._read_original(z.seen, y.seen, x.seen), (z, y, x))

    def _read_original(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return self.original.read_box(z.start, z.stop, y, x)


def at_scale(reader: ImageReader, zyx: Zyx, *, is_labels: bool = False) -> ImageReader:
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
