"""Cores and rims of cells, for networks that tell them apart from the background.

::

    cells     1 1 1 1 1 2 2 2 2 2 . . 3 3 3 3 3      class of each voxel,
    border    1 1 1 1 2 2 1 1 1 1 0 0 1 1 1 1 1      one voxel wide: near another cell
    markers   1 1 1 1 2 2 1 1 1 2 0 0 2 1 1 1 2      near anything else

Class 1 are cores, which a watershed floods from; 0 is background alone, so that what is
not background are whole cells. A cell thinner than four widths has a thinner rim: no
voxel deeper than half of what is deepest around it inside the same cell is taken from
the core. Only where cells touch the rim is at least a voxel wide, so that cores never
touch.

Depths are distances to the nearest voxel that is not of the same cell. What a voxel
gets depends on no voxel farther away than ``core_reach``, so volumes may be cut into
blocks with that halo.
"""

from collections.abc import Sequence
from math import ceil, pi, sqrt
from typing import Any

import edt
import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.targets.nearest_cells import sum_two_distances
from unetpipe.targets.weight_map import Labels, relative_voxel_size, small_ids

CORE, RIM = 1, 2
NUM_LEARNT = 3
STEPS_PER_VOXEL = 16  # depths are compared in such fractions, so no rounding matters


def core_reach(border_vox: float) -> int:
    """Return how many voxels away something can still change a voxel's class."""
    return 2 * ceil(2 * border_vox) + 1


def split_cells(
    cells: Labels,
    separated: Labels,
    border_vox: float,
    *,
    inside: tuple[slice, ...] = (),
    voxel_size: tuple[float, ...] | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """Return background, core and rim for both targets: "border" and "markers".

    Parameters
    ----------
    cells : integer array, shape (y, x) or (z, y, x)
        One id a cell; 0 is background.
    separated : integer array, the same shape
        The same with background between cells that touch.
    border_vox : float
        How wide the rim is, at least 1, in lengths of the shortest voxel edge. Along
        an axis of longer voxels it is at least a voxel.
    inside : tuple of slices
        Where to know the classes; empty: everywhere.
    voxel_size : tuple of float, optional
        Edges of a voxel along the axes of the array, of any unit; None: all alike.

    Returns
    -------
    dict of uint8 arrays, shape of ``cells[inside]``
        0 background, 1 core, 2 rim.

    Examples
    --------
    >>> cells = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 3, 3, 3, 3, 3]])
    >>> apart = np.array([[1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 0, 0, 3, 3, 3, 3, 3]])
    >>> found = split_cells(cells, apart, 1)
    >>> found["border"].tolist()
    [[1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]]
    >>> found["markers"].tolist()
    [[1, 1, 1, 1, 2, 2, 1, 1, 1, 2, 0, 0, 2, 1, 1, 1, 1]]
    """
    edges = relative_voxel_size(voxel_size, cells.ndim)
    z, y, x = (min(edge, border_vox) for edge in edges)
    near = (z, y, x)
    ids = small_ids(cells).reshape(-1, *cells.shape[-2:])
    depth = _depth(ids, border_vox, near)
    deepest = _spread(depth, ids, ceil(2 * border_vox))
    width = round(border_vox * STEPS_PER_VOXEL)
    touches = (ids != 0) & (separated.reshape(ids.shape) == 0)
    is_rim = (ids != 0) & (touches | (depth <= np.minimum(width, deepest // 2)))
    reach = ceil(border_vox)
    is_near = sum_two_distances(ids, is_rim, reach, near) <= border_vox
    found = {"border": is_rim & (touches | is_near), "markers": is_rim}
    background = ids.reshape(cells.shape)[inside] == 0
    split = {}
    for name, rim in found.items():
        classes = np.where(
            rim.reshape(cells.shape)[inside], np.uint8(RIM), np.uint8(CORE)
        )
        classes[background] = 0
        split[name] = classes
    return split


def usual_diameter(sections: Sequence[Labels]) -> float:
    """Return the median diameter of cells in sections, 0 without any, in voxels.

    That of a disc of as many voxels. Of a cell in several sections each counts.
    """
    sizes = [np.unique(ids[ids > 0], return_counts=True)[1] for ids in sections]
    areas = np.concatenate([np.empty(0, np.int64), *sizes])
    return 2 * sqrt(float(np.median(areas)) / pi) if areas.size else 0.0


def _depth(
    ids: NDArray[np.int32], border_vox: float, edges: tuple[float, ...]
) -> NDArray[np.int32]:
    """Return how deep voxels lie in their cell, up to twice the width, in steps."""
    flat = ids.shape[0] == 1
    seen = np.ascontiguousarray(ids[0] if flat else ids).view(np.uint32)
    used = edges[1:] if flat else edges
    far = edt.edt(seen, anisotropy=used, black_border=False, parallel=1)
    steps = np.rint(np.minimum(far, 2 * border_vox) * STEPS_PER_VOXEL)
    return np.asarray(steps, np.int32).reshape(ids.shape)


@numba.njit(cache=True, nogil=True)
def _spread(depth: Any, ids: Any, steps: Any) -> Any:
    """Return the largest depth within so many steps, inside the same cell."""
    planes, rows, columns = ids.shape
    old, new = depth.copy(), depth.copy()
    for _ in range(steps):
        changed = False
        for z in range(planes):
            for y in range(rows):
                for x in range(columns):
                    cell, best = ids[z, y, x], old[z, y, x]
                    if cell == 0:
                        continue
                    if z > 0 and ids[z - 1, y, x] == cell:
                        best = max(best, old[z - 1, y, x])
                    if z + 1 < planes and ids[z + 1, y, x] == cell:
                        best = max(best, old[z + 1, y, x])
                    if y > 0 and ids[z, y - 1, x] == cell:
                        best = max(best, old[z, y - 1, x])
                    if y + 1 < rows and ids[z, y + 1, x] == cell:
                        best = max(best, old[z, y + 1, x])
                    if x > 0 and ids[z, y, x - 1] == cell:
                        best = max(best, old[z, y, x - 1])
                    if x + 1 < columns and ids[z, y, x + 1] == cell:
                        best = max(best, old[z, y, x + 1])
                    changed |= best != old[z, y, x]
                    new[z, y, x] = best
        old, new = new, old
        if not changed:
            break
    return old
