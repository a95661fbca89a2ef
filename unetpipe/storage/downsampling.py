"""Halve arrays for coarser levels: means for grey values, modes for labels.

::

    5 6 | 9 9          7 8 | 3 3
    7 8 | 9 9  mean    7 9 | 4 5  mode     where a length is odd its last voxel repeats
    ----+----  6  9    ----+----  7  3
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import Zyx, as_zyx


def downsample(voxels: NDArray[Any], factor: Zyx, *, is_labels: bool) -> NDArray[Any]:
    """Halve an array: the mean of each cell, or for labels one of its commonest ids.

    Parameters
    ----------
    voxels : array, shape (..., z, y, x)
        Where a length is odd the last voxel repeats.
    factor : (z, y, x)
        1 or 2 an axis.
    is_labels : bool
        Take the mode of integers (ties: the first in z, y, x order): invents no ids.

    Returns
    -------
    array
        Of the same dtype. Means of integers are rounded to the nearest, halves to the
        even one.

    Examples
    --------
    >>> downsample(np.array([[[5, 6], [7, 8]]], np.uint8), (1, 2, 2), is_labels=False)
    array([[[6]]], dtype=uint8)
    """
    voxels = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("="))
    lead, length = voxels.shape[:-3], as_zyx(voxels.shape[-3:])
    shape = as_zyx(-(-n // f) for n, f in zip(length, factor, strict=True))
    out = np.empty((*lead, *shape), voxels.dtype)
    halve = _take_modes if is_labels else _take_means
    for place in np.ndindex(*lead):
        halve(voxels[place], *factor, out[place])
    return out


def _take_means(
    voxels: NDArray[Any], fz: int, fy: int, fx: int, out: NDArray[Any]
) -> None:
    wide = _wide(voxels.dtype)
    if wide.kind != "f":
        _take_integer_means(voxels, fz, fy, fx, np.empty(voxels.shape[2], wide), out)
        return
    for z, section in enumerate(out):  # by sections: their sums stay in the cache
        total = voxels[fz * z : fz * z + fz]
        for axis, factor in enumerate((fz, fy, fx)):
            if factor == 2:
                total = _add_pairs(total, axis, wide)
        mean = total[0] / (fz * fy * fx)
        section[...] = mean if out.dtype.kind == "f" else np.rint(mean)


@numba.njit(cache=True, nogil=True)
def _take_integer_means(voxels, fz, fy, fx, total, out):  # type: ignore[no-untyped-def]
    """Average eight members a cell: smaller cells count theirs more than once.

    ``total`` is room for the sums of a row; both inner loops run many voxels at once.
    """
    depth, height, width = voxels.shape
    last = width - 1
    for z in range(out.shape[0]):
        z0, z1 = z * fz, min(z * fz + fz - 1, depth - 1)
        for y in range(out.shape[1]):
            y0, y1 = y * fy, min(y * fy + fy - 1, height - 1)
            a, b = voxels[z0, y0], voxels[z0, y1]
            c, d = voxels[z1, y0], voxels[z1, y1]
            row = out[z, y]
            for x in range(width):
                total[x] = total.dtype.type(a[x]) + b[x] + c[x] + d[x]
            if fx == 1:
                for x in range(width):
                    row[x] = _eighth(total[x] + total[x])
                continue
            for x in range(width // 2):  # a constant step, or it runs one by one
                row[x] = _eighth(total[2 * x] + total[2 * x + 1])
            if width % 2:
                row[row.size - 1] = _eighth(total[last] + total[last])


@numba.njit(cache=True, nogil=True)
def _eighth(total):  # type: ignore[no-untyped-def]
    """Divide by 8, halves to the even number: add half of 8, less 1 if that is even."""
    return (total + ((total >> 3) & 1) + 3) >> 3


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that sums of eight are taken in."""
    if dtype.kind in "iu" and dtype.itemsize < 8:
        return np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
    return np.dtype(np.float64)


def _add_pairs(voxels: NDArray[Any], axis: int, wide: np.dtype[Any]) -> NDArray[Any]:
    """Add neighbours along an axis; the last of an odd number to itself."""
    before = (slice(None),) * axis
    first = voxels[(*before, slice(0, None, 2))]
    second = voxels[(*before, slice(1, None, 2))]
    paired = (*before, slice(0, second.shape[axis]))
    out = np.empty(first.shape, wide)
    np.add(first[paired], second, out=out[paired], dtype=wide)
    if second.shape[axis] < first.shape[axis]:
        last = first[(*before, slice(-1, None))]
        np.add(last, last, out=out[(*before, slice(-1, None))], dtype=wide)
    return out


@numba.njit(cache=True, nogil=True)
def _take_modes(voxels, fz, fy, fx, out):  # type: ignore[no-untyped-def]
    """Take the first id of each cell; vote only where a cell holds others too.

    ``mixed`` is not 0 there; the loops that fill it run many voxels at once.
    """
    depth, height, width = voxels.shape
    last = width - 1
    members = np.empty(8, voxels.dtype)
    differs = np.empty(width, voxels.dtype)  # among the voxels of one x
    mixed = np.empty(out.shape[2], voxels.dtype)
    for z in range(out.shape[0]):
        z0, z1 = z * fz, min(z * fz + fz - 1, depth - 1)
        for y in range(out.shape[1]):
            y0, y1 = y * fy, min(y * fy + fy - 1, height - 1)
            a, b = voxels[z0, y0], voxels[z0, y1]
            c, d = voxels[z1, y0], voxels[z1, y1]
            row = out[z, y]
            for x in range(width):
                differs[x] = (a[x] ^ b[x]) | (a[x] ^ c[x]) | (a[x] ^ d[x])
            if fx == 1:
                for x in range(width):
                    row[x], mixed[x] = a[x], differs[x]
            else:
                for x in range(width // 2):  # a constant step, as for the means
                    row[x] = a[2 * x]
                    beside = a[2 * x] ^ a[2 * x + 1]
                    mixed[x] = differs[2 * x] | differs[2 * x + 1] | beside
                if width % 2:
                    row[row.size - 1], mixed[row.size - 1] = a[last], differs[last]
            for x in range(row.size):
                if mixed[x]:
                    x0, x1 = x * fx, min(x * fx + fx - 1, last)
                    members[0], members[1] = a[x0], a[x1]
                    members[2], members[3] = b[x0], b[x1]
                    members[4], members[5] = c[x0], c[x1]
                    members[6], members[7] = d[x0], d[x1]
                    row[x] = _commonest(members)


@numba.njit(cache=True, nogil=True)
def _commonest(members):  # type: ignore[no-untyped-def]
    """Return the commonest of eight ids; of several the one that comes first."""
    best, most = members[0], 0
    for k in range(8):
        if most >= min(4, 8 - k):  # none of the rest can be commoner
            break
        count = 0
        for other in range(k, 8):
            count += members[other] == members[k]
        if count > most:
            best, most = members[k], count
    return best
