"""Score a network on the validation rows: the real predictor, the real metric.

Thresholds are chosen here and nowhere else, from probabilities quantised as they will
be stored, so that they mean the same when a prediction is read back.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.annotated import AnnotatedVolume, Piece
from unetpipe.geometry import whole_volume
from unetpipe.inference import TilePredictor

# By module: through the package a change of any metric would retrain networks.
from unetpipe.metrics.isbi import (
    IsbiCurves,
    IsbiSection,
    collect_curves,
    score_section,
)
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.model import UNet
from unetpipe.tiling import candidate_strides, plan_geometry
from unetpipe.unet_spec import UNetSpec
from unetpipe.weight_map import UNLABELLED

Metric = Literal["v_rand", "dice", "loss"]

# Metrics of the ISBI challenge whose best threshold the model remembers.
THRESHOLDED = ("pixel_error", "rand_error", "v_rand", "v_info")
# A stored probability of 0 stands for anything below half a step.
LEAST_PROBABILITY = 0.5 / 255


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """How good a network is on the validation rows.

    Attributes
    ----------
    score : float
        Of the metric that chooses the checkpoint; NaN where it is undefined.
    threshold : float or None
        Where the score was reached, if it depends on one.
    thresholds, scores : dict
        Best threshold of each metric, and the score there.
    """

    score: float
    threshold: float | None
    thresholds: dict[str, float]
    scores: dict[str, float]


def choose_metric(wanted: Literal["auto", "v_rand", "dice", "loss"], k: int) -> Metric:
    """Return the metric for ``k`` classes: v_rand for two, dice for more."""
    if wanted == "auto":
        return "v_rand" if k == 2 else "dice"
    return wanted


def is_better(metric: Metric, new: float, old: float | None) -> bool:
    """Say whether a score beats the best so far; an undefined score never does."""
    if not isfinite(new):
        return False
    return old is None or (new < old if metric == "loss" else new > old)


class Validator:
    """Predicts the validation rows with a copy of the network and scores them.

    Parameters
    ----------
    volumes : list of AnnotatedVolume
        The validation rows.
    metric : "v_rand", "dice" or "loss"
        What chooses the checkpoint.
    class_weights : float32 array, shape (k,)
        For ``loss``.
    precision, device
        Of the prediction.
    largest_input : int
        Voxels of the largest tile; training's patch fits, so prediction's does.
    """

    def __init__(
        self,
        volumes: list[AnnotatedVolume],
        metric: Metric,
        *,
        class_weights: NDArray[np.float32],
        precision: str,
        device: torch.device,
        largest_input: int,
    ) -> None:
        self.metric = metric
        self._volumes = volumes
        self._class_weights = class_weights
        self._precision = precision
        self._device = device
        self._largest_input = largest_input

    def score(self, network: UNet) -> ValidationScore:
        """Return the scores; the network itself stays as it is."""
        spec = network.spec
        predictor = TilePredictor(
            deepcopy(network), precision=self._precision, device=self._device
        )
        if self.metric == "v_rand":
            return _score_curves(list(self._isbi_sections(predictor)))
        confusion = np.zeros((spec.num_classes, spec.num_classes), np.int64)
        energy = weight = 0.0
        for piece in self._pieces(spec):
            probability, classes = self._predict(predictor, piece)
            target = _read_target(piece)
            if classes is None:
                classes = (probability[0] > 127).astype(np.uint8)
            unknown = target == UNLABELLED
            confusion += confusion_matrix(
                target, classes, spec.num_classes, unlabelled=unknown
            )
            sums = _stored_loss(probability, target, self._class_weights)
            energy, weight = energy + sums[0], weight + sums[1]
        scores = {
            "dice": class_scores(confusion).mean_dice,
            "loss": energy / weight if weight else float("nan"),
        }
        return ValidationScore(scores[self.metric], None, {}, _defined(scores))

    def _pieces(self, spec: UNetSpec) -> Iterator[Piece]:
        for volume in self._volumes:
            yield from volume.pieces(spec.ndim)

    def _isbi_sections(self, predictor: TilePredictor) -> Iterator[IsbiSection]:
        for piece in self._pieces(predictor.spec):
            probability, _ = self._predict(predictor, piece)
            for section, target in zip(
                probability[0], _read_target(piece), strict=True
            ):
                stored = section.astype(np.float32) / np.float32(255)
                # What nobody annotated is neither right nor wrong: no cell in either.
                stored[target == UNLABELLED] = 0
                yield score_section(stored, target == 1)

    def _predict(
        self, predictor: TilePredictor, piece: Piece
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        spec = predictor.spec
        strides = candidate_strides(piece.shape, spec)
        small = [
            s for s in strides if prod(spec.input_shape_for(s)) <= self._largest_input
        ]
        geometry = plan_geometry(piece.shape, (small or strides[-1:])[0], spec)
        volume = piece.volume
        whole = whole_volume(piece.shape)
        return predictor.predict_block(
            piece.read(volume.image, whole),
            (0, 0, 0),
            whole,
            geometry,
            mean=volume.mean,
            std=volume.std,
        )


def _read_target(piece: Piece) -> NDArray[np.uint8]:
    target: NDArray[np.uint8] = piece.read(
        piece.volume.target, whole_volume(piece.shape)
    )
    return target


def _score_curves(sections: list[IsbiSection]) -> ValidationScore:
    curves: IsbiCurves = collect_curves(sections)
    best = {name: getattr(curves, name).best() for name in THRESHOLDED}
    chosen = best["v_rand"]
    return ValidationScore(
        score=chosen.score,
        threshold=chosen.threshold if isfinite(chosen.threshold) else None,
        thresholds=_defined(
            {name: found.threshold for name, found in best.items()}
            | {"segmentation": chosen.threshold}
        ),
        scores=_defined({name: found.score for name, found in best.items()}),
    )


def _stored_loss(
    probability: NDArray[np.uint8],
    target: NDArray[np.uint8],
    class_weights: NDArray[np.float32],
) -> tuple[float, float]:
    """Return summed weighted cross-entropy and summed weight, from stored bytes."""
    p = np.maximum(probability.astype(np.float64) / 255, LEAST_PROBABILITY)
    if len(p) == 1:
        p = np.concatenate([np.maximum(1 - p, LEAST_PROBABILITY), p])
    is_known = target != UNLABELLED
    known = np.where(is_known, target, 0)
    of_target = np.take_along_axis(p, known[None].astype(np.intp), axis=0)[0]
    weights = class_weights[known].astype(np.float64) * is_known
    return float((-np.log(of_target) * weights).sum()), float(weights.sum())


def _defined(values: dict[str, Any]) -> dict[str, float]:
    """Drop undefined values: JSON knows no NaN."""
    return {name: float(v) for name, v in values.items() if isfinite(v)}
