"""Rule train_unet: from annotated sections to a network and its thresholds."""

import logging
import time
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpipe.augmentation import Augmentation
from unetpipe.averaging import Averaging
from unetpipe.checkpoints import (
    Best,
    Checkpoints,
    TrainingState,
    pack_weights,
    unpack_weights,
)
from unetpipe.claims import claim
from unetpipe.code_version import code_versions
from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.determinism import algorithms
from unetpipe.devices import check_step_memory, choose_device, name_device
from unetpipe.errors import ConfigError
from unetpipe.journal import check_board, open_board
from unetpipe.judges import Metric, ObjectRule
from unetpipe.keeping import keep_network
from unetpipe.launch import launch
from unetpipe.machine import num_processors
from unetpipe.model import UNet
from unetpipe.orientations import choose_orientations
from unetpipe.patches import choose_patch
from unetpipe.records import (
    circumstances,
    hash_file,
    write_bytes_atomic,
    write_record,
)
from unetpipe.sampling import PatchSampler
from unetpipe.team import Team, check_team, is_launched, joined_team
from unetpipe.training import Optimisation, train
from unetpipe.training_rows import check_rows, load_rows, warnings_about
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
    average: int | list[int] = 1,
) -> None:
    """Train a network on the training rows; choose it on the validation rows.

    With several processes this one only launches them; each then makes the same call.

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
    average : int or list of int
        Orientations that prediction averages over, as ``prediction.average`` names
        them: thresholds are chosen from probabilities that are averaged alike. The
        checkpoint is chosen without averaging, which would take as many times longer.

    Raises
    ------
    DataError, ConfigError, ResourceError
        Before training begins, if rows, classes, patch or memory do not fit.
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1, with the state saved.
    """
    if training.processes * training.nodes > 1 and not is_launched():
        sections = {
            "network": network,
            "training": training,
            "augmentation": augmentation,
            "weight_map": weight_map,
            "segmentation": segmentation,
        }
        paths = {
            "state": state,
            "model": model,
            "model_json": model_json,
            "history": history,
            "record": record,
        }
        launch(
            {"rows": rows, "average": average}
            | {name: s.model_dump(mode="json") for name, s in sections.items()}
            | {name: str(path) for name, path in paths.items()},
            processes=training.processes,
            nodes=training.nodes,
            node_command=training.node_command,
            folder=state / "team",
        )
        return
    train_rows, validate_rows = (
        load_rows(rows, role, network.num_classes, with_border=weight_map.enabled)
        for role in ("train", "validate")
    )
    check_rows(train_rows, validate_rows)
    _check_choices(training, has_validation=bool(validate_rows.volumes))
    warnings = warnings_about(train_rows, validate_rows)
    for warning in warnings:
        log.warning("%s", warning)
    spec = network.spec(train_rows.volumes[0].image.shape[0])
    pieces = [p.shape for v in train_rows.volumes for p in v.pieces(spec.ndim)]
    patch = choose_patch(training.patch, spec, pieces)
    optimisation = _optimisation_of(training)
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
        "deterministic": training.deterministic,
        "augmentation": augmentation.model_dump(mode="json"),
        "patch": list(patch),
        "class_weights": class_weights.tolist(),
        "train": train_rows.identity,
        "validate": validate_rows.identity,
        "code": code_versions(*ARITHMETIC),
    }
    with ExitStack() as stack:
        team, device = stack.enter_context(joined_team(choose_device(training.device)))
        stack.enter_context(algorithms(deterministic=training.deterministic))
        check_team(spec, training.batch_size, team.size)
        check_step_memory(
            spec,
            patch,
            len(team.share(training.batch_size)),
            device,
            is_averaged=training.averaging != "none",
            is_team=team.size > 1,
        )
        if team.is_first:
            path = state.with_name(f".{state.name}.claim")
            stack.enter_context(claim(path, f"the training in {state}"))
        checkpoints = Checkpoints(state, identity, is_writer=team.is_first)
        saved = checkpoints.load_state(last_step=training.steps)
        threads = _choose_threads(training, team, saved)
        torch.set_num_threads(threads)
        log.info(
            "training %s on %s, %d processes of %d threads: patch %s, class weights "
            "%s, %s",
            checkpoints.folder.name,
            device.type,
            team.size,
            threads,
            patch,
            class_weights.round(3).tolist(),
            f"going on after step {saved.step}" if saved else "from the beginning",
        )
        board = None
        if training.tensorboard and team.is_first:
            folder = checkpoints.folder / "tensorboard"
            curves = open_board(folder, saved.step if saved else 0)
            board = stack.enter_context(curves)
        validator = None
        if validate_rows.volumes:
            validator = Validator(
                validate_rows.volumes,
                metric,
                class_weights=class_weights,
                precision=training.precision,
                device=device,
                largest_input=2 * prod(patch),
                choose_by=segmentation.choose_by,
                objects=_object_rule(segmentation),
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
            validator,
            checkpoints,
            optimisation,
            class_weights=torch.from_numpy(class_weights),
            device=device,
            state=saved,
            team=team,
            board=board,
        )
        if not team.is_first:
            return
        began_writing = time.monotonic()
        orientations = choose_orientations(average)
        if validator and done.best and len(orientations) > 1:
            done.best = _judge_averaged(
                done.best, UNet(spec), checkpoints, validator, orientations
            )
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
                    "thresholds_average": list(orientations),
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
                    device=name_device(device),
                    threads=threads,
                    processes=team.size,
                    seconds_writing=time.monotonic() - began_writing,
                ),
            },
        )
        keep_network(record.parent)


def _check_choices(training: TrainingConfig, *, has_validation: bool) -> None:
    """Raise ConfigError for keys that cannot do what they say."""
    if training.patience and not has_validation:
        raise ConfigError(
            f"training.patience is {training.patience}, but no row of the sheet has "
            "the role validate, so nothing says when to stop; add one, or remove the "
            "key"
        )
    if training.tensorboard:
        check_board()


def _optimisation_of(training: TrainingConfig) -> Optimisation:
    values = training.model_dump()
    averaging = {n: v for n, v in values.items() if n.startswith("averaging")}
    wanted = {f.name for f in fields(Optimisation)} - {"averaging"}
    return Optimisation(
        averaging=Averaging(**averaging), **{n: values[n] for n in wanted}
    )


def _choose_threads(
    training: TrainingConfig, team: Team, saved: TrainingState | None
) -> int:
    """Return the threads of each process; a resumed training keeps those it had."""
    if training.threads != "auto":
        return training.threads
    if saved and saved.processes == team.size:
        return saved.threads  # as it began: other threads, other bits
    return max(1, num_processors() // team.local_size)


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

    How often state is saved changes nothing, nor does when it is enough; how many steps
    follow only where the schedule knows the end. So a training can be made longer.
    """
    values = asdict(optimisation)
    for name in ("checkpoint_every", "patience"):
        values.pop(name)
    if optimisation.schedule != "cosine":
        values.pop("steps")
    return values


def _judge_averaged(
    best: Best,
    network: UNet,
    checkpoints: Checkpoints,
    validator: Validator,
    orientations: tuple[int, ...],
) -> Best:
    """Return the best checkpoint with thresholds for averaged probabilities."""
    network.load_state_dict(unpack_weights(checkpoints.read_best(best)))
    judged = validator.score(network, orientations=orientations)
    log.info(
        "averaged over %d orientations: %s, thresholds %s, on the validation rows",
        len(orientations),
        judged.scores,
        judged.thresholds,
    )
    return replace(best, thresholds=judged.thresholds, scores=judged.scores)


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
            "is_averaged": best.is_averaged if best else False,
            "thresholds": best.thresholds if best else {},
            "validation": best.scores if best else {},
            "step": best.step if best else done.step,
        },
    )
