"""Percentiles are those of all voxels, however a volume is cut."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.tiling.percentiles import stream_percentiles

DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)


@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(DTYPES),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    low=st.floats(0.01, 50),
    high=st.floats(50, 99.99),
)
def test_percentiles_are_values_of_their_rank_whatever_the_cuts(
    seed, dtype, cuts, low, high
):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 6)
    drawn = rng.normal(rng.uniform(-2, 2), 1, (2, 400)) * scale
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        drawn = drawn.clip(limits.min, limits.max)
    else:
        drawn = drawn.clip(*np.array([-6e4, 6e4])) if dtype == "float16" else drawn
    image = drawn.astype(dtype).reshape(2, 400, 1, 1)
    pieces = np.split(image, sorted(cuts), axis=1)
    found = stream_percentiles(lambda: pieces, (low, high))
    # Exact ranks, which NumPy's "inverted_cdf" misses by one where 55 % of 400 is 220.
    ranks = [max(1, ceil(Fraction(rank) * 400 / 100)) for rank in (low, high)]
    wanted = np.sort(image.reshape(2, 400))[:, [rank - 1 for rank in ranks]]
    np.testing.assert_array_equal(found, wanted.astype(np.float64))


def test_what_is_not_finite_does_not_count():
    image = np.array([np.nan, 1, 2, 3, np.inf, -np.inf], np.float32).reshape(1, 6, 1, 1)
    assert stream_percentiles(lambda: [image], (1, 50, 99)) == [(1, 2, 3)]
    [nothing] = stream_percentiles(lambda: [image[:, :1]], (1, 99))
    assert np.isnan(nothing).all()


@pytest.mark.parametrize(("dtype", "passes"), [("uint16", 1), ("uint32", 2)])
def test_an_image_is_read_once_for_each_16_bits(dtype, passes):
    reads = []

    def read():
        reads.append(1)
        return [np.arange(100, dtype=dtype).reshape(1, 1, 10, 10)]

    assert stream_percentiles(read, (1, 99)) == [(0, 98)]
    assert len(reads) == passes
