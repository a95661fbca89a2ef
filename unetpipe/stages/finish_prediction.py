"""Rule finish_prediction: verify every shard, add the pyramid, write the record."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpipe.errors import IntegrityError
from unetpipe.geometry import Zyx, grid_shape, iterate_grid, whole_volume
from unetpipe.levels import create_levels
from unetpipe.prediction_store import check_stores
from unetpipe.pyramid_parts import PyramidJob, finish_levels
from unetpipe.receipts import Arrays, check_receipt, receipt_path
from unetpipe.records import circumstances, hash_of, read_record, write_record
from unetpipe.tiling import PredictionGeometry
from unetpipe.volumes import open_volume

log = logging.getLogger(__name__)


def finish_prediction(
    *, plan: Path, parts: list[Path], record: Path, with_pyramid: bool = True
) -> None:
    """Check that a prediction is whole, then make it easy to look at.

    Parameters
    ----------
    plan : Path
        ``plan.json``.
    parts : list of Path
        Records of all parts.
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
    shards = list(iterate_grid(whole_volume(geometry.volume_shape), geometry.shard))
    receipts = Path(planned["receipts"])
    try:
        made = _check_all(receipts, shards, arrays, planned["identity_sha256"])
    except _NotWhole as damage:
        _reopen(parts, set(damage.problems), geometry)
        raise IntegrityError(damage.tell(receipts.parent, len(shards))) from None
    _sweep_partial_files(receipts.parent)
    content_sha256 = hash_of(made.files)
    pyramids = {
        name: PyramidJob(
            store=Path(output["store"]),
            is_labels=name == "classes",
            content_sha256=content_sha256,
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
    write_record(
        record,
        {
            "volume": planned["volume"],
            "outputs": planned["outputs"],
            "identity": planned["identity"],
            "identity_sha256": planned["identity_sha256"],
            "content_sha256": content_sha256,
            "geometry": planned["geometry"],
            "precision": planned["precision"],
            "flip_fraction": planned["flip_fraction"],
            "num_shards": len(shards),
            "num_shards_skipped": made.files.count({}),
            "tiles": dict(made.tiles),
            "shard_grid": list(grid_shape(geometry.volume_shape, geometry.shard)),
            "pyramids": [job.to_json() for job in pyramids.values()],
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


class _NotWhole(Exception):
    """Some shards are not whole: number -> what is wrong."""

    def __init__(self, problems: dict[Zyx, str]) -> None:
        super().__init__()
        self.problems = problems

    def tell(self, home: Path, num_shards: int) -> str:
        """Return the message for the user."""
        lines = [f"shard {i} {problem}" for i, problem in self.problems.items()]
        listed = "\n  ".join(lines[:20])
        return (
            f"{len(lines)} of {num_shards} shards of {home} are not whole:\n"
            f"  {listed}\n"
            "repeat the same command: only these shards are computed anew"
        )


def _reopen(parts: list[Path], wanted: set[Zyx], geometry: PredictionGeometry) -> None:
    """Remove the records of the parts that wrote these shards."""
    for part in parts:
        blocks = range(*read_record(part)["blocks"])
        shards = (
            index
            for number in blocks
            for index, _ in geometry.shards(geometry.block_roi(number))
        )
        if not wanted.isdisjoint(shards):
            part.unlink()


def _check_all(
    receipts: Path, shards: list[Zyx], arrays: Arrays, identity: str
) -> _Made:
    """Verify every shard, also that a skipped one has no file."""
    problems: dict[Zyx, str] = {}
    made = _Made()
    for index in shards:
        problem = check_receipt(receipts, index, arrays=arrays, identity=identity)
        if problem:
            problems[index] = problem
            continue
        receipt = read_record(receipt_path(receipts, index))
        made.files.append(receipt["files"])
        made.tiles += Counter(receipt["tiles"])
        made.devices.add(receipt["circumstances"].get("device", "?"))
        made.hosts.add(receipt["circumstances"]["host"])
    if problems:
        raise _NotWhole(problems)
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
