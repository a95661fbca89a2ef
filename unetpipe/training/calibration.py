"""What int8 is calibrated on, and what it costs: patches, and two scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.metrics.for_labels import Metric
from unetpipe.network.openvino_network import OpenVinoUNet
from unetpipe.network.unet import UNet
from unetpipe.records.model import Model
from unetpipe.segmentation.choice import LEAST_REACH, Cut, ObjectRule
from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.judges import ObjectJudge
from unetpipe.training.sampling import PatchSampler
from unetpipe.training.validation import Validator

NUM_PATCHES = 32
CPU = torch.device("cpu")


def draw_patches(
    volumes: Sequence[AnnotatedVolume], spec: UNetSpec, patch: Zyx
) -> list[NDArray[np.float32]]:
    """Return patches of training rows as a network sees them, not deformed.

    Returns
    -------
    list of float32 arrays, shape (1, c, y, x) or (1, c, z, y, x)
        Always the same of the same rows.
    """
    sampler = PatchSampler(list(volumes), spec, patch, Augmentation(), seed=0)
    return [
        sampler.render([sampler.patch(number, 0)], CPU).image.numpy()
        for number in range(NUM_PATCHES)
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a network scores in two precisions; None: nobody knows, or undefined."""

    metric: str | None = None
    fp32: float | None = None
    int8: float | None = None


def judge_int8(
    network: UNet,
    quantised: OpenVinoUNet,
    model: Model,
    volumes: Sequence[AnnotatedVolume],
    orientations: Sequence[int],
) -> Judged:
    """Score a network and itself in int8 on the validation rows.

    By the metric that chose its checkpoint. Objects are made by the rule and at the
    threshold that the network has chosen; other metrics take the threshold that is best
    for each precision.

    Parameters
    ----------
    network, quantised
        The same weights.
    model : Model
        Its description: metric, patch, class weights.
    volumes : sequence of AnnotatedVolume
        The validation rows; none: no scores.
    orientations : sequence of int
        Over which the prediction averages.
    """
    recipe = model.recipe
    if not volumes or recipe is None:
        return Judged()
    metrics: tuple[Metric, ...] = get_args(Metric)
    [metric] = [m for m in metrics if m == recipe.validation_metric]
    spec = model.spec
    weights = np.array(recipe.class_weights or np.ones(spec.num_learnt), np.float32)
    rule = _rule_of(model.thresholds, across=recipe.connectivity == "3d")
    validator = _Scorer(
        list(volumes),
        metric,
        class_weights=weights,
        precision="fp32",
        device=CPU,
        largest_input=2 * prod(learnt_patch(model)),
        objects=replace(rule, has_cores=spec.has_cores),
    )
    threshold = model.chosen_threshold
    found = (
        validator.rank(one, threshold, orientations) for one in (network, quantised)
    )
    return Judged(metric, *(score if isfinite(score) else None for score in found))


class _Scorer(Validator):
    """Scores networks as their masks are delivered."""

    def rank(
        self,
        network: UNet | OpenVinoUNet,
        threshold: float | None,
        orientations: Sequence[int],
    ) -> float:
        """Return the score; of objects that with the given rule and threshold."""
        if threshold is None or self.metric not in ("seg", "f1"):
            return self.score(network, orientations=orientations).score
        predictor = self._predictor(network, orientations)
        judge = ObjectJudge(self.metric, self._objects, [threshold])
        for stack in self._stacks(network.spec.ndim):
            judge.add(stack, *self._predict(predictor, stack))
        return judge.verdict().rank


def _rule_of(chosen: Mapping[str, float], *, across: bool) -> ObjectRule:
    """Return how objects are made, from what a network remembers of it."""
    rule = ObjectRule(
        "3d" if across else "2d", int(chosen.get("smallest_object_vox", 0))
    )
    if "seeds" not in chosen:
        return rule
    cut = Cut.of(chosen)
    return replace(
        rule,
        method="watershed",
        seeds=cut.seeds,
        seed_distance_vox=cut.distance,
        seed_reach_vox=int(chosen.get("seed_reach_vox", LEAST_REACH)),
        seed_threshold=chosen.get("seed_threshold"),
        core_threshold=chosen.get("core_threshold"),
    )


def learnt_patch(model: Model) -> Zyx:
    """Return the patch that a network has learnt from.

    Raises
    ------
    DataError
        If its description does not tell.
    """
    if model.recipe is None or model.recipe.patch is None:
        raise DataError(
            "model.json does not tell what the network has learnt from, and int8 is "
            "calibrated on that; use fp32 or bf16"
        )
    return model.recipe.patch
