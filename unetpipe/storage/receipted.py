"""Check every shard of a prediction against its receipt, many at a time.

Memory does not grow with the number of shards, as long as they are whole.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from unetpipe.runtime.files import ListHash
from unetpipe.runtime.machine import num_processors
from unetpipe.runtime.progress import Progress
from unetpipe.storage.receipts import Arrays, inspect_shard
from unetpipe.tiling.boxes import Zyx, as_zyx, iterate_grid, whole_volume
from unetpipe.tiling.grids import PredictionGeometry

log = logging.getLogger(__name__)

SHARDS_AT_ONCE = 256
LISTED = 20


@dataclass(slots=True)
class CheckedShards:
    """What all receipts say together.

    Attributes
    ----------
    num_shards, num_skipped : int
        That are whole; of which hold no predicted tile.
    content_sha256 : str
        Hash of the hashes of all files, in the order of the grid.
    tiles : Counter
        Predicted, or why not.
    devices, hosts : set of str
        That wrote the shards.
    problems : dict
        Shard number -> what is wrong with it.
    """

    num_shards: int = 0
    num_skipped: int = 0
    content_sha256: str = ""
    tiles: Counter[str] = field(default_factory=Counter)
    devices: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    problems: dict[Zyx, str] = field(default_factory=dict)

    def describe_problems(self) -> str:
        """Return one line for each of the first shards that are not whole."""
        lines = [f"shard {i} {problem}" for i, problem in self.problems.items()]
        more = len(lines) - LISTED
        return "\n  ".join(lines[:LISTED] + [f"and {more} more"] * (more > 0))


def check_shards(
    geometry: PredictionGeometry, receipts: Path, arrays: Arrays, identity: str
) -> CheckedShards:
    """Read and hash every shard, and compare with its receipt.

    Parameters
    ----------
    geometry : PredictionGeometry
        The grid of shards.
    receipts : Path
        Folder of the receipts.
    arrays : dict
        Name -> the open array.
    identity : str
        Hash of the recipe.
    """
    checked = CheckedShards()
    content = ListHash()
    threads = num_processors()
    indices = iterate_grid(whole_volume(geometry.volume_shape), geometry.shard)
    with (
        ThreadPoolExecutor(threads, "check") as pool,
        Progress("checking", geometry.num_shards, "shard") as progress,
    ):
        while some := list(islice(indices, SHARDS_AT_ONCE)):
            found = pool.map(
                lambda i: inspect_shard(receipts, i, arrays=arrays, identity=identity),
                some,
            )
            for index, (problem, receipt) in zip(some, found, strict=True):
                progress.update()
                if problem:
                    checked.problems[index] = problem
                else:
                    _count(checked, content, receipt)
    checked.content_sha256 = content.hexdigest()
    return checked


def parts_of_shards(
    shards: set[Zyx], geometry: PredictionGeometry, num_parts: int
) -> list[int]:
    """Return which parts of a prediction write these shards, in order."""
    per_block = [b // s for b, s in zip(geometry.block, geometry.shard, strict=True)]
    blocks = {
        geometry.block_number(
            as_zyx(i // n for i, n in zip(index, per_block, strict=True))
        )
        for index in shards
    }
    return sorted({geometry.part_of_block(number, num_parts) for number in blocks})


def shards_of_block(number: int, geometry: PredictionGeometry) -> Iterator[Zyx]:
    """Yield the shards of a block."""
    return (index for index, _ in geometry.shards(geometry.block_roi(number)))


def _count(checked: CheckedShards, content: ListHash, receipt: dict[str, Any]) -> None:
    checked.num_shards += 1
    checked.num_skipped += not receipt["files"]
    checked.tiles += Counter(receipt["tiles"])
    checked.devices.add(receipt["circumstances"].get("device", "?"))
    checked.hosts.add(receipt["circumstances"]["host"])
    content.add(receipt["files"])
