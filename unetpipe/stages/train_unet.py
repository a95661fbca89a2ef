"""Rule train_unet: from annotated sections to a network and its thresholds."""

import logging
import os
import time
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpipe.augmentation import Augmentation
from unetpipe.checkpoints import Checkpoints, TrainingState, pack_weights
from unetpipe.claims import claim
from unetpipe.code_version import code_versions
from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.errors import ResourceError
from unetpipe.geometry import Zyx
from unetpipe.inference import choose_device
from unetpipe.judges import Metric, ObjectRule
from unetpipe.machine import GIB, choose_threads
from unetpipe.model import UNet
from unetpipe.patches import choose_patch, project_memory
from unetpipe.records import (
    circumstances,
    hash_file,
    write_bytes_atomic,
    write_record,
)
from unetpipe.sampling import PatchSampler
from unetpipe.training import Optimisation, train
from unetpipe.training_rows import check_rows, load_rows, warnings_about
from unetpipe.unet_spec import UNetSpec
from unetpipe.validation import Validator, choose_metric, choose_threshold_metric
from unetpipe.weight_map import balance_classes

log = logging.getLogger(__name__)

ARITHMETIC = tuple(
    f"unetpipe.{name}"
    for name in ("training", "model", "loss", "augmentation", "sampling", "validation")
)


def train_unet(
    *,
    rows: list[dict[str, Any]],
    network: NetworkConfig,
    training: TrainingConfig,
    augmentation: AugmentationConfig,
    weight_map: WeightMapConfig,
    segmentation: SegmentationConfig,
    state: Path,
    model: Path,
    model_json: Path,
    history: Path,
    record: Path,
) -> None:
    """Train a network on the training rows; choose it on the validation rows.

    Parameters
    ----------
    rows : list of dict
        ``ingest`` and ``weight_map`` (paths of records), ``sections`` (numbers, None
        for all) and ``role`` (train or validate) of each row of the sheet.
    network, training, augmentation, weight_map : config sections
        The recipe.
    segmentation : SegmentationConfig
        What chooses thresholds, and how objects are made where their score does.
    state : Path
        Folder of the training state: repeating the call goes on from there.
    model, model_json : Path
        Weights (safetensors, float32) and description of the network.
    history : Path
        One line a step (CSV).
    record : Path
        ``train.json``, written last.

    Raises
    ------
    DataError, ConfigError, ResourceError
        Before training begins, if rows, classes, patch or memory do not fit.
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1, with the state saved.
    """
    train_rows, validate_rows = (
        load_rows(rows, role, network.num_classes, with_border=weight_map.enabled)
        for role in ("train", "validate")
    )
    check_rows(train_rows, validate_rows)
    warnings = warnings_about(train_rows, validate_rows)
    for warning in warnings:
        log.warning("%s", warning)
    spec = network.spec(train_rows.volumes[0].image.shape[0])
    pieces = [p.shape for v in train_rows.volumes for p in v.pieces(spec.ndim)]
    patch = choose_patch(training.patch, spec, pieces)
    device = choose_device(training.device)
    _check_memory(spec, patch, training.batch_size, device)
    optimisation = Optimisation(
        **training.model_dump(
            exclude={"patch", "threads", "device", "seed", "validation_metric"}
        )
    )
    class_weights = np.ones(network.num_classes, np.float32)
    if weight_map.class_balance:
        class_weights = balance_classes(train_rows.class_counts)
    metric = choose_metric(training.validation_metric, network.num_classes)
    choosing = _choosing(segmentation, metric, network.num_classes)
    identity = {
        "spec": spec.to_json(),
        "initialization": network.initialization,
        "optimisation": _identity_of(optimisation),
        "validation_metric": metric,
        "choosing": choosing,
        "threads": training.threads,
        "seed": training.seed,
        "augmentation": augmentation.model_dump(mode="json"),
        "patch": list(patch),
        "class_weights": class_weights.tolist(),
        "train": train_rows.identity,
        "validate": validate_rows.identity,
        "code": code_versions(*ARITHMETIC),
    }
    with claim(state.with_name(f".{state.name}.claim"), f"the training in {state}"):
        checkpoints = Checkpoints(state, identity)
        saved = checkpoints.load_state(last_step=training.steps)
        threads = choose_threads(training.threads)
        if saved and training.threads == "auto":
            threads = saved.threads  # as it began: other threads, other bits
        torch.set_num_threads(threads)
        log.info(
            "training %s on %s, %d threads: patch %s, class weights %s, %s",
            checkpoints.folder.name,
            device.type,
            threads,
            patch,
            class_weights.round(3).tolist(),
            f"going on after step {saved.step}" if saved else "from the beginning",
        )
        torch.manual_seed(training.seed)
        done = train(
            UNet(spec, initialization=network.initialization),
            PatchSampler(
                train_rows.volumes,
                spec,
                patch,
                Augmentation(**augmentation.model_dump()),
                seed=training.seed,
            ),
            Validator(
                validate_rows.volumes,
                metric,
                class_weights=class_weights,
                precision=training.precision,
                device=device,
                largest_input=2 * prod(patch),
                choose_by=segmentation.choose_by,
                objects=_object_rule(segmentation),
            )
            if validate_rows.volumes
            else None,
            checkpoints,
            optimisation,
            class_weights=torch.from_numpy(class_weights),
            device=device,
            state=saved,
        )
        began_writing = time.monotonic()
        _write_model(
            done,
            checkpoints,
            model,
            model_json,
            {
                "spec": spec.to_json(),
                "num_classes": network.num_classes,
                "normalisation": "volume mean and standard deviation",
                "recipe": {
                    **identity,
                    "weight_map": weight_map.model_dump(mode="json"),
                },
            },
        )
        write_bytes_atomic(history, (checkpoints.folder / "history.csv").read_bytes())
        write_record(
            record,
            {
                "model": {
                    "weights_sha256": hash_file(model),
                    "description_sha256": hash_file(model_json),
                    "recipe": checkpoints.identity_hash,
                },
                "steps": done.step,
                "best_step": done.best.step if done.best else done.step,
                "metric": metric if validate_rows.volumes else None,
                "seconds": done.seconds,
                "resumed_at": done.resumed_at,
                "patch": list(patch),
                "output": list(spec.output_shape(patch)),
                "class_counts": train_rows.class_counts.tolist(),
                "class_weights": class_weights.tolist(),
                "warnings": warnings,
                "circumstances": circumstances(
                    device=_device_name(device),
                    threads=threads,
                    seconds_writing=time.monotonic() - began_writing,
                ),
            },
        )


def _check_memory(
    spec: UNetSpec, patch: Zyx, batch_size: int, device: torch.device
) -> None:
    """Log what a step keeps in memory; raise ResourceError if there is less."""
    projected = project_memory(spec, patch, batch_size)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    log.info(
        "patches of %s need about %.2f GiB of the %.1f GiB of %s",
        patch,
        projected / GIB,
        total / GIB,
        _device_name(device),
    )
    if projected > total:
        raise ResourceError(
            f"a step on {batch_size} patches of {patch} needs about "
            f"{projected / GIB:.1f} GiB, {_device_name(device)} has "
            f"{total / GIB:.1f} GiB; lower training.patch, training.batch_size or "
            "network.base_channels"
        )


def _object_rule(segmentation: SegmentationConfig) -> ObjectRule:
    smallest = segmentation.smallest_object_vox
    return ObjectRule(
        segmentation.connectivity, None if smallest == "auto" else smallest
    )


def _choosing(
    segmentation: SegmentationConfig, metric: Metric, num_classes: int
) -> dict[str, Any]:
    """Return what chooses thresholds, and how objects are made if their score does."""
    by = choose_threshold_metric(
        segmentation.choose_by, metric, num_classes=num_classes
    )
    found: dict[str, Any] = {"by": by}
    if {by, metric} & {"seg", "f1"}:
        found |= asdict(_object_rule(segmentation))
    return found


def _identity_of(optimisation: Optimisation) -> dict[str, Any]:
    """Return what the weights after some step depend on.

    How often state is saved changes nothing; how many steps follow only where the
    schedule knows the end. So a training can be made longer.
    """
    values = asdict(optimisation)
    values.pop("checkpoint_every")
    if optimisation.schedule != "cosine":
        values.pop("steps")
    return values


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu"


def _write_model(
    done: TrainingState,
    checkpoints: Checkpoints,
    model: Path,
    model_json: Path,
    description: dict[str, Any],
) -> None:
    """Write the best weights (the last, without validation) and what they are."""
    best = done.best
    content = checkpoints.read_best(best) if best else pack_weights(done.network)
    write_bytes_atomic(model, content)
    write_record(
        model_json,
        {
            **description,
            "weights_sha256": hash_file(model),
            "thresholds": best.thresholds if best else {},
            "validation": best.scores if best else {},
            "step": best.step if best else done.step,
        },
    )
