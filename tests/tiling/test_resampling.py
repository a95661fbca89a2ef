"""Resampling: means, cubic, nearest; the same bits in every box."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.storage.downsampling import downsample
from unetpipe.tiling.resampling import (
    matched_shape,
    nearest_voxels,
    resample,
    resampling_taps,
    scaled_size,
)

RNG = np.random.default_rng(0)


def whole(voxels, new):
    lengths = zip(voxels.shape[1:], new, strict=True)
    return resample(voxels, tuple(resampling_taps(n, m, 0, m) for n, m in lengths))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_halving_is_what_a_pyramid_does(dtype):
    voxels = (RNG.random((1, 4, 8, 10)) * 250).astype(dtype)
    halved = downsample(voxels, (2, 2, 2), is_labels=False)
    assert np.allclose(whole(voxels, (2, 4, 5)), halved, rtol=1e-6, atol=0)


def test_a_larger_voxel_is_the_mean_of_what_it_covers():
    line = np.array([3, 6, 12], np.float32).reshape(1, 1, 1, 3)
    expected = [(3 + 6 / 2) / 1.5, (6 / 2 + 12) / 1.5]
    assert whole(line, (1, 1, 2)).ravel().tolist() == pytest.approx(expected)


def test_a_smaller_voxel_is_cubic_and_keeps_lines_straight():
    ramp = np.arange(12, dtype=np.float32).reshape(1, 1, 1, 12)
    grown = whole(ramp, (1, 1, 24)).ravel()
    inside = (np.arange(24) + 0.5) / 2 - 0.5
    assert np.allclose(grown[4:-4], inside[4:-4], atol=1e-5)
    noise = RNG.random((1, 1, 1, 40)).astype(np.float32)
    spline = scipy.ndimage.zoom(
        noise.ravel(), 2, order=3, grid_mode=True, mode="reflect"
    )
    assert np.corrcoef(whole(noise, (1, 1, 80)).ravel(), spline)[0, 1] > 0.99


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32])
def test_integers_never_wrap_around(dtype):
    limits = np.iinfo(dtype)
    steps = np.full((1, 1, 1, 12), limits.min, dtype)
    steps[..., 6:] = limits.max
    grown = whole(steps, (1, 1, 31)).ravel()
    assert grown[:8].max() <= limits.min + limits.max // 8
    assert grown[-8:].min() >= limits.max - limits.max // 8
    constant = np.full((1, 3, 5, 7), limits.max - 3, dtype)
    assert (whole(constant, (2, 9, 4)) == limits.max - 3).all()


@given(n=st.integers(1, 40), m=st.integers(1, 40), data=st.data())
def test_every_box_has_the_bits_of_the_whole(n, m, data):
    start = data.draw(st.integers(0, m - 1))
    stop = data.draw(st.integers(start + 1, m))
    voxels = np.random.default_rng(n).random((1, 1, n, 1)).astype(np.float32)
    flat = resampling_taps(1, 1, 0, 1)
    own = resampling_taps(n, m, start, stop)
    assert np.allclose(own.weights.sum(axis=1), 1)
    box = resample(voxels[:, :, own.seen], (flat, own, flat))
    everything = resample(voxels, (flat, resampling_taps(n, m, 0, m), flat))
    assert np.array_equal(box, everything[:, :, start:stop])
    places = nearest_voxels(n, m, 0, m)
    assert np.array_equal(places[start:stop], nearest_voxels(n, m, start, stop))
    assert 0 <= places[0] <= places[-1] < n


def test_ids_that_were_enlarged_come_back_as_they_were():
    ids = RNG.integers(0, 9, 50)
    enlarged = ids[nearest_voxels(50, 150, 0, 150)]
    assert np.array_equal(enlarged[nearest_voxels(150, 50, 0, 50)], ids)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (10, 50, 200)), (3, (5, 50, 200))])
def test_sections_are_resampled_for_a_volumetric_network_alone(ndim, shape):
    size, wanted = (50, 4, 8), (100, 8, 4)
    assert matched_shape((10, 100, 100), size, wanted, ndim) == shape
    assert scaled_size(size, (10, 100, 100), (5, 50, 200)) == wanted
    assert matched_shape((1, 3, 3), (1, 1, 1), (9, 90, 90), 3) == (1, 1, 1)
