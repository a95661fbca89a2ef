"""Score a network on the validation rows: the real predictor, the real metric.

Thresholds are chosen here and nowhere else, from probabilities quantised as they will
be stored, so that they mean the same when a prediction is read back.
"""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.metrics.choosing import notes_on_chosen_metric
from unetpipe.metrics.for_labels import Metric
from unetpipe.network.openvino_network import OpenVinoUNet
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.segmentation.choice import ObjectRule, ObjectScore
from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.tiling.assembly import source_roi_of_tiles
from unetpipe.tiling.grids import candidate_strides, plan_grids
from unetpipe.training.judges import ObjectJudge, make_judge
from unetpipe.training.object_choice import (
    LARGEST_SAMPLE,
    Seen,
    choose_cut_on_validation,
    choose_merging_on_validation,
    crop_stack,
    sample_stacks,
    thresholds_beside,
)

VALIDATION = "the validation rows"
Predict = Callable[[Stack], tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]


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
        self._objects = objects or ObjectRule()
        # Background, core and rim are no classes to choose thresholds for.
        num_classes = 2 if self._objects.has_cores else len(class_weights)
        self.choose_by = choose_threshold_metric(
            choose_by, metric, num_classes=num_classes
        )
        self._volumes = volumes
        self._class_weights = class_weights
        self._precision = precision
        self._device = device
        self._largest_input = largest_input

    def score(
        self, network: UNet | OpenVinoUNet, *, orientations: Sequence[int] = (0,)
    ) -> ValidationScore:
        """Return the scores; the network itself stays as it is.

        Parameters
        ----------
        network : UNet or OpenVinoUNet
        orientations : sequence of int
            Over which probabilities are averaged; see ``unetpipe.tiling.orientations``.
        """
        predictor = self._predictor(network, orientations)
        judges = {
            metric: make_judge(
                metric,
                network.spec.num_classes,
                class_weights=self._class_weights,
                # Quick, and whatever objects are made by, the checkpoint is the same.
                objects=self._objects.quick(),
            )
            for metric in dict.fromkeys([self.metric, self.choose_by or self.metric])
        }
        for stack in self._stacks(network.spec.ndim):
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
        voxels or V_Rand choose the threshold, F1 of the objects chooses how they are
        made at it; with affinities, above which mean their fragments are joined.

        Parameters
        ----------
        network : UNet
        precision : str
            Of the prediction.
        orientations : sequence of int
            Over which it averages.
        """
        if precision != self._precision:
            same = copy(self)
            same._precision = precision
            return same.choose(network, precision, orientations=orientations)
        found = self.score(network, orientations=orientations)
        threshold = found.thresholds.get("segmentation")
        if network.spec.num_classes > 2 or threshold is None:
            return found
        by: ObjectScore = "seg" if self.choose_by == "seg" else "f1"
        rule, at = self._objects, thresholds_beside(threshold)
        if self.choose_by not in ("seg", "f1"):
            at = (threshold,)
        predict = partial(self._predict, self._predictor(network, orientations))
        if rule.may_be_mutex:
            chosen = choose_merging_on_validation(
                self._sample(network, predict), rule, by, threshold
            )
            chosen_at = (chosen, threshold)
            return self._judged(found, by, chosen_at, predict, network.spec.ndim)
        if rule.method != "components" and (self._may_cut or rule.has_cores):
            cut = choose_cut_on_validation(self._sample(network, predict), rule, by, at)
            if cut is not None:
                return self._judged(found, by, cut, predict, network.spec.ndim)
        was_cut = "seeds" in found.thresholds
        is_fixed = by == self.choose_by or rule.smallest_object_vox is not None
        if is_fixed and not was_cut:
            return found
        kept = {k: v for k, v in found.thresholds.items() if not k.startswith("seed")}
        found = replace(found, thresholds=kept)
        plain = replace(rule, method="components")
        return self._judged(found, by, (plain, threshold), predict, network.spec.ndim)

    def _sample(self, network: UNet, predict: Predict) -> list[Seen]:
        """Return what ways to make objects are tried on."""
        across = self._objects.connectivity == "3d"
        stacks = sample_stacks(self._stacks(network.spec.ndim), across_sections=across)
        largest = LARGEST_SAMPLE // max(1, len(stacks))
        return [crop_stack(Seen(stack, predict(stack)[0]), largest) for stack in stacks]

    def _judged(
        self,
        found: ValidationScore,
        by: ObjectScore,
        chosen: tuple[ObjectRule, float],
        predict: Predict,
        ndim: int,
    ) -> ValidationScore:
        """Return the scores of all validation rows with a rule at a threshold."""
        rule, threshold = chosen
        judge = ObjectJudge(by, rule, [threshold])
        for stack in self._stacks(ndim):
            judge.add(stack, *predict(stack))
        verdict = judge.verdict()
        if not isfinite(verdict.rank):
            return found
        is_asked = by == self.choose_by
        scores = verdict.scores if is_asked else {"f1": verdict.scores["f1"]}
        return replace(
            found,
            score=verdict.rank if is_asked else found.score,
            threshold=threshold,
            thresholds=found.thresholds | verdict.chosen,
            scores=found.scores | _defined(scores),
            notes=(
                *(() if is_asked else found.notes),
                *notes_on_chosen_metric(*verdict.numbers, VALIDATION),
            ),
        )

    def _stacks(self, ndim: int) -> list[Stack]:
        return [p for v in self._volumes for p in v.judged(ndim)]

    @property
    def _may_cut(self) -> bool:
        """Whether annotations tell objects apart that touch."""
        return any(volume.instances is not None for volume in self._volumes)

    def _predictor(
        self, network: UNet | OpenVinoUNet, orientations: Sequence[int]
    ) -> TilePredictor:
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
        volume, tiles = stack.volume, tuple(grids.tiles(stack.seen))
        source = source_roi_of_tiles(tiles, predictor.halo, stack.shape)
        return predictor.predict_block(
            stack.read(volume.image, source),
            source.start,
            stack.seen,
            grids,
            mean=volume.mean,
            std=volume.std,
        )


def _defined(values: dict[str, Any]) -> dict[str, float]:
    """Drop undefined values: JSON knows no NaN."""
    return {name: float(v) for name, v in values.items() if isfinite(v)}
