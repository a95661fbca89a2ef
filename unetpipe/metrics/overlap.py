"""IoU, Dice, precision and recall of each class, from a confusion matrix.

Confusion matrices of boxes add up to that of the volume, with ``+``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError, GeometryError
from unetpipe.metrics.curves import Scores, score_ratio


def confusion_matrix(
    truth: NDArray[np.integer[Any] | np.bool_],
    result: NDArray[np.integer[Any] | np.bool_],
    num_classes: int,
    *,
    unlabelled: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Count the voxels of each pair of true and predicted class.

    Parameters
    ----------
    truth, result : integer or bool arrays of one shape
        Class of each voxel, 0 to ``num_classes - 1``.
    num_classes : int
        K.
    unlabelled : bool array of the same shape, optional
        True where the truth is unknown; these voxels are not counted, whatever
        ``truth`` and ``result`` hold there.

    Returns
    -------
    int64 array, shape (K, K)
        Rows are the truth, columns the result.

    Raises
    ------
    GeometryError
        If the shapes differ.
    DataError
        If a voxel that counts has a class outside the range.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    array([[1, 1],
           [0, 2]])
    """
    if truth.shape != result.shape:
        raise GeometryError(
            f"truth has shape {truth.shape}, result {result.shape}; "
            "crop or align them to the same voxels"
        )
    if unlabelled is not None:
        truth, result = truth[~unlabelled], result[~unlabelled]
    for name, classes in (("truth", truth), ("result", result)):
        if classes.dtype.kind not in "biu":
            raise DataError(
                f"{name} has dtype {classes.dtype}; pass integer classes, "
                "such as the argmax over the class axis"
            )
        if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < (
            num_classes
        ):
            raise DataError(
                f"{name} holds classes {classes.min()} to {classes.max()}; expected 0 "
                f"to {num_classes - 1}, mark unknown voxels with `unlabelled`"
            )
    pairs = truth.ravel().astype(np.int64) * num_classes
    pairs += result.ravel().astype(np.int64)
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Scores of each class, float64 arrays of shape (..., K), range [0, 1].

    A class that neither truth nor result holds has no score: NaN. So has the
    precision of a class never predicted and the recall of a class never present.

    Attributes
    ----------
    iou : TP / (TP + FP + FN)
    dice : 2 TP / (2 TP + FP + FN)
    precision : TP / (TP + FP)
    recall : TP / (TP + FN)
    num_truth, num_result : int64 arrays, shape (..., K)
        Voxels of each class.
    """

    iou: Scores
    dice: Scores
    precision: Scores
    recall: Scores
    num_truth: NDArray[np.int64]
    num_result: NDArray[np.int64]


def class_scores(confusion: NDArray[np.int64] | Scores) -> ClassScores:
    """Score each class of confusion matrices, shape (..., K, K), rows the truth.

    Examples
    --------
    >>> class_scores(np.array([[1, 1], [0, 2]])).iou.round(3)
    array([0.5  , 0.667])
    """
    found = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    num_truth, num_result = confusion.sum(axis=-1), confusion.sum(axis=-2)
    either = num_truth + num_result
    return ClassScores(
        iou=score_ratio(found, either - found),
        dice=score_ratio(2 * found, either.astype(np.float64)),
        precision=score_ratio(found, num_result.astype(np.float64)),
        recall=score_ratio(found, num_truth.astype(np.float64)),
        num_truth=num_truth,
        num_result=num_result,
    )
