"""Halving: mean for grey values, mode for labels, no invented ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unetpipe.storage.downsampling import downsample

FACTORS = [(z, y, x) for z in (1, 2) for y in (1, 2) for x in (1, 2)]
GREY = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def cells(voxels, factor):
    """Yield (place, members) of each cell, in z, y, x order, by the definition."""
    widths = [(0, -n % f) for n, f in zip(voxels.shape, factor, strict=True)]
    padded = np.pad(voxels, widths, mode="edge")
    shape = [n // f for n, f in zip(padded.shape, factor, strict=True)]
    for place in np.ndindex(*shape):
        box = (slice(i * f, i * f + f) for i, f in zip(place, factor, strict=True))
        yield place, padded[tuple(box)].ravel()


def volumes(dtypes, **elements):
    shapes = st.tuples(*[st.integers(1, 5)] * 3)
    return st.sampled_from(dtypes).flatmap(
        lambda dtype: arrays.arrays(dtype, shapes, **elements)
    )


@given(volumes(GREY[:6]), st.sampled_from(FACTORS))
def test_grey_values_are_means_rounded_half_to_even(voxels, factor):
    coarse = downsample(voxels, factor, is_labels=False)
    assert coarse.dtype == voxels.dtype
    for place, members in cells(voxels, factor):
        assert coarse[place] == np.rint(members.mean(dtype=np.float64))


@given(st.integers(0, 10**6), st.sampled_from(FACTORS), st.sampled_from(GREY[6:]))
def test_means_of_floats_are_taken_in_double_precision(seed, factor, dtype):
    voxels = np.random.default_rng(seed).normal(size=(3, 4, 5)).astype(dtype)
    coarse = downsample(voxels, factor, is_labels=False)
    assert coarse.dtype == voxels.dtype
    for place, members in cells(voxels, factor):
        assert coarse[place] == pytest.approx(members.mean(dtype=np.float64), rel=1e-6)


@given(
    volumes(["uint8", "uint32", "uint64"], elements=st.integers(0, 8)),
    st.sampled_from(FACTORS),
    st.sampled_from([1, 28]),
)
def test_labels_take_the_first_of_the_commonest_ids(voxels, factor, step):
    voxels = voxels * voxels.dtype.type(step)
    coarse = downsample(voxels, factor, is_labels=True)
    for place, members in cells(voxels, factor):
        counts = [np.count_nonzero(members == member) for member in members]
        assert coarse[place] == members[np.argmax(counts)]


@pytest.mark.parametrize("is_labels", [False, True])
def test_big_endian_voxels_are_halved_too(is_labels):
    voxels = np.array([[[257, 257], [257, 257]]], ">u2")
    coarse = downsample(voxels, (1, 2, 2), is_labels=is_labels)
    assert coarse.tolist() == [[[257]]]


@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
def test_ids_beyond_32_bits_and_classes_are_kept(dtype):
    voxels = np.full((2, 2, 2), np.iinfo(dtype).max, dtype)
    assert downsample(voxels, (2, 2, 2), is_labels=True) == np.iinfo(dtype).max


def test_channels_are_halved_apart():
    voxels = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 7)).astype(np.uint8)
    for is_labels in (False, True):
        coarse = downsample(voxels, (2, 2, 2), is_labels=is_labels)
        assert coarse.shape == (3, 1, 3, 4)
        for c in range(3):
            alone = downsample(voxels[c], (2, 2, 2), is_labels=is_labels)
            assert np.array_equal(coarse[c], alone)


def test_means_do_not_drift_over_levels():
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 256, (1, 256, 256)).astype(np.uint8)
    coarse = voxels
    for _ in range(5):
        coarse = downsample(coarse, (1, 2, 2), is_labels=False)
    assert coarse.mean() == pytest.approx(voxels.mean(), abs=0.05)
