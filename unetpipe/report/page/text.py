"""Numbers and records as a reader likes to see them: strings in, strings out."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from unetpipe.metrics.names import plain_metric_name

METRICS = {
    "v_rand": Markup("V<sub>Rand</sub>"),
    "v_info": Markup("V<sub>Info</sub>"),
    "rand_error": Markup("Rand error"),
    "pixel_error": Markup("Pixel error"),
    "warping_error": Markup("Warping error"),
    "classic_warping_error": Markup("Classic warping error"),
    "average_precision": Markup("Average precision"),
    "panoptic_quality": Markup("Panoptic quality"),
    "f1": Markup("F<sub>1</sub> of objects"),
    "dice_mean": Markup("Dice, mean of classes"),
    "vi_split": Markup("VI split"),
    "vi_merge": Markup("VI merge"),
    "adapted_rand_error": Markup("Adapted Rand error"),
    "vi_split_bits": Markup("VI split (bits)"),
    "vi_merge_bits": Markup("VI merge (bits)"),
    "ctc_seg": Markup("SEG (Cell Tracking)"),
    "ctc_det": Markup("DET (Cell Tracking)"),
}
OVERLAPS = {"dice": "Dice", "iou": "IoU", "precision": "Precision", "recall": "Recall"}
# The score that a summary names, and that ranks sections: the first that was computed.
HEADLINE = ("v_rand", "dice_mean", "dice_class_1")


def metric_label(metric: str) -> Markup:
    """Return a metric's name: ``dice_class_1`` is *Dice of class 1*."""
    if metric in METRICS:
        return METRICS[metric]
    name = plain_metric_name(metric)
    return Markup.escape(name[:1].upper() + name[1:])


def format_score(score: float | None) -> str:
    """Return four decimals, or three digits of small scores; None is undefined.

    Examples
    --------
    >>> format_score(0.97276), format_score(0.000353), format_score(None)
    ('0.9728', '0.000353', 'undefined')
    >>> format_score(1.3e-16)
    '0.0000'
    """
    if score is None:
        return "undefined"
    # Sums of logarithms leave dust where the score is 0.
    if abs(score) < 1e-12 or abs(score) >= 0.01:
        return f"{score:.4f}"
    decimals = 2 - int(f"{score:e}".partition("e")[2])
    return f"{score:.{decimals}f}"


def format_range(limits: Sequence[float | None] | None) -> str:
    """Return ``0.87 to 0.88``, one number if both are it, nothing if undefined."""
    if not limits or None in limits:
        return ""
    low, high = map(format_score, limits)
    return low if low == high else f"{low} to {high}"


def format_threshold(threshold: float | None) -> str:
    """Return a threshold without the dust of floating point."""
    return "" if threshold is None else f"{threshold:.3g}"


def format_shape(shape: Iterable[float | None]) -> str:
    """Return lengths along z, y, x: ``30 × 512 × 512``; None is unknown."""
    told = ("unknown" if n is None else f"{n:g}" for n in shape)
    return " \N{MULTIPLICATION SIGN} ".join(told)
