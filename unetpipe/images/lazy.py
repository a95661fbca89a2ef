"""A lazy array over the boxes of an image, cut where its file is."""

from math import prod
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array
import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import Zyx, as_zyx, round_up

if TYPE_CHECKING:
    from unetpipe.images.reader import ImageReader

CHUNK_SIDE = 1024  # voxels along y and x, or what is decoded at once
CHUNK_BYTES = 1 << 26


def to_dask(reader: "ImageReader") -> "dask.array.Array":
    """Return an image as a dask array (c, z, y, x); the image must stay open.

    A chunk is some granules of the file, so that each is decoded once.
    """
    chunk = choose_dask_chunk(reader.shape, reader.granule, reader.dtype.itemsize)
    lazy: dask.array.Array = dask.array.from_array(  # type: ignore[no-untyped-call]
        _Boxes(reader),
        chunks=(reader.shape[0], *chunk),
        name=f"image-{uuid4().hex}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0, 0), reader.dtype),
    )
    return lazy


def choose_dask_chunk(
    shape: tuple[int, int, int, int], granule: Zyx, itemsize: int
) -> Zyx:
    """Return the chunk along z, y, x: whole granules, of some dozens of MB at most.

    Examples
    --------
    >>> choose_dask_chunk((1, 30, 4096, 4096), (1, 512, 512), 1)
    (30, 1024, 1024)
    >>> choose_dask_chunk((3, 1, 65536, 65536), (1, 240, 240), 1)
    (1, 1200, 1200)
    """
    num_channels, *zyx = shape
    side = [
        min(n, round_up(CHUNK_SIDE, g))
        for n, g in zip(zyx[1:], granule[1:], strict=True)
    ]
    layer = prod(side) * num_channels * itemsize * granule[0]
    depth = max(1, CHUNK_BYTES // layer) * granule[0]
    return as_zyx((min(zyx[0], depth), *side))


class _Boxes:
    """An image that is cut by slices, as dask asks for it."""

    ndim = 4

    def __init__(self, reader: "ImageReader") -> None:
        self._reader = reader
        self.shape, self.dtype = reader.shape, reader.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        places = [i.indices(n) for i, n in zip(index, self.shape, strict=True)]
        (_, _, _), (start, stop, _), (top, low, _), (left, right, _) = places
        rows, columns = slice(top, low), slice(left, right)
        box = self._reader.read_box(start, stop, rows, columns)
        return box[(index[0], *(slice(None, None, step) for _, _, step in places[1:]))]
