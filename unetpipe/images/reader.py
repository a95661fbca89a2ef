"""One image as sections of (c, y, x), whatever file it lies in."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import AxisPlan, Czyx, interpret_axes
from unetpipe.images.cells import open_cell, open_mask_files
from unetpipe.images.channel_files import ChannelFiles, ClassFiles
from unetpipe.images.lengths import VoxelSize
from unetpipe.images.selection import select_image_channels
from unetpipe.images.sequence import SequenceSource
from unetpipe.images.source import ImageSource
from unetpipe.images.zarr_store import ZarrSource
from unetpipe.tiling.boxes import Zyx

if TYPE_CHECKING:
    import dask.array

COMPARED_BYTES = 1 << 26  # of a colour image, compared at once


class ImageReader:
    """Reads sections of one image; a context manager, to be closed.

    A colour image whose samples are all equal has one channel; transparency is dropped
    where it is the same everywhere. Name the samples ``c`` in the sheet's ``axes`` to
    keep all of them.

    Parameters
    ----------
    source : ImageSource
        The file.
    plan : AxisPlan
        What its axes mean.
    num_threads : int
        Sections that are decoded at once.
    keep_colours : bool
        A colour image keeps its colours, also where all samples are equal.
    is_labels : bool
        The voxels are ids: floating-point ones that are whole numbers become integers.

    Attributes
    ----------
    plan : AxisPlan
        What the axes of the file mean.
    num_threads : int
        Sections that are decoded at once.
    dtype : dtype
        Of the voxels, in the machine's byte order; 1-bit images are uint8, labels
        that are stored as floating-point numbers int64.
    """

    def __init__(
        self,
        source: ImageSource,
        plan: AxisPlan,
        num_threads: int,
        *,
        keep_colours: bool = False,
        is_labels: bool = False,
    ) -> None:
        self.source, self.plan = source, plan
        self._keep_colours, self.num_threads = keep_colours, num_threads
        stored = {"b": np.uint8, "f": np.int64 if is_labels else source.dtype}
        self.dtype = np.dtype(stored.get(source.dtype.kind, source.dtype))
        self._pool = (
            ThreadPoolExecutor(num_threads, "read") if num_threads > 1 else None
        )
        self._colours: int | None = None
        self._channels: list[int] | None = None
        self._alphas: dict[int, Any] = {}
        if plan.num_samples > 1:
            self._choose_samples()

    def __repr__(self) -> str:
        """Say what a notebook shows: shape, dtype, size of a voxel, file."""
        size = self.voxel_size_nm
        told = "of unknown size"
        if size:
            told = f"{' x '.join(f'{n:g}' for n in size)} nm ({self.voxel_size_from})"
        more = f" and {len(self.files) - 1} more files" * (len(self.files) > 1)
        return (
            f"<image (c, z, y, x) = {self.shape}, {self.dtype}, voxels {told}: "
            f"{self.source.files[0]}{more}>"
        )

    @property
    def shape(self) -> Czyx:
        """Length along c, z, y, x."""
        num_channels = self.plan.shape[0]
        if self._channels is not None:
            num_channels = len(self._channels) * num_channels // self.plan.num_samples
        return num_channels, *self.plan.zyx

    @property
    def zyx(self) -> Zyx:
        """Length along z, y, x."""
        return self.plan.zyx

    @property
    def voxel_size_nm(self) -> VoxelSize | None:
        """Size of a voxel (z, y, x), if the file says so.

        What it leaves open is filled in: ``remarks`` say how.
        """
        return self.source.voxel_size.complete(self.zyx[0])[0]

    @property
    def voxel_size_from(self) -> str:
        """Where the file says so, such as ``OME-XML``; empty: nowhere."""
        return self.source.voxel_size.found_in

    @property
    def is_size_known(self) -> bool:
        """Whether the file tells the size along every axis that has voxels."""
        is_flat = self.zyx[0] == 1 and self.voxel_size_nm is not None
        return self.source.voxel_size.is_whole or is_flat

    @property
    def is_depth_known(self) -> bool:
        """Whether the file tells how far sections are apart; of one nobody asks."""
        return self.zyx[0] == 1 or self.source.voxel_size.zyx_nm[0] is not None

    @property
    def has_frames(self) -> bool:
        """Whether its sections are the time points of the file."""
        return ("t", "z") in zip(self.source.axes, self.plan.letters, strict=False)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the headers leave open or say wrongly, in words."""
        return (*self.source.remarks, *self.size_remarks)

    @property
    def size_remarks(self) -> tuple[str, ...]:
        """What is doubtful about the size of a voxel; frames are no length apart."""
        num_sections = 1 if self.has_frames else self.zyx[0]
        return self.source.voxel_size.complete(num_sections)[1]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels that are read, if the file names all of its own."""
        names, chosen = self.source.channel_names, self.plan.channels
        if chosen is not None and names:
            names = tuple(names[c] for c in chosen if c < len(names))
        return names if len(names) == self.shape[0] else ()

    @property
    def ready_store(self) -> Path | None:
        """The OME-Zarr store that can be used where it is, if it is one."""
        source = self.source
        is_ready = isinstance(source, ZarrSource) and source.is_ready
        if is_ready and self.plan.letters == "czyx" and self.plan.channels is None:
            assert isinstance(source, ZarrSource)
            return source.path
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that voxels lie in, and those that describe them."""
        return self.source.all_files()

    @property
    def recorded(self) -> tuple[Path, ...]:
        """What a record lists: files, or a folder for all files in it."""
        return self.source.recorded()

    def where(self, section: int) -> str:
        """Name the file of a section, for messages."""
        return self.source.where(section)

    def read_sections(
        self, start: int, stop: int, *, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return sections ``start`` to ``stop``, shape (c, z, y, x).

        Parameters
        ----------
        start, stop : int
            Of the image.
        out : array, optional
            Where to put them.

        Raises
        ------
        DataError
            If a file is damaged; the message names file and page.
        """
        return self.read_box(start, stop, out=out)

    def read_box(
        self,
        start: int,
        stop: int,
        rows: slice | None = None,
        columns: slice | None = None,
        *,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return a box of sections ``start`` to ``stop``, shape (c, z, y, x).

        Parameters
        ----------
        start, stop : int
            Sections of the image.
        rows, columns : slice, optional
            Whole, and in range; else all of them.
        out : array, optional
            Where to put them.

        Raises
        ------
        DataError
            If a file is damaged; the message names file and page.
        """
        _, height, width = self.zyx
        rows, columns = rows or slice(0, height), columns or slice(0, width)
        if out is None:
            inside = (rows.stop - rows.start, columns.stop - columns.start)
            out = np.empty((self.shape[0], stop - start, *inside), self.dtype)
        into = out

        def fill(section: int) -> None:
            box = self._read(section, section + 1, rows, columns)
            into[:, section - start] = box[:, 0]

        if not self.source.by_section:
            into[...] = self._read(start, stop, rows, columns)
        elif self._pool is None:
            for section in range(start, stop):
                fill(section)
        else:
            list(self._pool.map(fill, range(start, stop)))
        return out

    @property
    def granule(self) -> Zyx:
        """Length along z, y, x of what is decoded at once."""
        if not self.source.granule:
            return (1, *self.zyx[1:])
        pairs = zip(self.plan.letters, self.source.granule, strict=True)
        length = dict(pairs)
        z, y, x = (
            min(length.get(a, 1), n) for a, n in zip("zyx", self.zyx, strict=True)
        )
        return z, y, x

    def band_rows(self, num_bytes: int) -> int:
        """Return how many rows of a section have so many bytes: whole granules."""
        _, high, _ = self.granule
        num_channels, _, height, width = self.plan.shape
        row = width * num_channels * self.dtype.itemsize
        return min(height, max(1, num_bytes // (row * high)) * high)

    @cached_property
    def dask(self) -> "dask.array.Array":
        """The image as a lazy array (c, z, y, x), as long as it is open."""
        from unetpipe.images.lazy import to_dask  # dask takes a while to import

        return to_dask(self)

    def close(self) -> None:
        """Close files and threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self.source.close()

    def __enter__(self) -> "ImageReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, start: int, stop: int, rows: slice, columns: slice) -> NDArray[Any]:
        index = self.plan.index(start, stop, rows, columns)
        block = self.plan.arrange(self.source.read(index))
        if block.dtype.kind == "f" and self.dtype.kind == "i":
            self._check_whole(block, start)
        block = block.astype(self.dtype, copy=False)
        return block if self._channels is None else self._select(block, start)

    def _check_whole(self, block: NDArray[Any], section: int) -> None:
        """Refuse ids that are no whole numbers, or that the type cannot tell apart."""
        with np.errstate(invalid="ignore"):
            is_whole = block == np.rint(block)
        wrong = ~(is_whole & np.isfinite(block))
        if wrong.any():
            raise DataError(
                f"labels are {block.dtype} and hold {block[wrong].flat[0]} in "
                f"{self.where(section)}; label ids are integers: give annotations, not "
                "probabilities"
            )
        exact = 2 ** (np.finfo(block.dtype).nmant + 1)
        largest = np.abs(block).max(initial=0)
        if largest > exact:
            raise DataError(
                f"labels are {block.dtype} and hold {largest:.0f} in "
                f"{self.where(section)}; beyond {exact} such numbers stand for several "
                "ids: save the ids as integers"
            )

    def _choose_samples(self) -> None:
        """Decide by the first section which samples of a colour image count."""
        num_samples = self.plan.num_samples
        if self.plan.shape[0] != num_samples:
            raise DataError(
                f"{self.where(0)} has channels and colours (shape "
                f"{self.plan.file_shape}); save it without colours"
            )
        self._colours = num_samples - (num_samples in (2, 4))
        is_one = self._is_grey() and not self._keep_colours
        self._channels = [0] if is_one else list(range(self._colours))

    def _is_grey(self) -> bool:
        """Tell whether all colours of the first section are equal, band by band."""
        height, step = self.zyx[1], self.band_rows(COMPARED_BYTES)
        is_grey = True
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            block = self.plan.arrange(self.source.read(self.plan.index(0, 1, rows)))
            self._check_alpha(block[self._colours :], 0)
            colours = block[: self._colours]
            is_grey &= all(np.array_equal(colours[0], c) for c in colours[1:])
            if not is_grey and len(block) == self._colours:
                break
        return is_grey

    def _check_alpha(self, alpha: NDArray[Any], section: int) -> None:
        """Refuse transparency that is not the same in all that is read of a section."""
        if not alpha.size:
            return
        low, high = alpha.min().item(), alpha.max().item()
        before = self._alphas.setdefault(section, low)
        if not low == high == before:
            raise DataError(
                f"{self.where(section)} has varying transparency (alpha "
                f"{min(low, before)} to {max(high, before)}); save it without, or "
                "write axes with c to keep it as a channel"
            )

    def _select(self, block: NDArray[Any], section: int) -> NDArray[Any]:
        """Return the samples that count, after checking that the others do not."""
        assert self._channels is not None
        self._check_alpha(block[self._colours :], section)
        used = block[self._channels]
        if len(self._channels) == 1 and any(
            not np.array_equal(used[0], c) for c in block[1 : self._colours]
        ):
            raise DataError(
                f"{self.where(section)} is coloured, but section 0 is grey; save all "
                "as grey, or write axes with c to keep red, green and blue as channels"
            )
        return used


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an image is to be read, as its row of the sheet says.

    Attributes
    ----------
    axes : str
        What the sheet says about the axes; empty: what the file says.
    time : int, optional
        Time point to read; None: the only one.
    channels : sequence of str
        Names or numbers of the channels to read; empty: all.
    level : int
        Of a pyramid; 0: full resolution. Labels may lie at this scale alone.
    is_labels : bool
        The file holds ids: ``axes``, which describe the image, may have a channel more;
        of a file with a palette the numbers of its entries are read; of ``time`` only a
        file with several time points takes notice.
    has_palette : bool
        With ``is_labels``: colours are wanted instead, those of a palette too.
    num_threads : int
        Sections that are decoded at once.
    """

    axes: str = ""
    time: int | None = None
    channels: Sequence[str] = ()
    level: int = 0
    is_labels: bool = False
    has_palette: bool = False
    num_threads: int = 1


def open_image(cell: str, root: Path, how: Reading = Reading()) -> ImageReader:
    """Open what a cell of the sheet names; see ``images.cells.open_cell``.

    Parameters
    ----------
    cell : str
        Of the sheet.
    root : Path
        Folder of the originals.
    how : Reading
        What the sheet says of it.

    Raises
    ------
    DataError
        If it is not there, cannot be read, or its axes are unclear.
    """
    source = _open_source(cell, root, how)
    try:
        axes, time = how.axes, how.time
        if how.is_labels:
            axes = _axes_of_labels(axes, len(source.shape))
            time = None if _count_times(source, axes) == 1 else time
        if isinstance(source, ChannelFiles):
            source, axes = _join_channels(source, cell, axes, how)
        if axes and "z" not in axes and isinstance(source, SequenceSource):
            axes = f"z{axes}"
        name = str(source.files[0])
        plan = interpret_axes(source.shape, source.axes, axes, name, time)
        plan = select_image_channels(plan, how.channels, source.channel_names, name)
        if source.is_unwritten and not how.is_labels:
            raise DataError(
                f"{name} holds no voxels: none of its chunks is there under the names "
                "that its metadata give; copy the whole store, with all folders, or "
                "write it again"
            )
        return ImageReader(
            *(source, plan, how.num_threads),
            keep_colours=how.has_palette,
            is_labels=how.is_labels and not how.has_palette,
        )
    except BaseException:
        source.close()
        raise


def _open_source(cell: str, root: Path, how: Reading) -> ImageSource:
    """Open the file; labels may lie at the scale of the image's level alone."""
    colours = how.has_palette if how.is_labels else None
    try:
        return open_cell(cell, root, colours=colours, level=how.level)
    except DataError:
        if not (how.is_labels and how.level):
            raise
        return open_cell(cell, root, colours=colours)


def _join_channels(
    source: ChannelFiles, cell: str, axes: str, how: Reading
) -> tuple[ImageSource, str]:
    """Return files of channels as one image, or as one map of classes, and its axes."""
    axes = source.complete(axes) if axes else ""
    if how.is_labels:
        return ClassFiles(source), axes.removeprefix("c")
    if len(source.names) < len(source.listed):
        raise DataError(
            f"{cell!r} lists {len(source.listed)} channels, but there are files of "
            f"{', '.join(source.names)} alone; add the others, or list less"
        )
    return source, axes


def _axes_of_labels(axes: str, num_axes: int) -> str:
    """Return the image's axes without those that labels lack: channels, then time."""
    for left_out in ("", "c", "ct"):
        left = "".join(axis for axis in axes if axis not in left_out)
        if len(left) == num_axes:
            break
    return left


def _count_times(source: ImageSource, axes: str) -> int:
    letters = axes or source.axes.lower()
    is_known = len(letters) == len(source.shape) and "t" in letters
    return source.shape[letters.index("t")] if is_known else 1


def open_masks(cell: str, root: Path, *, num_threads: int = 1) -> ImageReader:
    """Open masks of single objects as sections of ids; see ``images.mask_files``.

    Raises
    ------
    DataError
        If they are not there, or differ in shape.
    """
    source = open_mask_files(cell, root)
    return ImageReader(source, AxisPlan("zyx", source.shape), num_threads)
