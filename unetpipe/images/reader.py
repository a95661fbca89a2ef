"""One image as sections of (c, y, x), whatever file it lies in."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.arrays import ZarrSource
from unetpipe.images.axes import AxisPlan, Czyx, interpret_axes
from unetpipe.images.cells import open_cell, open_mask_files
from unetpipe.images.channel_files import ChannelFiles
from unetpipe.images.selection import choose_channels
from unetpipe.images.sequence import SequenceSource
from unetpipe.images.source import ImageSource, VoxelSize
from unetpipe.tiling.boxes import Zyx


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

    Attributes
    ----------
    plan : AxisPlan
        What the axes of the file mean.
    dtype : dtype
        Of the voxels, in the machine's byte order; 1-bit images are uint8.
    """

    def __init__(
        self,
        source: ImageSource,
        plan: AxisPlan,
        num_threads: int,
        *,
        keep_colours: bool = False,
    ) -> None:
        self.source, self.plan = source, plan
        self._keep_colours = keep_colours
        is_bool = source.dtype.kind == "b"
        self.dtype = np.dtype(np.uint8) if is_bool else source.dtype
        self._pool = (
            ThreadPoolExecutor(num_threads, "read") if num_threads > 1 else None
        )
        self._colours: int | None = None
        self._channels: list[int] | None = None
        if plan.num_samples > 1:
            self._choose_samples()

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
        """Size of a voxel (z, y, x), if the file says so."""
        return self.source.voxel_size_nm

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
        """What was read."""
        return self.source.files

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
        if out is None:
            out = np.empty((self.shape[0], stop - start, *self.zyx[1:]), self.dtype)
        into = out

        def fill(section: int) -> None:
            into[:, section - start] = self._read(section, section + 1)[:, 0]

        if not self.source.by_section:
            into[...] = self._read(start, stop)
        elif self._pool is None:
            for section in range(start, stop):
                fill(section)
        else:
            list(self._pool.map(fill, range(start, stop)))
        return out

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

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        block = self.plan.arrange(self.source.read(self.plan.index(start, stop)))
        block = block.astype(self.dtype, copy=False)
        return block if self._channels is None else self._select(block, start)

    def _choose_samples(self) -> None:
        """Decide by the first section which samples of a colour image count."""
        block = self.plan.arrange(self.source.read(self.plan.index(0, 1)))
        if self.plan.num_samples != len(block):
            raise DataError(
                f"{self.where(0)} has channels and colours (shape "
                f"{self.plan.file_shape}); save it without colours"
            )
        self._colours = len(block) - (len(block) in (2, 4))
        grey = all(np.array_equal(block[0], c) for c in block[1 : self._colours])
        is_one = self._colours == 1 or (grey and not self._keep_colours)
        self._channels = [0] if is_one else list(range(self._colours))
        self._select(block, 0)

    def _select(self, block: NDArray[Any], section: int) -> NDArray[Any]:
        """Return the samples that count, after checking that the others do not."""
        assert self._channels is not None
        alpha = block[self._colours :]
        if alpha.size and alpha.min() != alpha.max():
            raise DataError(
                f"{self.where(section)} has varying transparency (alpha {alpha.min()} "
                f"to {alpha.max()}); save it without, or write axes with c to keep it "
                "as a channel"
            )
        used = block[self._channels]
        if len(self._channels) == 1 and any(
            not np.array_equal(used[0], c) for c in block[1 : self._colours]
        ):
            raise DataError(
                f"{self.where(section)} is coloured, but section 0 is grey; save all "
                "as grey, or write axes with c to keep red, green and blue as channels"
            )
        return used


def open_image(
    cell: str,
    root: Path,
    *,
    axes: str = "",
    time: int | None = None,
    channels: Sequence[str] = (),
    is_labels: bool = False,
    has_palette: bool = False,
    num_threads: int = 1,
) -> ImageReader:
    """Open what a cell of the sheet names; see ``images.cells.open_cell``.

    Parameters
    ----------
    cell : str
        Of the sheet.
    root : Path
        Folder of the originals.
    axes : str
        What the sheet says about the axes; empty: what the file says.
    time : int, optional
        Time point to read; None: the only one.
    channels : sequence of str
        Names or numbers of the channels to read; empty: all.
    is_labels : bool
        The file holds ids: ``axes``, which describe the image, may have a channel more;
        of a file with a palette the numbers of its entries are read; of ``time`` only a
        file with several time points takes notice.
    has_palette : bool
        With ``is_labels``: colours are wanted instead, those of a palette too.
    num_threads : int
        Sections that are decoded at once.

    Raises
    ------
    DataError
        If it is not there, cannot be read, or its axes are unclear.
    """
    source = open_cell(cell, root, colours=has_palette if is_labels else None)
    try:
        if is_labels:
            axes = _axes_of_labels(axes, len(source.shape))
        if is_labels and _count_times(source, axes) == 1:
            time = None
        if axes and isinstance(source, ChannelFiles):
            axes = source.complete(axes)
        if axes and "z" not in axes and isinstance(source, SequenceSource):
            axes = f"z{axes}"
        name = str(source.files[0])
        plan = interpret_axes(source.shape, source.axes, axes, name, time)
        plan = choose_channels(plan, channels, source.channel_names, name)
        return ImageReader(source, plan, num_threads, keep_colours=has_palette)
    except BaseException:
        source.close()
        raise


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
