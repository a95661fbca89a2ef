"""The recipe of a training: from sections of the configuration and rows of the sheet.

What is ``auto`` is chosen here, and what decides the trained bits has its name here.
"""

import logging
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import SegmentationConfig, TrainingConfig
from unetpipe.errors import ConfigError
from unetpipe.metrics.for_labels import Metric, metric_for_labels
from unetpipe.network.devices import choose_device, has_arithmetic
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.segmentation.choice import ObjectRule
from unetpipe.targets.affinities import balance_pairs, count_affinity_pairs
from unetpipe.targets.annotated import (
    Rows,
    check_annotated_rows,
    warnings_about_annotation,
)
from unetpipe.targets.weight_map import balance_classes
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.patch_size import check_normalised, check_pairs, choose_patch
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.averaging import Averaging
from unetpipe.training.journal import check_board
from unetpipe.training.optimiser import Optimisation
from unetpipe.training.order import TrainingOrder
from unetpipe.training.parent import Parent, find_parent_network

log = logging.getLogger(__name__)

USUAL_MOMENTUM = {"sgd": 0.99, "adamw": 0.9}
ARITHMETIC = tuple(
    f"unetpipe.{name}"
    for name in (
        *("training.loop", "training.optimiser", "network.unet", "training.loss"),
        *("training.augmentation", "training.sampling", "training.validation"),
        "training.parent",
    )
)


@dataclass(frozen=True)
class TrainingRecipe:
    """What is trained on what, and how.

    Attributes
    ----------
    train_rows, validate_rows : Rows
        The annotated volumes; those to validate may be none.
    spec : UNetSpec
        The architecture.
    patch : (z, y, x)
        Voxels that the network sees at once.
    optimisation : Optimisation
        Rates, steps, stopping.
    class_weights : float32 array, shape (k,)
        Of the classes in the loss; of affinities two for each offset.
    metric : str
        What chooses the checkpoint.
    objects : ObjectRule
        How objects are made where their score is asked.
    identity : dict
        What the trained bits depend on.
    warnings : list of str
        What is odd about the rows, logged already.
    parent : Parent or None
        The network whose weights are the first ones; None: random ones.
    """

    train_rows: Rows
    validate_rows: Rows
    spec: UNetSpec
    patch: Zyx
    optimisation: Optimisation
    class_weights: NDArray[np.float32]
    metric: Metric
    objects: ObjectRule
    identity: dict[str, Any]
    warnings: list[str]
    parent: Parent | None = None

    @property
    def judged_weights(self) -> NDArray[np.float32]:
        """Weights of the classes that the validation rows are judged by."""
        if self.spec.has_affinities:
            return np.ones(self.spec.num_classes, np.float32)
        return self.class_weights


def _warn_of_single_sections(rows: Rows) -> list[str]:
    """Say that objects across sections are judged by sections without neighbours."""
    depths = [stack.shape[0] for v in rows.volumes for stack in v.stacks(3)]
    is_deep = any(v.target.shape[0] > 1 for v in rows.volumes)
    if not is_deep or max(depths, default=0) > 1:
        return []
    return [
        "objects join across sections (segmentation.connectivity: 3d), but no section "
        "with the role validate follows another one: checkpoint, threshold and seeds "
        "are chosen in single sections, where nothing can be joined wrongly; give the "
        "role to sections that follow each other"
    ]


def plan_training(
    train_rows: Rows, validate_rows: Rows, order: TrainingOrder
) -> TrainingRecipe:
    """Choose what the configuration leaves open; open nothing.

    Parameters
    ----------
    train_rows, validate_rows : Rows
        Opened: those to learn from, those to choose by.
    order : TrainingOrder
        Sections of the configuration.

    Raises
    ------
    DataError, ConfigError
        If rows, classes or patch do not fit.
    """
    network, training, segmentation = order.network, order.training, order.segmentation
    check_annotated_rows(train_rows, validate_rows)
    _check_choices(training, has_validation=bool(validate_rows.volumes))
    spec = network.spec(train_rows.volumes[0].image.shape[0])
    parent = find_parent_network(training, spec)
    warnings = warnings_about_annotation(train_rows, validate_rows)
    warnings += parent.warnings(train_rows.percentiles) if parent else []
    stacks = [p.shape for v in train_rows.volumes for p in v.stacks(spec.ndim)]
    patch = choose_patch(training.patch, spec, stacks)
    check_normalised(spec, patch, training.batch_size)
    check_pairs(spec, patch, stacks)
    optimisation = _optimisation_of(training)
    class_weights = np.ones(spec.num_learnt, np.float32)
    if balance := order.weight_map.class_balance:
        power = 0.5 if balance == "root" else 1.0
        class_weights = _balance(train_rows, spec, power)
    metric = _choose_metric(training.validation_metric, train_rows, spec)
    _check_cuts(segmentation.choose_by, metric, train_rows, spec)
    objects = _object_rule(segmentation, spec)
    if metric in ("seg", "f1") and objects.connectivity == "3d":
        warnings += _warn_of_single_sections(validate_rows)
    for warning in warnings:
        log.warning("%s", warning)
    identity = {
        "spec": spec.to_json(),
        "initialization": network.initialization,
        "optimisation": _identity_of(optimisation),
        "validation_metric": metric,
        "connectivity": objects.connectivity if metric in ("seg", "f1") else None,
        **({"cut": objects.quick().to_json()} if spec.has_cores else {}),
        "threads": training.threads,
        "seed": training.seed,
        "deterministic": training.deterministic,
        "augmentation": order.augmentation.model_dump(mode="json"),
        "patch": list(patch),
        "foreground_fraction": training.foreground_fraction,
        "class_weights": class_weights.tolist(),
        "train": train_rows.identity,
        "validate": validate_rows.identity,
        "code": code_fingerprint(*ARITHMETIC),
    }
    if parent:
        identity["parent"] = parent.identity
    return TrainingRecipe(
        train_rows,
        validate_rows,
        spec,
        patch,
        optimisation,
        class_weights,
        metric,
        objects,
        identity,
        warnings,
        parent,
    )


def _balance(rows: Rows, spec: UNetSpec, power: float) -> NDArray[np.float32]:
    """Return weights of inverse frequency: of classes, or of pairs of each offset."""
    if not spec.has_affinities:
        return balance_classes(rows.class_counts, power)
    counts = count_affinity_pairs(rows.volumes, spec.ndim, spec.affinity_offsets)
    return balance_pairs(counts, power).reshape(-1)


def _check_choices(training: TrainingConfig, *, has_validation: bool) -> None:
    """Raise ConfigError for keys that cannot do what they say."""
    if training.temperature_scaling and not has_validation:
        raise ConfigError(
            "training.temperature_scaling is fitted on validation rows, and no row of "
            "the sheet has the role validate; add one, or remove the key"
        )
    if training.patience and not has_validation:
        raise ConfigError(
            f"training.patience is {training.patience}, but no row of the sheet has "
            "the role validate, so nothing says when to stop; add one, or remove the "
            "key"
        )
    if training.freeze_contracting and training.start_from is None:
        raise ConfigError(
            "training.freeze_contracting keeps the weights of the contracting path as "
            "they are, and without training.start_from they are random; name a network "
            "there, or remove the key"
        )
    if training.tensorboard:
        check_board()


def _check_cuts(
    by: Metric | Literal["auto"], metric: Metric, rows: Rows, spec: UNetSpec
) -> None:
    """Refuse to choose by masks where objects are cut out of masks that touch."""
    if not (spec.has_cores and rows.has_ids and "v_rand" in (by, metric)):
        return
    key = "training.validation_metric" if metric == "v_rand" else "choose_by"
    raise ConfigError(
        f"{key} is v_rand, which compares masks, but with network.targets "
        f"{spec.targets} cells that touch are one piece in them; use auto, f1 or seg"
    )


def _choose_metric(
    wanted: Metric | Literal["auto"], rows: Rows, spec: UNetSpec
) -> Metric:
    """Return the metric that is wanted, or that the annotations ask for."""
    if wanted != "auto":
        return wanted
    counts = rows.class_counts.tolist()
    if spec.has_cores:  # core and rim are of one class
        counts = [counts[0], sum(counts[1:])]
    suited = metric_for_labels(
        counts,
        has_ids=rows.has_ids,
        cells_per_section=rows.cells_per_section,
    )
    log.info("training.validation_metric is %s: %s", suited.metric, suited.why)
    if suited.metric == "v_rand" and spec.has_cores and rows.has_ids:
        log.info("with cores objects are cut, which V_Rand of masks does not see: f1")
        return "f1"
    return suited.metric


def _choose_precision(training: TrainingConfig) -> Literal["fp32", "bf16"]:
    if training.precision == "fp32":
        return "fp32"
    is_native = has_arithmetic(choose_device(training.device), "bf16")
    if training.precision == "auto":
        chosen: Literal["fp32", "bf16"] = "bf16" if is_native else "fp32"
        log.info("training.precision is %s on this device", chosen)
        return chosen
    if not is_native:
        log.warning(
            "training.precision is bf16, which this device only emulates: training "
            "will be several times slower than in fp32; auto or fp32 is quicker"
        )
    return "bf16"


def _optimisation_of(training: TrainingConfig) -> Optimisation:
    values = training.model_dump() | {"precision": _choose_precision(training)}
    averaging = {n: v for n, v in values.items() if n.startswith("averaging")}
    wanted = {f.name for f in fields(Optimisation)} - {"averaging"}
    if training.momentum == "auto":
        values["momentum"] = USUAL_MOMENTUM[training.optimizer]
    return Optimisation(
        averaging=Averaging(**averaging), **{n: values[n] for n in wanted}
    )


def _object_rule(segmentation: SegmentationConfig, spec: UNetSpec) -> ObjectRule:
    smallest: int | None = None
    if segmentation.smallest_object_vox != "auto":
        smallest = segmentation.smallest_object_vox
    distance: float | None = None
    if segmentation.seed_distance_vox != "auto":
        distance = segmentation.seed_distance_vox
    mean: float | None = None
    if segmentation.merge_threshold != "auto":
        mean = segmentation.merge_threshold
    reach: int | None = None
    if segmentation.seed_reach_vox != "auto":
        reach = segmentation.seed_reach_vox
    return ObjectRule(
        segmentation.connectivity,
        smallest,
        segmentation.method,
        distance,
        reach,
        segmentation.flood_threshold,
        segmentation.seeds,
        segmentation.seed_threshold,
        None if segmentation.core_threshold == "auto" else segmentation.core_threshold,
        spec.has_cores,
        spec.affinity_offsets,
        segmentation.fragment_vox,
        mean,
    )


def _identity_of(optimisation: Optimisation) -> dict[str, Any]:
    """Return what the weights after some step depend on.

    How often state is saved changes nothing, nor does when it is enough; how many steps
    follow only where the schedule knows the end. So a training can be made longer.
    """
    values = asdict(optimisation)
    for name in ("checkpoint_every", "patience"):
        values.pop(name)
    if optimisation.schedule != "cosine":
        values.pop("steps")
    return values
