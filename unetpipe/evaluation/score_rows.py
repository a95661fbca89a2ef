"""Rows of the score tables, and what each metric means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unetpipe.metrics.bootstrap import Interval
from unetpipe.records.metrics import Better, Definition, Row, Score, Unit, Units

ISBI = "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142"
WARPING = "Jain et al. 2010, doi:10.1109/CVPR.2010.5539950"
JACCARD = "Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x"
DICE = "Dice 1945, doi:10.2307/1932409"
NUCLEI = "Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7"
PANOPTIC = "Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963"
INFORMATION = "Meila 2007, doi:10.1016/j.jmva.2006.11.013"
TRACKING = "Maska et al. 2014, doi:10.1093/bioinformatics/btu080"
DETECTION = "Matula et al. 2015, doi:10.1371/journal.pone.0144959"


def _defined(
    definition: str, better: Better, reference: str, unit: Unit = "1", version: int = 1
) -> Definition:
    return Definition(
        definition=definition,
        better=better,
        reference=reference,
        unit=unit,
        version=version,
    )


_IMAGE = "an image is a section, or the volume where objects span sections"

_DRAWN = "against the annotation as it was drawn"

METRICS = {
    "pixel_error": _defined(
        f"1 - F of cell pixels, all sections pooled; {_DRAWN}", "lower", ISBI
    ),
    "rand_error": _defined(
        "1 - F of the foreground-restricted Rand index, borders as predicted, "
        "predicted border pixels as singletons, all sections pooled",
        "lower",
        ISBI,
    ),
    "v_rand": _defined(
        "foreground-restricted Rand F after border thinning, mean over sections",
        "higher",
        ISBI,
    ),
    "v_info": _defined(
        "foreground-restricted information F after border thinning, mean over sections",
        "higher",
        ISBI,
    ),
    "warping_error": _defined(
        "pixels that split or merge cells after warping the truth onto the prediction, "
        "thresholds 0.1 to 0.9",
        "lower",
        WARPING,
    ),
    "classic_warping_error": _defined(
        "all pixels that still differ after warping", "lower", WARPING
    ),
    "iou": _defined(
        f"TP / (TP + FP + FN) of voxels, all sections pooled; {_DRAWN}",
        "higher",
        JACCARD,
    ),
    "dice": _defined(
        f"2 TP / (2 TP + FP + FN) of voxels, all sections pooled; {_DRAWN}",
        "higher",
        DICE,
    ),
    "dice_mean": _defined(
        "mean Dice of the annotated classes, background aside; "
        f"all sections pooled; {_DRAWN}",
        "higher",
        DICE,
    ),
    "precision": _defined(
        f"TP / (TP + FP) of voxels, all sections pooled; {_DRAWN}", "higher", ""
    ),
    "recall": _defined(
        f"TP / (TP + FN) of voxels, all sections pooled; {_DRAWN}", "higher", ""
    ),
    "average_precision": _defined(
        "TP / (TP + FP + FN) of objects, mean over IoU > 0.50, 0.55, ... 0.95, then "
        f"mean over images, 1 where both are empty; {_IMAGE}",
        "higher",
        NUCLEI,
    ),
    "f1": _defined(
        "2 TP / (2 TP + FP + FN) of objects at IoU > 0.5, pooled", "higher", ""
    ),
    "panoptic_quality": _defined(
        "sum of IoU of the objects with IoU > 0.5 / (TP + FP/2 + FN/2), pooled",
        "higher",
        PANOPTIC,
    ),
    "vi_split": _defined(
        "H(result | truth) inside true objects, predicted background as single "
        f"voxels, mean over images; {_IMAGE}",
        "lower",
        INFORMATION,
        "nats",
    ),
    "vi_merge": _defined(
        f"H(truth | result) inside true objects, mean over images; {_IMAGE}",
        "lower",
        INFORMATION,
        "nats",
    ),
    "vi_split_bits": _defined("vi_split in bits", "lower", INFORMATION, "bits"),
    "vi_merge_bits": _defined("vi_merge in bits", "lower", INFORMATION, "bits"),
    "adapted_rand_error": _defined(
        "1 - F of the foreground-restricted Rand index of the objects, predicted "
        f"background as single voxels, mean over images; {_IMAGE}",
        "lower",
        ISBI,
    ),
    "ctc_seg": _defined(
        "Cell Tracking Challenge SEG: mean Jaccard index of reference objects with the "
        "object that covers more than half of each, 0 without; all annotated frames, "
        "sparse ones too",
        "higher",
        TRACKING,
    ),
    "ctc_det": _defined(
        "Cell Tracking Challenge DET: 1 - cost of mending the detections (5 a split, "
        "10 a miss, 1 an invention) / cost of starting anew; on markers of all frames, "
        "without markers on the labels of completely annotated frames",
        "higher",
        DETECTION,
    ),
}


def find_metric(name: str) -> Definition:
    """Return what a metric means; ``dice_class_2`` is the dice of class 2.

    Examples
    --------
    >>> find_metric("dice_class_2").definition  # doctest: +ELLIPSIS
    '... all sections pooled; against the annotation as it was drawn; class 2'
    """
    base, _, number = name.partition("_class_")
    metric = METRICS[base]
    if number:
        told = f"{metric.definition}; class {number}"
        return metric.model_copy(update={"definition": told})
    return metric


def score_definitions(metrics: Iterable[str]) -> dict[str, Definition]:
    """Return what some metrics mean, each once, as ``metrics.json`` has it."""
    return {name: find_metric(name) for name in dict.fromkeys(metrics)}


def make_score_row(
    predictor: str,
    metric: str,
    *,
    num_sections: int,
    best: tuple[float, float] | None = None,
    chosen: tuple[float | None, float] | None = None,
    per_section: ArrayLike | None = None,
    interval: Interval | None = None,
    units: Units = "sections",
) -> Row:
    """Return one row of a score table; NaN becomes None.

    Parameters
    ----------
    predictor, metric : str
    num_sections : int
        Sections that were scored.
    best : (threshold, score), optional
        The best threshold on these very sections, and the score there.
    chosen : (threshold, score), optional
        At the threshold that was chosen elsewhere: on the validation rows, or in the
        configuration. The threshold is None where the metric has none.
    per_section : float array, shape (sections,), optional
        The score of each section, in the table's order of sections, at the chosen
        threshold.
    interval : Interval, optional
        Of the chosen score; without one, of the best.
    units : "sections", "objects" or "volumes"
        What was resampled for the interval; ``n`` counts them.
    """
    meaning = find_metric(metric)
    known = interval is not None and not math.isnan(interval.low)
    return Row(
        predictor=predictor,
        metric=metric,
        definition=meaning.definition,
        better=meaning.better,
        unit=meaning.unit,
        best=_at_threshold(best),
        chosen=_at_threshold(chosen),
        per_section=None if per_section is None else plain_scores(per_section),
        interval=(interval.low, interval.high) if interval and known else None,
        interval_of=("chosen" if chosen else "best") if known else None,
        n=interval.n if interval else num_sections,
        n_of=units,
        num_sections=num_sections,
    )


def plain_scores(values: ArrayLike) -> Any:
    """Turn an array into nested lists, or a number into a number; NaN into None."""
    numbers = np.asarray(values, np.float64)
    boxed = numbers.astype(object)
    boxed[np.isnan(numbers)] = None
    return boxed.tolist()


def _at_threshold(pair: tuple[float | None, float] | None) -> Score | None:
    if pair is None:
        return None
    threshold, score = pair
    return Score(
        threshold=None if threshold is None else plain_scores(threshold),
        score=plain_scores(score),
    )
