"""Pictures: exact colours on sections small enough to read."""

import base64

import imagecodecs
import numpy as np
import pytest

from unetpipe.page.figures import (
    CROP_VOXELS,
    INVENTED,
    MISSED,
    OPACITY,
    OUTLINE,
    UNKNOWN,
    Curve,
    class_picture,
    error_map,
    grey_picture,
    middle_crop,
    object_picture,
    outline,
    overlay,
    plot_training,
    png_address,
)


def decoded(address: str) -> np.ndarray:
    kind, _, content = address.partition(";base64,")
    assert kind == "data:image/png"
    return imagecodecs.png_decode(base64.b64decode(content))


def test_a_picture_survives_its_address_doubled_if_small() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (decoded(png_address(pixels)) == pixels.repeat(2, 0).repeat(2, 1)).all()
    large = np.arange(400 * 400, dtype=np.uint32).astype(np.uint8).reshape(400, 400)
    assert (decoded(png_address(large)) == large).all()


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, slice(0, 1)), (768, slice(0, 768)), (770, slice(1, 769))],
)
def test_long_sections_are_cropped_to_their_middle(
    length: int, expected: slice
) -> None:
    assert CROP_VOXELS == 768
    assert middle_crop(length) == expected


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
    assert (outline(mask) == expected).all()


def test_an_overlay_tells_missed_invented_and_unknown_voxels_apart() -> None:
    grey = np.full((1, 6), 100, np.uint8)
    truth = np.array([[1, 1, 1, 0, 0, 0]], bool)
    result = np.array([[1, 0, 1, 1, 0, 0]], bool)
    unknown = np.array([[0, 0, 0, 0, 0, 1]], bool)

    def mixed(colour: tuple[int, int, int]) -> list[int]:
        return [round((1 - OPACITY) * 100 + OPACITY * c) for c in colour]

    shown = overlay(grey, truth, result, unknown)[0].tolist()
    assert shown == [
        [100, 100, 100],
        mixed(MISSED),
        list(OUTLINE),
        mixed(INVENTED),
        [100, 100, 100],
        mixed(UNKNOWN),
    ]


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


def test_background_stays_grey_among_objects_and_classes() -> None:
    grey = np.full((1, 3), 80, np.uint8)
    ids = np.array([[0, 1, 2]], np.uint32)
    for shown in (object_picture(grey, ids), class_picture(grey, ids)):
        assert shown[0, 0].tolist() == [80, 80, 80]
        assert shown[0, 1].tolist() != shown[0, 2].tolist()


def test_ids_of_64_bits_have_a_colour() -> None:
    ids = np.array([[2**63, 2**63 + 1]], np.uint64)
    assert object_picture(np.zeros((1, 2), np.uint8), ids).any()


@pytest.mark.parametrize("num_steps", [1, 2, 50, 5000])
@pytest.mark.parametrize("scores", [[], [(1, 0.5)]])
def test_curves_can_be_drawn_of_any_length(
    num_steps: int, scores: list[tuple[int, float]]
) -> None:
    steps = list(range(1, num_steps + 1))
    curve = Curve(steps, [1 / s for s in steps], [0.1] * num_steps, scores, "V-Rand", 1)
    address = plot_training(curve)
    assert address == plot_training(curve), "the same training, the same bytes"
    svg = base64.b64decode(address.partition(",")[2]).decode()
    assert address.startswith("data:image/svg+xml;base64,")
    assert "<svg" in svg
    assert "date" not in svg.lower()
