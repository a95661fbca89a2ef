"""The assignment is the best one, and what may be linked at all."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from unetpipe.tracking.frames import Objects, objects_of_frame
from unetpipe.tracking.links import (
    ALONE,
    Pairs,
    assign,
    find_linked_pairs,
    overlaps_of_frames,
)


def objects(*cells):
    """Return objects (y, x, voxels) that nobody has moved."""
    told = np.array(cells, float).reshape(-1, 3)
    none = np.zeros(len(told), np.int64)
    ids = np.arange(1, len(told) + 1)
    voxels = told[:, 2].astype(np.int64)
    return Objects(ids, voxels, told[:, :2], np.zeros((len(told), 2)), none)


def pairs_of(before, after, reach):
    """Return {(row before, row after): cost} of objects that do not overlap."""
    nothing = overlaps_of_frames(np.zeros((1, 1), int), np.zeros((1, 1), int))
    found = find_linked_pairs(before, after, nothing, reach)
    rows = zip(found.before.tolist(), found.after.tolist(), strict=True)
    return dict(zip(rows, found.costs.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_assignment_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 7, 2)
    costs = np.where(rng.random((n, m)) < 0.6, rng.random((n, m)) * ALONE, np.inf)
    rows, columns = np.nonzero(np.isfinite(costs))
    pairs = Pairs(rows, columns, costs[rows, columns])
    chosen = assign(pairs, n, m)
    assert len(set(chosen.before)) == len(set(chosen.after)) == len(chosen.costs)
    whole = np.full((n, m + n), 1e9)
    whole[:, :m] = np.where(np.isfinite(costs), costs, 1e9)
    whole[np.arange(n), m + np.arange(n)] = ALONE
    best = whole[linear_sum_assignment(whole)].sum()
    alone = n - len(chosen.costs)
    assert chosen.costs.sum() + ALONE * alone == pytest.approx(best)


def test_what_lies_farther_than_the_reach_is_no_pair() -> None:
    found = pairs_of(objects((0, 0, 9)), objects((0, 5, 9), (0, 5.1, 9)), reach=5)
    assert found == {(0, 0): pytest.approx(2.0)}


def test_a_change_of_size_costs_as_a_way_does() -> None:
    found = pairs_of(objects((0, 0, 100)), objects((0, 0, 25), (0, 0, 24)), reach=5)
    assert found == {(0, 0): pytest.approx(2.0)}


def test_overlap_is_the_jaccard_index() -> None:
    seen, new = np.zeros((2, 4, 9), int)
    seen[:, 0:6] = 1
    new[:, 2:8] = 1
    before, after = (objects_of_frame(frame, (1, 1)) for frame in (seen, new))
    found = find_linked_pairs(before, after, overlaps_of_frames(seen, new), reach=100)
    assert found.costs.tolist() == [0.5]  # 4 of 8 columns


def test_a_fleck_inside_a_large_object_is_not_the_object() -> None:
    seen, new = np.zeros((2, 20, 20), int)
    seen[:] = 1
    new[3, 3] = 1
    before, after = (objects_of_frame(frame, (1, 1)) for frame in (seen, new))
    assert not find_linked_pairs(
        before, after, overlaps_of_frames(seen, new), 100
    ).costs.size


def test_places_are_in_lengths_of_the_shorter_edge() -> None:
    frame = np.zeros((5, 5), int)
    frame[4, 2] = 3
    assert objects_of_frame(frame, (2.0, 1.0)).places.tolist() == [[8.0, 2.0]]
