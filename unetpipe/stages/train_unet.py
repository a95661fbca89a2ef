"""Rule train_unet: from annotated sections to a network and its thresholds."""

import logging
import time

from unetpipe.network.devices import name_device
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import NORMALISATION, Model, TrainedFrom
from unetpipe.records.training import Descent, TrainedModel, Training
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.storage.keeping import keep_network
from unetpipe.targets.rows import load_rows
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.tiling.scale import common_size
from unetpipe.training.distributed import is_launched
from unetpipe.training.launch import launch
from unetpipe.training.order import TrainingFiles, TrainingOrder
from unetpipe.training.recipe import TrainingRecipe, plan_training
from unetpipe.training.session import Trained, trained

log = logging.getLogger(__name__)


def train_unet(*, order: TrainingOrder, files: TrainingFiles) -> None:
    """Train a network on the training rows; choose it on the validation rows.

    With several processes this one only launches them; each then makes the same call.

    Parameters
    ----------
    order : TrainingOrder
        Rows of the sheet, sections of the configuration.
    files : TrainingFiles
        Where results go, and the folder of the state: repeating the call goes on from
        there.

    Raises
    ------
    DataError, ConfigError, ResourceError
        Before training begins, if rows, classes, patch or memory do not fit.
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1, with the state saved.
    """
    training = order.training
    if training.processes * training.nodes > 1 and not is_launched():
        launch(
            {"order": order.model_dump(mode="json")}
            | {"files": files.model_dump(mode="json")},
            processes=training.processes,
            nodes=training.nodes,
            node_command=training.node_command,
            folder=files.state / "team",
        )
        return
    num_classes, with_border = order.network.num_classes, order.weight_map.enabled
    train_rows, validate_rows = (
        load_rows(order.rows, role, num_classes, with_border=with_border)
        for role in ("train", "validate")
    )
    recipe = plan_training(train_rows, validate_rows, order)
    with trained(order, recipe, files.state) as done:
        if done.place.team.is_first:
            _write(done, recipe, order, files)


def _write(
    done: Trained, recipe: TrainingRecipe, order: TrainingOrder, files: TrainingFiles
) -> None:
    """Write weights, what they are, the history, and the record, last."""
    began = time.monotonic()
    best, state = done.best, done.state
    write_bytes_atomic(files.model, done.pack())
    described = Model(
        spec=recipe.spec,
        num_classes=order.network.num_classes,
        normalisation=NORMALISATION,
        recipe=TrainedFrom.model_validate(
            {
                **recipe.identity,
                "weight_map": order.weight_map.model_dump(mode="json"),
                "thresholds_average": choose_orientations(order.average),
                "thresholds_precision": order.precision,
            }
        ),
        weights_sha256=hash_file(files.model),
        is_averaged=best.is_averaged if best else False,
        thresholds=best.thresholds if best else {},
        validation=best.scores if best else {},
        step=done.step,
        voxel_size_nm=common_size(
            v.voxel_size_nm if v.is_size_known else None
            for v in recipe.train_rows.volumes
        ),
    )
    described.write(files.model_json)
    steps = done.checkpoints.folder / "history.csv"
    write_bytes_atomic(files.history, steps.read_bytes())
    record = Training(
        model=TrainedModel(
            weights_sha256=described.weights_sha256,
            description_sha256=hash_file(files.model_json),
            recipe=done.checkpoints.identity_hash,
        ),
        steps=state.step,
        best_step=done.step,
        metric=recipe.metric if recipe.validate_rows.volumes else None,
        seconds=state.seconds,
        resumed_at=tuple(state.resumed_at),
        patch=recipe.patch,
        output=recipe.spec.output_shape(recipe.patch),
        class_counts=tuple(recipe.train_rows.class_counts.tolist()),
        class_weights=tuple(recipe.class_weights.tolist()),
        warnings=(*recipe.warnings, *done.notes),
        circumstances=Circumstances.here(
            device=name_device(done.place.device),
            threads=done.threads,
            processes=done.place.team.size,
            seconds_writing=time.monotonic() - began,
        ),
    )
    record.model_copy(update=_descent(recipe)).write(files.record)
    keep_network(files.record.parent)


def _descent(recipe: TrainingRecipe) -> dict[str, Descent]:
    """Return what a record says of the network that training began from, if any."""
    if not (parent := recipe.parent):
        return {}
    weights, step = parent.model.weights_sha256, parent.model.step
    descent = Descent(folder=str(parent.folder), weights_sha256=weights, step=step)
    return {"parent": descent}
