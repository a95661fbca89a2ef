"""Boxes of voxels: properties that must hold for every shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.tiling.boxes import (
    Halo,
    Roi,
    Zyx,
    grid_cell,
    grid_shape,
    iterate_grid,
    round_up,
    whole_volume,
)


def triples(low: int, high: int) -> st.SearchStrategy[Zyx]:
    number = st.integers(low, high)
    return st.tuples(number, number, number)


@st.composite
def boxes(draw: st.DrawFn) -> Roi:
    start = draw(triples(-6, 6))
    shape = draw(triples(0, 6))
    return Roi(start, tuple(a + n for a, n in zip(start, shape, strict=True)))


def voxels(roi: Roi) -> set[Zyx]:
    """List the voxels of a box one by one: the definition."""
    ranges = [range(a, b) for a, b in zip(roi.start, roi.stop, strict=True)]
    return {(z, y, x) for z in ranges[0] for y in ranges[1] for x in ranges[2]}


@given(roi=boxes())
def test_a_box_holds_as_many_voxels_as_can_be_listed(roi: Roi) -> None:
    assert roi.num_voxels == len(voxels(roi))


@given(one=boxes(), two=boxes())
def test_an_intersection_holds_exactly_the_shared_voxels(one: Roi, two: Roi) -> None:
    assert voxels(one.intersect(two)) == voxels(one) & voxels(two)


@given(roi=boxes(), origin=triples(-5, 5))
def test_moving_the_origin_there_and_back_returns_the_box(
    roi: Roi, origin: Zyx
) -> None:
    back = tuple(-o for o in origin)
    assert roi.relative_to(origin).relative_to(back) == roi
    assert roi.relative_to(origin).shape == roi.shape


@given(roi=boxes(), before=triples(0, 4), after=triples(0, 4))
def test_growing_adds_the_halo_on_its_own_side(
    roi: Roi, before: Zyx, after: Zyx
) -> None:
    grown = roi.grow(Halo(before, after))
    assert tuple(a - b for a, b in zip(roi.start, grown.start, strict=True)) == before
    assert tuple(b - a for a, b in zip(roi.stop, grown.stop, strict=True)) == after


@given(shape=triples(1, 9), cell=triples(1, 5))
def test_the_cells_of_a_grid_cover_each_voxel_exactly_once(
    shape: Zyx, cell: Zyx
) -> None:
    counts = np.zeros(shape, dtype=int)
    for index in iterate_grid(whole_volume(shape), cell):
        counts[grid_cell(index, cell, shape).slices] += 1
    assert (counts == 1).all()


@given(shape=triples(1, 9), cell=triples(1, 5))
def test_the_grid_shape_counts_the_cells_that_the_grid_yields(
    shape: Zyx, cell: Zyx
) -> None:
    indices = list(iterate_grid(whole_volume(shape), cell))
    assert len(indices) == np.prod(grid_shape(shape, cell))
    assert indices == sorted(indices)


@given(roi=boxes(), cell=triples(1, 5))
def test_a_grid_yields_the_cells_that_share_a_voxel_with_the_box(
    roi: Roi, cell: Zyx
) -> None:
    expected = {
        tuple(v // c for v, c in zip(voxel, cell, strict=True)) for voxel in voxels(roi)
    }
    found = set(iterate_grid(roi, cell)) if roi.num_voxels else set()
    assert found == expected


@given(length=st.integers(0, 200), multiple=st.integers(1, 40))
def test_rounding_up_gives_the_smallest_multiple(length: int, multiple: int) -> None:
    rounded = round_up(length, multiple)
    assert rounded % multiple == 0
    assert length <= rounded < length + multiple
