"""Resample arrays to another length: local, so that no box or block changes a bit.

::

    shrink    |---a---|---b---|---c---|      each voxel the mean of the length that it
              |-----A-----|-----B-----|      covers: A = (a + b/2) / 1.5
    grow      cubic convolution of the four nearest, mirrored at the faces
    labels    the nearest voxel

Lengths fill the same field of view: an axis of n voxels becomes one of m, and voxel i
of m covers from i n / m to (i + 1) n / m.

Keys (1981), Cubic convolution interpolation for digital image processing, a = -1/2.
"""

from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import AXES, Zyx, as_zyx
from unetpipe.tiling.scale import SizeNm, differing_axes

CUBIC = -0.5


@dataclass(frozen=True, slots=True)
class Taps:
    """Which voxels of an axis make each of some new ones, and how much they weigh.

    Attributes
    ----------
    places : integer array, shape (m, k)
        Inside the volume.
    weights : float64 array, shape (m, k)
        Of sum 1.
    """

    places: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def seen(self) -> slice:
        """The voxels of the axis that any of them needs."""
        return slice(int(self.places.min()), int(self.places.max()) + 1)


def matched_shape(shape: Zyx, size: SizeNm, wanted: SizeNm, ndim: int) -> Zyx:
    """Return the shape in which a volume has voxels of the wanted size.

    Sections are never resampled for a network that sees them one by one.

    Examples
    --------
    >>> matched_shape((10, 100, 101), (50, 4, 4), (100, 8, 8), 2)
    (10, 50, 50)
    """
    axes = set(differing_axes(size, wanted)) & set(AXES[-ndim:])
    return as_zyx(
        max(1, round(n * own / new)) if axis in axes else n
        for axis, n, own, new in zip(AXES, shape, size, wanted, strict=True)
    )


def size_at(factor: float, size: SizeNm, ndim: int) -> SizeNm:
    """Return the size of a voxel where there are so many for each one.

    Along the axes that a network sees.

    Examples
    --------
    >>> size_at(0.5, (50, 4, 4), 2)
    (50, 8.0, 8.0)
    """
    axes = AXES[-ndim:]
    pairs = zip(AXES, size, strict=True)
    z, y, x = (own / factor if axis in axes else own for axis, own in pairs)
    return z, y, x


def scaled_size(size: SizeNm, shape: Zyx, new: Zyx) -> SizeNm:
    """Return the voxel size in which the same field of view has another shape."""
    z, y, x = (s * n / m for s, n, m in zip(size, shape, new, strict=True))
    return z, y, x


def nearest_voxels(length: int, new: int, start: int, stop: int) -> NDArray[np.int64]:
    """Return the voxel, of ``length``, that lies nearest to each of some new ones.

    Examples
    --------
    >>> nearest_voxels(4, 2, 0, 2).tolist(), nearest_voxels(2, 4, 0, 4).tolist()
    ([1, 3], [0, 0, 1, 1])
    """
    numbers = np.arange(start, stop, dtype=np.int64)
    return (2 * numbers + 1) * length // (2 * new)


def first_nearest(length: int, new: int, place: int) -> int:
    """Return the first new voxel whose nearest one, of ``length``, is not before.

    Examples
    --------
    >>> first_nearest(4, 2, 1), first_nearest(4, 2, 2), first_nearest(4, 2, 4)
    (0, 1, 2)
    """
    # The least i with (2 i + 1) length >= 2 new place.
    return max(0, -(-(2 * new * place - length) // (2 * length)))


def resampling_taps(length: int, new: int, start: int, stop: int) -> Taps:
    """Return how voxels ``start`` to ``stop`` of ``new`` are made of ``length``.

    Examples
    --------
    >>> resampling_taps(4, 2, 0, 1).weights.tolist()
    [[0.5, 0.5]]
    """
    if new == length:
        numbers = np.arange(start, stop, dtype=np.int64)[:, None]
        return Taps(numbers, np.ones(numbers.shape))
    make = _area if new < length else _cubic
    pairs = [make(length, new, number) for number in range(start, stop)]
    most = max(len(places) for places, _ in pairs)
    places, weights = (
        np.empty((len(pairs), most), np.int64),
        np.zeros((len(pairs), most)),
    )
    for k, (own, weight) in enumerate(pairs):
        places[k], weights[k, : len(own)] = own[-1], weight
        places[k, : len(own)] = own
    return Taps(places, weights)


def resample(voxels: NDArray[Any], axes: tuple[Taps, Taps, Taps]) -> NDArray[Any]:
    """Return new voxels of what their taps see.

    Parameters
    ----------
    voxels : array, shape (c, z, y, x)
        The box that ``Taps.seen`` names along each axis.
    axes : three Taps
        Along z, y, x.

    Returns
    -------
    array, shape (c, z, y, x)
        Of the same dtype; integers are rounded to the nearest, halves to the even one,
        and never wrap around.
    """
    wide = np.float32 if voxels.dtype.itemsize <= 2 else np.float64
    result: NDArray[Any] = voxels.astype(wide)
    for axis, own in enumerate(axes, start=1):
        if own.places.shape[1] == 1:  # each new voxel is one of the old
            result = np.take(result, own.places[:, 0] - own.seen.start, axis)
            continue
        shape = [1] * result.ndim
        shape[axis] = len(own.places)
        total = np.zeros(
            (*result.shape[:axis], shape[axis], *result.shape[axis + 1 :]), wide
        )
        for place, weight in zip(own.places.T, own.weights.T, strict=True):
            part = np.take(result, place - own.seen.start, axis)
            part *= weight.astype(wide).reshape(shape)
            total += part
        result = total
    if voxels.dtype.kind == "f":
        return result.astype(voxels.dtype, copy=False)
    limits = np.iinfo(voxels.dtype)
    whole: NDArray[Any] = np.rint(result).clip(limits.min, limits.max)
    return whole.astype(voxels.dtype)


def _area(length: int, new: int, number: int) -> tuple[list[int], list[float]]:
    """Return which voxels a larger one covers, and what share of it each has."""
    # In parts of 1 / new of a voxel all borders are integers.
    start, stop = number * length, (number + 1) * length
    places = range(start // new, -(-stop // new))
    shares = [min(stop, (p + 1) * new) - max(start, p * new) for p in places]
    return list(places), [share / length for share in shares]


def _cubic(length: int, new: int, number: int) -> tuple[list[int], list[float]]:
    """Return the four voxels around a smaller one, and their weights."""
    centre = (2 * number + 1) * length / (2 * new) - 0.5
    first = floor(centre) - 1
    weights = [_kernel(abs(centre - (first + k))) for k in range(4)]
    period = 2 * length  # mirrored with the edge: voxels are areas
    places = [(first + k) % period for k in range(4)]
    inside = [p if p < length else period - 1 - p for p in places]
    return inside, weights


def _kernel(distance: float) -> float:
    x, a = distance, CUBIC
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
