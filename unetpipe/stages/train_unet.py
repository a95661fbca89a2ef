"""Rule train_unet: from annotated sections to a network and its thresholds."""

from unetpipe.storage.keeping import keep_network
from unetpipe.targets.rows import open_annotated_rows
from unetpipe.training.distributed import is_launched
from unetpipe.training.launch import launch_processes
from unetpipe.training.order import TrainingFiles, TrainingOrder
from unetpipe.training.recipe import plan_training
from unetpipe.training.results import write_results
from unetpipe.training.session import trained


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
        launch_processes(
            {"order": order.model_dump(mode="json")}
            | {"files": files.model_dump(mode="json")},
            processes=training.processes,
            nodes=training.nodes,
            node_command=training.node_command,
            folder=files.state / "team",
        )
        return
    num_classes = order.network.num_classes
    with_border = order.weight_map.enabled and order.network.has_border_term
    train_rows, validate_rows = (
        open_annotated_rows(
            order.rows,
            role,
            num_classes,
            with_border=with_border,
            targets=order.network.targets,
        )
        for role in ("train", "validate")
    )
    recipe = plan_training(train_rows, validate_rows, order)
    with trained(order, recipe, files.state) as done:
        if done.place.team.is_first:
            write_results(done, recipe, order, files)
            keep_network(files.record.parent)
