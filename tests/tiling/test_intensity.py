"""Statistics are exact, however a volume is cut."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.tiling.intensity import (
    IntensityStatistics,
    normalise,
)

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64"]


@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([1, 7, 2**15 - 1, 2**15, 2**15 + 1]),
)
def test_integer_sums_are_exact(seed, dtype, size):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    values = rng.integers(limits.min, limits.max, size, dtype=dtype, endpoint=True)
    found = IntensityStatistics.of(values)
    exact = [int(v) for v in values]
    assert found.total == sum(exact)
    assert found.total_squares == sum(v * v for v in exact)
    assert (found.minimum, found.maximum) == (min(exact), max(exact))


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 500), max_size=5))
def test_statistics_do_not_depend_on_how_the_volume_was_cut(seed, cuts):
    values = np.random.default_rng(seed).integers(0, 65536, 500).astype(np.uint16)
    parts = np.split(values, sorted(cuts))
    total = sum((IntensityStatistics.of(p) for p in parts), IntensityStatistics())
    assert total == IntensityStatistics.of(values)
    assert total.mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-14)
    assert total.std == pytest.approx(values.std(dtype=np.float64), rel=1e-9)


@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    cuts=st.lists(st.integers(0, 500), max_size=5),
)
def test_sums_of_floating_point_numbers_are_exact_and_depend_on_no_cut(
    seed, dtype, cuts
):
    rng = np.random.default_rng(seed)
    powers = rng.uniform(-4, 4, 500)
    values = (rng.normal(0, 1, 500) * 10**powers).astype(dtype)
    found = IntensityStatistics.of(values)
    exact = [Fraction(float(v)) for v in values]
    assert found.total == sum(exact)
    assert found.total_squares == sum(v * v for v in exact)
    parts = np.split(values, sorted(cuts))
    assert found == sum(map(IntensityStatistics.of, parts), IntensityStatistics())


@pytest.mark.parametrize(
    ("offset", "dtype"),
    [(1e4, "float32"), (1e6, "float32"), (-1e7, "float64"), (1e12, "float64")],
)
def test_the_deviation_of_an_image_does_not_suffer_from_its_offset(offset, dtype):
    values = (offset + np.random.default_rng(0).normal(0, 1, 9999)).astype(dtype)
    found = IntensityStatistics.of(values)
    assert found.std == pytest.approx(values.astype(np.float64).std(), rel=1e-4)


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint64", "int64", "float64"])
def test_an_offset_that_32_bits_cannot_tell_changes_nothing(dtype):
    texture = np.random.default_rng(0).integers(0, 200, (1, 2, 20, 20))
    offset = -(2**31) if dtype == "int32" else 2**31
    image = (texture + offset).astype(dtype)
    found, wanted = (
        normalise(
            i,
            mean=np.array([IntensityStatistics.of(i).mean]),
            std=np.array([IntensityStatistics.of(i).std]),
        )
        for i in (image, texture.astype(np.uint8))
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("hot", [0, 1, 10])
def test_hot_pixels_that_take_the_contrast_are_told(hot):
    image = np.random.default_rng(0).normal(100, 10, (512, 512)).astype(np.uint16)
    image.reshape(-1)[:hot] = 65535
    warning = IntensityStatistics.of(image).warning()
    assert (warning is not None) == (hot > 0)
    if hot:
        assert "65535" in warning


def test_nan_and_infinity_are_counted_and_left_out():
    found = IntensityStatistics.of(np.array([1.0, np.nan, 3.0, np.inf], np.float32))
    assert (found.count, found.num_nan, found.mean) == (2, 2, 2.0)


def test_a_constant_volume_has_standard_deviation_one():
    assert IntensityStatistics.of(np.full(9, 7, np.uint8)).std == 1.0


def test_normalising_gives_each_channel_mean_0_and_deviation_1():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 30)).astype(np.uint8)
    statistics = [IntensityStatistics.of(channel) for channel in image]
    mean = np.array([s.mean for s in statistics], np.float32)
    std = np.array([s.std for s in statistics], np.float32)
    result = normalise(image, mean=mean, std=std)
    assert np.abs(result.mean(axis=(1, 2, 3))).max() < 1e-6
    assert np.abs(result.std(axis=(1, 2, 3)) - 1).max() < 1e-6
