"""Arrays that grow shard by shard, each shard with a receipt.

One protocol for predictions and segmentations: write a shard's files, then its receipt;
ask which blocks lack a shard; read and hash all of them, many at a time. Memory does
not grow with the number of shards, as long as they are whole.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.receipts import ShardReceipt
from unetpipe.runtime.files import ListHash
from unetpipe.runtime.machine import num_processors
from unetpipe.runtime.progress import Progress
from unetpipe.storage.receipts import NO_RECEIPT, inspect_files, receipt_path
from unetpipe.storage.volumes import shard_path, write_shard
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, iterate_grid, whole_volume
from unetpipe.tiling.grids import TileGrids

log = logging.getLogger(__name__)

SHARDS_AT_ONCE = 256
LISTED = 20

Arrays = dict[str, zarr.Array[Any]]


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


@dataclass(frozen=True, slots=True)
class ReceiptedStore:
    """Some arrays on one grid of shards, and the receipts of their shards.

    Attributes
    ----------
    grids : TileGrids
        The grids of shards and blocks.
    receipts : Path
        Folder of the receipts.
    arrays : dict
        Name -> the open array; none where the shards were dropped after use, and only
        receipts are left.
    identity : str
        Hash of the recipe.
    """

    grids: TileGrids
    receipts: Path
    arrays: Arrays
    identity: str

    def shards(self, number: int) -> Iterator[tuple[Zyx, Roi]]:
        """Yield (index, write ROI) of a block's shards."""
        return self.grids.shards(self.grids.block_roi(number))

    def write(
        self,
        index: Zyx,
        results: Mapping[str, NDArray[Any]],
        circumstances: Circumstances,
        *,
        tiles: Mapping[str, int],
        is_skipped: bool = False,
    ) -> None:
        """Write one shard of all arrays, then declare it done.

        Parameters
        ----------
        index : (z, y, x)
            Shard number along each axis.
        results : dict
            Name of the array -> voxels of the shard, clipped to the volume.
        circumstances : Circumstances
            Of this process.
        tiles : dict
            How many of its tiles were predicted, and how many left out for what reason.
        is_skipped : bool
            The shard gets a receipt that says why, and no file.
        """
        files = {}
        for name, voxels in results.items():
            if is_skipped:
                shard_path(self.arrays[name], index).unlink(missing_ok=True)
            else:
                files[name] = write_shard(self.arrays[name], index, voxels)
        ShardReceipt(
            shard=index,
            files=files,
            skipped=None if files else ", ".join(sorted(tiles)),
            tiles=dict(tiles),
            identity=self.identity,
            circumstances=circumstances,
        ).write(receipt_path(self.receipts, index))

    def inspect(self, index: Zyx) -> tuple[str | None, ShardReceipt | None]:
        """Return what is wrong with a shard, None if it is whole; and its receipt."""
        files = {name: shard_path(array, index) for name, array in self.arrays.items()}
        return inspect_files(self.receipts, index, files=files, identity=self.identity)

    def lacks_shards(self, number: int, *, is_expected: bool = False) -> bool:
        """Return whether a shard of a block is not there, or not whole.

        All its shards are looked at, and what is wrong with them is logged, unless
        nobody expects them to be there.
        """
        problems = {index: self.inspect(index)[0] for index, _ in self.shards(number)}
        for index, problem in problems.items():
            if problem not in (None, NO_RECEIPT) and not is_expected:
                log.warning("shard %s %s; it is made again", index, problem)
        return any(problems.values())

    def receipt(self, index: Zyx) -> ShardReceipt:
        """Read a shard's receipt."""
        return ShardReceipt.read(receipt_path(self.receipts, index))

    def indices(self) -> Iterator[Zyx]:
        """Yield all shards, in the order of the grid."""
        whole = whole_volume(self.grids.volume_shape)
        return iterate_grid(whole, self.grids.shard)

    def check(self) -> CheckedShards:
        """Read and hash every shard, and compare with its receipt."""
        checked, content, indices = CheckedShards(), ListHash(), self.indices()
        with (
            ThreadPoolExecutor(num_processors(), "check") as pool,
            Progress("checking", self.grids.num_shards, "shard") as progress,
        ):
            while some := list(islice(indices, SHARDS_AT_ONCE)):
                found = pool.map(self.inspect, some)
                for index, (problem, receipt) in zip(some, found, strict=True):
                    progress.update()
                    if receipt is None or problem:
                        checked.problems[index] = problem or NO_RECEIPT
                    else:
                        _count(checked, content, receipt)
        checked.content_sha256 = content.hexdigest()
        return checked


def parts_of_shards(shards: set[Zyx], grids: TileGrids, num_parts: int) -> list[int]:
    """Return which parts of a prediction write these shards, in order."""
    per_block = [b // s for b, s in zip(grids.block, grids.shard, strict=True)]
    blocks = {
        grids.block_number(
            as_zyx(i // n for i, n in zip(index, per_block, strict=True))
        )
        for index in shards
    }
    return sorted({grids.part_of_block(number, num_parts) for number in blocks})


def _count(checked: CheckedShards, content: ListHash, receipt: ShardReceipt) -> None:
    checked.num_shards += 1
    checked.num_skipped += not receipt.files
    checked.tiles += Counter(receipt.tiles)
    checked.devices.add(receipt.circumstances.device or "?")
    checked.hosts.add(receipt.circumstances.host)
    content.add(receipt.files)
