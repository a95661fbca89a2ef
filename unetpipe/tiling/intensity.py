"""Grey values: exact statistics, and normalisation by them."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Per channel, shape (c,); float64 tells means that 32 bits cannot.
Statistic = NDArray[np.float32] | NDArray[np.float64]
# Farther from the mean than any tissue: what lies there takes the contrast of the rest.
FARTHEST_DEVIATIONS = 50.0
DIGIT_BITS = 28  # of which 2^20 add up to less than 2^53


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """Exact sums over all voxels of one channel: they depend on no order and no cut.

    Integers are summed as Python integers; floating-point numbers are integers times a
    power of two and are summed as such, as fractions. So the deviation keeps its digits
    whatever the offset of the image.
    """

    count: int = 0
    total: int | Fraction = 0
    total_squares: int | Fraction = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    num_nan: int = 0

    @classmethod
    def of(cls, values: NDArray[Any]) -> "IntensityStatistics":
        """Return the statistics of one array of any shape."""
        if values.size == 0:
            return cls()
        if values.dtype.kind in "iub":
            total, squares = _exact_sums(values.ravel())
            low, high = int(values.min()), int(values.max())
            return cls(values.size, total, squares, low, high, 0)
        finite = values[np.isfinite(values)]
        if finite.size == 0:
            return cls(num_nan=values.size)
        sums = _exact_float_sums(finite)
        return cls(
            finite.size,
            *sums,
            float(finite.min()),
            float(finite.max()),
            values.size - finite.size,
        )

    def __add__(self, other: "IntensityStatistics") -> "IntensityStatistics":
        """Return the statistics of both together."""
        return IntensityStatistics(
            self.count + other.count,
            self.total + other.total,
            self.total_squares + other.total_squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.num_nan + other.num_nan,
        )

    @property
    def mean(self) -> float:
        """Mean grey value."""
        return float(Fraction(self.total) / self.count) if self.count else 0.0

    @property
    def std(self) -> float:
        """Standard deviation over all voxels; 1 for a constant volume."""
        if not self.count:
            return 1.0
        # Exact up to the last division.
        spread = self.total_squares * self.count - self.total * self.total
        variance = float(Fraction(spread) / self.count**2)
        return sqrt(variance) if variance > 0 else 1.0

    def warning(self) -> str | None:
        """Say that few voxels take the contrast of all others, or nothing."""
        if not self.count:
            return None
        far = max(self.maximum - self.mean, self.mean - self.minimum) / self.std
        if far <= FARTHEST_DEVIATIONS:
            return None
        return (
            f"grey values reach from {self.minimum:g} to {self.maximum:g}, "
            f"{far:.0f} standard deviations from the mean {self.mean:.4g}: a few hot "
            "or dead voxels take the contrast of all others; set ingest.percentiles: "
            "[1, 99] to normalise by what few voxels cannot move"
        )

    def to_json(self) -> dict[str, Any]:
        """Return sums, mean and standard deviation as plain JSON values."""
        return {
            "count": self.count,
            "total": _plain(self.total),
            "total_squares": _plain(self.total_squares),
            "minimum": self.minimum if self.count else None,
            "maximum": self.maximum if self.count else None,
            "num_nan": self.num_nan,
            "mean": self.mean,
            "std": self.std,
        }


class _HasMean(Protocol):
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...


def mean_and_std(
    channels: Iterable[_HasMean],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of channels: float64 arrays, shape (c,)."""
    pairs = [(channel.mean, channel.std) for channel in channels]
    mean, std = np.ascontiguousarray(np.array(pairs, np.float64).reshape(-1, 2).T)
    return mean, std


def _plain(total: int | Fraction) -> float:
    return float(total) if isinstance(total, Fraction) else total


def _exact_float_sums(values: NDArray[Any]) -> tuple[Fraction, Fraction]:
    """Return sum and sum of squares of finite numbers, exactly.

    A number is a mantissa of ``bits`` bits times a power of two. Mantissas of equal
    power, and their squares in digits of ``DIGIT_BITS``, add up below 2^53, which
    float64 holds exactly.
    """
    bits = 24 if values.dtype.itemsize <= 4 else 53
    values = values.ravel().astype(np.float32 if bits == 24 else np.float64)
    total = squares = Fraction(0)
    for start in range(0, values.size, 2**20):
        fractions, powers = np.frexp(values[start : start + 2**20])
        lowest = int(powers.min())
        mantissas = np.ldexp(fractions, bits).astype(np.int64)
        place = (powers - lowest).astype(np.intp)
        scale = Fraction(2) ** (lowest - bits)
        total += scale * _sum_by_digits(mantissas, place, step=1)
        # (h 2^26 + l)^2 in three products that 64 bits hold, each below 2^56.
        low = mantissas & (2**26 - 1)
        high = mantissas >> 26
        products = [(low * low, 0)]
        if bits > 26:
            products += [(high * low, 27), (high * high, 52)]
        else:
            products = [(mantissas * mantissas, 0)]
        squares += scale**2 * sum(
            2**shift * _sum_by_digits(numbers, place, step=2)
            for numbers, shift in products
        )
    return total, squares


def _sum_by_digits(numbers: NDArray[np.int64], place: Any, *, step: int) -> int:
    """Return sum of numbers * 2^(step * place), adding up digits of 28 bits."""
    total, shift = 0, 0
    while numbers.any():
        # A negative number ends as -1, not as 0, when it is shifted; it is told apart.
        is_last = not (numbers >> DIGIT_BITS).any() or shift >= 2 * DIGIT_BITS
        digit = numbers if is_last else numbers & (2**DIGIT_BITS - 1)
        sums = np.bincount(place, weights=digit)
        for power, of_power in enumerate(sums):
            total += int(of_power) << (step * power + shift)
        if is_last:
            break
        numbers, shift = numbers >> DIGIT_BITS, shift + DIGIT_BITS
    return total


def _exact_sums(values: NDArray[Any]) -> tuple[int, int]:
    """Return sum and sum of squares of integers, without overflow.

    Parts of 2^15 values below 2^18 sum to less than 2^53, which float64 holds exactly,
    and faster than integers; larger values are counted one by one.
    """
    if max(abs(int(values.min())), abs(int(values.max()))) >= 2**18:
        pairs = zip(*np.unique(values, return_counts=True), strict=True)
        counted = [(int(v), int(n)) for v, n in pairs]
        return sum(v * n for v, n in counted), sum(v * v * n for v, n in counted)
    total = squares = 0
    for start in range(0, values.size, 2**15):
        part = values[start : start + 2**15].astype(np.float64)
        total += int(part.sum())
        # Not np.dot, which starts threads of its own and then waits for them busily.
        squares += int(np.einsum("i,i->", part, part))
    return total, squares


def needs_float64(dtype: DTypeLike) -> bool:
    """Say whether 32 bits of floating point may not hold a stored value exactly."""
    return np.dtype(dtype).itemsize > 2


def centre(image: NDArray[Any], mean: Statistic) -> NDArray[np.float32]:
    """Take the mean away before rounding to 32 bits: (c, z, y, x).

    Integers of 32 bits, or of an offset that is large against the contrast, would lose
    their lowest bits otherwise.
    """
    shift = np.asarray(mean).reshape(-1, 1, 1, 1)
    if not needs_float64(image.dtype):
        return image.astype(np.float32) - shift.astype(np.float32)
    return (image.astype(np.float64) - shift.astype(np.float64)).astype(np.float32)


def normalise(
    image: NDArray[Any], *, mean: Statistic, std: Statistic
) -> NDArray[np.float32]:
    """Bring every channel to mean 0 and standard deviation 1 of its whole volume.

    Parameters
    ----------
    image : array, shape (c, z, y, x)
        Grey values as stored.
    mean, std : float arrays, shape (c,)
        Statistics of the volume, never of the tile: law 1.

    Returns
    -------
    float32 array, shape (c, z, y, x)
    """
    scale = np.float32(1) / np.asarray(std, np.float32).reshape(-1, 1, 1, 1)
    return centre(image, mean) * scale
