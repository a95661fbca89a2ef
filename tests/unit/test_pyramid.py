"""Resolution levels: mean for grey values, mode for labels, no invented ids."""

import numpy as np
import pytest
import yaozarrs
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.geometry import grid_cell, iterate_grid, whole_volume
from unetpipe.pyramid import build_pyramid, downsample, pyramid_factors
from unetpipe.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    write_shard,
)


def test_only_axes_that_are_still_finer_are_halved():
    assert pyramid_factors((64, 2048, 2048), (16.0, 4.0, 4.0)) == [(1, 2, 2)] * 2
    assert pyramid_factors((64, 4096, 4096), (8.0, 8.0, 8.0)) == [(2, 2, 2)] * 3
    assert pyramid_factors((30, 512, 512), (50.0, 4.0, 4.0)) == []


def test_grey_values_are_rounded_means():
    voxels = np.array([[[0, 1], [1, 1]]], np.uint8)
    assert downsample(voxels, (1, 2, 2), is_labels=False).tolist() == [[[1]]]
    assert downsample(voxels[:, :1], (1, 2, 2), is_labels=False).tolist() == [[[0]]]


@given(seed=st.integers(0, 10**6))
def test_labels_take_a_commonest_id_of_their_cell(seed):
    rng = np.random.default_rng(seed)
    voxels = rng.integers(0, 4, (2, 4, 6)).astype(np.uint32) * 10**6
    coarse = downsample(voxels, (2, 2, 2), is_labels=True)
    for z, y, x in np.ndindex(coarse.shape):
        cell = voxels[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        ids, counts = np.unique(cell, return_counts=True)
        assert coarse[z, y, x] in ids[counts == counts.max()]


@pytest.mark.parametrize("is_labels", [False, True])
def test_a_pyramid_is_valid_and_equals_the_whole_array_halved(
    tmp_path, monkeypatch, is_labels
):
    monkeypatch.setattr("unetpipe.pyramid.COARSEST_VOXELS", 32)
    shape, shard = (3, 75, 101), (2, 32, 32)
    grids = {"shape": shape, "chunk": (1, 16, 16), "shard": shard}
    grids |= {"dtype": "uint8", "voxel_size_nm": (50, 4, 4)}
    voxels = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)
    path = tmp_path / "v.zarr"
    create_volume(path, **grids)
    if is_labels:
        path = create_labels_group(path, ("cells",)) / "cells"
        create_volume(path, is_labels=True, **grids)
    array = open_volume(path, mode="r+")
    for index in iterate_grid(whole_volume(shape), shard):
        write_shard(array, index, voxels[grid_cell(index, shard, shape).slices])
    assert build_pyramid(path, is_labels=is_labels) == 3
    once = downsample(voxels, (1, 2, 2), is_labels=is_labels)
    assert np.array_equal(open_volume(path, level=1)[...], once)
    twice = downsample(once, (1, 2, 2), is_labels=is_labels)
    assert np.array_equal(open_volume(path, level=2)[...], twice)
    yaozarrs.validate_zarr_store(path)
    assert build_pyramid(path, is_labels=is_labels) == 3
