"""TIFF: plain, BigTIFF, OME, ImageJ; one handle for each thread."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.axes import Index
from unetpipe.images.lengths import FoundSize
from unetpipe.images.source import ImageSource, check_promised_voxels
from unetpipe.images.tiff_metadata import (
    are_signed,
    check_files_named_in_tiff,
    describe_exchange,
    describe_inversion,
    describe_orientation,
    describe_stray_pages,
    find_companion,
    missing_plane,
    ome_channel_names,
    open_file,
    read_georeference,
    tiff_voxel_size,
)

LISTED = 5  # images named in a remark
NO_IMAGE = 1 | 4  # in the subfile type of a page: a reduced one, a mask of another
SIGN = -(1 << 15)
SLIDES = ("svs", "scn", "ndpi", "philips", "bif", "qpi", "avs")  # of slide scanners


class TiffSource(ImageSource):
    """The one image of a TIFF file, or of a set of files that know of each other.

    Pages that were written one by one, each as an image of its own, are stacked when
    they are alike. Two TIFF facts shape this class: tifffile returns fewer pages for a
    truncated file without a word, and one open file shared by threads returns wrong
    pixels; so promises are compared with what is there, and each thread opens the file,
    or all read through tifffile's Zarr view, which guards the file.

    Parameters
    ----------
    path : Path
        A TIFF file; of an OME-TIFF in several files any of them.
    level : int
        Of a pyramid; 0: full resolution.
    """

    by_section = True

    def __init__(self, path: Path, *, level: int = 0) -> None:
        self._path, self._level = path, level
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[tifffile.TiffFile] = []
        self._view: Any = None
        try:
            self._describe()
        except BaseException:
            self.close()
            raise

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        stored = self._read_stored(index)
        return stored ^ np.int16(SIGN) if self._is_signed else stored

    def _read_stored(self, index: Index) -> NDArray[Any]:
        if self._offset is not None:
            return self._read_contiguous(index)
        num_outer = len(self.shape) - len(self._page_shape)
        outer, inner = index[:num_outer], index[num_outer:]
        is_whole = all(
            i.stop - i.start == n for i, n in zip(inner, self._page_shape, strict=True)
        )
        if not self._is_stacked and (len(self.files) > 1 or not is_whole):
            return self._read_view(index)
        lengths = tuple(i.stop - i.start for i in outer)
        out = np.empty((*lengths, *(i.stop - i.start for i in inner)), self.dtype)
        grid = np.arange(self._num_pages).reshape(self.shape[:num_outer])[outer]
        pages = self._pages()
        for place in product(*map(range, lengths)):
            number = int(grid[place])
            if is_whole:
                out[place] = self._decode(pages, number)
            else:
                out[place] = self._read_page_view(number, inner)
        return out

    def where(self, section: int) -> str:
        """Name the file, or the files, and the section."""
        more = len(self.files) - 1
        others = f" and {more} more files" if more else ""
        return f"{self._path}{others}, section {section}"

    def close(self) -> None:
        """Close the file in all threads."""
        with self._lock:
            for handle in self._open:
                handle.close()
            self._open.clear()
            self._local = threading.local()
            self._view = None

    def _handle(self) -> tifffile.TiffFile:
        handle = getattr(self._local, "handle", None)
        if handle is None:
            handle = open_file(self._path)
            self._local.handle = handle
            with self._lock:
                self._open.append(handle)
        return handle

    def _pages(self) -> Any:
        """Return the pages of this thread's handle, in the order of the array."""
        pages = getattr(self._local, "pages", None)
        if pages is None:
            handle = self._handle()
            one = self._is_stacked
            pages = first_pages(handle) if one else self._series(handle).pages
            self._local.pages = pages
        return pages

    def _series(self, handle: tifffile.TiffFile) -> Any:
        """Return the image of the file, at the level that is read."""
        series = own_series(handle)[0]
        if self._level >= len(series.levels):
            raise DataError(
                f"{self._path} has {len(series.levels)} resolution level"
                f"{'s' if len(series.levels) > 1 else ''}, but level is {self._level} "
                f"in the sheet; write 0 to {len(series.levels) - 1}"
            )
        return series.levels[self._level]

    def _describe(self) -> None:
        """Find shape, axes and layout, and compare what is promised with the file."""
        with _errors_raise(self._path) as about:
            handle = self._handle()
            about.append(f"{len(handle.pages)} pages found")
            check_files_named_in_tiff(self._path, handle)
            every = own_series(handle)
            if not every:
                raise DataError(f"{self._path} holds no image; give another file")
            self._is_stacked = len(every) > 1
            if self._is_stacked:
                self._check_alike(every)
            series = self._series(handle)
            self._page_shape = tuple(series.keyframe.shape)
            self.dtype = np.dtype(series.dtype).newbyteorder("=")
            self._is_signed = self.dtype == np.uint16 and are_signed(handle)
            if self._is_signed:
                self.dtype = np.dtype(np.int16)
            self.shape, self.axes = tuple(series.shape), series.axes.lower()
            if self._is_stacked:
                self.shape = (len(every), *self.shape)
                self.axes = f"q{self.axes}"
            self._offset = None if self._is_stacked else series.dataoffset
            self._byteorder = handle.byteorder
            self.voxel_size = tiff_voxel_size(handle, own_series(handle)[0])
            if self._level:
                self.voxel_size = self._coarsen(own_series(handle)[0])
            self.channel_names = ome_channel_names(handle, series)
            self.table = _colour_table(handle.pages.first)
            self.files = (self._path,)
            self.georeference = read_georeference(handle.pages[0])
            self._check_size(handle, series)
            self._note_oddities(handle, every, series.keyframe)

    def _note_oddities(
        self, handle: tifffile.TiffFile, every: Sequence[Any], page: Any
    ) -> None:
        """Tell what the file says and readers do not heed."""
        companion, absent = find_companion(self._path, handle)
        if companion:
            self.files = (*self.files, companion)
        num_used = 0
        if len(self.files) == 1:
            planes = prod(page.shape) or 1
            num_used = sum(prod(series.shape) // planes for series in every)
        tag = handle.pages.first.tags.get("Orientation")
        remarks = (
            absent,
            self._describe_stack(handle, every),
            describe_exchange(self._path, handle),
            describe_inversion(self._path, page),
            describe_stray_pages(self._path, handle, page, num_used) * bool(num_used),
            describe_orientation(self._path, int(tag.value) if tag else 1),
        )
        self.remarks = (*self.remarks, *filter(None, remarks))

    def _coarsen(self, full: Any) -> FoundSize:
        """Return the voxel size of a level: as much larger as it has fewer voxels."""
        length = dict(zip(self.axes, self.shape, strict=True))
        whole = dict(zip(full.axes.lower(), full.shape, strict=True))
        factors = [whole.get(a, 1) / length.get(a, 1) for a in "zyx"]
        return self.voxel_size.times(factors)

    def _check_alike(self, every: Sequence[Any]) -> None:
        """Refuse several images in one file, unless each is one page like the first."""
        described = [(tuple(s.shape), str(s.dtype)) for s in every]
        if len(set(described)) > 1 or any(len(s.pages) != 1 for s in every):
            listing = "; ".join(f"{s} {d}" for s, d in dict.fromkeys(described))
            raise DataError(
                f"{self._path} holds {len(described)} images of shapes {listing}; "
                "save the one wanted as a file of its own"
            )
        if self._level:
            raise DataError(
                f"{self._path} is a stack of {len(every)} single pages, without "
                f"resolution levels, but level is {self._level} in the sheet; write 0"
            )

    def _describe_stack(self, handle: tifffile.TiffFile, every: Sequence[Any]) -> str:
        """Tell that images with names of their own are taken as one."""
        if len(every) == 1 or not handle.is_ome:
            return ""
        names = ", ".join(str(series.name) for series in every[:LISTED])
        more = ", ..." * (len(every) > LISTED)
        return (
            f"{self._path}: its {len(every)} images of one page each ({names}{more}) "
            "are taken as the sections of one stack; if they are not, save each as a "
            "file of its own"
        )

    def _check_size(self, handle: tifffile.TiffFile, series: Any) -> None:
        size = self._path.stat().st_size
        promised = prod(self.shape) * self.dtype.itemsize
        if self._offset is not None:
            check_promised_voxels(str(self._path), promised, size)
            if self._offset + promised > size:
                raise self._truncated(
                    f"it promises {promised} bytes of voxels from byte {self._offset}"
                )
            self.granule = (1,) * len(self.shape)
            return
        pages = first_pages(handle) if self._is_stacked else series.pages
        self._num_pages = prod(self.shape) // max(1, prod(self._page_shape))
        if self.shape[len(self.shape) - len(self._page_shape) :] != self._page_shape:
            raise DataError(
                f"{self._path}: pages of shape {self._page_shape} do not make up an "
                f"image of shape {self.shape}; save it as a plain TIFF stack"
            )
        if len(pages) > self._num_pages:
            raise DataError(
                f"{self._path} describes {self._num_pages} pages and holds "
                f"{len(pages)}: what it says of its axes (shape {self.shape}) is not "
                "so; save it as a stack anew"
            )
        if len(pages) != self._num_pages:
            raise self._truncated(
                f"it promises {self._num_pages} pages and has {len(pages)}"
            )
        sizes: dict[Path, int] = {self._path: size}
        num_empty = num_segments = 0
        for number, page in enumerate(pages):
            if page is None:
                raise missing_plane(self._path, handle, number)
            name = page.parent.filehandle.name
            path = self._path if name == self._path.name else self._path.parent / name
            if path not in sizes:
                sizes[path] = path.stat().st_size
            num_empty += self._check_page(number, page, path, sizes[path])
            num_segments += len(page.databytecounts)
        self.files = tuple(sizes)
        if not num_empty:  # of absent tiles nobody knows how many there may honestly be
            check_promised_voxels(str(self._path), promised, sum(sizes.values()))
        self._note_empty(num_empty, num_segments)
        segment = series.keyframe.chunks
        self.granule = (*[1] * (len(self.shape) - len(segment)), *segment)

    def _check_page(self, number: int, page: Any, path: Path, size: int) -> int:
        """Return how many strips or tiles are declared empty; refuse those cut off."""
        segments = zip(page.dataoffsets, page.databytecounts, strict=True)
        num_empty = 0
        for offset, count in segments:
            num_empty += not count
            if count and offset + count > size:
                raise _truncated_at(
                    path,
                    size,
                    f"page {number} has {count} bytes of pixels at byte {offset}",
                )
        return num_empty

    def _note_empty(self, num_empty: int, num_segments: int) -> None:
        """Tell of strips or tiles without a byte, which the format allows: they are 0.

        A file that has no other was never filled.
        """
        if num_empty and num_empty == num_segments:
            raise DataError(
                f"{self._path} holds no pixels: each of its {num_segments} strips or "
                "tiles is declared empty, as of a file that was created and never "
                "filled; write it again"
            )
        if num_empty:
            self.remarks = (
                f"{self._path}: {num_empty} of {num_segments} strips or tiles are "
                "declared empty and read as 0",
            )

    def _truncated(self, what: str) -> DataError:
        return _truncated_at(self._path, self._path.stat().st_size, what)

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
        if values.size != prod(self._page_shape):
            raise DataError(
                f"{self._path}, page {number}, decodes to {values.size} voxels, where "
                f"its shape {self._page_shape} promises {prod(self._page_shape)}; the "
                "file is damaged: copy it again, or save it anew"
            )
        return values.reshape(self._page_shape).astype(self.dtype, copy=False)

    def _read_view(self, index: Index) -> NDArray[Any]:
        """Read strips or tiles, of whatever file, by tifffile's Zarr view."""
        with _errors_raise(self._path):
            with self._lock:
                if self._view is None:
                    handle = open_file(self._path)
                    self._open.append(handle)
                    store = own_series(handle)[0].aszarr(level=self._level)
                    self._view = zarr.open_array(store, mode="r", zarr_format=2)
            return np.asarray(self._view[index]).astype(self.dtype, copy=False)

    def _read_page_view(self, number: int, index: Index) -> NDArray[Any]:
        """Read strips or tiles of one page that is an image of its own."""
        with _errors_raise(self._path, f", page {number},"):
            page: Any = self._pages()[number]
            view = zarr.open_array(page.aszarr(), mode="r", zarr_format=2)
            return np.asarray(view[index]).astype(self.dtype, copy=False)


def own_series(handle: tifffile.TiffFile) -> list[Any]:
    """Return the images of a file, without those that only other files hold.

    Pages that say that they are a thumbnail or a mask of another are left out. Of a
    pyramid, its label, overview and thumbnail are left out: images of other
    shapes. Where others have its shape, a smaller page made it look like a pyramid.
    """
    every = list(handle.series)
    own = [
        series
        for series in every
        if any(p is not None and p.parent is handle for p in series.pages)
    ]
    every = own or every
    every = [s for s in every if not s.keyframe.subfiletype & NO_IMAGE] or every
    is_slide = every[:1] and every[0].kind in SLIDES
    if is_slide or (every[:1] and every[0].is_pyramidal):
        first = every[0]
        others = [s for s in every[1:] if s.is_pyramidal or s.shape == first.shape]
        return every[:1] if is_slide or not others else every
    return every


def first_pages(handle: tifffile.TiffFile) -> list[Any]:
    """Return the page of each image of a file whose images are single pages."""
    return [series.pages[0] for series in own_series(handle)]


def _truncated_at(path: Path, size: int, what: str) -> DataError:
    return DataError(
        f"{path} is truncated or corrupt: {what}, but the file ends at byte "
        f"{size}; copy or download it again"
    )


class ColouredTiff(ImageSource):
    """A TIFF of indices into a palette, seen as the colours: (..., y, x, s)."""

    by_section = True

    def __init__(self, indices: TiffSource, table: NDArray[np.uint8]) -> None:
        self._indices, self._table = indices, table
        self.files, self.voxel_size = indices.files, indices.voxel_size
        self.remarks, self.granule = indices.remarks, (*indices.granule, 3)
        self.shape, self.axes = (*indices.shape, 3), f"{indices.axes}s"
        self.dtype, self.is_palette = np.dtype(np.uint8), True

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        colours: NDArray[np.uint8] = self._table[self._indices.read(index[:-1])]
        return colours

    def close(self) -> None:
        """Close the file."""
        self._indices.close()


def open_tiff(path: Path, *, colours: bool = False, level: int = 0) -> ImageSource:
    """Open a TIFF file; with ``colours``, a palette's colours and not its indices."""
    source = TiffSource(path, level=level)
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
