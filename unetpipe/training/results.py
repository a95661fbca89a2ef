"""What a training leaves at its end: weights, their description, history, record."""

import time

from unetpipe.network.devices import name_device
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model, Temperature, TrainedFrom
from unetpipe.records.training import Descent, TrainedModel, Training
from unetpipe.records.volume import name_normalisation
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.tiling.scale import common_voxel_size
from unetpipe.training.order import TrainingFiles, TrainingOrder
from unetpipe.training.recipe import TrainingRecipe
from unetpipe.training.session import Trained


def write_results(
    done: Trained, recipe: TrainingRecipe, order: TrainingOrder, files: TrainingFiles
) -> None:
    """Write weights, what they are, the history, and the record, last."""
    began = time.monotonic()
    state = done.state
    write_bytes_atomic(files.model, done.pack())
    described = _describe(done, recipe, order, hash_file(files.model))
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
    if parent := recipe.parent:
        descent = Descent(
            folder=str(parent.folder),
            weights_sha256=parent.model.weights_sha256,
            step=parent.model.step,
        )
        record = record.model_copy(update={"parent": descent})
    record.write(files.record)


def _describe(
    done: Trained, recipe: TrainingRecipe, order: TrainingOrder, weights_sha256: str
) -> Model:
    """Return what the network is, how it was chosen, and what it was trained from."""
    best, heat = done.best, done.temperature
    described = Model(
        spec=recipe.spec,
        num_classes=order.network.num_classes,
        normalisation=name_normalisation(recipe.train_rows.percentiles),
        percentiles=recipe.train_rows.percentiles,
        recipe=TrainedFrom.model_validate(
            {
                **recipe.identity,
                "weight_map": order.weight_map.model_dump(mode="json"),
                "thresholds_average": choose_orientations(order.average),
                "thresholds_precision": order.precision,
            }
        ),
        weights_sha256=weights_sha256,
        is_averaged=best.is_averaged if best else False,
        thresholds=best.thresholds if best else {},
        validation=best.scores if best else {},
        step=done.step,
        learnt_sections=recipe.train_rows.learnt,
        voxel_size_nm=common_voxel_size(
            v.voxel_size_nm if v.is_size_known else None
            for v in recipe.train_rows.volumes
        ),
    )
    if heat is None:
        return described
    found = Temperature(
        value=heat.temperature,
        loss_before=heat.loss_before,
        loss_after=heat.loss_after,
        num_voxels=heat.num_voxels,
    )
    return described.model_copy(update={"temperature": found})
