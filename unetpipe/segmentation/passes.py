"""The passes over a volume that make objects, block by block, each block resumable.

::

    label     block        -> components, their sums and faces    any block, any order
    merge     sums, faces  -> final id of each component          once
    relabel   block        -> mask and objects, whole shards      any block, any order

Components are those of the classes themselves, or with a watershed those of its seeds,
which the last pass floods.
"""

import logging
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.machine import GIB
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import TIME_IS_UP, check_finished, told_to_stop
from unetpipe.segmentation.block_labels import HOLE, label_block
from unetpipe.segmentation.block_merge import (
    ONCE,
    FinalIds,
    merge_blocks,
    read_labelled,
    read_objects,
    save_labelled,
)
from unetpipe.segmentation.classes import ClassSource
from unetpipe.segmentation.runs import Sums, paint_runs
from unetpipe.segmentation.store import SegmentationHome
from unetpipe.segmentation.thresholds import fill_choices
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.segmentation.watershed_blocks import WatershedPass
from unetpipe.tiling.boxes import Zyx, as_zyx

log = logging.getLogger(__name__)

BASE_BYTES = 300 * 2**20  # interpreter and libraries
BYTES_PER_VOXEL = {"components": 20, "watershed": 80}  # of a block with its halo
ARITHMETIC = tuple(
    f"unetpipe.segmentation.{name}"
    for name in (
        *("block_labels", "components", "merging", "block_merge", "runs"),
        *("watershed", "watershed_blocks", "classes", "thresholds"),
    )
)
UNSAID = {"choose_by", "parts", "block_shards"}  # change no stored bit
Settings = dict[str, Any]


class Segmentation:
    """The objects of one volume, in the making.

    Parameters
    ----------
    prediction, model_json, ingest : Path
        Records of the finished prediction, of the network, and of the volume.
    settings : dict
        The configuration's section ``segmentation``, complete.
    folder : Path
        Where the folder ``segmentation-<id>`` of this recipe lies.

    Attributes
    ----------
    home : SegmentationHome
        Stores, receipts, scratch files.
    settings : dict
        The same, with what was chosen on the validation rows.
    threshold_source : str
        Who chose the threshold.
    """

    def __init__(
        self,
        *,
        prediction: Path,
        model_json: Path,
        ingest: Path,
        settings: Settings,
        folder: Path,
    ) -> None:
        predicted, volume = Prediction.read(prediction), IngestedVolume.read(ingest)
        self.volume = predicted.volume
        chosen = Model.read(model_json).thresholds
        self.settings, self.threshold_source = fill_choices(settings, chosen)
        z, y, x = volume.voxel_size_nm
        identity = {
            "prediction": predicted.identity_sha256,
            "content": predicted.content_sha256,
            "settings": {k: v for k, v in self.settings.items() if k not in UNSAID},
            "voxel_size_nm": [z, y, x],
            "code": code_fingerprint(
                *ARITHMETIC,
                rooms=("unetpipe.segmentation", "unetpipe.tiling"),
                without=("unetpipe.segmentation.store",),
            ),
        }
        block_shards = as_zyx(settings["block_shards"])
        self.home = SegmentationHome(
            folder, predicted.geometry, block_shards, (z, y, x), identity
        )
        self._source = ClassSource(predicted.outputs, self.settings)
        self._ids: FinalIds | None = None
        self._watershed: WatershedPass | None = None
        if settings["method"] == "watershed":
            rule = SeedRule(
                settings["connectivity"],
                self.settings["seed_distance_vox"],
                settings["seed_reach_vox"],
                (z, y, x),
            )
            self._watershed = WatershedPass(self.home, self._source, rule)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of the passes over blocks."""
        block = self.home.geometry.block
        if self._watershed is not None:
            total = self._watershed.rule.halo.total
            block = as_zyx(n + h for n, h in zip(block, total, strict=True))
        return BASE_BYTES + BYTES_PER_VOXEL[self.settings["method"]] * prod(block)

    def label(self, blocks: range) -> int:
        """Label those blocks that are not labelled yet; return how many.

        What is finished needs no labels, unless a shard of it was lost.
        """
        if self.home.finished is not None:
            if not any(self.home.lacks_shards(b) for b in blocks):
                return 0
            self.home.reopen()
        todo = [b for b in blocks if self.home.labelled.problem(self._index(b))]
        self._visit(todo, self._label, "labelling")
        return len(todo)

    def merge(self) -> None:
        """Find the final id of each component, then create the stores."""
        if self.home.finished is not None:
            return
        if self.home.merged.problem(ONCE):
            merge_blocks(
                self.home,
                connectivity=self.settings["connectivity"],
                smallest=self.settings["smallest_object_vox"],
                largest_hole=self.settings["largest_hole_vox"],
            )
        kinds, _, _ = read_objects(self.home)
        self.home.create_stores(len(kinds))

    def relabel(self, blocks: range) -> int:
        """Write those blocks that are not whole yet; return how many."""
        todo = [b for b in blocks if self._is_unwritten(b)]
        self._visit(todo, self._relabel, "writing objects")
        return len(todo)

    def collect(self) -> tuple[NDArray[np.uint8], Sums, dict[str, Any]]:
        """Return classes and sums of the objects, and numbers for the record."""
        kinds, sums, foreground = read_objects(self.home)
        numbers: dict[str, Any] = {
            "num_objects": len(kinds),
            "num_foreground_voxels": foreground,
        }
        if self._watershed is not None:
            sums, numbers["seams"] = self._watershed.collect(len(kinds))
        return kinds, sums, numbers

    def _visit(self, blocks: list[int], do: Callable[[int], None], about: str) -> None:
        """Do something with each block; a stop takes effect after the one in flight."""
        log.info(
            "%s: %d blocks, %.2f GiB of memory are projected",
            about,
            len(blocks),
            self.projected_bytes / GIB,
        )
        with (
            told_to_stop(*TIME_IS_UP) as stop,
            Progress(about, len(blocks), "block") as bar,
        ):
            for number in blocks:
                do(number)
                bar.update()
                check_finished(stop, bar.done, len(blocks))

    def _index(self, number: int) -> Zyx:
        return self.home.block_index(number)

    def _label(self, number: int) -> None:
        roi, largest_hole = (
            self.home.geometry.block_roi(number),
            self.settings["largest_hole_vox"],
        )
        values: NDArray[Any]
        if self._watershed is not None:
            values, foreground = self._watershed.seeds(roi)
            stored = np.zeros_like(values)
        else:
            values, stored = self._source.read(roi)
            foreground = int(np.count_nonzero(values))
        if largest_hole:
            values = np.where(values > 0, values, np.uint8(HOLE))
        block = label_block(
            values,
            stored,
            roi,
            self.home.geometry.volume_shape,
            self.settings["connectivity"],
            num_foreground=foreground,
            largest_hole=largest_hole,
        )
        save_labelled(self.home, number, block)

    def _is_unwritten(self, number: int) -> bool:
        has_sums = (
            self._watershed is None
            or self.home.finished is not None
            or self.home.flooded.problem(self._index(number)) is None
        )
        return not has_sums or self.home.lacks_shards(number)

    def _relabel(self, number: int) -> None:
        if self._ids is None:
            self._ids = FinalIds(self.home)
        roi = self.home.geometry.block_roi(number)
        dtype = self.home.shards.arrays["objects"].dtype
        if self._watershed is not None:
            objects = self._watershed.flood(number, self._ids).astype(dtype)
            self.home.write_block(number, self._source.shown(roi), objects)
            return
        runs, kinds = read_labelled(self.home, number)
        ids = self._ids.of_block(number).astype(dtype)
        objects = paint_runs(runs, ids, roi.shape)
        if self._source.is_binary:
            table = np.concatenate([[False], kinds != HOLE]).astype(np.uint8)
            mask = paint_runs(runs, table, roi.shape)
        else:
            mask = self._source.shown(roi)
        self.home.write_block(number, mask, objects)
