"""Where the objects of a volume are made: folder, stores, receipts, scratch files.

::

    segmentation-<id>/
        segmentation.ome.zarr    mask (or classes), and labels/objects
        receipts/                one a shard: mask and objects are whole
        objects.parquet, .csv    the table of objects
        finished.json            written last; then the scratch files go
        scratch-<id>/            labelled/, merged/: files of blocks
"""

import shutil
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import FinishedObjects, SegmentationIdentity
from unetpipe.runtime.files import ListHash, hash_of
from unetpipe.runtime.staging import partial_folder
from unetpipe.segmentation.block_files import BlockFiles
from unetpipe.segmentation.merging import LabelledBlocks
from unetpipe.storage.growing_arrays import ReceiptedStore
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    is_volume_store,
    open_volume,
    set_attributes,
)
from unetpipe.tiling.boxes import Zyx, as_zyx, whole_volume
from unetpipe.tiling.grids import TileGrids

LARGEST_BLOCK = 2**32  # voxels; runs are counted in 32 bits
LABELLED, MERGED = "labelled", "merged"


class SegmentationStore:
    """The folder of one recipe for one volume.

    Parameters
    ----------
    folder : Path
        Where the folder ``segmentation-<id>`` lies.
    grids : TileGrids
        Of the prediction.
    block_shards : (z, y, x)
        Shards that one block spans.
    identity : SegmentationIdentity
        What decides the stored bits.
    is_shared : bool
        Several jobs leave each other blocks.

    Raises
    ------
    ConfigError
        If a block has more voxels than runs can count.

    Attributes
    ----------
    grids : TileGrids
        The same with the blocks of the segmentation.
    identity_sha256 : str
        Hash of the identity.
    labelled : LabelledBlocks
        Components of blocks.
    merged : BlockFiles
        What the merge leaves for the last pass.
    """

    def __init__(
        self,
        folder: Path,
        grids: TileGrids,
        block_shards: Zyx,
        identity: SegmentationIdentity,
        *,
        is_shared: bool = True,
    ) -> None:
        shards = zip(grids.shard, block_shards, strict=True)
        self.grids = replace(grids, block=as_zyx(n * k for n, k in shards))
        _check_size(self.grids, block_shards)
        self.identity, self.identity_sha256 = identity, hash_of(identity.to_json())
        self.path = folder / f"segmentation-{self.identity_sha256[:8]}"
        self.store = self.path / "segmentation.ome.zarr"
        self.objects_store = self.store / "labels" / "objects"
        cut = hash_of([self.identity_sha256, self.grids.block])
        labelled, self.merged = (
            BlockFiles(
                self.path / f"scratch-{cut[:8]}" / name, cut, is_synced=is_shared
            )
            for name in (LABELLED, MERGED)
        )
        self.labelled = LabelledBlocks(
            labelled,
            self.grids.volume_shape,
            self.grids.block,
            identity.settings.connectivity,
        )
        self._circumstances = Circumstances.here()
        self._shards: ReceiptedStore | None = None

    @property
    def shards(self) -> ReceiptedStore:
        """The open stores, ``mask`` and ``objects``, with the receipts of shards."""
        if self._shards is None:
            arrays = {
                "mask": open_volume(self.store, mode="r+"),
                "objects": open_volume(self.objects_store, mode="r+"),
            }
            self._shards = ReceiptedStore(
                self.grids,
                self.path / "receipts",
                arrays,
                self.identity_sha256,
            )
        return self._shards

    def create_stores(self, num_objects: int) -> None:
        """Create mask and objects; under their final name at once, or not at all."""
        if self._has_stores:
            return
        grids: dict[str, Any] = {
            "shape": self.grids.volume_shape,
            "chunk": self.grids.chunk,
            "shard": self.grids.shard,
            "voxel_size_nm": self.identity.told_size_nm,
        }
        with partial_folder(self.store) as staging:
            # Viewers would show a mask of 0 and 1 as a black image.
            create_volume(staging, dtype="uint8", unlabelled=0, **grids)
            objects = create_labels_group(staging, ("objects",)) / "objects"
            dtype = "uint32" if num_objects < 2**32 else "uint64"
            create_volume(objects, dtype=dtype, unlabelled=0, **grids)
            for store in (staging, objects):
                set_attributes(store, {"identity": self.identity.to_json()})

    def note_georeference(self, georeference: dict[str, Any]) -> None:
        """Have the stores say where on the earth they lie."""
        about = {"identity": self.identity.to_json(), "georeference": georeference}
        for store in (self.store, self.objects_store):
            set_attributes(store, about)

    def write_block(
        self, number: int, shown: NDArray[np.uint8], objects: NDArray[Any]
    ) -> None:
        """Write the shards of a block, and after each its receipt."""
        roi = self.grids.block_roi(number)
        for index, shard in self.shards.shards(number):
            inside = shard.relative_to(roi.start).slices
            results = {"mask": shown[inside], "objects": objects[inside]}
            self.shards.write(index, results, self._circumstances, tiles={})

    def lacks_shards(self, number: int) -> bool:
        """Return whether a shard of a block is not there, or not whole."""
        return not self._has_stores or self.shards.lacks_shards(number)

    def problems(self) -> dict[Zyx, str]:
        """Return what is wrong with which shard; hashes all of them."""
        if not self._has_stores:
            whole = whole_volume(self.grids.volume_shape)
            return {i: "has no store" for i, _ in self.grids.shards(whole)}
        return self.shards.check().problems

    def hash_files(self) -> dict[str, str]:
        """Return a hash of all shards of each array, as their receipts tell."""
        total = {name: ListHash() for name in self.shards.arrays}
        for index in self.shards.indices():
            files = self.shards.receipt(index).files
            for name, digest in total.items():
                digest.add(files[name])
        return {name: digest.hexdigest() for name, digest in total.items()}

    @property
    def finished(self) -> FinishedObjects | None:
        """What was recorded at the end; None before."""
        return FinishedObjects.read_if_there(self._finished)

    def finish(self, summary: FinishedObjects) -> None:
        """Declare the segmentation whole."""
        summary.write(self._finished)

    def tidy(self) -> None:
        """Drop what only the passes needed, and what a killed one has left."""
        for scratch in self.path.glob("scratch-*"):
            shutil.rmtree(scratch)
        for orphan in self.path.rglob("*.partial"):
            orphan.unlink(missing_ok=True)

    def reopen(self) -> None:
        """Take back that it is whole; the passes begin anew, whole shards are kept."""
        self._finished.unlink(missing_ok=True)

    @property
    def _finished(self) -> Path:
        return self.path / "finished.json"

    @property
    def _has_stores(self) -> bool:
        stores = (self.store, self.objects_store)
        return all((s / "zarr.json").exists() and is_volume_store(s) for s in stores)


def _check_size(grids: TileGrids, block_shards: Zyx) -> None:
    sides = zip(grids.block, grids.volume_shape, strict=True)
    voxels = prod(min(n, length) for n, length in sides)
    if voxels >= LARGEST_BLOCK:
        raise ConfigError(
            f"segmentation.block_shards {list(block_shards)} makes blocks of {voxels} "
            f"voxels, {LARGEST_BLOCK} or more; use fewer shards, [1, 1, 1] at best"
        )
