"""Rule finish_prediction: verify every shard, add the pyramid, write the record."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpipe.errors import IntegrityError
from unetpipe.geometry import Zyx, grid_shape, iterate_grid, whole_volume
from unetpipe.pyramid import build_pyramid
from unetpipe.receipts import Arrays, check_receipt, receipt_path
from unetpipe.records import circumstances, hash_of, read_record, write_record
from unetpipe.tiling import PredictionGeometry
from unetpipe.volumes import open_volume

log = logging.getLogger(__name__)


def finish_prediction(*, plan: Path, parts: list[Path], record: Path) -> None:
    """Check that a prediction is whole, then make it easy to look at.

    Parameters
    ----------
    plan : Path
        ``plan.json``.
    parts : list of Path
        Records of all parts.
    record : Path
        Where to write ``prediction.json``.

    Raises
    ------
    IntegrityError
        If a shard has no receipt, or its bytes are not those that were written; lists
        the shards. Deleting the part's record and running again mends it.
    """
    began = time.monotonic()
    planned = read_record(plan)
    geometry = PredictionGeometry.from_json(planned["geometry"])
    arrays = {
        name: open_volume(Path(output["store"]))
        for name, output in planned["outputs"].items()
    }
    shards = list(iterate_grid(whole_volume(geometry.volume_shape), geometry.shard))
    receipts = Path(planned["receipts"])
    made = _check_all(receipts, shards, arrays, planned["identity_sha256"])
    _sweep_partial_files(receipts.parent)
    levels = {
        name: build_pyramid(Path(output["store"]), is_labels=name == "classes")
        for name, output in planned["outputs"].items()
    }
    devices, hosts = sorted(made.devices), sorted(made.hosts)
    if len(devices) > 1:
        log.warning("predicted on more than one kind of device: %s", devices)
    part_records = [read_record(part) for part in parts]
    write_record(
        record,
        {
            "volume": planned["volume"],
            "outputs": planned["outputs"],
            "identity": planned["identity"],
            "identity_sha256": planned["identity_sha256"],
            "content_sha256": hash_of(made.files),
            "geometry": planned["geometry"],
            "precision": planned["precision"],
            "flip_fraction": planned["flip_fraction"],
            "num_shards": len(shards),
            "num_shards_skipped": made.files.count({}),
            "tiles": dict(made.tiles),
            "shard_grid": list(grid_shape(geometry.volume_shape, geometry.shard)),
            "num_levels": levels,
            "devices": devices,
            "hosts": hosts,
            "parts": [_part_summary(r) for r in part_records],
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    log.info("%d shards verified, written on %s", len(shards), ", ".join(hosts))


@dataclass(slots=True)
class _Made:
    """What all receipts say together."""

    files: list[dict[str, str]] = field(default_factory=list)
    tiles: Counter[str] = field(default_factory=Counter)
    devices: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


def _check_all(
    receipts: Path, shards: list[Zyx], arrays: Arrays, identity: str
) -> _Made:
    """Verify every shard, also that a skipped one has no file."""
    problems, made = [], _Made()
    for index in shards:
        problem = check_receipt(receipts, index, arrays=arrays, identity=identity)
        if problem:
            problems.append(f"shard {index} {problem}")
            continue
        receipt = read_record(receipt_path(receipts, index))
        made.files.append(receipt["files"])
        made.tiles += Counter(receipt["tiles"])
        made.devices.add(receipt["circumstances"].get("device", "?"))
        made.hosts.add(receipt["circumstances"]["host"])
    if problems:
        listed = "\n  ".join(problems[:20])
        raise IntegrityError(
            f"{len(problems)} of {len(shards)} shards of {receipts.parent} are not "
            f"whole:\n  {listed}\ndelete {receipts.parent.parent / 'parts'} and run "
            "again: only these shards are computed anew"
        )
    return made


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
