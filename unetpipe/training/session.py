"""One training from where it was left to its end, by one process of the team."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from unetpipe.config import TrainingConfig
from unetpipe.metrics.names import plain_metric_name
from unetpipe.metrics.temperature import TemperatureFit
from unetpipe.network.determinism import deterministic_algorithms
from unetpipe.network.devices import (
    check_step_memory,
    choose_device,
    has_arithmetic,
)
from unetpipe.network.unet import UNet
from unetpipe.network.weights import pack_weights, unpack_weights
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import job_processors
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.checkpoints import Best, Checkpoints, TrainingState
from unetpipe.training.distributed import Team, check_team, joined_team
from unetpipe.training.journal import Place, open_board
from unetpipe.training.loop import train
from unetpipe.training.order import TrainingOrder
from unetpipe.training.parent import inherit_weights
from unetpipe.training.recipe import TrainingRecipe
from unetpipe.training.sampling import PatchSampler
from unetpipe.training.temperature import Thermometer
from unetpipe.training.validation import Validator

log = logging.getLogger(__name__)

THREADS_BESIDE_GPU = 2


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training has come to.

    Attributes
    ----------
    state : TrainingState
        After the last step.
    best : Best or None
        The checkpoint that is the result; None: the last weights are.
    checkpoints : Checkpoints
        The state folder.
    place : Place
        Device and team.
    threads : int
        Of each process.
    notes : tuple of str
        What is odd about how objects are made, logged already.
    temperature : TemperatureFit or None
        Of the result, where one is asked for.
    """

    state: TrainingState
    best: Best | None
    checkpoints: Checkpoints
    place: Place
    threads: int
    notes: tuple[str, ...] = ()
    temperature: TemperatureFit | None = None

    @property
    def step(self) -> int:
        """After which the weights of the result were taken."""
        return self.best.step if self.best else self.state.step

    def pack(self) -> bytes:
        """Return the weights of the result as the bytes of a safetensors file."""
        if self.best:
            return self.checkpoints.read_best(self.best)
        return pack_weights(self.state.network)


@contextmanager
def trained(
    order: TrainingOrder, recipe: TrainingRecipe, folder: Path
) -> Iterator[Trained]:
    """Train as a recipe says, and yield the result while nobody else may train it.

    Parameters
    ----------
    order : TrainingOrder
        Threads, device and the like, which are no part of the recipe.
    recipe : TrainingRecipe
        From ``plan_training``.
    folder : Path
        Of the training state: repeating the call goes on from there.

    Raises
    ------
    ConfigError, ResourceError
        Before training begins, if team or memory do not fit.
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1, with the state saved.
    """
    training = order.training
    with ExitStack() as stack:
        team, device = stack.enter_context(joined_team(choose_device(training.device)))
        stack.enter_context(
            deterministic_algorithms(deterministic=training.deterministic)
        )
        _check_fits(recipe, training, team, device)
        if team.is_first:
            path = folder.with_name(f".{folder.name}.claim")
            stack.enter_context(claim(path, f"the training in {folder}"))
        checkpoints = Checkpoints(folder, recipe.identity, is_writer=team.is_first)
        saved = checkpoints.load_state(last_step=training.steps)
        threads = training_threads(training, team, saved, device)
        torch.set_num_threads(threads)
        log.info(
            "training %s on %s, %d processes of %d threads: patch %s, class weights "
            "%s, %s",
            checkpoints.folder.name,
            device.type,
            team.size,
            threads,
            recipe.patch,
            recipe.class_weights.round(3).tolist(),
            f"going on after step {saved.step}" if saved else "from the beginning",
        )
        board = None
        if training.tensorboard and team.is_first:
            curves = checkpoints.folder / "tensorboard"
            first = saved.step if saved else 0
            board = stack.enter_context(open_board(curves, first))
        place = Place(device, team, board)
        validator = _open_validator(order, recipe, device)
        state = train(
            _begin(order, recipe),
            _open_sampler(order, recipe),
            validator,
            checkpoints,
            recipe.optimisation,
            class_weights=torch.from_numpy(recipe.class_weights),
            place=place,
            state=saved,
        )
        best, notes, temperature = state.best, tuple[str, ...](), None
        if team.is_first and validator and best:
            network = UNet(recipe.spec)
            best, notes = _choose_objects(order, best, network, checkpoints, validator)
            if training.temperature_scaling:
                temperature = _fit_temperature(order, recipe, network, device)
        elif validator and best is None:
            notes = note_on_no_score(recipe.metric)
            log.warning("%s", notes[0])
        yield Trained(state, best, checkpoints, place, threads, notes, temperature)


def note_on_no_score(metric: str) -> tuple[str]:
    """Say that the validation rows chose nothing, because they define no score."""
    return (
        f"the validation rows define no score ({metric}), so nothing was chosen: the "
        "last weights are the result, and thresholds are the defaults; annotate cells "
        "in them, or set another training.validation_metric",
    )


def _begin(order: TrainingOrder, recipe: TrainingRecipe) -> UNet:
    """Return the network before its first step: random weights, or a parent's."""
    torch.manual_seed(order.training.seed)
    network = UNet(recipe.spec, initialization=order.network.initialization)
    if recipe.parent:
        inherit_weights(network, recipe.parent)
        log.info(
            "the first weights are those of %s (%s)",
            recipe.parent.folder,
            recipe.parent.model.weights_sha256,
        )
        if recipe.parent.is_frozen:
            network.freeze_contracting()
    return network


def training_threads(
    training: TrainingConfig,
    team: Team,
    saved: TrainingState | None,
    device: torch.device,
) -> int:
    """Return the threads of each process; a resumed training keeps those it had."""
    if training.threads != "auto":
        return training.threads
    share = max(1, job_processors() // team.local_size)
    if device.type == "cuda":
        # Processors only draw patches, in small steps that many threads slow down.
        return min(THREADS_BESIDE_GPU, share)
    if saved and saved.processes == team.size and saved.device in ("", device.type):
        return saved.threads  # as it began: other threads, other bits
    return share


def _check_fits(
    recipe: TrainingRecipe, training: TrainingConfig, team: Team, device: torch.device
) -> None:
    """Raise ConfigError or ResourceError unless team and memory fit a step."""
    check_team(recipe.spec, training.batch_size, team.size)
    check_step_memory(
        recipe.spec,
        recipe.patch,
        len(team.share(training.batch_size)),
        device,
        is_adaptive=training.optimizer == "adamw",
        is_averaged=training.averaging != "none",
        is_team=team.size > 1,
    )


def _open_validator(
    order: TrainingOrder, recipe: TrainingRecipe, device: torch.device
) -> Validator | None:
    if not recipe.validate_rows.volumes:
        return None
    log.info("%s", recipe.optimisation.describe_validations())
    return Validator(
        recipe.validate_rows.volumes,
        recipe.metric,
        class_weights=recipe.judged_weights,
        precision=recipe.optimisation.precision,
        device=device,
        largest_input=2 * prod(recipe.patch),
        choose_by=order.segmentation.choose_by,
        objects=recipe.objects,
    )


def _fit_temperature(
    order: TrainingOrder, recipe: TrainingRecipe, network: UNet, device: torch.device
) -> TemperatureFit | None:
    """Return the temperature of probabilities as prediction computes them."""
    thermometer = Thermometer(
        recipe.validate_rows.volumes,
        recipe.metric,
        class_weights=recipe.class_weights,
        precision=_usable(order.precision, device),
        device=device,
        largest_input=2 * prod(recipe.patch),
    )
    found = thermometer.fit(network, orientations=choose_orientations(order.average))
    if found is None:
        log.warning(
            "the validation rows show one class alone, which no temperature fits: "
            "none is recorded"
        )
        return None
    log.info(
        "temperature %.3f: cross-entropy on the validation rows %.4f, before %.4f",
        found.temperature,
        found.loss_after,
        found.loss_before,
    )
    return found


def _in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{plain_metric_name(k)} {v:.4g}" for k, v in values.items())


def _usable(precision: str, device: torch.device) -> str:
    """Return the precision of the prediction, fp32 where the device lacks it."""
    return precision if has_arithmetic(device, precision) else "fp32"


def _open_sampler(order: TrainingOrder, recipe: TrainingRecipe) -> PatchSampler:
    return PatchSampler(
        recipe.train_rows.volumes,
        recipe.spec,
        recipe.patch,
        Augmentation(**order.augmentation.model_dump()),
        seed=order.training.seed,
        foreground_fraction=order.training.foreground_fraction,
    )


def _choose_objects(
    order: TrainingOrder,
    best: Best,
    network: UNet,
    checkpoints: Checkpoints,
    validator: Validator,
) -> tuple[Best, tuple[str, ...]]:
    """Return the best checkpoint with the rule for objects, and what is odd about it.

    Nothing of it is part of what was trained: with other settings for objects the same
    checkpoint is only looked at again.
    """
    network.load_state_dict(unpack_weights(checkpoints.read_best(best)))
    judged = validator.choose(
        network,
        _usable(order.precision, choose_device(order.training.device)),
        orientations=choose_orientations(order.average),
    )
    log.info(
        "on the validation rows, as prediction computes: %s, chosen %s",
        _in_words(judged.scores),
        _in_words(judged.thresholds),
    )
    for note in judged.notes:
        log.warning("%s", note)
    chosen = replace(best, thresholds=judged.thresholds, scores=judged.scores)
    return chosen, judged.notes
