"""Score one predictor on the sections of one role: sections in, table rows out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics import (
    ThresholdCurve,
    bootstrap_curve,
    class_scores,
    collect_curves,
    collect_warping,
    confusion_matrix,
    score_section,
    warp_section,
)

DEFINITIONS = {
    "pixel_error": "1 - F of cell pixels, all sections pooled",
    "rand_error": "1 - F of the foreground-restricted Rand index, borders as "
    "predicted, predicted border pixels as singletons, all sections pooled",
    "v_rand": "foreground-restricted Rand F after border thinning, mean over sections",
    "v_info": "foreground-restricted information F after border thinning, mean over "
    "sections",
    "warping_error": "pixels that split or merge cells after warping the truth onto "
    "the prediction, thresholds 0.1 to 0.9",
    "classic_warping_error": "all pixels that still differ after warping",
}


class BinaryScores:
    """Collects the scores of a two-class predictor, section by section.

    Parameters
    ----------
    with_warping : bool
        Warp every section too.
    """

    def __init__(self, *, with_warping: bool) -> None:
        self.numbers: list[int] = []
        self._isbi: list[Any] = []
        self._warping: list[Any] = []
        self._with_warping = with_warping

    def add(
        self, number: int, probability: NDArray[np.float32], cells: NDArray[np.bool_]
    ) -> None:
        """Score one section, shape (y, x), probability of cell in [0, 1]."""
        self.numbers.append(number)
        self._isbi.append(score_section(probability, cells))
        if self._with_warping:
            self._warping.append(warp_section(probability, cells))

    def curves(self) -> dict[str, ThresholdCurve]:
        """Return the score of each metric over thresholds."""
        isbi = collect_curves(self._isbi)
        names = ("pixel_error", "rand_error", "v_rand", "v_info")
        curves = {name: getattr(isbi, name) for name in names}
        if self._warping:
            warping = collect_warping(self._warping)
            curves["warping_error"] = warping.warping_error
            curves["classic_warping_error"] = warping.classic_warping_error
        return curves


def threshold_rows(
    predictor: str, curves: dict[str, ThresholdCurve], chosen: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield one table row a metric: best on these sections, and as chosen elsewhere.

    Parameters
    ----------
    predictor : str
        Name of the row.
    curves : dict
        Metric -> curve over thresholds on the scored sections.
    chosen : dict
        Metric -> threshold that scored best on validation sections; may lack some.
    """
    for metric, curve in curves.items():
        threshold = chosen.get(metric)
        row: dict[str, Any] = {
            "predictor": predictor,
            "metric": metric,
            "definition": DEFINITIONS[metric],
            "better": "higher" if curve.higher_is_better else "lower",
            "best": dict(
                zip(("threshold", "score"), map(_plain, curve.best()), strict=True)
            ),
            "chosen": None,
            "per_section": None,
            "interval": None,
            "num_sections": len(curve.per_section),
        }
        shown = threshold if threshold is not None else curve.best().threshold
        if not math.isnan(shown):
            row["per_section"] = [_plain(s) for s in curve.sections_at(shown)]
        if threshold is not None:
            interval = bootstrap_curve(curve, threshold)
            row["chosen"] = {
                "threshold": threshold,
                "score": _plain(curve.at(threshold)),
            }
            row["interval"] = [_plain(interval.low), _plain(interval.high)]
        yield row


class ClassCounts:
    """Collects confusion matrices, section by section."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.numbers: list[int] = []
        self.matrices: list[NDArray[np.int64]] = []

    def add(
        self,
        number: int,
        result: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
        unlabelled: NDArray[np.bool_],
    ) -> None:
        """Count one section, shape (y, x)."""
        self.numbers.append(number)
        self.matrices.append(
            confusion_matrix(truth, result, self.num_classes, unlabelled=unlabelled)
        )

    def rows(self, predictor: str, threshold: float | None) -> Iterator[dict[str, Any]]:
        """Yield IoU and Dice of each class, counts of all sections pooled."""
        pooled = class_scores(np.sum(self.matrices, axis=0))
        each = [class_scores(matrix) for matrix in self.matrices]
        for name in ("iou", "dice"):
            for k in range(self.num_classes):
                score = {
                    "threshold": threshold,
                    "score": _plain(getattr(pooled, name)[k]),
                }
                yield {
                    "predictor": predictor,
                    "metric": f"{name}_class_{k}",
                    "definition": f"{name} of class {k}, all sections pooled",
                    "better": "higher",
                    "best": None,
                    "chosen": score,
                    "per_section": [_plain(getattr(s, name)[k]) for s in each],
                    "interval": None,
                    "num_sections": len(each),
                }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
