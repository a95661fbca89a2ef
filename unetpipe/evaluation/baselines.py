"""What needs no network: the results that a network must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

MOST_LEVELS = 1024
HALF_VOXELS_DEEP = 2  # two seeds are apart where the valley between is so deep


@dataclass(frozen=True, slots=True)
class GreyScale:
    """The grey values of a volume, cut into levels that can be counted.

    Attributes
    ----------
    minimum, maximum : float
        Of the volume.
    is_integer : bool
        Integer images of a small range keep each value as a level of its own.
    """

    minimum: float
    maximum: float
    is_integer: bool

    @property
    def num_levels(self) -> int:
        """Levels from 0 on, at most 1024."""
        spread = self.maximum - self.minimum
        if spread <= 0:
            return 1
        return min(int(spread) + 1, MOST_LEVELS) if self.is_integer else MOST_LEVELS

    def levels(self, grey: NDArray[Any]) -> NDArray[np.int64]:
        """Return the level of each grey value; those outside the range are clipped.

        Examples
        --------
        >>> GreyScale(10, 14, is_integer=True).levels(np.array([10, 11, 14, 99]))
        array([0, 1, 4, 4])
        """
        last = self.num_levels - 1
        spread = max(self.maximum - self.minimum, 1e-300)
        scaled = (grey.astype(np.float64) - self.minimum) * (last / spread)
        # Half a level up, so that integers do not fall below their level.
        found: NDArray[np.int64] = np.clip(scaled + 0.5, 0, last).astype(np.int64)
        return found


def grey_mask(levels: NDArray[np.int64], level: int, *, bright: bool) -> NDArray[Any]:
    """Return where grey values are on the side of the cells, bool."""
    above: NDArray[np.bool_] = levels > level
    return above if bright else ~above


def watershed_objects(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Cut a mask into objects at its narrow places.

    Each object grows from a place that is deepest inside the mask, downhill along the
    distance to the outside.

    Parameters
    ----------
    mask : bool array, shape (y, x) or (z, y, x)

    Returns
    -------
    int32 array of the same shape
        Ids from 1; 0 outside the mask.

    Examples
    --------
    Two discs that overlap a little:

    >>> y, x = np.mgrid[:21, :37]
    >>> discs = (np.hypot(y - 10, x - 10) < 9) | (np.hypot(y - 10, x - 26) < 9)
    >>> objects = watershed_objects(discs)
    >>> int(objects.max()), bool(objects[10, 10] != objects[10, 26])
    (2, True)
    """
    if mask.all() or not mask.any():
        return mask.astype(np.int32)  # without an outside there is no distance to it
    depth = edt.edt(np.ascontiguousarray(mask), black_border=False)
    # Reconstruction compares exactly, so depths are whole numbers: half voxels.
    half_voxels = np.minimum(np.rint(2 * depth), 2**16 - 1).astype(np.uint16)
    seeds, _ = label(h_maxima(half_voxels, HALF_VOXELS_DEEP))  # type: ignore[no-untyped-call]
    objects: NDArray[np.int32] = watershed(-depth, seeds, mask=mask)  # type: ignore[no-untyped-call]
    return objects
