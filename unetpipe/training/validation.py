"""Score a network on the validation rows: the real predictor, the real metric.

Thresholds are chosen here and nowhere else, from probabilities quantised as they will
be stored, so that they mean the same when a prediction is read back.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.segmentation.choice import ObjectRule
from unetpipe.targets.annotated import AnnotatedVolume, Piece
from unetpipe.tiling.boxes import whole_volume
from unetpipe.tiling.grids import candidate_strides, plan_geometry
from unetpipe.training.validation_metrics import Metric, make_judge


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


def choose_metric(wanted: Metric | Literal["auto"], k: int) -> Metric:
    """Return the metric for ``k`` classes: v_rand for two, dice for more."""
    if wanted == "auto":
        return "v_rand" if k == 2 else "dice"
    return wanted


def choose_threshold_metric(
    wanted: Metric | Literal["auto"], metric: Metric, *, num_classes: int
) -> Metric | None:
    """Return what chooses thresholds, or None where there is no choice.

    Parameters
    ----------
    wanted : metric or "auto"
        Of the configuration. auto: what chooses the checkpoint; with more than two
        classes, and where that is the loss, nothing.
    metric : "v_rand", "seg", "f1", "dice" or "loss"
        What chooses the checkpoint.
    num_classes : int
        Of the network.
    """
    if wanted != "auto":
        return wanted
    return None if num_classes > 2 or metric == "loss" else metric


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
    metric : "v_rand", "seg", "f1", "dice" or "loss"
        What chooses the checkpoint.
    class_weights : float32 array, shape (k,)
        For ``loss``.
    precision, device
        Of the prediction.
    largest_input : int
        Voxels of the largest tile; training's patch fits, so prediction's does.
    choose_by : metric or "auto"
        What chooses thresholds; see ``choose_threshold_metric``.
    objects : ObjectRule, optional
        How objects are made, for the scores of objects.
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
        choose_by: Metric | Literal["auto"] = "auto",
        objects: ObjectRule | None = None,
    ) -> None:
        self.metric = metric
        self.choose_by = choose_threshold_metric(
            choose_by, metric, num_classes=len(class_weights)
        )
        self._objects = objects or ObjectRule()
        self._volumes = volumes
        self._class_weights = class_weights
        self._precision = precision
        self._device = device
        self._largest_input = largest_input

    def score(
        self, network: UNet, *, orientations: Sequence[int] = (0,)
    ) -> ValidationScore:
        """Return the scores; the network itself stays as it is.

        Parameters
        ----------
        network : UNet
        orientations : sequence of int
            Over which probabilities are averaged; see ``unetpipe.tiling.orientations``.
        """
        predictor = TilePredictor(
            deepcopy(network),
            precision=self._precision,
            device=self._device,
            orientations=orientations,
        )
        judges = {
            metric: make_judge(
                metric,
                network.spec.num_classes,
                class_weights=self._class_weights,
                objects=self._objects,
            )
            for metric in dict.fromkeys([self.metric, self.choose_by or self.metric])
        }
        for volume in self._volumes:
            for piece in volume.pieces(network.spec.ndim):
                stored, classes = self._predict(predictor, piece)
                for judge in judges.values():
                    judge.add(piece, stored, classes)
        verdicts = {metric: judge.verdict() for metric, judge in judges.items()}
        scores: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        for verdict in verdicts.values():
            scores |= verdict.scores
            thresholds |= verdict.thresholds
        chosen = {}
        if self.choose_by:
            chosen = _defined(verdicts[self.choose_by].chosen)
        return ValidationScore(
            score=scores[self.metric],
            threshold=chosen.get("segmentation"),
            thresholds=_defined(thresholds) | chosen,
            scores=_defined(scores),
        )

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


def _defined(values: dict[str, Any]) -> dict[str, float]:
    """Drop undefined values: JSON knows no NaN."""
    return {name: float(v) for name, v in values.items() if isfinite(v)}
