"""The weight map of eq. (2), against a version that follows the formula literally."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import distance_transform_edt

from tests.targets.annotated import separate_cells
from unetpipe.errors import ConfigError, DataError
from unetpipe.targets.nearest_cells import sum_two_distances
from unetpipe.targets.weight_map import (
    balance_classes,
    border_reach,
    cells_to_instances,
    compute_border_term,
    compute_target,
    count_classes,
    separate_touching,
)

CELLS = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=3, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, 2, 3, 200]),
)


def brute_force(instances, w0, sigma):
    """One distance transform of the whole image a cell, then eq. (2)."""
    ids = [i for i in np.unique(instances) if i]
    if len(ids) < 2:
        return np.zeros(instances.shape)
    distances = np.sort([distance_transform_edt(instances != i) for i in ids], axis=0)
    term = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, term, 0)


@given(CELLS, st.sampled_from([0.5, 1.0, 5.0]))
def test_the_border_term_follows_the_formula(instances, sigma):
    term = compute_border_term(instances, w0=10.0, sigma_vox=sigma)
    np.testing.assert_allclose(
        term, brute_force(instances, 10.0, sigma), rtol=1e-5, atol=2e-7
    )
    assert term.dtype == np.float32


def test_the_border_term_of_many_cells_follows_the_formula():
    rng = np.random.default_rng(3)
    instances = np.zeros((120, 140), np.uint32)
    for number in range(1, 60):
        y, x = rng.integers(0, (110, 130))
        height, width = rng.integers(2, 14, 2)
        instances[y : y + height, x : x + width] = number * 1000
    np.testing.assert_allclose(
        compute_border_term(instances),
        brute_force(instances, 10, 5),
        rtol=1e-5,
        atol=2e-7,
    )


def test_the_worked_example():
    """One background voxel between two cells: 10 exp(-(1 + 1)^2 / 50) = 9.2312."""
    assert compute_border_term(np.array([[1, 0, 2]]))[0, 1] == np.float32(
        10 * np.exp(-4 / 50)
    )


@pytest.mark.parametrize("ids", [[], [7]])
def test_fewer_than_two_cells_have_no_border(ids):
    instances = np.zeros((20, 20), np.int64)
    for i in ids:
        instances[3:9, 3:9] = i
    assert not compute_border_term(instances).any()


def test_the_border_term_is_zero_inside_cells():
    instances = np.repeat([[1, 0, 2, 2, 0, 3]], 5, axis=0)
    term = compute_border_term(instances)
    assert (term[instances > 0] == 0).all()
    assert (term[instances == 0] > 9).all()


def test_a_cell_in_two_pieces_is_one_cell():
    """Gold masks hold such cells: the nearest *second* cell is another id."""
    assert not compute_border_term(np.array([[4, 0, 4]])).any()
    term = compute_border_term(np.array([[4, 0, 4, 0, 0, 9]]))
    assert term[0, 1] == np.float32(10 * np.exp(-((1 + 4) ** 2) / 50))


def test_ids_may_be_huge_and_change_nothing():
    small = np.array([[1, 0, 2, 0, 3]])
    huge = np.array([[2**63 + 5, 0, 2**40, 0, 1]], np.uint64)
    np.testing.assert_array_equal(compute_border_term(huge), compute_border_term(small))


def test_volumes_may_be_cut_with_a_halo_of_the_reach():
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 50, (60, 60)) * (rng.random((60, 60)) < 0.02)
    whole = compute_border_term(ids, sigma_vox=1.5)
    reach = border_reach(1.5)
    assert reach == 9
    for start in range(0, 60, 20):
        low, high = max(0, start - reach), start + 20 + reach
        part = compute_border_term(ids[low:high], sigma_vox=1.5)
        kept = part[start - low : start - low + 20]
        np.testing.assert_array_equal(kept, whole[start : start + 20])


def test_a_probability_is_refused():
    with pytest.raises(DataError, match=r"float64.*pass integer ids"):
        compute_border_term(np.array([[0.5]]))
    with pytest.raises(DataError, match="minimum -1"):
        compute_border_term(np.array([[-1, 0]]))


def test_touching_cells_lose_one_voxel_each():
    instances = np.repeat([[1, 1, 1, 2, 2, 2]], 3, axis=0)
    np.testing.assert_array_equal(
        separate_touching(instances), np.repeat([[1, 1, 0, 0, 2, 2]], 3, axis=0)
    )


def test_cells_that_touch_at_a_corner_stay():
    instances = np.array([[1, 0], [0, 2]])
    np.testing.assert_array_equal(separate_touching(instances), instances)


@given(CELLS)
@example(np.array([[1, 2], [2, 1]], np.uint8))
def test_afterwards_no_two_cells_share_a_face(instances):
    separated = separate_touching(instances)
    assert ((separated == instances) | (separated == 0)).all()
    for axis in range(instances.ndim):
        a = np.moveaxis(separated, axis, 0)[:-1]
        b = np.moveaxis(separated, axis, 0)[1:]
        assert not ((a != b) & (a != 0) & (b != 0)).any()
    np.testing.assert_array_equal(separate_touching(separated), separated)


@given(CELLS)
def test_separation_does_not_depend_on_ids(instances):
    renamed = np.where(instances > 0, 255 - instances, 0)
    np.testing.assert_array_equal(
        separate_touching(renamed) > 0, separate_touching(instances) > 0
    )


def test_binary_cells_are_components_that_connect_by_faces():
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    cells = cells_to_instances(mask, "binary")
    assert len(np.unique(cells[cells > 0])) == 3
    np.testing.assert_array_equal(cells > 0, mask > 0)


def test_components_of_classes_are_cut_by_the_border_class_alone():
    classes = np.array([[1, 2, 3, 1, 0]])
    cells = cells_to_instances(classes, "classes", border_class=3)
    assert cells.tolist() == [[1, 1, 0, 2, 2]]
    assert not cells_to_instances(classes, "classes").any()


def test_unlabelled_voxels_belong_to_no_cell():
    assert cells_to_instances(
        np.array([[5, 9]]), "instances", unlabelled=9
    ).tolist() == [[5, 0]]
    binary = np.array([[1, 255, 1]], np.uint8)
    assert cells_to_instances(binary, "binary", unlabelled=255).tolist() == [[1, 0, 2]]


def test_binary_labels_are_their_own_target():
    mask = (np.random.default_rng(0).random((30, 30)) < 0.6).astype(np.uint8)
    separated = separate_touching(cells_to_instances(mask, "binary"))
    target = compute_target(mask, separated, "binary", num_classes=2)
    np.testing.assert_array_equal(target, mask)


def test_the_target_of_touching_instances_has_the_border():
    ids = np.array([[4, 4, 8, 8, 9]], np.uint32)
    separated = separate_touching(cells_to_instances(ids, "instances", unlabelled=9))
    target = compute_target(ids, separated, "instances", num_classes=2, unlabelled=9)
    assert target.tolist() == [[1, 0, 0, 1, 255]]


def test_a_class_that_the_network_lacks_is_refused():
    labels = np.array([[0, 4, 255]], np.uint8)
    with pytest.raises(DataError, match=r"class 4, the network has classes 0 to 3"):
        compute_target(labels, labels, "classes", num_classes=4, unlabelled=255)


def test_instances_cannot_be_learned_as_three_classes():
    ids = np.array([[1, 2]])
    with pytest.raises(ConfigError, match=r"num_classes is 3.*instances"):
        compute_target(ids, ids, "instances", num_classes=3)


@given(CELLS)
def test_the_unlabelled_value_never_reaches_the_target(labels):
    target = compute_target(labels, labels, "classes", num_classes=4, unlabelled=200)
    np.testing.assert_array_equal(target == 255, labels == 200)


def test_class_counts_leave_out_what_nobody_knows():
    target = np.array([[0, 1, 1, 255], [2, 255, 1, 1]], np.uint8)
    assert count_classes(target, 4).tolist() == [1, 4, 1, 0]


def test_class_weights_are_inverse_frequencies():
    """w_c = n / (K n_k): 100 / (2 * 20) and 100 / (2 * 80)."""
    assert balance_classes(np.array([20, 80])).tolist() == [2.5, 0.625]


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=6))
def test_balanced_classes_weigh_the_same_in_all(counts):
    weighed = balance_classes(np.array(counts)) * np.array(counts)
    np.testing.assert_allclose(weighed, np.sum(counts) / len(counts), rtol=1e-6)


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=6))
def test_the_root_of_the_frequencies_lies_between_balance_and_equal_weights(counts):
    n = np.array(counts)
    weights = balance_classes(n, 0.5)
    assert (weights * n).sum() == pytest.approx(n.sum(), rel=1e-5)
    balanced = balance_classes(n)
    np.testing.assert_allclose(
        (weights / weights[0]) ** 2, balanced / balanced[0], rtol=1e-5
    )


def test_an_absent_class_weighs_one():
    assert balance_classes(np.array([10, 0])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("edge", [1.0, 4.0, 12.5])
def test_gaps_of_equal_length_weigh_the_same_along_all_axes(edge):
    """A gap of one long voxel, and one of as many short ones as are as long."""
    along_z = np.zeros((3, 1, 1), int)
    along_z[0], along_z[2] = 1, 2
    short = round(edge)
    along_x = np.zeros((1, 1, short + 2), int)
    along_x[..., 0], along_x[..., -1] = 1, 2
    size = (edge, 1.0, 1.0)
    one = compute_border_term(along_z, voxel_size=size)[1, 0, 0]
    other = compute_border_term(along_x, voxel_size=size)[0, 0].max()
    exact = 10 * np.exp(-((edge + 1) ** 2) / 50)
    assert one == pytest.approx(exact, rel=1e-5)
    assert other == pytest.approx(10 * np.exp(-((short + 1) ** 2) / 50), rel=1e-5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_distances_in_voxels_of_unequal_edges_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    cells = np.where(rng.random((4, 6, 7)) < 0.1, rng.integers(1, 4, (4, 6, 7)), 0)
    edges = (2.5, 1.0, 1.5)
    found = sum_two_distances(cells.astype(np.int32), cells == 0, 30, edges)
    for place in np.argwhere(cells == 0):
        nearest = {}
        for other in np.argwhere(cells > 0):
            n = np.abs(place - other)
            length = np.where(n > 0, (n - 0.5) * edges + 0.5, 0)
            key = cells[tuple(other)]
            nearest[key] = min(nearest.get(key, np.inf), np.sqrt((length**2).sum()))
        both = sorted(nearest.values())[:2]
        expected = sum(both) if len(both) == 2 else np.inf
        assert found[tuple(place)] == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(9, 11), (4, 6, 7)]))
def test_cells_that_borders_would_swallow_change_no_other_and_touch_none(seed, shape):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 12, shape).astype(np.uint16)
    cells = np.repeat(np.repeat(coarse, 2, axis=-1), 2, axis=-2)
    apart, plain = separate_cells(cells), separate_touching(cells)
    np.testing.assert_array_equal(separate_touching(apart), apart)
    assert np.isin(apart[apart != plain], np.setdiff1d(cells, plain)).all()
    assert np.setdiff1d(plain, apart).size == 0
    assert (apart[apart != 0] == cells[apart != 0]).all()
