"""Measured objects are those of scikit-image, however blocks and parts are cut."""

import contextlib

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import label, perimeter

from tests.measurement.measured import as_objects, measure, theirs
from unetpipe.measurement import shapes
from unetpipe.measurement.passes import measure_blocks_of_part
from unetpipe.measurement.shapes import Shape
from unetpipe.measurement.sums import ObjectSums

SHAPE = (4, 9, 11)
BLOCKS = st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 11))


def drawn(seed, *, is_flat, shape=SHAPE, density=0.55):
    """Return labels without gaps, in order of first voxels, and two channels."""
    random = np.random.default_rng(seed)
    mask = random.random(shape) < density
    if is_flat:
        ids, last = np.zeros(shape, np.uint32), 0
        for z, section in enumerate(mask):
            found = label(section, connectivity=1)
            ids[z] = np.where(found > 0, found + last, 0)
            last = ids.max()
    else:
        ids = label(mask, connectivity=1).astype(np.uint32)
    return ids, random.integers(1, 60000, (2, *shape)).astype(np.uint16)


def only_with_a_hull(ids):
    """Leave out what lies in a plane: of that scikit-image's table is an error."""
    kept = np.zeros(ids.max() + 1, np.uint32)
    for number in range(1, ids.max() + 1):
        with contextlib.suppress(QhullError):
            ConvexHull(np.argwhere(ids == number))
            kept[number] = kept.max() + 1
    return kept[ids]


def equal(ours, expected):
    for name, values in expected.items():
        if name != "id":
            np.testing.assert_allclose(
                ours[name], values, rtol=1e-9, atol=1e-6, err_msg=name
            )


@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 999), BLOCKS, st.integers(1, 3), st.booleans())
def test_measurements_are_those_of_scikit_image(seed, block, num_parts, is_flat):
    ids, image = drawn(seed, is_flat=is_flat)
    ids = ids if is_flat else only_with_a_hull(ids)
    size = (50.0, 4.0, 4.0) if is_flat else (8.0, 4.0, 5.0)
    objects = as_objects(ids, image, block, size=size, is_flat=is_flat)
    equal(measure(objects, num_parts), theirs(ids, image, size, is_flat))


@pytest.mark.parametrize("is_flat", [True, False])
def test_blocks_and_parts_do_not_change_a_bit(is_flat):
    ids, image = drawn(7, is_flat=is_flat)
    whole = measure(as_objects(ids, image, SHAPE, is_flat=is_flat))
    for block, num_parts in (((1, 4, 4), 1), ((3, 2, 5), 3), ((4, 9, 2), 2)):
        cut = measure(as_objects(ids, image, block, is_flat=is_flat), num_parts)
        for name, values in whole.items():
            np.testing.assert_array_equal(cut[name], values, err_msg=name)


def test_an_object_one_voxel_thin_has_no_shortest_axis():
    """Rounding leaves a square just below 0, of which old scikit-image takes a root."""
    thin = np.array([[[True, False, False], [True, True, True]]])
    assert Shape(thin, (50.0, 4.0, 6.0)).measure("axis_minor_length") < 1e-3


@pytest.mark.parametrize("is_flat", [True, False])
def test_the_nearest_neighbour_is_that_of_all_pairs(is_flat):
    ids, image = drawn(3, is_flat=is_flat, density=0.2)
    size = (50.0, 4.0, 6.0)
    ours = measure(as_objects(ids, image, (2, 4, 4), size=size, is_flat=is_flat))
    for number, found in enumerate(ours["neighbour_distance_nm"], start=1):
        places = np.argwhere(ids == number)
        seen = ids[places[0][0]][None] if is_flat else ids
        away = distance_transform_edt(seen != number, sampling=size)
        others = (seen != 0) & (seen != number)
        expected = away[others].min() if others.any() else np.nan
        assert found == pytest.approx(expected, nan_ok=True)


def test_who_is_farther_than_the_reach_is_no_neighbour():
    ids = np.zeros((1, 3, 90), np.uint32)
    ids[0, 1, 0], ids[0, 1, 50], ids[0, 1, 89] = 1, 2, 3
    objects = as_objects(ids, np.ones((2, 1, 3, 90)), (1, 3, 8), is_flat=True)
    distances = measure(objects)["neighbour_distance_nm"]  # the reach is 200 nm
    np.testing.assert_array_equal(distances, [200, 156, 156])
    ids[0, 1, 0], ids[0, 0, 0] = 0, 1
    objects = as_objects(ids, np.ones((2, 1, 3, 90)), (1, 3, 8), is_flat=True)
    assert np.isnan(measure(objects)["neighbour_distance_nm"][0])


def test_borders_are_those_of_the_volume_or_of_the_section():
    ids = np.zeros((3, 4, 4), np.uint32)
    ids[0, 1, 1], ids[1, 2, 2], ids[2, 0, 3] = 1, 2, 3
    image = np.ones((2, 3, 4, 4))
    flat = measure(as_objects(ids, image, (1, 2, 2), is_flat=True))
    np.testing.assert_array_equal(flat["touches_border"], [0, 0, 1])
    spatial = measure(as_objects(ids, image, (1, 2, 2), is_flat=False))
    np.testing.assert_array_equal(spatial["touches_border"], [1, 0, 1])


def test_of_a_box_too_large_to_hold_sums_are_exact_and_shapes_empty(monkeypatch):
    monkeypatch.setattr("unetpipe.measurement.passes.PIECE", 20)
    ids, image = drawn(1, is_flat=False)
    whole = measure(as_objects(ids, image, (2, 4, 4), is_flat=False))
    cut = measure(as_objects(ids, image, (2, 4, 4), is_flat=False, largest_box=4))
    is_large = np.isnan(cut["axis_major_length_nm"])
    assert 0 < is_large.sum() < len(is_large)
    for name in ("volume_nm3", "centroid_y_nm", "intensity_sum_b", "intensity_max_a"):
        np.testing.assert_array_equal(cut[name], whole[name])
    for name in ("intensity_std_a", "centroid_weighted_b_x_nm"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-12)


@pytest.mark.parametrize("density", [0.3, 0.7, 0.97])
def test_an_outline_is_as_long_in_strips_as_at_once(monkeypatch, density):
    mask = np.random.default_rng(0).random((57, 41)) < density
    expected = perimeter(mask, 4)
    for most in (1, 41 * 2, 41 * 5, 1 << 18):
        monkeypatch.setattr(shapes, "STRIP_VOXELS", most)
        assert shapes.outline_length(mask) == expected


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_sums_over_a_large_object_have_the_bits_of_sums_over_all_at_once(kind):
    random = np.random.default_rng(0)
    mask = random.random((2, 400, 601)) < 0.7
    image = (random.random((1, *mask.shape)) * 250).astype(kind)
    sums = ObjectSums(1)
    sums.add(mask, image, (3, 4, 5))
    (grey,), inside = sums.channels, np.nonzero(mask)
    exact = image[0][inside].astype(np.float64)
    places = [place + start for place, start in zip(inside, (3, 4, 5), strict=True)]
    assert sums.count == len(exact)
    assert sums.centroid() == tuple(int(p.sum()) / len(exact) for p in places)
    assert grey.mean == exact.mean()
    assert grey.squares == np.square(exact - exact.mean()).sum()
    assert grey.total == exact.sum()
    assert grey.weighted == [(exact * place).sum() for place in places]


def test_voxels_that_are_no_squares_have_no_perimeter():
    ids, image = drawn(2, is_flat=True)
    ours = measure(as_objects(ids, image, SHAPE, size=(9, 4, 5), is_flat=True))
    assert np.isnan(ours["perimeter_nm"]).all()
    assert np.isfinite(ours["axis_major_length_nm"]).all()


def test_an_object_in_a_plane_of_a_volume_has_no_hull_but_a_surface():
    ids = np.zeros((3, 4, 4), np.uint32)
    ids[1, 1:3, 1:3] = 1
    ours = measure(as_objects(ids, np.ones((2, 3, 4, 4)), (3, 4, 4), is_flat=False))
    assert np.isnan([ours["solidity"], ours["feret_diameter_max_nm"]]).all()
    assert ours["surface_area_nm2"] > 0


def test_an_object_of_zeros_has_no_weighted_centre():
    ids = np.ones((1, 2, 2), np.uint32)
    image = np.stack([np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 9, np.uint8)])
    ours = measure(as_objects(ids, image, (1, 2, 2), is_flat=True))
    assert np.isnan(ours["centroid_weighted_a_x_nm"])
    assert ours["centroid_weighted_b_x_nm"] == 2
    assert ours["intensity_sum_b"] == 36


def test_a_volume_without_objects_has_no_rows():
    ids, image = np.zeros(SHAPE, np.uint32), np.zeros((2, *SHAPE))
    assert (
        list(measure_blocks_of_part(as_objects(ids, image, SHAPE, is_flat=True))) == []
    )
