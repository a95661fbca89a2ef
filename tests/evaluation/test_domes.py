"""Domes are those of a library's slower search."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import h_maxima

from unetpipe.evaluation.domes import find_domes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(40, 53), (9, 20, 17), (1, 30, 30), (200,)])
@pytest.mark.parametrize("least", [1, 2, 5])
def test_domes_are_those_of_a_slower_search(seed, shape, least):
    noise = np.random.default_rng(seed).standard_normal(shape)
    noise = ndimage.gaussian_filter(noise, seed / 2)
    heights = np.rint(12 * np.maximum(noise / noise.std(), 0)).astype(np.uint16)
    np.testing.assert_array_equal(
        find_domes(heights, least), h_maxima(heights, least).astype(bool)
    )


def test_a_winding_wall_is_climbed_to_its_end():
    """A spiral, one voxel lower at its end: neither sweep follows it."""
    heights = np.zeros((31, 31), np.uint16)
    y = x = side = 0
    for turn in range(24):
        dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(30 - side):
            heights[y, x], y, x = 9, y + dy, x + dx
        side += turn % 2
    heights[0, 0], heights[y, x] = 12, 10
    expected = h_maxima(heights, 2).astype(bool)
    assert expected[0, 0]
    np.testing.assert_array_equal(find_domes(heights, 2), expected)
