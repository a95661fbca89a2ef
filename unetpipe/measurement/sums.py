"""Counts, places and grey values of an object, added up piece by piece.

An object is measured in pieces that its box alone decides, in their order, so that the
same bits come out of every block and every part.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import Zyx

Mask = NDArray[np.bool_]
Zyxf = tuple[float, float, float]


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

    def add(self, values: NDArray[Any], places: tuple[NDArray[Any], ...]) -> None:
        """Add voxels: grey values, shape (n,), and their z, y, x."""
        count = len(values)
        if not count:
            return
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        squares = float(np.square(exact - mean).sum())
        shift, both = mean - self.mean, self.count + count
        self.squares += squares + shift * shift * self.count * count / both
        self.mean += shift * count / both
        self.count = both
        self.low = min(self.low, float(exact.min()))
        self.high = max(self.high, float(exact.max()))
        if values.dtype.kind in "biu":
            kind = np.int64 if values.dtype.kind == "i" else np.uint64
            self.total += int(values.sum(dtype=kind))
        else:
            self.total += float(exact.sum())
        for axis, place in enumerate(places):
            self.weighted[axis] += float((exact * place).sum())

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
        inside = np.nonzero(mask)
        self.count += len(inside[0])
        places = tuple(p + s for p, s in zip(inside, start, strict=True))
        for axis, place in enumerate(places):
            self._places[axis] += int(place.sum())
        for sums, channel in zip(self.channels, image, strict=True):
            sums.add(channel[inside], places)

    def centroid(self) -> Zyxf:
        """Return the mean place of its voxels."""
        z, y, x = (total / self.count for total in self._places)
        return z, y, x
