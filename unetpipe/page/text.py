"""Numbers and records as a reader likes to see them: strings in, strings out."""

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

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
    "vi_split": Markup("VI split"),
    "vi_merge": Markup("VI merge"),
    "adapted_rand_error": Markup("Adapted Rand error"),
    "ctc_seg": Markup("SEG (Cell Tracking)"),
    "ctc_det": Markup("DET (Cell Tracking)"),
}
PLAIN_NAMES = {
    "v_rand": "V-Rand",
    "v_info": "V-Info",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "dice": "Dice",
    "dice_class_1": "Dice of class 1",
    "loss": "loss",
    "seg": "SEG",
    "f1": "F1 of objects",
}
PREDICTORS = {
    "unet": "U-Net",
    "grey value": "grey values alone",
    "constant": "constant map",
    "untrained": "untrained U-Net",
}
OURS = "unet"
OVERLAPS = {"dice": "Dice", "iou": "IoU", "precision": "Precision", "recall": "Recall"}
# The score that a summary names, and that ranks sections: the first that was computed.
HEADLINE = ("v_rand", "dice_class_1")


def metric_label(metric: str) -> Markup:
    """Return a metric's name: ``dice_class_1`` is *Dice, class 1*."""
    if metric in METRICS:
        return METRICS[metric]
    name, _, number = metric.partition("_class_")
    name = OVERLAPS.get(name, name.replace("_", " "))
    return (
        Markup("{}, class {}").format(name, number) if number else Markup.escape(name)
    )


def format_score(score: float | None) -> str:
    """Return four decimals, or three digits of small scores; None is undefined.

    Examples
    --------
    >>> format_score(0.97276), format_score(0.000353), format_score(None)
    ('0.9728', '0.000353', 'undefined')
    """
    if score is None:
        return "undefined"
    if score == 0 or abs(score) >= 0.01:
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


def format_seconds(seconds: float | None) -> str:
    """Return a duration in the unit that suits it.

    Examples
    --------
    >>> format_seconds(0.42), format_seconds(75), format_seconds(8000)
    ('0.42 s', '1 min 15 s', '2 h 13 min')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def in_words(number: float) -> str:
    """Return a count as one would say it.

    Examples
    --------
    >>> in_words(31030658), in_words(485682), in_words(898)
    ('31 million', '486 thousand', '898')
    """
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= limit:
            return f"{number / limit:.3g} {word}"
    return f"{number / 1e3:.3g} thousand" if number >= 1e4 else f"{number:,.0f}"


def format_quantity(number: float, unit: str = "") -> str:
    """Return a large number with its prefix, and a space after the digits.

    Examples
    --------
    >>> format_quantity(31030658, "FLOP"), format_quantity(7)
    ('31 MFLOP', '7 ')
    """
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}"


def format_shape(shape: Iterable[float]) -> str:
    """Return lengths along z, y, x: ``30 × 512 × 512``."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{n:g}" for n in shape)


def format_sections(numbers: Sequence[int]) -> str:
    """Return section numbers as ranges.

    Examples
    --------
    >>> format_sections([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)


def count(number: int, noun: str) -> str:
    """Return ``1 section``, ``3 sections``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(tables: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows of the leading metric by predictor: test sections, if any."""
    for metric in HEADLINE:
        for table in sorted(tables, key=lambda t: t["role"] != "test"):
            rows = {r["predictor"]: r for r in table["rows"] if r["metric"] == metric}
            if OURS in rows:
                return {
                    name: row | {"role": table["role"]} for name, row in rows.items()
                }
    return {}


def shown_score(row: dict[str, Any]) -> float | None:
    """Return a row's score at the chosen threshold, else its best."""
    score = (row["chosen"] or row["best"] or {"score": None})["score"]
    return None if score is None else float(score)


def group_by_metric(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table metric by metric, ours first, ready to be shown."""
    groups = []
    found = list(dict.fromkeys(row["metric"] for row in rows if not _of_class(row)))
    for metric in sorted(found, key=_rank):
        of_metric = [row for row in rows if row["metric"] == metric]
        of_metric.sort(key=lambda row: row["predictor"] != OURS)
        scores = [s for r in of_metric for s in r["per_section"] or () if s is not None]
        limits = (min(scores), max(scores)) if scores else (0.0, 0.0)
        groups.append(
            {
                "metric": metric_label(metric),
                "definition": of_metric[0]["definition"],
                "better": of_metric[0]["better"],
                "unit": of_metric[0].get("unit", "1").removeprefix("1"),
                "num_sections": of_metric[0]["num_sections"],
                "rows": [_show_row(row, limits) for row in of_metric],
            }
        )
    return groups


def _show_row(row: dict[str, Any], limits: tuple[float, float]) -> dict[str, Any]:
    return {
        "predictor": PREDICTORS.get(row["predictor"], row["predictor"]),
        "is_ours": row["predictor"] == OURS,
        "chosen": _show_score(row["chosen"]),
        "best": _show_score(row["best"]),
        "interval": format_range(row["interval"]),
        "spread": _show_spread(row["per_section"] or (), limits),
    }


def group_by_class(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the overlap scores of a table, one row a class and predictor.

    None if there are none.
    """
    found: dict[tuple[int, str], dict[str, tuple[str, str]]] = {}
    thresholds = set()
    for row in filter(_of_class, rows):
        name, _, number = row["metric"].partition("_class_")
        scores = [s for s in row["per_section"] or () if s is not None]
        spread = format_range([min(scores), max(scores)] if scores else None)
        entry = found.setdefault((int(number), row["predictor"]), {})
        entry[name] = (format_score(shown_score(row)), spread)
        thresholds.add(format_threshold((row["chosen"] or {}).get("threshold")))
    names = [n for n in OVERLAPS if any(n in entry for entry in found.values())]
    if not names:
        return None
    ordered = sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != OURS))
    return {
        "threshold": ", ".join(sorted(thresholds - {""})),
        "names": [OVERLAPS[name] for name in names],
        "rows": [
            {
                "class": number,
                "predictor": PREDICTORS.get(predictor, predictor),
                "is_ours": predictor == OURS,
                "scores": [entry.get(name, ("", "")) for name in names],
            }
            for (number, predictor), entry in ordered
        ],
    }


def _of_class(row: dict[str, Any]) -> bool:
    return "_class_" in row["metric"]


def _rank(metric: str) -> int:
    """Return where a metric stands: as in ``METRICS``, others behind."""
    order = list(METRICS)
    return order.index(metric) if metric in order else len(order)


def _show_score(score: dict[str, Any] | None) -> dict[str, str] | None:
    if score is None:
        return None
    return {
        "score": format_score(score["score"]),
        "threshold": format_threshold(score["threshold"]),
    }


def _show_spread(
    scores: Sequence[float | None], limits: tuple[float, float]
) -> dict[str, Any] | None:
    """Return dots from 0 to 100, on one scale for all predictors of a metric."""
    known = [score for score in scores if score is not None]
    if not known:
        return None
    width = limits[1] - limits[0] or 1.0
    return {
        "dots": [round(100 * (score - limits[0]) / width, 1) for score in known],
        "range": format_range([min(known), max(known)]),
        "limits": format_range(limits),
    }
