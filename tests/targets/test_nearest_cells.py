"""Two distances, against one distance transform of the whole array for each cell."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from unetpipe.targets.nearest_cells import sum_two_distances


def literal(cells, is_wanted, reach):
    """Follow the definition: sort the distances to all cells, add the first two."""
    ids = [i for i in np.unique(cells) if i]
    sums = np.full(cells.shape, np.inf)
    if len(ids) > 1:
        distances = [distance_transform_edt(cells != i) for i in ids]
        sums = np.sort(distances, axis=0)[:2].sum(axis=0)
    return np.where(is_wanted & (sums <= reach), sums, np.inf)


@settings(max_examples=3 * settings.default.max_examples)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 10**6),
    num_cells=st.integers(1, 6),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.4, 0.9]),
    reach=st.sampled_from([1, 2, 3, 5, 9, 30]),
)
def test_scattered_cells_have_the_distances_of_the_definition(
    shape, seed, num_cells, density, reach
):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, num_cells + 1, shape) * (rng.random(shape) < density)
    cells = ids.astype(np.int32)
    is_wanted = (cells == 0) | (rng.random(shape) < 0.2)
    found = sum_two_distances(cells, is_wanted, reach)
    np.testing.assert_allclose(found, literal(cells, is_wanted, reach), rtol=1e-14)


def test_discs_that_overlap_and_rings_within_rings():
    rng = np.random.default_rng(4)
    y, x = np.indices((90, 110))
    cells = np.zeros((1, 90, 110), np.int32)
    for number in range(1, 25):
        radius, centre = rng.integers(3, 20), rng.integers(0, (90, 110))
        distance = np.hypot(y - centre[0], x - centre[1])
        cells[0][(distance < radius) & (distance > radius * (number % 2) * 0.7)] = (
            number
        )
    everywhere = np.ones(cells.shape, bool)
    for reach in (4, 30):
        np.testing.assert_allclose(
            sum_two_distances(cells, everywhere, reach),
            literal(cells, everywhere, reach),
            rtol=1e-14,
        )


@given(seed=st.integers(0, 10**6), reach=st.integers(1, 6))
def test_nothing_beyond_the_reach_matters(seed, reach):
    """So blocks with a halo of the reach give the bits of the whole."""
    rng = np.random.default_rng(seed)
    shape = (5, 14, 15)
    cells = (rng.integers(1, 9, shape) * (rng.random(shape) < 0.1)).astype(np.int32)
    wanted = np.ones(shape, bool)
    whole = sum_two_distances(cells, wanted, reach)
    low = rng.integers(0, shape)
    high = low + 1 + rng.integers(0, 5, 3)
    inside = tuple(
        slice(a, min(b, n)) for a, b, n in zip(low, high, shape, strict=True)
    )
    wide = tuple(
        slice(max(0, s.start - reach), min(n, s.stop + reach))
        for s, n in zip(inside, shape, strict=True)
    )
    part = sum_two_distances(cells[wide], wanted[wide], reach)
    kept = tuple(
        slice(s.start - w.start, s.stop - w.start)
        for s, w in zip(inside, wide, strict=True)
    )
    np.testing.assert_array_equal(part[kept], whole[inside])


def test_no_cell_and_one_cell_have_no_sum():
    for cells in (np.zeros((2, 3, 4), np.int32), np.full((2, 3, 4), 7, np.int32)):
        assert np.isinf(sum_two_distances(cells, np.ones(cells.shape, bool), 9)).all()
