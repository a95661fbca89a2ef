"""Rule train_unet: from annotated sections to a network and its thresholds."""

import logging
import os
import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.augmentation import Augmentation
from unetpipe.checkpoints import Checkpoints, TrainingState, pack_weights
from unetpipe.code_version import code_versions
from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.errors import ConfigError, DataError, ResourceError
from unetpipe.geometry import AXES, Zyx, as_zyx, round_up
from unetpipe.inference import choose_device
from unetpipe.machine import GIB, choose_threads
from unetpipe.model import UNet
from unetpipe.records import (
    circumstances,
    hash_file,
    hash_of,
    read_record,
    write_bytes_atomic,
    write_record,
)
from unetpipe.sampling import AnnotatedVolume, ArrayLike, PatchSampler
from unetpipe.training import Optimisation, train
from unetpipe.unet_spec import UNetSpec
from unetpipe.validation import Validator, choose_metric
from unetpipe.volumes import open_volume
from unetpipe.weight_map import balance_classes

log = logging.getLogger(__name__)

# The paper's tile, and that of its volumetric variant (Cicek et al. 2016, Fig. 2).
LARGEST_DEFAULT_PATCH = {2: (1, 572, 572), 3: (116, 132, 132)}
# Volumes of fewer bytes are read once, larger ones patch by patch.
LARGEST_IN_MEMORY = 2 * GIB
# Feature maps and their gradients.
BYTES_PER_FEATURE = 8
ARITHMETIC = tuple(
    f"unetpipe.{name}"
    for name in ("training", "model", "loss", "augmentation", "sampling", "validation")
)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one role: volumes, known voxels of each class, and what they are."""

    volumes: list[AnnotatedVolume]
    class_counts: NDArray[np.int64]
    identity: list[dict[str, Any]]
    empty_sections: list[str]


def train_unet(
    *,
    rows: list[dict[str, Any]],
    network: NetworkConfig,
    training: TrainingConfig,
    augmentation: AugmentationConfig,
    weight_map: WeightMapConfig,
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
    unetpipe.training.Interrupted
        After SIGTERM, SIGINT or SIGUSR1, with the state saved.
    """
    train_rows = _load_rows(rows, "train", network.num_classes)
    validate_rows = _load_rows(rows, "validate", network.num_classes)
    _check_rows(train_rows, validate_rows)
    spec = network.spec(train_rows.volumes[0].image.shape[0])
    patch = _choose_patch(training.patch, spec, train_rows.volumes)
    device = choose_device(training.device)
    _check_memory(spec, patch, training.batch_size, device)
    optimisation = Optimisation(
        **training.model_dump(
            exclude={"patch", "threads", "device", "validation_metric"}
        )
    )
    class_weights = np.ones(network.num_classes, np.float32)
    if weight_map.class_balance:
        class_weights = balance_classes(train_rows.class_counts)
    metric = choose_metric(training.validation_metric, network.num_classes)
    identity = {
        "spec": spec.to_json(),
        "initialization": network.initialization,
        "optimisation": _identity_of(optimisation),
        "validation_metric": metric,
        "threads": training.threads,
        "augmentation": augmentation.model_dump(mode="json"),
        "patch": list(patch),
        "class_weights": class_weights.tolist(),
        "train": train_rows.identity,
        "validate": validate_rows.identity,
        "code": code_versions(*ARITHMETIC),
    }
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
            "recipe": {**identity, "weight_map": weight_map.model_dump(mode="json")},
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
            "warnings": _warnings(train_rows, validate_rows),
            "circumstances": circumstances(
                device=_device_name(device),
                threads=threads,
                seconds_writing=time.monotonic() - began_writing,
            ),
        },
    )


def _load_rows(rows: list[dict[str, Any]], role: str, num_classes: int) -> _Rows:
    """Open the volumes of one role, and describe their bytes for the recipe."""
    found = _Rows([], np.zeros(num_classes, np.int64), [], [])
    for row in rows:
        if row["role"] != role:
            continue
        volume = read_record(Path(row["ingest"]))
        weights = read_record(Path(row["weight_map"]))
        counts = np.array(weights["class_counts"], np.int64)
        if counts.shape[1] != num_classes:
            raise ConfigError(
                f"the weight map of volume {volume['volume']} has {counts.shape[1]} "
                f"classes, network.num_classes is {num_classes}; compute it again"
            )
        sections = row["sections"]
        if sections is None:
            sections = range(volume["shape"][0])
        numbers = tuple(sorted(sections))
        if numbers and numbers[-1] >= len(counts):
            raise ConfigError(
                f"the sheet names section {numbers[-1]} of volume {volume['volume']}, "
                f"which has sections 0 to {len(counts) - 1}; correct the sheet"
            )
        counts = counts[list(numbers)]
        found.class_counts[:] += counts.sum(axis=0)
        found.volumes.append(_open_annotated(volume, weights, numbers, counts))
        found.identity.append(
            {
                "volume": volume["volume"],
                "sections": list(numbers),
                "image": volume["image"]["content_sha256"],
                "statistics": hash_of(volume["statistics"]),
                "target": weights["target"]["content_sha256"],
                "border_term": weights["border_term"]["content_sha256"],
            }
        )
        found.empty_sections.extend(
            f"{volume['volume']} section {z}"
            for z, of_section in zip(numbers, counts, strict=True)
            if not of_section[1:].any()
        )
    return found


def _open_annotated(
    volume: dict[str, Any],
    weights: dict[str, Any],
    sections: tuple[int, ...],
    counts: NDArray[np.int64],
) -> AnnotatedVolume:
    mean, std = (
        np.array([channel[key] for channel in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    return AnnotatedVolume(
        name=volume["volume"],
        image=_load(volume["image"]["store"]),
        target=_load(weights["target"]["store"]),
        border=_load(weights["border_term"]["store"]),
        mean=mean,
        std=std,
        sections=sections,
        num_known=tuple(counts.sum(axis=1).tolist()),
    )


def _load(store: str) -> ArrayLike:
    """Return a volume as an array in memory if it is small, else as it lies on disk."""
    array: Any = open_volume(Path(store))
    return np.asarray(array[...]) if array.nbytes <= LARGEST_IN_MEMORY else array


def _check_rows(train_rows: _Rows, validate_rows: _Rows) -> None:
    if not train_rows.volumes:
        raise ConfigError(
            "no row of the sheet has the role train; give it to annotated sections"
        )
    channels = {
        v.name: v.image.shape[0] for v in train_rows.volumes + validate_rows.volumes
    }
    if len(set(channels.values())) > 1:
        raise DataError(
            f"volumes differ in their number of channels: {channels}; one network "
            "takes one number, so train on volumes that have it"
        )
    present = np.flatnonzero(train_rows.class_counts)
    if len(present) < 2:
        names = ", ".join(dict.fromkeys(v.name for v in train_rows.volumes))
        raise DataError(
            f"the training sections of {names} hold known voxels of "
            f"{len(present)} classes ({present.tolist()}) only; a network needs at "
            "least two: check the labels, label_kind and unlabelled"
        )
    for warning in _warnings(train_rows, validate_rows):
        log.warning("%s", warning)


def _warnings(train_rows: _Rows, validate_rows: _Rows) -> list[str]:
    warnings = []
    absent = np.flatnonzero(train_rows.class_counts == 0).tolist()
    if absent:
        warnings.append(f"no training voxel is of class {absent}; it weighs 1")
    if train_rows.empty_sections:
        warnings.append(
            f"{len(train_rows.empty_sections)} training sections hold background only: "
            + ", ".join(train_rows.empty_sections[:10])
        )
    if not validate_rows.volumes:
        warnings.append(
            "no row has the role validate: the last weights are taken, and thresholds "
            "are 0.5"
        )
    return warnings


def _choose_patch(
    wanted: Zyx | None, spec: UNetSpec, volumes: list[AnnotatedVolume]
) -> Zyx:
    """Return the network's input: a legal size, no larger than the sections need.

    Raises
    ------
    ConfigError
        If the wanted patch would see every voxel several times by mirroring.
    """
    largest = as_zyx(max(n) for n in zip(*_piece_shapes(volumes, spec), strict=True))
    needed = _legal_above(largest, spec, holds_output=True)
    if wanted is None:
        default = _legal_above(LARGEST_DEFAULT_PATCH[spec.ndim], spec)
        return as_zyx(map(min, default, needed))
    patch = _legal_above(wanted, spec)
    output = spec.output_shape(patch)
    for axis, (n, limit) in enumerate(zip(output, largest, strict=True)):
        if patch[axis] > needed[axis] and n >= 2 * limit:
            raise ConfigError(
                f"training.patch is {wanted[axis]} voxels along {AXES[axis]}: the "
                f"network's output would be {n}, but the training sections have "
                f"{limit}; use at most {needed[axis]}"
            )
    return patch


def _piece_shapes(volumes: list[AnnotatedVolume], spec: UNetSpec) -> list[Zyx]:
    return [piece.shape for volume in volumes for piece in volume.pieces(spec.ndim)]


def _legal_above(shape: Zyx, spec: UNetSpec, *, holds_output: bool = False) -> Zyx:
    """Return the smallest legal input of this size, or whose output has this size."""
    if spec.padding == "same":
        return as_zyx(map(round_up, shape, spec.pooling_grid))
    if holds_output:
        return spec.input_shape_for(shape)
    kept = (max(1, n - t) for n, t in zip(shape, spec.halo.total, strict=True))
    return spec.input_shape_for(as_zyx(kept))


def _check_memory(
    spec: UNetSpec, patch: Zyx, batch_size: int, device: torch.device
) -> None:
    """Project what a step keeps in memory; raise ResourceError if there is less."""
    values = sum(layer.num_values for layer in spec.layers(patch))
    projected = values * BYTES_PER_FEATURE * batch_size + 16 * spec.num_parameters
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
