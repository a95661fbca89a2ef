"""Splits and merges are found where they are, on sections that fit a screen."""

import numpy as np

from unetpipe.report.page.gallery import best_median_worst
from unetpipe.report.page.mistakes import count_sizes, find_mistakes

KNOWN = np.zeros((20, 40), bool)


def halves() -> np.ndarray:
    """Two objects of 20 x 19 voxels, two columns apart."""
    ids = np.zeros((20, 40), np.uint64)
    ids[:, :19], ids[:, 21:] = 2**60, 7
    return ids


def test_a_merge_is_where_both_objects_are_closest() -> None:
    (merge,) = find_mistakes(halves(), np.ones((20, 40), int), KNOWN)
    assert (merge.kind, merge.num_voxels, merge.num_fragments) == ("merge", 380, 2)
    assert merge.x in (18, 21)


def test_a_split_is_the_same_seen_from_the_other_side() -> None:
    (split,) = find_mistakes(np.ones((20, 40), int), halves(), KNOWN)
    assert (split.kind, split.num_voxels, split.num_fragments) == ("split", 380, 2)


def test_equal_objects_under_other_names_are_no_mistake() -> None:
    assert find_mistakes(halves(), halves() // 7, KNOWN) == []


def test_rims_and_unknown_voxels_are_no_mistakes() -> None:
    result = halves()
    result[0, 18:22] = 7  # a ragged rim of one voxel in the first object
    assert find_mistakes(halves(), result, KNOWN) == []
    unknown = KNOWN.copy()
    unknown[:, 21:] = True
    assert find_mistakes(halves(), np.ones((20, 40), int), unknown) == []


def test_the_gravest_mistakes_come_first() -> None:
    truth = np.zeros((20, 40), int)
    for k in range(4):
        truth[:, 10 * k : 10 * k + 3 + 2 * k] = k + 1
    result = np.zeros_like(truth)
    result[:, :20], result[:, 20:] = 1, 2
    found = find_mistakes(truth, result, KNOWN)
    assert [m.num_voxels for m in found] == [140, 60]
    assert len(find_mistakes(truth, result, KNOWN, most=1)) == 1


def test_empty_sections_have_no_mistakes_and_no_sizes() -> None:
    nothing = np.zeros((20, 40), int)
    assert find_mistakes(nothing, halves(), KNOWN) == []
    assert count_sizes(nothing, KNOWN).sum() == 0


def test_sizes_are_counted_by_octave() -> None:
    ids = np.repeat([1, 2, 3, 0], [1, 3, 4, 5])[None]
    counts = count_sizes(ids, np.zeros(ids.shape, bool))
    assert counts[:4].tolist() == [1, 1, 1, 0]
    unknown = ids == 3
    assert count_sizes(ids, unknown)[:4].tolist() == [1, 1, 0, 0]


def test_no_section_is_shown_twice() -> None:
    for number in range(6):
        shown = [z for _, z in best_median_worst(list(range(number)))]
        assert len(shown) == len(set(shown)) == min(number, 3)
