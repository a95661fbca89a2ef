"""Pictures of sections, as data that a page can carry in itself.

Arrays in, ``data:`` addresses out. Colours are told apart by people with any kind of
colour vision (Okabe and Ito 2008).
"""

import base64
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

INVENTED = (213, 94, 0)  # foreground in the result alone
MISSED = (0, 114, 178)  # foreground in the truth alone
OUTLINE = (240, 228, 66)  # of the truth
UNKNOWN = (150, 150, 150)  # nobody annotated it
CLASSES = (
    (0, 0, 0),
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
LEGEND = {
    "invented": INVENTED,
    "missed": MISSED,
    "outline": OUTLINE,
    "unknown": UNKNOWN,
    "classes": CLASSES,
}
CROP_VOXELS = 768  # sections are shown up to this size, cropped to their middle
JPEG_QUALITY = 75


def photo_address(pixels: NDArray[np.uint8]) -> str:
    """Return a photograph, shape (y, x) or (y, x, 3), as the address of a JPEG."""
    return _address("image/jpeg", imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY))


def map_address(pixels: Rgb) -> str:
    """Return a map of few flat colours, shape (y, x, 3), exactly, as a WebP address."""
    return _address("image/webp", imagecodecs.webp_encode(pixels, lossless=True))


def shrink(pixels: NDArray[np.uint8], side: int, *, mean: bool) -> NDArray[np.uint8]:
    """Return a picture with sides of at most so many pixels.

    Parameters
    ----------
    pixels : uint8 array, shape (y, x) or (y, x, 3)
    side : int
    mean : bool
        Average squares of pixels; else take one of each, so that no new colour appears.
    """
    step = -(-max(pixels.shape[:2]) // side)
    if step == 1 or not mean:
        return np.ascontiguousarray(pixels[::step, ::step])
    total = pixels.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, pixels.shape[axis], step)
        counts = np.diff(np.append(starts, pixels.shape[axis]))
        shape = [-1 if a == axis else 1 for a in range(pixels.ndim)]
        total = np.add.reduceat(total, starts, axis=axis) / counts.reshape(shape)
    return np.asarray(np.rint(total), np.uint8)


def shown_crop(length: int) -> slice:
    """Return the middle of an axis, as much of it as is shown."""
    start = max(0, (length - CROP_VOXELS) // 2)
    return slice(start, min(length, start + CROP_VOXELS))


def grey_picture(section: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a section as grey values 0 to 255, darkest and brightest 0.5 % clipped.

    Parameters
    ----------
    section : array, shape (y, x), or (channel, y, x), of which all are scaled alike
        Any dtype; NaN and infinite voxels become black.
    """
    values = section.astype(np.float64)
    is_finite = np.isfinite(values)
    if not is_finite.any():
        return np.zeros(section.shape, np.uint8)
    low, high = np.percentile(values[is_finite], (0.5, 99.5))
    scaled = (np.where(is_finite, values, low) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(np.rint(255 * scaled), 0, 255), np.uint8)


def paint_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask, shape (y, x), that touch what is outside it."""
    inside = np.pad(mask, 1, mode="edge")
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~core


def paint_outlines(grey: NDArray[np.uint8], ids: NDArray[Any]) -> Rgb:
    """Return a section, grey or in colours, with the rim of each object in it."""
    picture = _in_colours(grey)
    for value in np.unique(ids[ids != 0]):
        picture[paint_rim(ids == value)] = OUTLINE
    return picture


def error_map(
    truth: NDArray[np.bool_], result: NDArray[np.bool_], unknown: NDArray[np.bool_]
) -> Rgb:
    """Return a map of the errors alone: white and pale grey where both agree."""
    picture = np.full((*truth.shape, 3), 255, np.uint8)
    picture[~truth] = 226
    picture[result & ~truth] = INVENTED
    picture[truth & ~result] = MISSED
    picture[unknown] = UNKNOWN
    return picture


def class_picture(
    grey: NDArray[np.uint8], classes: NDArray[Any], opacity: float = 0.5
) -> Rgb:
    """Return a section tinted by class; class 0 stays grey."""
    picture = _in_colours(grey)
    for value in np.unique(classes):
        if value:
            colour = CLASSES[1 + (int(value) - 1) % (len(CLASSES) - 1)]
            _tint(picture, classes == value, colour, opacity)
    return picture


def object_picture(grey: NDArray[np.uint8], ids: NDArray[Any]) -> Rgb:
    """Return a section with a colour for each object; neighbours in id differ."""
    shown = _in_colours(grey)
    mixed = 0.55 * shown + 0.45 * _hues(ids)
    picture = np.where(ids[..., None] > 0, mixed, shown)
    return np.asarray(np.rint(picture), np.uint8)


def label_picture(ids: NDArray[Any], unknown: NDArray[np.bool_], *, flat: bool) -> Rgb:
    """Return labels alone: black background, a colour for each id; or white, if flat.

    Parameters
    ----------
    ids : integer array, shape (y, x)
    unknown : bool array, shape (y, x)
        Voxels that nobody annotated.
    flat : bool
        Foreground is white: of binary labels.
    """
    colours = np.full((*ids.shape, 3), 255.0) if flat else _hues(ids)
    picture = np.where(ids[..., None] != 0, colours, 0.0)
    picture[unknown] = UNKNOWN
    return np.asarray(np.rint(picture), np.uint8)


def _in_colours(section: NDArray[np.uint8]) -> Rgb:
    """Return a section, grey or in colours, as a new picture of shape (y, x, 3)."""
    return section.copy() if section.ndim == 3 else np.stack([section] * 3, axis=-1)


def _hues(ids: NDArray[Any]) -> NDArray[np.float64]:
    """Return a colour for each id, shape (y, x, 3), 0 to 255."""
    # The golden ratio spreads the hues of consecutive ids around the circle.
    hue = (ids.astype(np.float64) * 0.618033988749895) % 1.0
    wave = np.stack([hue, hue + 2 / 3, hue + 1 / 3], axis=-1) % 1.0
    return np.asarray(255 * np.clip(np.abs(6 * wave - 3) - 1, 0, 1), np.float64)


def _tint(
    picture: Rgb,
    where: NDArray[np.bool_],
    colour: tuple[int, int, int],
    opacity: float,
) -> None:
    mixed = (1 - opacity) * picture[where] + opacity * np.array(colour)
    picture[where] = np.rint(mixed).astype(np.uint8)


def _address(kind: str, content: bytes | bytearray) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
