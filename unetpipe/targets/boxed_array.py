"""An array that holds anything in some boxes alone, in memory no more than these."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.storage.volumes import read_stored_roi
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, parts_in


class BoxedArray:
    """What some boxes of a stored array (z, y, x) hold; elsewhere its fill value.

    Parameters
    ----------
    stored : zarr array, (z, y, x)
        Read once, now.
    boxes : sequence of Roi
        They share no voxel.
    """

    def __init__(self, stored: zarr.Array[Any], boxes: Sequence[Roi]) -> None:
        self.shape: Zyx = as_zyx(stored.shape)
        self._fill, self._dtype = stored.fill_value, stored.dtype
        self._parts = [(box, read_stored_roi(stored, box)) for box in boxes]

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """Return a box: index by an ellipsis, or none, and three slices."""
        z, y, x = (i for i in index if i is not Ellipsis)
        ranges = [i.indices(n) for i, n in zip((z, y, x), self.shape, strict=True)]
        roi = Roi.between(*((start, max(start, stop)) for start, stop, _ in ranges))
        out = np.full(roi.shape, self._fill, self._dtype)
        for box, voxels in self._parts:
            for shared in parts_in([box], roi):
                inside = shared.relative_to(box.start).slices
                out[shared.relative_to(roi.start).slices] = voxels[inside]
        return out
