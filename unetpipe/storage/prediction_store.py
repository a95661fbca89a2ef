"""What a part reads and writes: the planned stores, the image, receipts by shard."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import IntegrityError
from unetpipe.runtime.background import named
from unetpipe.runtime.files import hash_file, read_record
from unetpipe.storage.dropping import is_dropped
from unetpipe.storage.receipts import Arrays, check_receipt, write_receipt
from unetpipe.storage.volumes import (
    is_store,
    open_volume,
    read_roi,
    shard_path,
    write_shard,
)
from unetpipe.tiling.blocks import BlockPrediction, BlockVoxels, source_roi
from unetpipe.tiling.boxes import Roi, Zyx, whole_volume
from unetpipe.tiling.grids import PredictionGeometry
from unetpipe.tiling.orientations import widest_halo
from unetpipe.tiling.tile_selection import EMPTY, TileSelection
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)

PREDICTED = "predicted"
MASK_FILE = "tiles.npy"


class PredictionStore:
    """The open stores of one plan.

    Parameters
    ----------
    plan : dict
        ``plan.json``.
    circumstances : dict
        Of this process; goes into each receipt.
    mode : {"r+", "r"}
        ``r``: nothing is written.

    Attributes
    ----------
    mean, std : float32 arrays, shape (c,)
        Intensity statistics of the whole volume.
    num_tiles : Counter
        Tiles of the blocks written so far: predicted, or why not.
    num_voxels : int
        Voxels of the blocks written so far.
    is_dropped : bool
        Whether the shards were deleted after use; their receipts are left.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        circumstances: dict[str, Any],
        *,
        mode: Literal["r", "r+"] = "r+",
    ) -> None:
        volume = read_record(Path(plan["ingest"]))
        identity = plan["identity"]
        self.geometry = PredictionGeometry.from_json(plan["geometry"])
        self.receipts = Path(plan["receipts"])
        self.arrays: Arrays = {
            name: open_volume(Path(output["store"]), mode=mode)
            for name, output in plan["outputs"].items()
        }
        self.mean, self.std = (
            np.array([channel[key] for channel in volume["statistics"]], np.float32)
            for key in ("mean", "std")
        )
        self.num_tiles: Counter[str] = Counter()
        self.num_voxels = 0
        self._identity: str = plan["identity_sha256"]
        self.is_dropped = is_dropped(Path(plan["outputs"]["probability"]["store"]))
        self._circumstances = circumstances
        self._image = open_volume(Path(volume["image"]["store"]))
        spec = UNetSpec.from_json(identity["spec"])
        self._halo = widest_halo(identity["orientations"], spec.halo)
        self._selection = load_selection(self.receipts.parent, identity["selection"])

    def unfinished(self, blocks: Iterable[int]) -> list[int]:
        """Return the blocks of which a shard has no valid receipt."""
        return [
            number
            for number in blocks
            if any(self._is_missing(index) for index, _ in self._shards(number))
        ]

    def read(self, number: int) -> BlockVoxels:
        """Read what a block's tiles see, each input chunk once."""
        block = self.geometry.block_roi(number)
        skipped: dict[Zyx, str] = {}
        for tile in self.geometry.tiles(block):
            if reason := self._selection.excluded(tile):
                skipped[tile.start] = reason
        tiles = self._left(block, skipped)
        if not tiles:
            nothing = np.empty((0, 0, 0, 0), self._image.dtype)
            return BlockVoxels(number, block, (), nothing, block.start, skipped)
        seen = source_roi(tiles, self._halo, self.geometry.volume_shape)
        with named(f"block {number}, reading z, y, x = {seen.start} to {seen.stop}"):
            source = read_roi(self._image, seen)
        for tile in tiles:
            if self._selection.is_empty(self._voxels(source, seen.start, tile)):
                skipped[tile.start] = EMPTY
        return BlockVoxels(
            number, block, self._left(block, skipped), source, seen.start, skipped
        )

    def write(self, block: BlockPrediction) -> None:
        """Write a block's shards, and after each shard its receipt.

        A shard of which no tile was predicted has a receipt that says so, and no file.
        """
        results = {"probability": block.probability}
        if block.classes is not None:
            results["classes"] = block.classes
        for index, shard in self._shards(block.number):
            tiles = Counter(
                block.skipped.get(tile.start, PREDICTED)
                for tile in self.geometry.tiles(shard)
            )
            inside = shard.relative_to(block.roi.start).slices
            with named(f"block {block.number}, writing shard {index}"):
                files = {}
                for name, voxels in results.items():
                    if tiles[PREDICTED]:
                        files[name] = write_shard(
                            self.arrays[name], index, voxels[(..., *inside)]
                        )
                    else:
                        shard_path(self.arrays[name], index).unlink(missing_ok=True)
                write_receipt(
                    self.receipts,
                    index,
                    files=files,
                    tiles=dict(tiles),
                    identity=self._identity,
                    circumstances=self._circumstances,
                )
            self.num_tiles += tiles
        self.num_voxels += block.roi.num_voxels

    def _left(self, block: Roi, skipped: dict[Zyx, str]) -> tuple[Roi, ...]:
        tiles = self.geometry.tiles(block)
        return tuple(tile for tile in tiles if tile.start not in skipped)

    def _voxels(self, source: NDArray[Any], origin: Zyx, tile: Roi) -> NDArray[Any]:
        own = tile.intersect(whole_volume(self.geometry.volume_shape))
        kept: NDArray[Any] = source[(..., *own.relative_to(origin).slices)]
        return kept

    def _shards(self, number: int) -> Iterator[tuple[Zyx, Roi]]:
        return self.geometry.shards(self.geometry.block_roi(number))

    def _is_missing(self, index: Zyx) -> bool:
        problem = check_receipt(
            self.receipts, index, arrays=self.arrays, identity=self._identity
        )
        if problem and problem != "has no receipt" and not self.is_dropped:
            log.warning("shard %s %s; it is computed again", index, problem)
        return problem is not None


def check_stores(plan: Path, planned: dict[str, Any]) -> None:
    """Raise IntegrityError, and withdraw the plan, if one of its stores was deleted.

    Parameters
    ----------
    plan : Path
        ``plan.json``: without it the same command plans and creates the store anew.
    planned : dict
        What it holds.
    """
    for output in planned["outputs"].values():
        if not is_store(Path(output["store"])):
            plan.unlink(missing_ok=True)
            raise IntegrityError(
                f"{output['store']} is gone, for which {plan} was made; repeat the "
                "same command: the store is created anew and filled again"
            )


def load_selection(home: Path, rules: dict[str, Any]) -> TileSelection:
    """Return the rules of a recipe's ``selection``; the mask's tiles lie in the store.

    Raises
    ------
    IntegrityError
        If the file of the mask's tiles is not the one that was planned.
    """
    kept = None
    if rules["mask_sha256"]:
        path = home / MASK_FILE
        if not path.exists() or hash_file(path) != rules["mask_sha256"]:
            raise IntegrityError(
                f"{path} is not what was planned; delete {home} and run again"
            )
        kept = np.load(path)
    roi = rules["roi"]
    return TileSelection(
        roi=roi and Roi(*(tuple(corner) for corner in zip(*roi, strict=True))),
        kept=kept,
        empty_value=rules["empty_value"],
        empty_fraction=rules["empty_fraction"],
    )
