"""How far it is to the nearest other object, voxel centre to voxel centre."""

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unetpipe.tiling.boxes import Halo, Roi, as_zyx

Read = Callable[[Roi], NDArray[Any]]
Zyxf = tuple[float, float, float]

STEPS = (1 / 16, 1 / 4, 1)  # of the reach: most neighbours are near


def nearest_distance(
    read: Read, number: int, box: Roi, within: Roi, spacing: Zyxf, reach: float
) -> float:
    """Return the distance from an object to the nearest voxel of another one.

    Objects that touch are one voxel edge apart. The result is exact whatever is read:
    what is farther than the margin around the box is looked for with a wider one.

    Parameters
    ----------
    read : callable
        Gives the ids of the voxels of a box.
    number : int
        The object.
    box : Roi
        Its box.
    within : Roi
        Where neighbours are looked for: the volume, or the object's section.
    spacing : (z, y, x)
        Edges of a voxel.
    reach : float
        In the same unit; farther neighbours count as none.

    Returns
    -------
    float
        NaN if there is none within reach.
    """
    for step in STEPS:
        margin = as_zyx(ceil(step * reach / edge) for edge in spacing)
        seen = box.grow(Halo(margin, margin)).intersect(within)
        ids = read(seen)
        others = (ids != 0) & (ids != number)
        if others.any():
            away = distance_transform_edt(ids != number, sampling=spacing)
            found = float(away[others].min())
            if found <= step * reach:
                return found
        if seen == within:
            break
    return np.nan
