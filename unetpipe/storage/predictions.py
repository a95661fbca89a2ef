"""Where a volume is predicted: the stores of one recipe, and how parts fill them.

::

    prediction-<id>/
        probability.ome.zarr     and classes.ome.zarr where there are more than two
        tiles.npy                which tiles the mask keeps, if there is one
        receipts/                one a shard

``PredictionHome`` creates them, empty; ``PredictionStore`` opens them with the image.
"""

import io
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import IdentityError, IntegrityError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.prediction import (
    Identity,
    Output,
    Outputs,
    Prediction,
    PredictionPlan,
    TileRules,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.background import named_in_errors
from unetpipe.runtime.files import hash_file, hash_of, write_bytes_atomic
from unetpipe.runtime.machine import check_free_disk
from unetpipe.storage.dropping import are_shards_dropped
from unetpipe.storage.growing_arrays import ReceiptedStore
from unetpipe.storage.ngff import Channel, class_colours_of_ngff
from unetpipe.storage.volumes import (
    create_volume,
    is_volume_store,
    open_volume,
    read_store_attributes,
    read_stored_roi,
    set_attributes,
    set_channels,
    set_colours,
)
from unetpipe.tiling.assembly import BlockPrediction, BlockVoxels, source_roi_of_tiles
from unetpipe.tiling.boxes import Roi, Zyx, whole_volume
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.orientations import widest_halo
from unetpipe.tiling.scale import ToldSize
from unetpipe.tiling.skipping import EMPTY, TileSelection

log = logging.getLogger(__name__)

PREDICTED = "predicted"
KEPT_TILES_FILE = "tiles.npy"


@dataclass(frozen=True)
class PredictionHome:
    """The folder of one recipe for one volume.

    Attributes
    ----------
    folder : Path
        Where the folder ``prediction-<id>`` lies.
    grids : TileGrids
        Grids of the stores.
    voxel_size_nm : (z, y, x)
        Size of a voxel; z None: nobody knows, or sections are frames.
    identity : Identity
        What decides the stored bits.
    channels : sequence of Channel
        The probabilities as viewers show them: of the foreground and what lies beside
        it, or of all classes.
    """

    folder: Path
    grids: TileGrids
    voxel_size_nm: ToldSize
    identity: Identity
    channels: Sequence[Channel]

    @property
    def identity_sha256(self) -> str:
        """Hash of the identity."""
        return self.identity.sha256

    @property
    def path(self) -> Path:
        """The folder of this recipe."""
        return self.folder / f"prediction-{self.identity_sha256[:8]}"

    @property
    def receipts(self) -> Path:
        """The folder of the receipts."""
        return self.path / "receipts"

    @property
    def outputs(self) -> Outputs:
        """The stores to fill: probabilities, and classes where there are many."""
        names = tuple(channel.name for channel in self.channels)
        store = self.path / "probability.ome.zarr"
        probability = Output(store=store, channels=names)
        if self.identity.architecture.num_classes == 2:
            return Outputs(probability=probability)
        classes = Output(store=self.path / "classes.ome.zarr", channels=None)
        return Outputs(probability=probability, classes=classes)

    def prepare(self, kept: NDArray[np.bool_] | None, least_bytes: int) -> None:
        """Create the stores, or what is missing of them.

        Parameters
        ----------
        kept : bool array, shape of the tile grid, optional
            Tiles that a mask keeps.
        least_bytes : int
            What the disk must have free for new ones.

        Raises
        ------
        ResourceError
            If the disk has too little room.
        IdentityError
            If a store of this name was made from another recipe.
        """
        if self.path.exists():
            self.restore()
        else:
            check_free_disk(self.folder, least_bytes)
            self.tell_differences()
            self.create(kept)
        self.name_channels()

    def create(self, kept: NDArray[np.bool_] | None) -> None:
        """Create the empty stores under another name, then give them theirs."""
        staging = self.path.with_name(f"{self.path.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        for name, store in self.outputs.stores.items():
            self._create_store(staging / store.name, is_labels=name == "classes")
        if kept is not None:
            write_bytes_atomic(staging / KEPT_TILES_FILE, _as_npy(kept))
        (staging / "receipts").mkdir()
        staging.rename(self.path)

    def restore(self) -> None:
        """Check the stores that are there; create anew what somebody deleted of them.

        Raises
        ------
        IdentityError
            If a store was made from another recipe.
        """
        for name, store in self.outputs.stores.items():
            if not is_volume_store(store):
                log.warning("%s is gone; it is created anew and filled again", store)
                staging = store.with_name(f"{store.name}.partial")
                shutil.rmtree(staging, ignore_errors=True)
                self._create_store(staging, is_labels=name == "classes")
                shutil.rmtree(store, ignore_errors=True)
                staging.rename(store)
            elif _recipe_hash(store) != self.identity_sha256:
                raise IdentityError(
                    f"{self.path} was made from another recipe; move it away and run "
                    "again"
                )
        self.receipts.mkdir(exist_ok=True)

    def name_channels(self) -> None:
        """Let viewers show the classes by their present names and colours."""
        set_channels(self.outputs.probability.store, self.channels)

    def tell_differences(self) -> None:
        """Log what differs from the predictions that are there already."""
        mine = self.identity.to_json()
        for other in sorted(self.folder.glob("prediction-????????")):
            theirs = read_store_attributes(other / "probability.ome.zarr").get(
                "identity", {}
            )
            differing = sorted(
                key
                for key in {*mine, *theirs}
                if hash_of(mine.get(key)) != hash_of(theirs.get(key))
            )
            log.info(
                "%s stays as it is; this recipe differs in %s",
                other,
                ", ".join(differing),
            )

    def _create_store(self, store: Path, *, is_labels: bool) -> None:
        create_volume(
            store,
            shape=self.grids.volume_shape,
            dtype="uint8",
            chunk=self.grids.chunk,
            shard=self.grids.shard,
            voxel_size_nm=self.voxel_size_nm,
            channels=None if is_labels else self.outputs.probability.channels,
            unlabelled=0 if is_labels else None,
        )
        if is_labels:
            set_colours(store, class_colours_of_ngff(len(self.channels)))
        set_attributes(store, {"identity": self.identity.to_json()})


class PredictionStore:
    """The open stores of one prediction, the image, and receipts by shard.

    Parameters
    ----------
    planned : PredictionPlan or Prediction
        Grids, stores and identity.
    volume : IngestedVolume
        Whose image it is.
    mode : {"r+", "r"}
        ``r``: nothing is written.

    Attributes
    ----------
    shards : ReceiptedStore
        The arrays to fill, and the receipts of their shards.
    num_tiles : Counter
        Tiles of the blocks written so far: predicted, or why not.
    num_voxels : int
        Voxels of the blocks written so far.
    is_dropped : bool
        Whether the shards were deleted after use; their receipts are left.
    """

    def __init__(
        self,
        planned: PredictionPlan | Prediction,
        volume: IngestedVolume,
        *,
        mode: Literal["r", "r+"] = "r+",
    ) -> None:
        identity, outputs = planned.identity, planned.outputs
        self.grids = planned.geometry
        self.shards = ReceiptedStore(
            planned.geometry,
            outputs.receipts,
            {n: open_volume(path, mode=mode) for n, path in outputs.stores.items()},
            planned.identity_sha256,
        )
        self.num_tiles: Counter[str] = Counter()
        self.num_voxels = 0
        self.is_dropped = are_shards_dropped(outputs.probability.store)
        self._image = open_volume(volume.image.store)
        self._halo = widest_halo(identity.orientations, identity.architecture.halo)
        self._selection = load_selection(outputs.home, identity.selection)

    def unfinished(self, blocks: Iterable[int]) -> list[int]:
        """Return the blocks of which a shard has no valid receipt."""
        return [
            number
            for number in blocks
            if self.shards.lacks_shards(number, is_expected=self.is_dropped)
        ]

    def read(self, number: int) -> BlockVoxels:
        """Read what a block's tiles see, each input chunk once."""
        block = self.grids.block_roi(number)
        skipped: dict[Zyx, str] = {}
        for tile in self.grids.tiles(block):
            if reason := self._selection.excluded(tile):
                skipped[tile.start] = reason
        tiles = self._left(block, skipped)
        if not tiles:
            nothing = np.empty((0, 0, 0, 0), self._image.dtype)
            return BlockVoxels(number, block, (), nothing, block.start, skipped)
        seen = source_roi_of_tiles(tiles, self._halo, self.grids.volume_shape)
        with named_in_errors(
            f"block {number}, reading z, y, x = {seen.start} to {seen.stop}"
        ):
            source = read_stored_roi(self._image, seen)
        for tile in tiles:
            if self._selection.is_empty(self._voxels(source, seen.start, tile)):
                skipped[tile.start] = EMPTY
        return BlockVoxels(
            number, block, self._left(block, skipped), source, seen.start, skipped
        )

    def write(self, block: BlockPrediction, circumstances: Circumstances) -> None:
        """Write a block's shards, and after each shard its receipt.

        A shard of which no tile was predicted has a receipt that says so, and no file.

        Parameters
        ----------
        block : BlockPrediction
        circumstances : Circumstances
            Of this process.
        """
        results = arrays_to_store(block)
        for index, shard in self.shards.shards(block.number):
            tiles = Counter(
                block.skipped.get(tile.start, PREDICTED)
                for tile in self.grids.tiles(shard)
            )
            inside = shard.relative_to(block.roi.start).slices
            with named_in_errors(f"block {block.number}, writing shard {index}"):
                self.shards.write(
                    index,
                    {name: voxels[(..., *inside)] for name, voxels in results.items()},
                    circumstances,
                    tiles=tiles,
                    is_skipped=not tiles[PREDICTED],
                )
            self.num_tiles += tiles
        self.num_voxels += block.roi.num_voxels

    def _left(self, block: Roi, skipped: dict[Zyx, str]) -> tuple[Roi, ...]:
        tiles = self.grids.tiles(block)
        return tuple(tile for tile in tiles if tile.start not in skipped)

    def _voxels(self, source: NDArray[Any], origin: Zyx, tile: Roi) -> NDArray[Any]:
        own = tile.intersect(whole_volume(self.grids.volume_shape))
        kept: NDArray[Any] = source[(..., *own.relative_to(origin).slices)]
        return kept


def arrays_to_store(block: BlockPrediction) -> dict[str, NDArray[np.uint8]]:
    """Return what is stored of a block, by the name of the store."""
    found = {"probability": block.probability, "classes": block.classes}
    return {name: voxels for name, voxels in found.items() if voxels is not None}


def check_stores(path: Path, plan: PredictionPlan) -> None:
    """Raise IntegrityError, and withdraw the plan, if one of its stores was deleted.

    Parameters
    ----------
    path : Path
        ``plan.json``: without it the same command plans and creates the store anew.
    plan : PredictionPlan
        What it holds.
    """
    for store in plan.outputs.stores.values():
        if not is_volume_store(store):
            path.unlink(missing_ok=True)
            raise IntegrityError(
                f"{store} is gone, for which {path} was made; repeat the "
                "same command: the store is created anew and filled again"
            )


def load_selection(home: Path, rules: TileRules) -> TileSelection:
    """Return the rules of a recipe; the mask's tiles lie beside the stores.

    Raises
    ------
    IntegrityError
        If the file of the mask's tiles is not the one that was planned.
    """
    kept = None
    if rules.mask_sha256:
        path = home / KEPT_TILES_FILE
        if not path.exists() or hash_file(path) != rules.mask_sha256:
            raise IntegrityError(
                f"{path} is not what was planned; delete {home} and run again"
            )
        kept = np.load(path)
    return TileSelection(
        roi=Roi.between(*rules.roi) if rules.roi else None,
        kept=kept,
        empty_value=rules.empty_value,
        empty_fraction=rules.empty_fraction,
    )


def hash_kept_tiles(kept: NDArray[np.bool_]) -> str:
    """Return the sha256 of the file that tells which tiles a mask keeps."""
    return sha256(_as_npy(kept)).hexdigest()


def _as_npy(kept: NDArray[np.bool_]) -> bytes:
    content = io.BytesIO()
    np.save(content, kept)
    return content.getvalue()


def _recipe_hash(store: Path) -> str:
    return hash_of(read_store_attributes(store).get("identity"))
