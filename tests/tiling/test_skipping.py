"""Which tiles are predicted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import DataError
from unetpipe.tiling.boxes import Roi, whole_volume
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.skipping import TileSelection, tiles_in_mask


def geometry_of(shape, stride):
    return TileGrids(shape, stride, stride, stride, stride, stride)


def tiles_of(geometry):
    return list(geometry.tiles(whole_volume(geometry.volume_shape)))


def test_a_tile_is_in_the_box_if_they_share_a_voxel():
    geometry = geometry_of((4, 40, 40), (2, 16, 16))
    selection = TileSelection(roi=Roi((2, 15, 16), (3, 17, 32)))
    kept = [t.start for t in tiles_of(geometry) if not selection.excluded(t)]
    assert kept == [(2, 0, 16), (2, 16, 16)]


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, False), (0.01, False), (0.02, True), (1.0, True)]
)
def test_a_tile_is_empty_if_few_enough_voxels_are_brighter(fraction, expected):
    voxels = np.full((2, 1, 10, 10), 5, np.uint8)
    voxels[0, 0, 3, 3] = voxels[1, 0, 3, 3] = 6  # one place, in both channels
    voxels[1, 0, 4, 4] = 9
    rule = TileSelection(empty_value=5, empty_fraction=fraction)
    assert rule.is_empty(voxels) is expected


def test_a_tile_as_bright_as_the_value_is_empty():
    assert TileSelection(empty_value=5).is_empty(np.full((1, 1, 4, 4), 5))
    assert not TileSelection(empty_value=4.9).is_empty(np.full((1, 1, 4, 4), 5))
    assert not TileSelection().is_empty(np.zeros((1, 1, 4, 4)))


lengths = st.integers(1, 40)


@given(
    shape=st.tuples(st.integers(1, 6), lengths, lengths),
    factor=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 99),
)
def test_no_marked_voxel_is_lost_whatever_the_resolution_of_the_mask(
    shape, factor, stride, seed
):
    geometry = geometry_of(shape, stride)
    mask_shape = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
    mask = np.random.default_rng(seed).random(mask_shape) < 0.1
    kept = tiles_in_mask(mask, mask_shape, geometry)
    full = mask
    for axis, (n, f) in enumerate(zip(shape, factor, strict=True)):
        full = full.repeat(f, axis).take(range(n), axis)
    touched = np.zeros_like(kept)
    for z, y, x in np.argwhere(full):
        touched[z // stride[0], y // stride[1], x // stride[2]] = True
    assert (kept | ~touched).all()
    if factor == (1, 1, 1):
        assert np.array_equal(kept, touched)


def test_a_coarse_mask_keeps_exactly_what_it_touches_where_the_factor_is_clear():
    geometry = geometry_of((2, 64, 64), (1, 16, 16))
    mask = np.zeros((2, 16, 16), bool)
    mask[1, 4, 11] = True  # y 16 to 20, x 44 to 48
    kept = tiles_in_mask(mask, mask.shape, geometry)
    assert np.argwhere(kept).tolist() == [[1, 1, 2]]


def test_a_mask_of_one_section_is_for_all_sections():
    geometry = geometry_of((3, 32, 32), (1, 16, 16))
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 20, 3] = True
    kept = tiles_in_mask(mask, mask.shape, geometry)
    assert np.argwhere(kept).tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 33, 32), "y"), ((2, 32, 30), "x"), ((3, 32, 32), "z")]
)
def test_a_mask_that_no_factor_fits_is_refused(shape, axis):
    geometry = geometry_of((2, 32, 32), (1, 16, 16))
    with pytest.raises(DataError, match=rf"along {axis}.* no whole factor fits"):
        tiles_in_mask(np.zeros(shape, bool), shape, geometry)
