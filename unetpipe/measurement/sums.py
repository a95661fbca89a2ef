"""Counts, places and grey values of an object, added up piece by piece.

An object is measured in pieces that its box alone decides, in their order, so that the
same bits come out of every block and every part.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import Zyx

Mask = NDArray[np.bool_]
Zyxf = tuple[float, float, float]

AT_ONCE = 1 << 16  # voxels whose places and exact grey values are made together


# Of some of an object's voxels, in their order, where they are along an axis.
Places = Callable[[slice, int], NDArray[np.int64]]


def sum_by_halves(count: int, values: Callable[[slice], NDArray[np.float64]]) -> float:
    """Return the sum of values that are made a few at a time.

    It is cut as NumPy's pairwise summation cuts an array, so that the bits are those of
    the sum of all.

    Examples
    --------
    >>> sum_by_halves(5, lambda part: np.arange(5.0)[part])
    10.0
    """

    def total(start: int, length: int) -> float:
        if length <= AT_ONCE:
            return float(values(slice(start, start + length)).sum())
        half = length // 2
        half -= half % 8
        return total(start, half) + total(start + half, length - half)

    return total(0, count)


def _places_of(mask: Mask) -> NDArray[np.uint32]:
    """Return the places of a mask's voxels, which are fewer than 2**32."""
    flat = mask.reshape(-1)
    found = [
        (np.flatnonzero(flat[k : k + AT_ONCE]) + k).astype(np.uint32)
        for k in range(0, flat.size, AT_ONCE)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.uint32)


@dataclass(slots=True)
class GreySums:
    """Of one channel: what its grey values are, and where its weight lies.

    Integers are summed exactly; means and squares of deviations are merged pairwise
    (Chan et al. 1979), which is exact enough for any grey values.
    """

    count: int = 0
    low: float = np.inf
    high: float = -np.inf
    total: int | float = 0
    mean: float = 0.0
    squares: float = 0.0
    weighted: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def add(self, values: NDArray[Any], places: Places) -> None:
        """Add voxels: grey values, shape (n,), and where they are."""
        count = len(values)
        if not count:
            return
        exact = sum_by_halves(count, lambda part: values[part].astype(np.float64))
        mean = exact / count
        squares = sum_by_halves(
            count, lambda part: np.square(values[part].astype(np.float64) - mean)
        )
        shift, both = mean - self.mean, self.count + count
        self.squares += squares + shift * shift * self.count * count / both
        self.mean += shift * count / both
        self.count = both
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        if values.dtype.kind in "biu":
            kind = np.int64 if values.dtype.kind == "i" else np.uint64
            self.total += int(values.sum(dtype=kind))
        else:
            self.total += exact
        for axis in range(3):
            self.weighted[axis] += sum_by_halves(
                count,
                lambda part, axis=axis: (
                    values[part].astype(np.float64)  # type: ignore[misc]
                    * places(part, axis)
                ),
            )

    @property
    def std(self) -> float:
        """Standard deviation over the object's voxels (divided by their number)."""
        return float(np.sqrt(self.squares / self.count)) if self.count else np.nan

    def centre(self) -> Zyxf:
        """Return the centroid weighted by grey values, in voxels; NaN without any."""
        if not self.total:
            return (np.nan, np.nan, np.nan)
        z, y, x = (w / self.total for w in self.weighted)
        return z, y, x


class ObjectSums:
    """Sums over one object.

    Parameters
    ----------
    num_channels : int
        Channels of the image.

    Attributes
    ----------
    count : int
        Its voxels.
    channels : list of GreySums
    """

    def __init__(self, num_channels: int) -> None:
        self.count = 0
        self._places = [0, 0, 0]
        self.channels = [GreySums() for _ in range(num_channels)]

    def add(self, mask: Mask, image: NDArray[Any], start: Zyx) -> None:
        """Add a piece: mask (z, y, x), image (c, z, y, x), and where they begin."""
        inside = _places_of(mask)

        def places(part: slice, axis: int) -> NDArray[np.int64]:
            step, length = prod(mask.shape[axis + 1 :]), mask.shape[axis]
            local: NDArray[np.int64] = (inside[part] // step % length).astype(np.int64)
            return local + start[axis]

        count = len(inside)
        self.count += count
        for axis in range(3):
            self._places[axis] += sum(
                int(places(slice(k, k + AT_ONCE), axis).sum())
                for k in range(0, count, AT_ONCE)
            )
        for sums, channel in zip(self.channels, image, strict=True):
            sums.add(channel[mask], places)

    def centroid(self) -> Zyxf:
        """Return the mean place of its voxels."""
        z, y, x = (total / self.count for total in self._places)
        return z, y, x
