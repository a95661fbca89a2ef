"""Colours and grey values become classes; strange ones are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetpipe.config import LabelsConfig, check_config
from unetpipe.errors import ConfigError
from unetpipe.ingestion.label_kinds import AnnotationReader
from unetpipe.ingestion.palette import Palette, choose_palette

PAINTED = Palette({"#000000": 0, "#ff0000": 1, "#00ff80": 2, "#808080": None})


def rgb(*colours):
    """One row of voxels, shape (3, 1, x)."""
    return np.array(colours, np.uint8).T[:, None]


def reader(palette, **options):
    options = {"unlabelled": None, "num_classes": 3, "largest": 255, **options}
    return AnnotationReader("classes", palette=palette, **options)


@given(hnp.arrays(np.uint8, (4, 7), elements=st.integers(0, 3)))
def test_painting_classes_and_reading_them_back_is_the_identity(classes):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 128], [128, 128, 128]], "u1")
    found, strange = PAINTED.translate(np.moveaxis(colours[classes], -1, 0))
    np.testing.assert_array_equal(found, np.where(classes == 3, 255, classes))
    assert not strange.any()


@given(hnp.arrays(np.uint8, (3, 4, 5)))
def test_a_colour_is_strange_exactly_where_the_palette_lacks_it(section):
    _, strange = PAINTED.translate(section)
    known = {(0, 0, 0), (255, 0, 0), (0, 255, 128), (128, 128, 128)}
    expected = [
        [tuple(section[:, y, x].tolist()) not in known for x in range(5)]
        for y in range(4)
    ]
    np.testing.assert_array_equal(strange, expected)


@pytest.mark.parametrize("key", ["128", "#808080"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_grey_is_grey_as_a_number_or_as_a_colour(key, num_channels):
    section = np.full((num_channels, 1, 1), 128, np.uint8)
    found, strange = Palette({"0": 0, key: 2}).translate(section)
    assert (found.item(), strange.item()) == (2, False)


def test_grey_values_may_have_16_bits():
    section = np.array([[[0, 60_000, 96]]], np.uint16)
    found, strange = Palette({"0": 0, "60000": 3}).translate(section)
    assert found[0, :2].tolist() == [0, 3]
    assert strange.tolist() == [[False, False, True]]


def test_colours_alone_know_no_grey_but_their_own():
    _, strange = Palette({"#ff0000": 1, "#00ff00": 0}).translate(np.zeros((1, 2, 2)))
    assert strange.all()


def test_a_strange_colour_is_named_with_file_and_place():
    annotation = reader(PAINTED)
    annotation.translate(rgb((0, 0, 0), (255, 0, 0)), "0.png")
    annotation.translate(rgb((0, 0, 0), (254, 1, 0), (9, 9, 9)), "1.png")
    annotation.translate(rgb((1, 1, 1)), "2.png")
    (problem,) = annotation.problems()
    assert (
        "does not know #fe0100 in 1.png at z, y, x = 1, 0, 1 (2 voxels of the section) "
        "and 1 more section;" in problem
    )


def test_what_the_palette_leaves_open_is_unlabelled():
    annotation = reader(PAINTED)
    stored = annotation.translate(rgb((128, 128, 128), (255, 0, 0), (0, 0, 0)), "a")
    assert stored.tolist() == [[255, 1, 0]]
    assert annotation.stored_unlabelled == 255
    assert (annotation.foreground, annotation.background) == ([1], 1)


def test_the_unlabelled_value_of_the_sheet_needs_no_place_in_the_palette():
    annotation = reader(Palette({"255": 0, "0": 1}), unlabelled=7)
    stored = annotation.translate(np.array([[[255, 0, 7]]], np.uint8), "a")
    assert stored.tolist() == [[0, 1, 255]]
    assert annotation.problems() == []


@given(hnp.arrays(np.uint16, (3, 5)), st.integers(1, 65_535))
def test_a_threshold_cuts_a_mask_in_two(section, threshold):
    classes = LabelsConfig(threshold=threshold).classes
    palette = choose_palette(classes, "binary")
    annotation = AnnotationReader(
        "binary", unlabelled=None, num_classes=2, largest=65_535, palette=palette
    )
    stored = annotation.translate(section[None], "a.png")
    np.testing.assert_array_equal(stored, section >= threshold)
    assert annotation.problems() == []


def test_a_palette_reads_masks_only_if_it_knows_two_classes():
    masks = {"0": 0, "#ff0000": 1, "7": None}
    assert choose_palette(masks, "binary") is not None
    assert choose_palette({**masks, "8": 2}, "binary") is None
    assert choose_palette(masks, "instances") is None
    assert choose_palette({**masks, "8": 2}, "classes") is not None
    assert choose_palette(None, "classes") is None


def test_a_threshold_beside_a_palette_is_refused():
    labels = {"threshold": 9, "palette": {"0": 0, "1": 1}}
    with pytest.raises(ConfigError, match="threshold is 9, and there is a palette"):
        check_config({"name": "a", "labels": labels})
