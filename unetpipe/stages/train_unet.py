"""Rule train_unet: from annotated sections to a network and its thresholds."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.network.determinism import algorithms
from unetpipe.network.devices import (
    check_step_memory,
    choose_device,
    has_arithmetic,
    name_device,
)
from unetpipe.network.unet import UNet
from unetpipe.network.weights import pack_weights, unpack_weights
from unetpipe.runtime.files import (
    circumstances,
    hash_file,
    write_bytes_atomic,
    write_record,
)
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import num_processors
from unetpipe.storage.keeping import keep_network
from unetpipe.targets.rows import load_rows
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.checkpoints import (
    Best,
    Checkpoints,
    TrainingState,
)
from unetpipe.training.distributed import Team, check_team, is_launched, joined_team
from unetpipe.training.journal import open_board
from unetpipe.training.launch import launch
from unetpipe.training.loop import train
from unetpipe.training.recipe import plan_training
from unetpipe.training.sampling import PatchSampler
from unetpipe.training.validation import Validator

log = logging.getLogger(__name__)

THREADS_BESIDE_GPU = 2


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
    precision: str = "fp32",
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
    precision : str
        Of the prediction: thresholds are chosen from what it will compute.

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
            {"rows": rows, "average": average, "precision": precision}
            | {name: s.model_dump(mode="json") for name, s in sections.items()}
            | {name: str(path) for name, path in paths.items()},
            processes=training.processes,
            nodes=training.nodes,
            node_command=training.node_command,
            folder=state / "team",
        )
        return
    opened = (
        load_rows(rows, role, network.num_classes, with_border=weight_map.enabled)
        for role in ("train", "validate")
    )
    recipe = plan_training(
        *opened,
        network=network,
        training=training,
        augmentation=augmentation,
        weight_map=weight_map,
        segmentation=segmentation,
    )
    spec, patch = recipe.spec, recipe.patch
    with ExitStack() as stack:
        team, device = stack.enter_context(joined_team(choose_device(training.device)))
        stack.enter_context(algorithms(deterministic=training.deterministic))
        check_team(spec, training.batch_size, team.size)
        check_step_memory(
            spec,
            patch,
            len(team.share(training.batch_size)),
            device,
            is_adaptive=training.optimizer == "adamw",
            is_averaged=training.averaging != "none",
            is_team=team.size > 1,
        )
        if team.is_first:
            path = state.with_name(f".{state.name}.claim")
            stack.enter_context(claim(path, f"the training in {state}"))
        checkpoints = Checkpoints(state, recipe.identity, is_writer=team.is_first)
        saved = checkpoints.load_state(last_step=training.steps)
        threads = _choose_threads(training, team, saved, device)
        torch.set_num_threads(threads)
        log.info(
            "training %s on %s, %d processes of %d threads: patch %s, class weights "
            "%s, %s",
            checkpoints.folder.name,
            device.type,
            team.size,
            threads,
            patch,
            recipe.class_weights.round(3).tolist(),
            f"going on after step {saved.step}" if saved else "from the beginning",
        )
        board = None
        if training.tensorboard and team.is_first:
            folder = checkpoints.folder / "tensorboard"
            curves = open_board(folder, saved.step if saved else 0)
            board = stack.enter_context(curves)
        validator = None
        if recipe.validate_rows.volumes:
            validator = Validator(
                recipe.validate_rows.volumes,
                recipe.metric,
                class_weights=recipe.class_weights,
                precision=training.precision,
                device=device,
                largest_input=2 * prod(patch),
                choose_by=segmentation.choose_by,
                objects=recipe.objects,
            )
            log.info("%s", recipe.optimisation.describe_validations())
        torch.manual_seed(training.seed)
        done = train(
            UNet(spec, initialization=network.initialization),
            PatchSampler(
                recipe.train_rows.volumes,
                spec,
                patch,
                Augmentation(**augmentation.model_dump()),
                seed=training.seed,
                foreground_fraction=training.foreground_fraction,
            ),
            validator,
            checkpoints,
            recipe.optimisation,
            class_weights=torch.from_numpy(recipe.class_weights),
            device=device,
            state=saved,
            team=team,
            board=board,
        )
        if not team.is_first:
            return
        began_writing = time.monotonic()
        orientations = choose_orientations(average)
        notes: tuple[str, ...] = ()
        if validator and done.best:
            done.best, notes = _choose_objects(
                *(done.best, UNet(spec), checkpoints, validator),
                precision if has_arithmetic(device, precision) else "fp32",
                orientations,
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
                    **recipe.identity,
                    "weight_map": weight_map.model_dump(mode="json"),
                    "thresholds_average": list(orientations),
                    "thresholds_precision": precision,
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
                "metric": recipe.metric if validator else None,
                "seconds": done.seconds,
                "resumed_at": done.resumed_at,
                "patch": list(patch),
                "output": list(spec.output_shape(patch)),
                "class_counts": recipe.train_rows.class_counts.tolist(),
                "class_weights": recipe.class_weights.tolist(),
                "warnings": [*recipe.warnings, *notes],
                "circumstances": circumstances(
                    device=name_device(device),
                    threads=threads,
                    processes=team.size,
                    seconds_writing=time.monotonic() - began_writing,
                ),
            },
        )
        keep_network(record.parent)


def _choose_threads(
    training: TrainingConfig,
    team: Team,
    saved: TrainingState | None,
    device: torch.device,
) -> int:
    """Return the threads of each process; a resumed training keeps those it had."""
    if training.threads != "auto":
        return training.threads
    share = max(1, num_processors() // team.local_size)
    if device.type == "cuda":
        # Processors only draw patches, in small steps that many threads slow down.
        return min(THREADS_BESIDE_GPU, share)
    if saved and saved.processes == team.size and saved.device in ("", device.type):
        return saved.threads  # as it began: other threads, other bits
    return share


def _choose_objects(
    best: Best,
    network: UNet,
    checkpoints: Checkpoints,
    validator: Validator,
    precision: str,
    orientations: tuple[int, ...],
) -> tuple[Best, tuple[str, ...]]:
    """Return the best checkpoint with the rule for objects, and what is odd about it.

    Nothing of it is part of what was trained: with other settings for objects the same
    checkpoint is only looked at again.
    """
    network.load_state_dict(unpack_weights(checkpoints.read_best(best)))
    judged = validator.choose(network, precision, orientations=orientations)
    log.info(
        "on the validation rows, as prediction computes: %s, chosen %s",
        judged.scores,
        judged.thresholds,
    )
    for note in judged.notes:
        log.warning("%s", note)
    chosen = replace(best, thresholds=judged.thresholds, scores=judged.scores)
    return chosen, judged.notes


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
