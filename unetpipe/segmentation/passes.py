"""The passes over a volume that make objects, block by block, each block resumable.

::

    label     block        -> components, their sums and faces    any block, any order
    merge     sums, faces  -> final id of each component          once
    relabel   block        -> mask and objects, whole shards      any block, any order

Components are those of the classes, with a watershed what each seed has flooded, or
fragments of affinities, which the merge joins where their pairs are alike on average.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import SegmentationConfig
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.segmentation import (
    FinishedObjects,
    ObjectSettings,
    SegmentationIdentity,
    SegmentedPart,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import GIB, peak_rss_bytes
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import TIME_IS_UP, check_finished, told_to_stop
from unetpipe.segmentation.block_labels import HOLE, label_block
from unetpipe.segmentation.classes import ClassSource
from unetpipe.segmentation.merging import FinalIds
from unetpipe.segmentation.mutex import MutexRule
from unetpipe.segmentation.mutex_blocks import cut_block_by_mutex as cut_affinities
from unetpipe.segmentation.runs import paint_runs
from unetpipe.segmentation.store import SegmentationStore
from unetpipe.segmentation.table import describe_object_table, write_object_table
from unetpipe.segmentation.thresholds import fill_choices
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.segmentation.watershed_blocks import cut_block_by_watershed
from unetpipe.storage.dropping import check_kept
from unetpipe.tiling.boxes import Zyx, as_zyx, round_up

log = logging.getLogger(__name__)

BASE_BYTES = 330 * 2**20  # interpreter, libraries and compiled loops
# Of a block with its halo.
BYTES_PER_VOXEL = {"components": 8, "holes": 20, "watershed": 45, "mutex": 120}
BYTES_PER_OBJECT = 300  # of the table
ARITHMETIC = tuple(
    f"unetpipe.segmentation.{name}"
    for name in (
        *("block_labels", "components", "merging", "runs"),
        *("watershed", "watershed_blocks", "classes", "thresholds"),
        *("mutex", "mutex_blocks", "agglomeration"),
    )
)
UNSAID = {"choose_by", "parts", "block_shards"}  # change no stored bit
ONCE: Zyx = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class SegmentationInputs:
    """What every step of a segmentation is told.

    Attributes
    ----------
    prediction : Path
        ``prediction.json`` of the finished prediction.
    model_json : Path
        Holds what was chosen on the validation rows.
    ingest : Path
        ``ingest.json``, for the voxel size.
    settings : SegmentationConfig
        How objects are made, and in how many parts.
    folder : Path
        Where the folder ``segmentation-<id>`` of this recipe lies.
    """

    prediction: Path
    model_json: Path
    ingest: Path
    settings: SegmentationConfig
    folder: Path


class Segmentation:
    """The objects of one volume, in the making.

    Parameters
    ----------
    inputs : SegmentationInputs

    Attributes
    ----------
    home : SegmentationStore
        Stores, receipts, scratch files.
    settings : ObjectSettings
        With what was chosen on the validation rows.
    threshold_source : str
        Who chose the threshold.
    """

    def __init__(self, inputs: SegmentationInputs) -> None:
        predicted = Prediction.read(inputs.prediction)
        ingested = IngestedVolume.read(inputs.ingest)
        self._told_size_nm = ingested.told_known_nm
        self.volume = predicted.volume
        model = Model.read(inputs.model_json)
        filled, self.threshold_source = fill_choices(
            inputs.settings.model_dump(mode="json"),
            model.thresholds,
            has_cores=model.spec.has_cores,
            has_affinities=model.spec.has_affinities,
        )
        said = {key: value for key, value in filled.items() if key not in UNSAID}
        self.settings = ObjectSettings.model_validate(said)
        identity = SegmentationIdentity(
            prediction=predicted.identity_sha256,
            content=predicted.content_sha256,
            settings=self.settings,
            voxel_size_nm=ingested.voxel_size_nm,
            is_depth_known=ingested.is_depth_known,
            code=code_fingerprint(
                *ARITHMETIC,
                rooms=("unetpipe.segmentation", "unetpipe.tiling"),
                without=("unetpipe.segmentation.store",),
            ),
        )
        self.home = SegmentationStore(
            inputs.folder,
            predicted.geometry,
            as_zyx(inputs.settings.block_shards),
            identity,
            is_shared=inputs.settings.parts > 1,
        )
        self._source = ClassSource(
            predicted.outputs, self.settings, has_affinities=model.spec.has_affinities
        )
        self._ids: FinalIds | None = None
        self._num_objects = 0
        self._rule: SeedRule | None = None
        if self.settings.method == "watershed":
            self._rule = SeedRule.of(self.settings, ingested.voxel_size_nm)
        self._mutex: MutexRule | None = None
        if self.settings.method == "mutex":
            assert self.settings.fragment_vox is not None
            self._mutex = MutexRule(
                self.settings.connectivity,
                model.spec.affinity_offsets,
                self.settings.fragment_vox,
            )

    @property
    def projected_bytes(self) -> int:
        """Peak memory of the passes over blocks, and of the table once it is known."""
        block = self.home.grids.block
        if self._rule is not None:
            total = self._rule.halo.total
            block = as_zyx(n + h for n, h in zip(block, total, strict=True))
        if self._mutex is not None:
            # Of the blocks beside, whole boxes are made once more.
            total, box = self._mutex.halo.total, self._mutex.box
            around = map(round_up, total, box)
            block = as_zyx(n + h for n, h in zip(block, around, strict=True))
        work: str = self.settings.method
        if work == "components" and self.settings.largest_hole_vox:
            work = "holes"
        table = BYTES_PER_OBJECT * self._num_objects
        return BASE_BYTES + BYTES_PER_VOXEL[work] * prod(block) + table

    def label(self, blocks: range) -> int:
        """Label those blocks that are not labelled yet; return how many.

        What is finished needs no labels, unless a shard of it was lost.
        """
        if self.home.finished is not None:
            if not any(self.home.lacks_shards(b) for b in blocks):
                return 0
            self.home.reopen()
        todo = [b for b in blocks if self.home.labelled.is_missing(b)]
        self._visit(todo, self._label, "labelling")
        return len(todo)

    def merge(self) -> None:
        """Find the final id of each component, then create the stores."""
        if self.home.finished is not None:
            return
        if self.home.merged.problem(ONCE):
            merged = self.home.labelled.merge(
                range(self.home.grids.num_blocks),
                smallest=self.settings.smallest_object_vox,
                largest_hole=self.settings.largest_hole_vox,
                merge_threshold=self.settings.merge_threshold,
            )
            arrays: dict[str, NDArray[Any]] = {
                "offsets": merged.offsets,
                "table": merged.objects.table,
                "kinds": merged.objects.kinds,
                "sums": merged.objects.sums,
                "num_foreground": np.array([merged.num_foreground]),
            }
            self.home.merged.save(ONCE, arrays)
        (kinds,) = self.home.merged.read(ONCE, "kinds")
        self._num_objects = len(kinds)
        self.home.create_stores(len(kinds))

    def relabel(self, blocks: range) -> int:
        """Write those blocks that are not whole yet; return how many."""
        todo = [b for b in blocks if self.home.lacks_shards(b)]
        self._visit(todo, self._relabel, "writing objects")
        return len(todo)

    def run(self) -> None:
        """Do all steps that are not done yet."""
        blocks = range(self.home.grids.num_blocks)
        self.label(blocks)
        self.merge()
        self.relabel(blocks)

    def finish(self) -> FinishedObjects:
        """Write the table of objects, and declare the segmentation whole."""
        kinds, sums, foreground = self.home.merged.read(
            ONCE, "kinds", "sums", "num_foreground"
        )
        self._num_objects = len(kinds)
        table = describe_object_table(kinds, sums, self._told_size_nm)
        finished = FinishedObjects(
            num_objects=len(kinds),
            num_foreground_voxels=int(foreground[0]),
            table=write_object_table(table, self.home.path),
            files_sha256=self.home.hash_files(),
        )
        self.home.finish(finished)
        return finished

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

    def _label(self, number: int) -> None:
        roi, grids = self.home.labelled.roi(number), self.home.grids
        largest_hole = self.settings.largest_hole_vox
        if self._rule is not None:
            block = cut_block_by_watershed(
                self._source, self._rule, roi, grids.block, grids.volume_shape
            )
            self.home.labelled.save(number, block)
            return
        if self._mutex is not None:
            sides = grids.shard, grids.volume_shape
            block = cut_affinities(self._source, self._mutex, roi, sides)
            self.home.labelled.save(number, block)
            return
        values, stored = self._source.read(roi)
        foreground = int(np.count_nonzero(values))
        if largest_hole:
            values = np.where(values > 0, values, np.uint8(HOLE))
        block = label_block(
            values,
            stored,
            roi,
            grids.volume_shape,
            self.settings.connectivity,
            num_foreground=foreground,
            largest_hole=largest_hole,
        )
        self.home.labelled.save(number, block)

    def _relabel(self, number: int) -> None:
        if self._ids is None:
            (offsets,) = self.home.merged.read(ONCE, "offsets")
            self._ids = FinalIds(self.home.merged.map(ONCE, "table"), offsets)
        roi = self.home.labelled.roi(number)
        dtype = self.home.shards.arrays["objects"].dtype
        runs, kinds = self.home.labelled.read(number)
        ids = self._ids.of_block(number).astype(dtype)
        objects = paint_runs(runs, ids, roi.shape)
        is_plain = self.settings.method == "components"
        if self._source.is_binary and is_plain:
            table = np.concatenate([[False], kinds != HOLE]).astype(np.uint8)
            shown = paint_runs(runs, table, roi.shape)
        else:
            shown = self._source.shown(roi)
        self.home.write_block(number, shown, objects)


@contextmanager
def locked_segmentation(
    record: Path, inputs: SegmentationInputs, *, must_be_alone: bool
) -> Iterator[Segmentation]:
    """Yield a ``Segmentation`` whose step no other process is at work on.

    Parameters
    ----------
    record : Path
        What the step will write; names its claim.
    inputs : SegmentationInputs
    must_be_alone : bool
        False where two processes would write the same bytes.
    """
    check_kept(Prediction.read(inputs.prediction).outputs.probability.store)
    path = record.with_name(f".{record.stem}.claim")
    with claim(path, str(record), must_be_alone=must_be_alone):
        yield Segmentation(inputs)


def finish_part_of_objects(
    step: Callable[[Segmentation, range], int],
    inputs: SegmentationInputs,
    *,
    part: int,
    record: Path,
) -> None:
    """Do one step for the blocks of one part, and write the part's record, last.

    Parameters
    ----------
    step : callable
        ``Segmentation.label`` or ``.relabel``: skips blocks that are done, and returns
        how many were not.
    inputs : SegmentationInputs
    part : int
        Which of the parts, from 0.
    record : Path
        Where to write.
    """
    began = time.monotonic()
    with locked_segmentation(record, inputs, must_be_alone=False) as work:
        num_parts = inputs.settings.parts
        blocks = work.home.grids.blocks_of_part(part, num_parts)
        num_computed = step(work, blocks)
        num_kept = len(blocks) - num_computed
        log.info("part %d: %d blocks done, %d kept", part, num_computed, num_kept)
        SegmentedPart(
            part=part,
            num_parts=num_parts,
            identity_sha256=work.home.identity_sha256,
            blocks=(blocks.start, blocks.stop),
            num_computed=num_computed,
            num_kept=num_kept,
            projected_peak_rss_bytes=work.projected_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            circumstances=Circumstances.here(seconds=time.monotonic() - began),
        ).write(record)
