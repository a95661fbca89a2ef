"""Pictures: exact colours on sections small enough to read."""

import base64

import imagecodecs
import numpy as np
import pytest

from unetpipe.report.page.painting import (
    CROP_VOXELS,
    INVENTED,
    MISSED,
    OUTLINE,
    UNKNOWN,
    class_picture,
    error_map,
    grey_picture,
    label_picture,
    map_address,
    object_picture,
    paint_outlines,
    paint_rim,
    photo_address,
    shown_crop,
    shrink,
)


def content(address: str, kind: str) -> bytes:
    found, _, encoded = address.partition(";base64,")
    assert found == f"data:image/{kind}"
    return base64.b64decode(encoded)


def test_maps_survive_their_address_exactly_and_photographs_nearly() -> None:
    rng = np.random.default_rng(1)
    flat = rng.choice([0, 90, 255], (40, 30, 3)).astype(np.uint8)
    shown = imagecodecs.webp_decode(content(map_address(flat), "webp"))
    assert (shown[..., :3] == flat).all()
    ramp = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    shown = imagecodecs.jpeg8_decode(content(photo_address(ramp), "jpeg"))
    assert np.abs(shown.astype(int) - ramp).max() <= 4


def test_pictures_shrink_by_means_or_by_choice() -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert shrink(pixels, 3, mean=False).tolist() == [[0, 2, 4], [10, 12, 14]]
    assert shrink(pixels, 3, mean=True).tolist() == [[3, 5, 6], [10, 12, 14]]
    assert (shrink(pixels, 5, mean=True) == pixels).all()
    assert shrink(np.zeros((1, 900), np.uint8), 100, mean=True).shape == (1, 100)
    assert shrink(np.zeros((9, 9, 3), np.uint8), 3, mean=True).shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, slice(0, 1)), (768, slice(0, 768)), (770, slice(1, 769))],
)
def test_long_sections_are_cropped_to_their_middle(
    length: int, expected: slice
) -> None:
    assert CROP_VOXELS == 768
    assert shown_crop(length) == expected


def test_grey_values_are_stretched_whatever_their_type() -> None:
    ramp = np.arange(1000).reshape(10, 100)
    shown = grey_picture(ramp)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    for values in (ramp.astype(np.uint16), ramp * 1e-6, 7.0 - ramp[::-1, ::-1] * 2.0):
        if values.ravel()[0] < values.ravel()[-1]:
            assert (grey_picture(values) == shown).all()


def test_a_flat_or_undefined_section_is_shown_too() -> None:
    assert (grey_picture(np.full((3, 3), 7)) == 0).all()
    assert (grey_picture(np.full((3, 3), np.nan)) == 0).all()
    assert (grey_picture(np.array([[np.inf, 0, 1.0]])) == [[0, 0, 255]]).all()


def test_an_outline_is_the_rim_of_a_mask_but_not_the_picture_s_edge() -> None:
    mask = np.zeros((5, 6), bool)
    mask[:4, :4] = True
    expected = np.array(
        [
            [0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        bool,
    )
    assert (paint_rim(mask) == expected).all()


def test_each_object_has_an_outline_of_its_own() -> None:
    ids = np.zeros((4, 8), np.uint8)
    ids[:, :4], ids[:, 4:] = 1, 2
    picture = paint_outlines(np.full((4, 8), 100, np.uint8), ids)
    is_rim = (picture == OUTLINE).all(axis=-1)
    assert is_rim.tolist() == [[False] * 3 + [True] * 2 + [False] * 3] * 4
    assert (picture[~is_rim] == 100).all()


def test_labels_are_black_between_colours_and_grey_where_unknown() -> None:
    ids = np.array([[0, 1, 2, 2]], np.uint32)
    unknown = np.array([[0, 0, 0, 1]], bool)
    flat = label_picture(ids, unknown, flat=True)[0].tolist()
    assert flat == [[0] * 3, [255] * 3, [255] * 3, list(UNKNOWN)]
    coloured = label_picture(ids, unknown, flat=False)[0]
    assert coloured[0].tolist() == [0, 0, 0]
    assert coloured[1].tolist() != coloured[2].tolist()


def test_an_error_map_shows_errors_alone() -> None:
    truth = np.array([[1, 1, 0, 0, 1]], bool)
    result = np.array([[1, 0, 1, 0, 0]], bool)
    unknown = np.array([[0, 0, 0, 0, 1]], bool)
    assert error_map(truth, result, unknown)[0].tolist() == [
        [255, 255, 255],
        list(MISSED),
        list(INVENTED),
        [226, 226, 226],
        list(UNKNOWN),
    ]


def test_pictures_in_colour_keep_their_colours() -> None:
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[...] = 200, 10, 60
    ids = np.array([[0, 1, 2]], np.uint32)
    for shown in (object_picture(colours, ids), class_picture(colours, ids)):
        assert shown[0, 0].tolist() == [200, 10, 60]
    assert (
        paint_outlines(colours, np.zeros((1, 3), np.uint32)).tolist()
        == colours.tolist()
    )
    assert (colours == (200, 10, 60)).all(), "the section itself stays as it is"


def test_background_stays_grey_among_objects_and_classes() -> None:
    grey = np.full((1, 3), 80, np.uint8)
    ids = np.array([[0, 1, 2]], np.uint32)
    for shown in (object_picture(grey, ids), class_picture(grey, ids)):
        assert shown[0, 0].tolist() == [80, 80, 80]
        assert shown[0, 1].tolist() != shown[0, 2].tolist()


def test_ids_of_64_bits_have_a_colour() -> None:
    ids = np.array([[2**63, 2**63 + 1]], np.uint64)
    assert object_picture(np.zeros((1, 2), np.uint8), ids).any()
