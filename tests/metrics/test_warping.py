"""Warping against a slow, plain reading of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.metrics.sections import map_mistakes, warp_section
from unetpipe.errors import GeometryError
from unetpipe.metrics.columns import Proposal, Truth
from unetpipe.metrics.simple_points import (
    IS_SIMPLE,
    WINDOW_VOX,
    Mistake,
    flip_simple_voxels,
)
from unetpipe.metrics.thinning import label_components
from unetpipe.metrics.warping import collect_warping

RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
EIGHT = np.ones((3, 3), int)

shapes = st.tuples(st.integers(2, 9), st.integers(2, 9))
pairs = shapes.flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(0, 20)),
        arrays(np.bool_, shape),
    )
)


def is_simple(ring):
    """One component touches the centre by an edge, and there is background."""
    window = np.zeros((3, 3), int)
    for (dy, dx), value in zip(RING, ring, strict=True):
        window[1 + dy, 1 + dx] = value
    components, _ = ndimage.label(window)
    edges = {components[0, 1], components[1, 0], components[1, 2], components[2, 1]}
    return len(edges - {0}) == 1 and sum(ring) < 8


def warp_slowly(truth, proposal, threshold):
    """Steps 1 to 5 of the definition, one voxel at a time."""
    height, width = truth.shape
    labels, mask = truth.copy(), proposal > threshold
    before = None
    while True:
        wrong = [
            (x, y)
            for x in range(width)
            for y in range(height)
            if labels[y, x] != mask[y, x]
        ]
        if not wrong or len(wrong) == before:
            return labels, wrong
        before = len(wrong)
        wrong.sort(key=lambda place: -abs(proposal[place[1], place[0]] - threshold))
        for x, y in wrong:
            padded = np.pad(labels, 1)
            ring = [int(padded[y + 1 + dy, x + 1 + dx]) for dy, dx in RING]
            if is_simple(ring):
                labels[y, x] = not labels[y, x]


def ids_around(components, y, x):
    rows, columns = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
    around = components[rows, columns].astype(int)
    around[y - rows.start, x - columns.start] = -1
    return set(around.ravel().tolist()) - {-1}


def classify_slowly(warped, wrong):
    kinds = np.zeros(warped.shape, int)
    components, _ = ndimage.label(warped)
    for x, y in wrong:
        ids, is_cell = ids_around(components, y, x), warped[y, x]
        if ids == {0}:
            kind = Mistake.OBJECT_DELETION if is_cell else Mistake.OBJECT_ADDITION
        elif len(ids) == 1:
            kind = Mistake.HOLE_ADDITION if is_cell else Mistake.HOLE_DELETION
        elif len(ids) > 2:
            kind = Mistake.SPLIT if is_cell else Mistake.MERGE
        elif not is_cell:
            kind = Mistake.HOLE_ADDITION
        else:
            rows, columns = (
                slice(max(at - WINDOW_VOX, 0), at + WINDOW_VOX + 1) for at in (y, x)
            )
            cleared = warped[rows, columns].copy()
            at = y - rows.start, x - columns.start
            cleared[at] = False
            parts, _ = ndimage.label(cleared)
            is_split = len(ids_around(parts, *at)) > 2
            kind = Mistake.SPLIT if is_split else Mistake.HOLE_DELETION
        kinds[y, x] = kind
    return kinds


def test_116_of_256_rings_are_simple_and_they_are_the_right_ones():
    rings = [[code >> k & 1 for k in range(8)] for code in range(256)]
    assert IS_SIMPLE.tolist() == [is_simple(ring) for ring in rings]
    assert IS_SIMPLE.sum() == 116


def map_of(proposal, truth, threshold):
    """The mistakes of each voxel, as sections are scored."""
    return map_mistakes(proposal.astype(np.float32), truth, np.float64(threshold))


@given(pairs, st.sampled_from([0.2, 0.5, 0.8]))
@settings(deadline=None)
def test_mistakes_are_those_of_a_plain_loop(pair, threshold):
    levels, truth = pair
    proposal = (levels / 20).astype(np.float32).astype(np.float64)
    warped, wrong = warp_slowly(truth, proposal, threshold)
    np.testing.assert_array_equal(
        map_of(proposal, truth, threshold), classify_slowly(warped, wrong)
    )


@given(pairs)
def test_warping_keeps_the_number_of_cells_and_of_holes(pair):
    levels, truth = pair
    proposal = Proposal.of((levels / 20).astype(np.float32))
    warped = flip_simple_voxels(Truth.of(truth), proposal, np.float64(0.5)).is_cell
    assert label_components(warped).max() == label_components(truth).max()
    outside_and_holes = [
        ndimage.label(~np.pad(mask, 1), EIGHT)[1] for mask in (truth, warped)
    ]
    assert outside_and_holes[0] == outside_and_holes[1]


@given(pairs)
def test_a_map_equal_to_the_truth_has_no_mistakes(pair):
    truth = pair[1]
    section = warp_section(truth.astype(float), truth)
    assert section.mistakes[:, 1:].sum() == 0
    assert not section.is_constant.any()


def test_splits_are_judged_within_a_window():
    """A ring-shaped cell, cut once: still one cell, but not within 20 voxels."""
    yy, xx = np.mgrid[:101, :101]
    radius = np.hypot(yy - 50, xx - 50)
    wide = np.abs(radius - 40) < 3
    cut = wide.copy()
    cut[50:51, 50:] = False
    assert Mistake.SPLIT in map_of(cut, wide, 0.5)
    narrow = np.abs(radius - 8) < 3  # the way round fits into the window
    cut = narrow.copy()
    cut[50:51, 50:] = False
    kinds = map_of(cut, narrow, 0.5)
    assert Mistake.SPLIT not in kinds
    assert Mistake.HOLE_DELETION in kinds


@pytest.mark.parametrize("seed", range(3))
def test_mistakes_of_winding_cells_are_those_of_a_plain_flood(seed):
    """Cells that leave the window and come back, at its faces and the section's."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((2, 75, 90)), (0, 1.5, 1.5))
    truth, proposal = noise[0] > -0.05, (noise[1] > -0.02) * 0.9
    warped, wrong = warp_slowly(truth, proposal, 0.5)
    kinds = classify_slowly(warped, wrong)
    assert np.count_nonzero(kinds == Mistake.SPLIT) > 9
    np.testing.assert_array_equal(map_of(proposal, truth, 0.5), kinds)


def test_counts_of_sections_are_pooled_and_constant_maps_spoil_their_threshold():
    truth = np.ones((5, 5), bool)
    truth[:, 2] = False
    gap = truth * 0.75
    gap[2, 2] = 0.65
    thresholds = np.array([0.6, 0.7, 0.8])
    good = warp_section(truth * 0.9, truth, thresholds=thresholds)
    merged = warp_section(gap, truth, thresholds=thresholds)
    curves = collect_warping([good, merged])
    np.testing.assert_array_equal(curves.warping_error.pooled, [1 / 50, 0, np.nan])
    np.testing.assert_array_equal(
        curves.warping_error.per_section, [[0, 0, 0], [1 / 25, 0, np.nan]]
    )
    assert curves.classic_warping_error.at(0.8) == 2 / 50  # two cells lost
    assert curves.mistakes[:, Mistake.MERGE].tolist() == [1, 0, 0]


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(GeometryError, match="crop"):
        warp_section(np.zeros((2, 2)), np.zeros((3, 2), bool))
