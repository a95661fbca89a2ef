"""Mirrors have no edge repeat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import DataError
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.mirroring import (
    mirror_index,
    mirror_into,
    mirror_runs,
    mirror_source,
    mirror_take,
)


@given(length=st.integers(2, 9), reach=st.integers(0, 40))
def test_mirroring_equals_reflection_without_edge_repeat(length, reach):
    axis = np.arange(length)
    expected = np.pad(axis, reach, mode="reflect")
    assert np.array_equal(mirror_index(-reach, length + reach, length), expected)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("start", range(-15, 12, 3))
@pytest.mark.parametrize("count", [1, 2, 5, 8, 40])
def test_runs_are_the_mirrored_index_in_slices(start, count, length):
    index = mirror_index(start, start + count, length)
    for origin in range(int(index.min()) + 1):
        source = np.arange(origin, int(index.max()) + 1)
        found = np.full(count, -1)
        for where, of in mirror_runs(start, start + count, length, origin):
            assert (found[where] == -1).all()
            found[where] = source[of]
        assert found.tolist() == index.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_box_over_faces_is_one_index_a_voxel(dtype):
    shape = (3, 5, 9)
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 256, (2, *shape)).astype(dtype)
    for _ in range(200):
        start = rng.integers(-12, 12, 3)
        roi = Roi(
            tuple(start.tolist()), tuple((start + rng.integers(1, 20, 3)).tolist())
        )
        z, y, x = (
            mirror_index(a, b, n)
            for a, b, n in zip(roi.start, roi.stop, shape, strict=True)
        )
        expected = volume[:, z[:, None, None], y[:, None], x]
        seen = mirror_source(roi, shape)
        cut = volume[(slice(None), *seen.slices)]
        assert np.array_equal(mirror_take(cut, seen.start, roi, shape), expected)
        out = np.zeros(expected.shape, np.float32)
        mirror_into(out, cut, seen.start, roi, shape)
        assert np.array_equal(out, expected)


def test_an_empty_axis_cannot_be_mirrored():
    with pytest.raises(DataError, match="cannot mirror an axis of 0 voxels"):
        mirror_index(0, 3, 0)
    with pytest.raises(DataError, match="cannot mirror an axis of 0 voxels"):
        mirror_runs(0, 3, 0)


@given(seed=st.integers(0, 10**6))
def test_a_mirrored_box_is_the_same_from_the_whole_volume_or_from_its_source(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 7, 3))
    volume = rng.integers(0, 99, (2, *shape))
    start = tuple(int(n) for n in rng.integers(-9, 9, 3))
    stop = tuple(a + int(n) for a, n in zip(start, rng.integers(1, 12, 3), strict=True))
    roi = Roi(start, stop)
    source = mirror_source(roi, shape)
    cut = volume[(..., *source.slices)]
    expected = mirror_take(volume, (0, 0, 0), roi, shape)
    assert np.array_equal(mirror_take(cut, source.start, roi, shape), expected)
    for axis in range(3):
        index = mirror_index(start[axis], stop[axis], shape[axis])
        assert index.min() == source.start[axis]
        assert index.max() + 1 == source.stop[axis]
