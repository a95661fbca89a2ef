"""Rule finish_prediction: verify every shard, add the pyramid, write the record."""

import logging
import time
from pathlib import Path
from typing import Any

from unetpipe.errors import IntegrityError
from unetpipe.runtime.files import circumstances, read_record, write_record
from unetpipe.storage.dropping import take_back
from unetpipe.storage.keeping import write_with_copy
from unetpipe.storage.levels import create_levels
from unetpipe.storage.prediction_store import check_stores
from unetpipe.storage.pyramid_parts import PyramidJob, finish_levels
from unetpipe.storage.receipted import check_shards, parts_of_shards
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import grid_shape
from unetpipe.tiling.grids import PredictionGeometry

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
    planned = read_record(plan)
    check_stores(plan, planned)
    geometry = PredictionGeometry.from_json(planned["geometry"])
    arrays = {
        name: open_volume(Path(output["store"]))
        for name, output in planned["outputs"].items()
    }
    receipts = Path(planned["receipts"])
    made = check_shards(geometry, receipts, arrays, planned["identity_sha256"])
    if made.problems:
        for part in parts_of_shards(set(made.problems), geometry, len(parts)):
            parts[part].unlink(missing_ok=True)
        raise IntegrityError(
            f"{len(made.problems)} of {geometry.num_shards} shards of "
            f"{receipts.parent} are not whole:\n  {made.describe_problems()}\n"
            "repeat the same command: only these shards are computed anew"
        )
    _sweep_partial_files(receipts.parent)
    take_back(receipts.parent)
    pyramids = {
        name: PyramidJob(
            store=Path(output["store"]),
            is_labels=name == "classes",
            content_sha256=made.content_sha256,
            receipts=receipts.parent / "pyramids" / name,
        )
        for name, output in planned["outputs"].items()
    }
    for job in pyramids.values():
        create_levels(job.store)
        if with_pyramid:
            finish_levels(job)
    devices, hosts = sorted(made.devices), sorted(made.hosts)
    if len(devices) > 1:
        log.warning("predicted on more than one kind of device: %s", devices)
    part_records = [read_record(part) for part in parts]
    write_record(marker, {"stores": planned["outputs"], "content": made.content_sha256})
    write_with_copy(
        record,
        {
            "volume": planned["volume"],
            "outputs": planned["outputs"],
            "identity": planned["identity"],
            "identity_sha256": planned["identity_sha256"],
            "content_sha256": made.content_sha256,
            "geometry": planned["geometry"],
            "precision": planned["precision"],
            "flip_fraction": planned["flip_fraction"],
            "num_shards": made.num_shards,
            "num_shards_skipped": made.num_skipped,
            "tiles": dict(made.tiles),
            "shard_grid": list(grid_shape(geometry.volume_shape, geometry.shard)),
            "pyramids": [job.to_json() for job in pyramids.values()],
            "devices": devices,
            "hosts": hosts,
            "parts": [_part_summary(r) for r in part_records],
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
        receipts.parent,
    )
    log.info("%d shards verified, written on %s", made.num_shards, ", ".join(hosts))


def _sweep_partial_files(home: Path) -> None:
    """Remove what a killed writer left under temporary names."""
    for orphan in home.rglob("*.partial"):
        orphan.unlink(missing_ok=True)


def _part_summary(part: dict[str, Any]) -> dict[str, Any]:
    keys = (
        "part",
        "num_computed",
        "num_kept",
        "num_tiles",
        "tiles",
        "num_voxels",
        "seconds",
        "seconds_computing",
        "seconds_waiting",
        "peak_rss_bytes",
    )
    return {key: part[key] for key in keys} | {
        "host": part["circumstances"]["host"],
        "device": part["circumstances"].get("device"),
    }
