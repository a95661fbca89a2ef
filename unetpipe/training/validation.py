"""Score a network on the validation rows: the real predictor, the real metric.

Thresholds are chosen here and nowhere else, from probabilities quantised as they will
be stored, so that they mean the same when a prediction is read back.
"""

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.metrics.choosing import notes_on_number
from unetpipe.metrics.for_labels import Metric
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.segmentation.choice import ObjectRule, ObjectScore
from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.tiling.boxes import whole_volume
from unetpipe.tiling.grids import candidate_strides, plan_grids
from unetpipe.training.judges import ObjectJudge, chosen_by, make_judge

VALIDATION = "the validation rows"
BESIDE = (-0.2, -0.1, 0.0, 0.1, 0.2)  # thresholds of a watershed
LEAST_GAIN = 0.01  # by which a watershed must be better than components


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
    notes : tuple of str
        What may be a mistake in the choice.
    """

    score: float
    threshold: float | None
    thresholds: dict[str, float]
    scores: dict[str, float]
    notes: tuple[str, ...] = ()


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
        predictor = self._predictor(network, orientations)
        judges = {
            metric: make_judge(
                metric,
                network.spec.num_classes,
                class_weights=self._class_weights,
                objects=self._objects.with_method(
                    "watershed" if self._objects.method == "watershed" else "components"
                ),
            )
            for metric in dict.fromkeys([self.metric, self.choose_by or self.metric])
        }
        for volume in self._volumes:
            for stack in volume.stacks(network.spec.ndim):
                stored, classes = self._predict(predictor, stack)
                for judge in judges.values():
                    judge.add(stack, stored, classes)
        verdicts = {metric: judge.verdict() for metric, judge in judges.items()}
        rank = verdicts[self.metric].rank
        if self.metric == "loss":
            rank = verdicts["loss"].scores["loss"]
        scores: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        for verdict in verdicts.values():
            scores |= verdict.scores
            thresholds |= verdict.thresholds
        chosen = {}
        if self.choose_by:
            chosen = _defined(verdicts[self.choose_by].chosen)
        return ValidationScore(
            score=rank,
            threshold=chosen.get("segmentation"),
            thresholds=_defined(thresholds) | chosen,
            scores=_defined(scores),
            notes=verdicts[self.choose_by or self.metric].notes,
        )

    def choose(
        self, network: UNet, precision: str, *, orientations: Sequence[int] = (0,)
    ) -> ValidationScore:
        """Return scores and the whole rule that makes objects of a prediction.

        Thresholds are chosen as prediction computes. Where objects have ids, a
        watershed is tried too, at thresholds beside the best one of components; where
        voxels choose the threshold, F1 of the objects chooses their smallest size.

        Parameters
        ----------
        network : UNet
        precision : str
            Of the prediction.
        orientations : sequence of int
            Over which it averages.
        """
        stacks = [p for v in self._volumes for p in v.stacks(network.spec.ndim)]
        if precision != self._precision:
            same = copy(self)
            same._precision = precision
            return same.choose(network, precision, orientations=orientations)
        found = self.score(network, orientations=orientations)
        threshold = found.thresholds.get("segmentation")
        if network.spec.num_classes > 2 or threshold is None:
            return found
        predictor = self._predictor(network, orientations)

        def judged(rule: ObjectRule, thresholds: Sequence[float]) -> ObjectJudge:
            judge = ObjectJudge(by, rule, thresholds)
            for stack in stacks:
                judge.add(stack, *self._predict(predictor, stack))
            return judge

        by: ObjectScore = "seg" if self.choose_by == "seg" else "f1"
        if self.choose_by not in ("seg", "f1"):
            if self._objects.smallest_object_vox is not None:
                return found
            best = judged(self._objects.with_method("components"), [threshold]).best()
            if best is None:
                return found
            notes = notes_on_number(best.num_found, best.num_true, VALIDATION)
            return replace(
                found,
                thresholds=found.thresholds | chosen_by(best),
                scores=found.scores | _defined({"f1": best.f1}),
                notes=(*found.notes, *notes),
            )
        if not self._may_cut or self._objects.method != "auto":
            return found
        near = sorted({round(min(0.9, max(0.1, threshold + d)), 2) for d in BESIDE})
        cut = judged(self._objects.with_method("watershed"), near).verdict()
        if not isfinite(cut.rank) or cut.rank <= found.score + LEAST_GAIN:
            return found
        return replace(
            found,
            score=cut.rank,
            threshold=cut.chosen["segmentation"],
            thresholds=found.thresholds | cut.thresholds | cut.chosen,
            scores=found.scores | _defined(cut.scores),
            notes=notes_on_number(*cut.numbers, VALIDATION),
        )

    @property
    def _may_cut(self) -> bool:
        """Whether annotations tell objects apart that touch."""
        return any(volume.instances is not None for volume in self._volumes)

    def _predictor(self, network: UNet, orientations: Sequence[int]) -> TilePredictor:
        return TilePredictor(
            deepcopy(network),
            precision=self._precision,
            device=self._device,
            orientations=orientations,
        )

    def _predict(
        self, predictor: TilePredictor, stack: Stack
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        spec = predictor.spec
        strides = candidate_strides(stack.shape, spec)
        small = [
            s for s in strides if prod(spec.input_shape_for(s)) <= self._largest_input
        ]
        grids = plan_grids(stack.shape, (small or strides[-1:])[0], spec)
        volume = stack.volume
        whole = whole_volume(stack.shape)
        return predictor.predict_block(
            stack.read(volume.image, whole),
            (0, 0, 0),
            whole,
            grids,
            mean=volume.mean,
            std=volume.std,
        )


def _defined(values: dict[str, Any]) -> dict[str, float]:
    """Drop undefined values: JSON knows no NaN."""
    return {name: float(v) for name, v in values.items() if isfinite(v)}
