"""Components that do not depend on how the volume was cut."""

import numpy as np
import pytest

from unetpipe.segmentation.components import face_pairs
from unetpipe.segmentation.thresholds import choose_classes, fill_choices
from unetpipe.tiling.quantised import as_probability, threshold_mask


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_the_mask_is_what_the_metrics_threshold(threshold):
    stored = np.arange(256, dtype=np.uint8)
    mask = threshold_mask(stored, threshold)
    assert np.array_equal(mask, as_probability(stored) > np.float64(threshold))
    assert not mask[0]
    assert mask.sum() == pytest.approx(255 * (1 - threshold), abs=1.5)


def test_a_value_that_equals_a_threshold_is_not_above_it():
    stored = np.arange(256, dtype=np.uint8)
    for tenths in range(11):
        mask = threshold_mask(stored, tenths / 10)
        assert mask.tolist() == [10 * n > 255 * tenths for n in range(256)]
        above = as_probability(stored).astype(np.float64) > tenths / 10
        np.testing.assert_array_equal(above, mask)


NOTHING_SET = {"threshold": None, "smallest_object_vox": "auto"}


@pytest.mark.parametrize(
    ("settings", "thresholds", "filled", "source"),
    [
        (NOTHING_SET, {}, (0.5, 0, None), "default: none was chosen in validation"),
        (
            NOTHING_SET,
            {"segmentation": 0.35, "seg": 0.35, "smallest_object_vox": 64.0},
            (0.35, 64, None),
            "validation rows",
        ),
        (
            {"threshold": 0.9, "smallest_object_vox": 7},
            {"segmentation": 0.35, "smallest_object_vox": 64.0},
            (0.9, 7, None),
            "configuration",
        ),
        (
            NOTHING_SET,
            {"class_1": 0.4, "class_2": 0.2},
            (0.5, 0, {1: 0.4, 2: 0.2}),
            "default: none was chosen in validation",
        ),
    ],
)
def test_what_the_configuration_leaves_open_comes_from_validation(
    settings, thresholds, filled, source
):
    found, where = fill_choices(settings, thresholds)
    names = ("threshold", "smallest_object_vox", "class_thresholds")
    assert tuple(found[name] for name in names) == filled
    assert where == source


def test_a_class_needs_its_own_threshold_and_the_largest_excess_wins():
    probability = np.array(
        [[[[0, 200, 100, 40]]], [[[255, 30, 80, 100]]], [[[0, 25, 75, 115]]]], np.uint8
    )
    # thresholds 0.5 = 127.5 and 0.2 = 51 of 255
    classes = choose_classes(probability, {1: 0.5, 2: 0.2})
    assert classes.tolist() == [[[1, 0, 2, 2]]]
    assert choose_classes(probability, {2: 0.2}).tolist() == [[[0, 0, 2, 2]]]


def test_pairs_of_ids_beyond_32_bits_are_found_like_others():
    before = np.array([0, 1, 1, 2, 2], np.uint64)
    after = np.array([5, 0, 3, 4, 4], np.uint64)
    expected = [[1, 3], [2, 4]]
    assert face_pairs(before, after).tolist() == expected
    far = np.uint64(2**40)
    beyond = face_pairs(np.where(before > 0, before + far, 0), after)
    assert beyond.tolist() == [[1 + 2**40, 3], [2 + 2**40, 4]]
