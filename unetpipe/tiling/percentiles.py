"""Percentiles of images that fit no memory, exact, by histograms of 2^16 bins.

::

    value --ordered--> key of 8 to 64 bits      keys rise as values do
    pass 1   histogram of the highest 16 bits    -> the bin of the wanted rank
    pass 2   histogram of the next 16 bits, of the values in that bin, ...

Counts are whole numbers, so the result depends on no cut and no order. Values of 16
bits take one pass, of 32 bits two.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGIT_BITS = 16
COUNTED_VOXELS = 1 << 20  # whose keys are made at once


@dataclass(slots=True)
class _Rank:
    """One percentile of one channel, known digit by digit."""

    percentile: float
    rank: int = 0
    """Among the values that begin like ``key``, from 1."""
    key: int = 0


def stream_percentiles(
    read: Callable[[], Iterable[NDArray[Any]]], percentiles: Sequence[float]
) -> list[tuple[float, ...]]:
    """Return percentiles of each channel: values that occur in it.

    The percentile q is the least value that at least q % of the values do not exceed;
    values that are not finite do not count.

    Parameters
    ----------
    read : callable
        Yields all voxels, in arrays (c, z, y, x) of one dtype; is called for each pass.
    percentiles : sequence of float
        Above 0, at most 100.

    Returns
    -------
    list of tuple of float
        For each channel; NaN where it holds no finite value.
    """
    channels: list[list[_Rank]] = []
    dtype: np.dtype[Any] | None = None
    shift, width = 0, 0
    while dtype is None or shift:
        counts: list[dict[int, NDArray[np.int64]]] = []
        for box in read():
            if dtype is None:
                dtype = box.dtype
                shift = 8 * dtype.itemsize
            if not channels:
                channels = [[_Rank(q) for q in percentiles] for _ in box]
            if not counts:
                width = min(DIGIT_BITS, shift)
                counts = [
                    {one.key: np.zeros(2**width, np.int64) for one in ranks}
                    for ranks in channels
                ]
            for voxels, histograms in zip(box, counts, strict=True):
                _count(voxels, histograms, shift, width)
        if dtype is None:
            return []
        shift -= width
        for ranks, histograms in zip(channels, counts, strict=True):
            for one in ranks:
                _go_on(one, histograms[one.key], width)
    return [
        tuple(_value(one.key, dtype) if one.rank else np.nan for one in ranks)
        for ranks in channels
    ]


def _count(
    voxels: NDArray[Any],
    histograms: dict[int, NDArray[np.int64]],
    shift: int,
    width: int,
) -> None:
    """Add to each histogram the next digits of the keys that begin like its own.

    ``shift`` bits of the keys are unknown, of which the highest ``width`` are counted.
    """
    flat = np.ravel(voxels)
    for start in range(0, flat.size, COUNTED_VOXELS):
        keys = _ordered(flat[start : start + COUNTED_VOXELS])
        is_first = shift == 8 * keys.itemsize
        for beginning, histogram in histograms.items():
            chosen = keys if is_first else keys[keys >> shift == beginning]
            digits = (chosen >> (shift - width)) & (2**width - 1)
            histogram += np.bincount(digits.astype(np.intp), minlength=2**width)


def _go_on(one: _Rank, histogram: NDArray[np.int64], width: int) -> None:
    """Find the next digit of a value of some rank."""
    total = int(histogram.sum())
    if not total:
        return
    if not one.rank:
        one.rank = max(1, ceil(Fraction(one.percentile) * total / 100))
    below = np.cumsum(histogram)
    digit = int(np.searchsorted(below, one.rank))
    one.rank -= int(below[digit] - histogram[digit])
    one.key = (one.key << width) + digit


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers of the same size that rise as the finite values do."""
    bits = 8 * values.dtype.itemsize
    top = 1 << (bits - 1)
    if values.dtype.kind != "f":
        keys = values.astype(f"u{bits // 8}")
        return keys ^ keys.dtype.type(top) if values.dtype.kind == "i" else keys
    finite = values[np.isfinite(values)]
    native = np.ascontiguousarray(finite, finite.dtype.newbyteorder("="))
    keys = native.view(f"u{bits // 8}")
    # The sign is the highest bit; magnitudes of negative numbers fall.
    return np.where(keys >> (bits - 1), ~keys, keys | keys.dtype.type(top))


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """Return the value of a key."""
    bits = 8 * dtype.itemsize
    top = 1 << (bits - 1)
    if dtype.kind != "f":
        return float(key - top if dtype.kind == "i" else key)
    plain = key ^ top if key & top else key ^ (2 * top - 1)
    stored = np.array([plain], f"u{bits // 8}").view(f"f{bits // 8}")
    return float(stored[0])
