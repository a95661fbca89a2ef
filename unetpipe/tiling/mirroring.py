"""Padding: what lies beyond a volume's faces is mirrored, without edge repeat."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.tiling.boxes import Roi, Zyx, whole_volume


def mirror_index(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Return, for voxels ``start`` to ``stop``, the real voxel each one mirrors.

    No edge repeat: the index has period 2 (n - 1), and one single voxel repeats. Any
    reach is allowed, also farther than the volume is long.

    Examples
    --------
    >>> mirror_index(-3, 6, 4).tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1]
    >>> mirror_index(-2, 3, 1).tolist()
    [0, 0, 0, 0, 0]
    """
    _check_length(length)
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    phase = np.arange(start, stop) % period
    return np.minimum(phase, period - phase)


def _check_length(length: int) -> None:
    if length < 1:
        raise DataError(f"cannot mirror an axis of {length} voxels; use 1 or more")


def mirror_source(roi: Roi, shape: Zyx) -> Roi:
    """Return the smallest real box that holds every voxel that ``roi`` mirrors."""
    indices = [
        mirror_index(a, b, n)
        for a, b, n in zip(roi.start, roi.stop, shape, strict=True)
    ]
    z, y, x = ((int(i.min()), int(i.max()) + 1) for i in indices)
    return Roi((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def mirror_take(
    source: NDArray[Any], origin: Zyx, roi: Roi, shape: Zyx
) -> NDArray[Any]:
    """Cut a box out of a volume, mirroring what lies beyond the volume's faces.

    Parameters
    ----------
    source : array, shape (..., z, y, x)
        The real voxels around the box (at least ``mirror_source(roi, shape)``).
    origin : (z, y, x)
        Where ``source`` begins in the volume.
    roi : Roi
        The box wanted, in voxels of the volume; it may reach outside.
    shape : (z, y, x)
        The volume's shape.
    """
    if roi.intersect(whole_volume(shape)) == roi:
        return source[(..., *roi.relative_to(origin).slices)]
    taken = np.empty((*source.shape[:-3], *roi.shape), source.dtype)
    mirror_into(taken, source, origin, roi, shape)
    return taken


def mirror_into(
    out: NDArray[Any], source: NDArray[Any], origin: Zyx, roi: Roi, shape: Zyx
) -> None:
    """Fill an array (..., z, y, x) with what ``mirror_take`` cuts out.

    A box that reaches over faces is put together from slices that run forwards or
    backwards: many times faster than one index a voxel.
    """
    runs = [
        mirror_runs(a, b, n, o)
        for a, b, n, o in zip(roi.start, roi.stop, shape, origin, strict=True)
    ]
    for (z, of_z), (y, of_y), (x, of_x) in product(*runs):
        out[..., z, y, x] = source[..., of_z, of_y, of_x]


def mirror_runs(
    start: int, stop: int, length: int, origin: int = 0
) -> list[tuple[slice, slice]]:
    """Return ``mirror_index`` as runs: where to write, and from where in the source.

    Parameters
    ----------
    start, stop : int
        Voxels wanted along an axis; they may lie outside.
    length : int
        Of the axis.
    origin : int
        Where the source begins on it.

    Examples
    --------
    >>> mirror_runs(-2, 5, 4)
    [(slice(0, 2, None), slice(2, 0, -1)), (slice(2, 6, None), slice(0, 4, 1)), \
(slice(6, 7, None), slice(2, 1, -1))]
    """
    _check_length(length)
    if length == 1:  # one voxel, spread over the whole run
        return [(slice(0, stop - start), slice(-origin, 1 - origin))]
    period, at = 2 * (length - 1), start
    runs = []
    while at < stop:
        phase = at % period
        is_forward = phase < length
        first = phase if is_forward else period - phase
        count = min(stop - at, length - phase if is_forward else period - phase)
        step = 1 if is_forward else -1
        past = first + step * count - origin
        of = slice(first - origin, past if past >= 0 else None, step)
        runs.append((slice(at - start, at - start + count), of))
        at += count
    return runs
