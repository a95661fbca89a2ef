"""Outlines: filled, they are the object again; rings are simple and nested."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.draw import polygon2mask

from unetpipe.measurement.outlines import Polygon, trace_mask, trace_section

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def filled(polygons, shape):
    """Fill polygons by another program: pixels whose centre is inside."""
    total = np.zeros(shape, int)
    for polygon in polygons:
        for sign, ring in [(1, polygon.outer), *((-1, h) for h in polygon.holes)]:
            corners = [(y - 0.5, x - 0.5) for x, y in ring]
            total += sign * polygon2mask(shape, corners).astype(int)
    return total


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_outlines_filled_are_the_mask_again(mask):
    np.testing.assert_array_equal(filled(trace_mask(mask, (0, 0)), mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_a_ring_passes_each_corner_once_and_turns_at_each(mask):
    for polygon in trace_mask(mask, (0, 0)):
        for ring in (polygon.outer, *polygon.holes):
            assert len(set(ring)) == len(ring) >= 4
            before = [ring[-1], *ring[:-1]]
            steps = [
                (x - u, y - v) for (x, y), (u, v) in zip(ring, before, strict=True)
            ]
            assert all((x == 0) != (y == 0) for x, y in steps)
            assert all(a[0] * b[0] + a[1] * b[1] == 0 for a, b in pairwise(steps))


def test_a_pixel_is_a_square_at_its_place():
    (polygon,) = trace_mask(np.ones((1, 1), bool), (7, 3))
    assert polygon == Polygon([(3, 7), (4, 7), (4, 8), (3, 8)])


def test_a_hole_that_touches_the_outside_at_a_corner_is_a_hole():
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
    (polygon,) = trace_mask(mask, (0, 0))
    assert len(polygon.holes) == 2
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    (polygon,) = trace_mask(mask, (0, 0))
    assert len(polygon.holes) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64"])
def test_a_section_gives_each_object_once_in_rising_order(dtype):
    ids = np.zeros((6, 7), dtype)
    ids[0, 0], ids[4:, 2:], ids[5, 6] = 200, 3, 200
    traced = trace_section(ids)
    assert [number for number, _ in traced] == [3, 200]
    for number, polygons in traced:
        np.testing.assert_array_equal(filled(polygons, ids.shape), ids == number)
    assert len(traced[1][1]) == 2


def test_a_section_without_background_or_without_objects():
    assert trace_section(np.zeros((3, 3), np.uint32)) == []
    ((number, (polygon,)),) = trace_section(np.full((2, 3), 5, np.uint32))
    assert (number, polygon.outer) == (5, [(0, 0), (3, 0), (3, 2), (0, 2)])
