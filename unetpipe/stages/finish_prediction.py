"""Rule finish_prediction: verify every shard, add the pyramid, write the record."""

import logging
import time
from pathlib import Path

from unetpipe.errors import IntegrityError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.prediction import (
    Outputs,
    PartSummary,
    PredictedPart,
    Prediction,
    PredictionPlan,
    ProbabilityMarker,
)
from unetpipe.records.pyramids import PyramidJob
from unetpipe.storage.dropping import take_shards_back
from unetpipe.storage.growing_arrays import ReceiptedStore, parts_of_shards
from unetpipe.storage.keeping import write_with_copy
from unetpipe.storage.levels import create_levels
from unetpipe.storage.predictions import check_stores
from unetpipe.storage.pyramid_parts import finish_levels
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import grid_shape

log = logging.getLogger(__name__)


def finish_prediction(
    *,
    plan: Path,
    parts: list[Path],
    marker: Path,
    record: Path,
    with_pyramid: bool = True,
) -> None:
    """Check that a prediction is whole, then make it easy to look at.

    Parameters
    ----------
    plan : Path
        ``plan.json``.
    parts : list of Path
        Records of all parts.
    marker : Path
        Where to write ``probability.json``, which says that the shards are there;
        ``drop_probability`` takes it away with them.
    record : Path
        Where to write ``prediction.json``.
    with_pyramid : bool
        Write the coarser levels here. Else only their empty arrays are made, and
        ``coarsen_part`` and ``finish_pyramid`` fill them.

    Raises
    ------
    IntegrityError
        If the store was deleted, a shard has no receipt, or its bytes are not those
        that were written; lists the shards. The records of their parts are removed, so
        that repeating the same command computes these shards anew.
    """
    began = time.monotonic()
    planned = PredictionPlan.read(plan)
    check_stores(plan, planned)
    outputs, grids = planned.outputs, planned.geometry
    arrays = {name: open_volume(store) for name, store in outputs.stores.items()}
    identity = planned.identity_sha256
    made = ReceiptedStore(grids, outputs.receipts, arrays, identity).check()
    if made.problems:
        for part in parts_of_shards(set(made.problems), grids, len(parts)):
            parts[part].unlink(missing_ok=True)
        raise IntegrityError(
            f"{len(made.problems)} of {grids.num_shards} shards of "
            f"{outputs.home} are not whole:\n  {made.describe_problems()}\n"
            "repeat the same command: only these shards are computed anew"
        )
    _sweep_partial_files(outputs.home)
    take_shards_back(outputs.home)
    pyramids = _list_pyramids(outputs, made.content_sha256)
    for job in pyramids:
        create_levels(job.store)
        if with_pyramid:
            finish_levels(job)
    if len(made.devices) > 1:
        devices = sorted(made.devices)
        log.warning("predicted on more than one kind of device: %s", devices)
    whole = Prediction(
        volume=planned.volume,
        outputs=outputs,
        identity=planned.identity,
        identity_sha256=identity,
        content_sha256=made.content_sha256,
        geometry=grids,
        precision=planned.precision,
        flip_fraction=planned.flip_fraction,
        num_shards=made.num_shards,
        num_shards_skipped=made.num_skipped,
        tiles=dict(made.tiles),
        shard_grid=grid_shape(grids.volume_shape, grids.shard),
        pyramids=pyramids,
        devices=tuple(sorted(made.devices)),
        hosts=tuple(sorted(made.hosts)),
        parts=tuple(PartSummary.of(PredictedPart.read(part)) for part in parts),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    )
    ProbabilityMarker(stores=outputs, content=made.content_sha256).write(marker)
    write_with_copy(record, whole, outputs.home)
    log.info(
        "%d shards verified, written on %s", made.num_shards, ", ".join(whole.hosts)
    )


def _list_pyramids(outputs: Outputs, content_sha256: str) -> tuple[PyramidJob, ...]:
    """Return what later jobs need to make the coarser levels."""
    return tuple(
        PyramidJob(
            store=store,
            is_labels=name == "classes",
            content_sha256=content_sha256,
            receipts=outputs.home / "pyramids" / name,
        )
        for name, store in outputs.stores.items()
    )


def _sweep_partial_files(home: Path) -> None:
    """Remove what a killed writer left under temporary names."""
    for orphan in home.rglob("*.partial"):
        orphan.unlink(missing_ok=True)
