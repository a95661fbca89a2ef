"""Rule finish_segmentation: verify the objects, add pyramids, table and record."""

import logging
import time
from math import prod
from pathlib import Path

from pyarrow import parquet

from unetpipe.errors import IntegrityError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.pyramids import PyramidJob
from unetpipe.records.sections import FoundSections
from unetpipe.records.segmentation import (
    FinishedObjects,
    Segmentation,
    SegmentationStep,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.runtime.text import count_noun
from unetpipe.segmentation.original_grid import write_objects_on_original_grid
from unetpipe.segmentation.passes import SegmentationInputs, locked_segmentation
from unetpipe.segmentation.store import SegmentationStore
from unetpipe.storage.keeping import write_with_copy
from unetpipe.storage.levels import create_levels
from unetpipe.storage.pyramid_parts import finish_levels
from unetpipe.targets.likeness import find_by_section, unlike_result
from unetpipe.tiling.skipping import OUTSIDE_MASK, OUTSIDE_ROI

log = logging.getLogger(__name__)

LISTED = 20  # shards that are not whole


def finish_segmentation(
    *,
    inputs: SegmentationInputs,
    parts: list[Path],
    record: Path,
    with_pyramid: bool = True,
) -> None:
    """Turn stored probabilities into a mask and objects, or finish what parts made.

    Parameters
    ----------
    inputs : SegmentationInputs
        Records, settings, and where to write: the store with the mask (or the classes)
        as image and the objects under ``labels/objects``, and their table.
    parts : list of Path
        Records of the steps before, to be removed if a shard is not whole. None: this
        job does all steps.
    record : Path
        Where to write ``segmentation.json``.
    with_pyramid : bool
        Write the coarser levels here. Else only their empty arrays are made, and
        ``coarsen_part`` and ``finish_pyramid`` fill them.

    Raises
    ------
    IntegrityError
        If a shard of the parts is not whole; repeating the same command mends it.
    """
    began = time.monotonic()
    with locked_segmentation(record, inputs, must_be_alone=True) as work:
        home = work.home
        if home.finished is None or home.problems():
            home.reopen()
            if not parts:
                work.run()
            _check(home, parts)
        finished = home.finished or work.finish()
        home.tidy()
        volume = IngestedVolume.read(inputs.ingest)
        original = volume.original and write_objects_on_original_grid(
            home, volume.original
        )
        if volume.georeference:
            home.note_georeference(volume.georeference)
        pyramids = _list_pyramids(home, finished.files_sha256)
        for job in pyramids:
            create_levels(job.store)
            if with_pyramid:
                finish_levels(job)
        shape = home.grids.volume_shape
        sections = _count_objects(finished, shape[0])
        unlike = _compare_with_learnt(inputs, sections, prod(shape[1:]))
        made = Segmentation(
            volume=work.volume,
            store=home.store,
            objects=home.objects_store,
            threshold=work.settings.threshold,
            threshold_source=work.threshold_source,
            class_thresholds=work.settings.class_thresholds,
            smallest_object_vox=work.settings.smallest_object_vox,
            identity=home.identity,
            identity_sha256=home.identity_sha256,
            **finished.told(),
            sections=sections,
            warnings=unlike,
            georeference=volume.georeference,
            original=original,
            pyramids=pyramids,
            num_blocks=home.grids.num_blocks,
            block=home.grids.block,
            parts=tuple(SegmentationStep.read(path).summary(path) for path in parts),
            projected_peak_rss_bytes=work.projected_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            circumstances=Circumstances.here(seconds=time.monotonic() - began),
        )
        write_with_copy(record, made, home.path)
        log.info("%s in %s", count_noun(made.num_objects, "object"), home.store)


def _check(home: SegmentationStore, parts: list[Path]) -> None:
    problems = home.problems()
    if not problems:
        return
    for part in parts:
        part.unlink(missing_ok=True)
    lines = [f"shard {index} {problem}" for index, problem in problems.items()]
    listed = "\n  ".join(lines[:LISTED])
    raise IntegrityError(
        f"{len(lines)} shards of {home.store} are not whole:\n  {listed}\n"
        "repeat the same command: only these shards are written anew"
    )


def _count_objects(finished: FinishedObjects, num_sections: int) -> FoundSections:
    """Return what was found in each section, from the table of objects."""
    names = ["start_z", "stop_z", "voxels"]
    table = parquet.read_table(finished.table["parquet"].path, columns=names)
    starts, stops, voxels = (table[name].to_numpy() for name in names)
    return find_by_section(starts, stops, voxels, num_sections)


def _compare_with_learnt(
    inputs: SegmentationInputs, found: FoundSections, area: int
) -> tuple[str, ...]:
    """Say how the result is unlike what was annotated; nothing of a part of it.

    Where tiles were left out, what is missing there says nothing of the network; nor
    do objects of some classes, for annotations are known as the sum of all.
    """
    model, chosen = Model.read(inputs.model_json), inputs.settings.object_classes
    if chosen is not None and not {*range(1, model.spec.num_classes)}.issubset(chosen):
        return ()
    tiles = Prediction.read(inputs.prediction).tiles
    if any(tiles.get(why) for why in (OUTSIDE_ROI, OUTSIDE_MASK)):
        return ()
    told = unlike_result(model.learnt_sections, found, area)
    for warning in told:
        log.warning("%s", warning)
    return told


def _list_pyramids(
    home: SegmentationStore, files_sha256: dict[str, str]
) -> tuple[PyramidJob, ...]:
    return tuple(
        PyramidJob(
            store=store,
            is_labels=True,
            content_sha256=files_sha256[name],
            receipts=home.path / "pyramids" / name,
        )
        for name, store in (("mask", home.store), ("objects", home.objects_store))
    )
