"""Pictures of sections and curves, as data that a page can carry in itself.

Arrays in, ``data:`` addresses out. Colours are told apart by people with any kind of
colour vision (Okabe and Ito 2008).
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
OPACITY = 0.65
CROP_VOXELS = 768  # sections are shown up to this size, cropped to their middle
SMALL_VOXELS = 320  # smaller pictures are doubled, so that outlines stay thin
MOST_POINTS = 600  # of a curve

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": "#1d2329",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a929c",
    "axes.labelcolor": "#3c434b",
    "xtick.color": "#5b6470",
    "ytick.color": "#5b6470",
    "svg.hashsalt": "unetpipe",
    "svg.fonttype": "path",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """The course of one training.

    ``validation`` pairs steps and scores; ``chosen`` is the step whose weights were
    kept; ``metric`` names the score.
    """

    steps: Sequence[int]
    losses: Sequence[float]
    learning_rates: Sequence[float]
    validation: Sequence[tuple[int, float]]
    metric: str
    chosen: int


def png_address(pixels: NDArray[np.uint8]) -> str:
    """Return a picture, shape (y, x) or (y, x, 3), as the address of a PNG."""
    return _address("image/png", bytes(imagecodecs.png_encode(enlarge(pixels))))


def enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Double a small picture, so that a browser does not blur it."""
    factor = 2 if max(pixels.shape[:2]) <= SMALL_VOXELS else 1
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def middle_crop(length: int) -> slice:
    """Return the middle of an axis, as much of it as is shown."""
    start = max(0, (length - CROP_VOXELS) // 2)
    return slice(start, min(length, start + CROP_VOXELS))


def grey_picture(section: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a section as grey values 0 to 255, darkest and brightest 0.5 % clipped.

    Parameters
    ----------
    section : array, shape (y, x)
        Any dtype; NaN and infinite voxels become black.
    """
    values = section.astype(np.float64)
    is_finite = np.isfinite(values)
    if not is_finite.any():
        return np.zeros(section.shape, np.uint8)
    low, high = np.percentile(values[is_finite], (0.5, 99.5))
    scaled = (np.where(is_finite, values, low) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(np.rint(255 * scaled), 0, 255), np.uint8)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask, shape (y, x), that touch what is outside it."""
    inside = np.pad(mask, 1, mode="edge")
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~core


def overlay(
    grey: NDArray[np.uint8],
    truth: NDArray[np.bool_],
    result: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
) -> Rgb:
    """Return a section with the truth's outline and what the result got wrong.

    Parameters
    ----------
    grey : uint8 array, shape (y, x)
        Grey values.
    truth, result, unknown : bool array, shape (y, x)
        True foreground, predicted foreground, and voxels that nobody annotated.
    """
    picture = np.stack([grey] * 3, axis=-1)
    _tint(picture, result & ~truth & ~unknown, INVENTED)
    _tint(picture, truth & ~result & ~unknown, MISSED)
    _tint(picture, unknown, UNKNOWN)
    picture[outline(truth & ~unknown)] = OUTLINE
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


def class_picture(grey: NDArray[np.uint8], classes: NDArray[Any]) -> Rgb:
    """Return a section tinted by class; class 0 stays grey."""
    picture = np.stack([grey] * 3, axis=-1)
    for value in np.unique(classes):
        if value:
            colour = CLASSES[1 + (int(value) - 1) % (len(CLASSES) - 1)]
            _tint(picture, classes == value, colour, opacity=0.5)
    return picture


def object_picture(grey: NDArray[np.uint8], ids: NDArray[Any]) -> Rgb:
    """Return a section with a colour for each object; neighbours in id differ."""
    # The golden ratio spreads the hues of consecutive ids around the circle.
    hue = (ids.astype(np.float64) * 0.618033988749895) % 1.0
    wave = np.stack([hue, hue + 2 / 3, hue + 1 / 3], axis=-1) % 1.0
    colour = 255 * np.clip(np.abs(6 * wave - 3) - 1, 0, 1)
    mixed = 0.55 * grey[..., None] + 0.45 * colour
    picture = np.where(ids[..., None] > 0, mixed, grey[..., None])
    return np.asarray(np.rint(picture), np.uint8)


def plot_training(curve: Curve) -> str:
    """Return loss, validation score and learning rate over the steps, as an SVG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 2.5), layout="constrained")
        loss, score, rate = figure.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
        _plot_loss(loss, curve)
        _plot_validation(score, curve)
        rate.plot(curve.steps, curve.learning_rates, color="#3c434b", linewidth=1.2)
        rate.set(title="Learning rate", xlabel="step", ylim=(0, None))
        buffer = io.BytesIO()
        # Without a date the same training gives the same bytes.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _address("image/svg+xml", buffer.getvalue())


def _plot_loss(axes: Axes, curve: Curve) -> None:
    steps, losses = np.asarray(curve.steps), np.asarray(curve.losses, float)
    width = max(1, len(losses) // MOST_POINTS)
    usable = len(losses) // width * width
    thinned = losses[:usable].reshape(-1, width).mean(axis=1)
    at = steps[:usable].reshape(-1, width)[:, -1]
    axes.plot(at, thinned, color="#b9c3cf", linewidth=0.8)
    smooth = _running_mean(thinned, max(1, len(thinned) // 20))
    axes.plot(at, smooth, color="#0b5394", linewidth=1.6)
    axes.set(title="Training loss", xlabel="step")
    # A few steps at the beginning may be huge; the curve matters, not its first spike.
    if len(thinned) > 20:
        top = 1.1 * float(np.nanpercentile(thinned, 99))
        axes.set_ylim(0, top if top > 0 else None)


def _plot_validation(axes: Axes, curve: Curve) -> None:
    axes.set(title=f"Validation: {curve.metric}", xlabel="step")
    if not curve.validation:
        axes.text(
            *(0.5, 0.5, "no validation rows"),
            ha="center",
            transform=axes.transAxes,
            color="#5b6470",
        )
        axes.set(xticks=[], yticks=[])
        return
    steps, scores = zip(*curve.validation, strict=True)
    axes.plot(steps, scores, "o-", color="#0b5394", linewidth=1.4, markersize=3.5)
    chosen = dict(curve.validation).get(curve.chosen)
    if chosen is not None:
        axes.plot([curve.chosen], [chosen], "o", color="#d55e00", markersize=7)
        axes.annotate(
            f"chosen: step {curve.chosen}",
            (curve.chosen, chosen),
            xytext=(0.97, 0.06),
            textcoords="axes fraction",
            ha="right",
            color="#d55e00",
            arrowprops={"arrowstyle": "-", "color": "#d55e00", "linewidth": 0.6},
        )


def _running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Average over a centred window, shorter at both ends."""
    ones = np.ones(width)
    counts = np.convolve(np.ones(len(values)), ones, mode="same")
    return np.asarray(np.convolve(values, ones, mode="same") / counts)


def _tint(
    picture: Rgb,
    where: NDArray[np.bool_],
    colour: tuple[int, int, int],
    opacity: float = OPACITY,
) -> None:
    mixed = (1 - opacity) * picture[where] + opacity * np.array(colour)
    picture[where] = np.rint(mixed).astype(np.uint8)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
