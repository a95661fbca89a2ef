"""TIFF: plain, BigTIFF, OME, ImageJ; one handle for each thread."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.axes import Index
from unetpipe.images.lengths import nm_per_unit
from unetpipe.images.source import ImageSource, VoxelSize, check_promise

logger = logging.getLogger(__name__)


class TiffSource(ImageSource):
    """The one image of a TIFF file.

    Pages that were written one by one, each as an image of its own, are stacked when
    they are alike. Two TIFF facts shape this class: tifffile returns fewer pages for a
    truncated file without a word, and one open file shared by threads returns wrong
    pixels; so promises are compared with what is there, and each thread opens the file.
    """

    by_section = True

    def __init__(self, path: Path) -> None:
        self.files = (path,)
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[tifffile.TiffFile] = []
        try:
            self._describe()
        except BaseException:
            self.close()
            raise

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        if self._offset is not None:
            return self._read_contiguous(index)
        num_outer = len(self.shape) - len(self._page_shape)
        outer, inner = index[:num_outer], index[num_outer:]
        lengths = tuple(i.stop - i.start for i in outer)
        out = np.empty((*lengths, *(i.stop - i.start for i in inner)), self.dtype)
        grid = np.arange(self._num_pages).reshape(self.shape[:num_outer])[outer]
        pages = self._pages()
        for place in product(*map(range, lengths)):
            out[place] = self._decode(pages, int(grid[place]))[inner]
        return out

    def close(self) -> None:
        """Close the file in all threads."""
        with self._lock:
            for handle in self._open:
                handle.close()
            self._open.clear()
            self._local = threading.local()

    def _handle(self) -> tifffile.TiffFile:
        handle = getattr(self._local, "handle", None)
        if handle is None:
            handle = tifffile.TiffFile(self._path)
            self._local.handle = handle
            with self._lock:
                self._open.append(handle)
        return handle

    def _pages(self) -> Any:
        """Return the pages of this thread's handle, in the order of the array."""
        handle = self._handle()
        return handle.pages if self._is_stacked else handle.series[0].pages

    def _describe(self) -> None:
        """Find shape, axes and layout, and compare what is promised with the file."""
        with _errors_raise(self._path) as about:
            handle = self._handle()
            about.append(f"{len(handle.pages)} pages found")
            every = handle.series
            if not every:
                raise DataError(f"{self._path} holds no image; give another file")
            self._is_stacked = len(every) > 1
            if self._is_stacked:
                self._check_alike(handle)
            series = every[0]
            self._page_shape = tuple(series.keyframe.shape)
            self.dtype = np.dtype(series.dtype).newbyteorder("=")
            self.shape, self.axes = tuple(series.shape), series.axes.lower()
            if self._is_stacked:
                self.shape = (len(handle.pages), *self.shape)
                self.axes = f"q{self.axes}"
            self._offset = None if self._is_stacked else series.dataoffset
            self._byteorder = handle.byteorder
            self.voxel_size_nm = _voxel_size(handle)
            self.channel_names = _channel_names(handle)
            self.table = _colour_table(handle.pages.first)
            self._check_size(handle, series)

    def _check_alike(self, handle: tifffile.TiffFile) -> None:
        """Refuse several images in one file, unless each is one page like the first."""
        described = [(tuple(s.shape), str(s.dtype)) for s in handle.series]
        if len(set(described)) > 1 or len(handle.pages) != len(described):
            listing = "; ".join(f"{s} {d}" for s, d in dict.fromkeys(described))
            raise DataError(
                f"{self._path} holds {len(described)} images of shapes {listing}; "
                "save the one wanted as a file of its own"
            )
        logger.info(
            "%s: %d single pages taken as one stack", self._path, len(described)
        )

    def _check_size(self, handle: tifffile.TiffFile, series: Any) -> None:
        size = self._path.stat().st_size
        promised = prod(self.shape) * self.dtype.itemsize
        check_promise(str(self._path), promised, size)
        if self._offset is not None:
            if self._offset + promised > size:
                raise self._truncated(
                    f"it promises {promised} bytes of voxels from byte {self._offset}"
                )
            return
        pages = handle.pages if self._is_stacked else series.pages
        self._num_pages = prod(self.shape) // max(1, prod(self._page_shape))
        if self.shape[len(self.shape) - len(self._page_shape) :] != self._page_shape:
            raise DataError(
                f"{self._path}: pages of shape {self._page_shape} do not make up an "
                f"image of shape {self.shape}; save it as a plain TIFF stack"
            )
        if len(pages) != self._num_pages:
            raise self._truncated(
                f"it promises {self._num_pages} pages and has {len(pages)}"
            )
        for number, page in enumerate(pages):
            self._check_page(number, page, size)

    def _check_page(self, number: int, page: Any, size: int) -> None:
        if page is None:
            raise self._truncated(f"page {number} is missing")
        ends = zip(page.dataoffsets, page.databytecounts, strict=True)
        for offset, count in ends:
            if not count or offset + count > size:
                raise self._truncated(
                    f"page {number} has {count} bytes of pixels at byte {offset}"
                )

    def _truncated(self, what: str) -> DataError:
        size = self._path.stat().st_size
        return DataError(
            f"{self._path} is truncated or corrupt: {what}, but the file ends at byte "
            f"{size}; copy or download it again"
        )

    def _read_contiguous(self, index: Index) -> NDArray[Any]:
        # Mapped anew for each box: mapped pages of the file count as memory.
        mapped = np.memmap(
            self._path,
            self.dtype.newbyteorder(self._byteorder),
            mode="r",
            offset=self._offset or 0,
            shape=self.shape,
        )
        return np.array(mapped[index], self.dtype)

    def _decode(self, pages: Any, number: int) -> NDArray[Any]:
        with _errors_raise(self._path, f", page {number},"):
            values = np.asarray(pages[number].asarray(maxworkers=1))
        return values.reshape(self._page_shape).astype(self.dtype, copy=False)


class ColouredTiff(ImageSource):
    """A TIFF of indices into a palette, seen as the colours: (..., y, x, s)."""

    by_section = True

    def __init__(self, indices: TiffSource, table: NDArray[np.uint8]) -> None:
        self._indices, self._table = indices, table
        self.files, self.voxel_size_nm = indices.files, indices.voxel_size_nm
        self.shape, self.axes = (*indices.shape, 3), f"{indices.axes}s"
        self.dtype, self.is_palette = np.dtype(np.uint8), True

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        colours: NDArray[np.uint8] = self._table[self._indices.read(index[:-1])]
        return colours

    def close(self) -> None:
        """Close the file."""
        self._indices.close()


def open_tiff(path: Path, *, colours: bool = False) -> ImageSource:
    """Open a TIFF file; with ``colours``, a palette's colours and not its indices."""
    source = TiffSource(path)
    if colours and source.table is not None:
        return ColouredTiff(source, source.table)
    return source


@contextmanager
def _errors_raise(path: Path, page: str = "") -> Iterator[list[str]]:
    """Turn what tifffile merely logs as an error, and its exceptions, into ours.

    What is put into the list that this yields goes into the message.
    """
    thread, messages, about = threading.get_ident(), list[str](), list[str]()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                messages.append(record.getMessage())

    handler = Collect(logging.ERROR)
    tifffile_logger = logging.getLogger("tifffile")
    tifffile_logger.addHandler(handler)
    try:
        yield about
    except UnetpipeError:
        raise
    except Exception as error:  # of whatever kind, on a damaged file
        if isinstance(error, OSError) and error.errno:  # the file system's
            raise
        raise DataError(
            f"{path}{page} is corrupt, or no TIFF ({error}); copy or download it again"
        ) from error
    finally:
        tifffile_logger.removeHandler(handler)
    if messages:
        raise DataError(
            f"{path}{page} is truncated or corrupt "
            f"({'; '.join([*about, messages[0]])}); copy or download it again"
        )


def _colour_table(page: Any) -> NDArray[np.uint8] | None:
    """Return the palette of a page, shape (number of colours, 3)."""
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    table = np.asarray(page.colormap).T
    return (table >> 8).astype(np.uint8) if table.dtype.itemsize > 1 else table


def _voxel_size(handle: tifffile.TiffFile) -> VoxelSize | None:
    """Return (z, y, x) in nm from OME or ImageJ metadata."""
    if handle.is_ome:
        return _voxel_size_ome(handle)
    if not handle.is_imagej:
        return None
    about = handle.imagej_metadata or {}
    unit = nm_per_unit(about.get("unit", ""))
    tags = handle.pages.first.tags
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (nx, dx), (ny, dy) = tags["XResolution"].value, tags["YResolution"].value
    if not (nx and ny and dx and dy):
        return None
    z = float(about.get("spacing", dx / nx))
    return abs(z) * unit or 1.0, unit * dy / ny, unit * dx / nx


def _ome_pixels(handle: tifffile.TiffFile) -> dict[str, Any]:
    images = tifffile.xml2dict(handle.ome_metadata or "<OME/>").get("OME", {})
    image = images.get("Image", {})
    image = image[0] if isinstance(image, list) else image
    pixels: dict[str, Any] = image.get("Pixels", {})
    return pixels


def _channel_names(handle: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of all channels from OME metadata, or nothing."""
    if not handle.is_ome:
        return ()
    channels = _ome_pixels(handle).get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = tuple(str(channel.get("Name", "")) for channel in channels)
    return names if all(names) else ()


def _voxel_size_ome(handle: tifffile.TiffFile) -> VoxelSize | None:
    pixels = _ome_pixels(handle)
    sizes = []
    for axis in "ZYX":
        unit = nm_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        value = pixels.get(f"PhysicalSize{axis}", pixels.get("PhysicalSizeX"))
        if unit is None or not value:
            return None
        sizes.append(float(value) * unit)
    return sizes[0], sizes[1], sizes[2]
