"""Rule finish_segmentation: verify the objects, add pyramids, table and record."""

import logging
import time
from pathlib import Path
from typing import Any

from unetpipe.config import SegmentationConfig
from unetpipe.errors import IntegrityError
from unetpipe.records.pyramids import PyramidJob
from unetpipe.runtime.files import circumstances, read_record
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.segmentation.passes import Segmentation
from unetpipe.segmentation.segmentation_jobs import at_work_on
from unetpipe.segmentation.store import SegmentationHome
from unetpipe.segmentation.table import describe_objects, write_table
from unetpipe.storage.keeping import write_with_copy
from unetpipe.storage.levels import create_levels
from unetpipe.storage.pyramid_parts import finish_levels

log = logging.getLogger(__name__)


def finish_segmentation(
    *,
    prediction: Path,
    model_json: Path,
    ingest: Path,
    segmentation: SegmentationConfig,
    folder: Path,
    parts: list[Path],
    record: Path,
    with_pyramid: bool = True,
) -> None:
    """Turn stored probabilities into a mask and objects, or finish what parts made.

    Parameters
    ----------
    prediction : Path
        ``prediction.json`` of the finished prediction.
    model_json : Path
        Holds what was chosen on the validation rows.
    ingest : Path
        ``ingest.json``, for the voxel size.
    segmentation : SegmentationConfig
        How objects are made.
    folder : Path
        Where the folder ``segmentation-<id>`` lies: the store with the mask (or the
        classes) as image and the objects under ``labels/objects``, and their table.
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
    with at_work_on(
        record,
        must_be_alone=True,
        prediction=prediction,
        model_json=model_json,
        ingest=ingest,
        settings=segmentation.model_dump(mode="json"),
        folder=folder,
    ) as work:
        home = work.home
        if home.finished is None or home.problems():
            home.reopen()
            if not parts:
                _segment(work)
            _check(work, parts)
        summary = home.finished or _finish(work)
        home.tidy()
        pyramids = _list_pyramids(home, summary["files_sha256"])
        for job in pyramids:
            create_levels(job.store)
            if with_pyramid:
                finish_levels(job)
        write_with_copy(
            record,
            {
                "volume": work.volume,
                "store": str(home.store),
                "objects": str(home.objects_store),
                "threshold": work.settings["threshold"],
                "threshold_source": work.threshold_source,
                "class_thresholds": work.settings["class_thresholds"],
                "smallest_object_vox": work.settings["smallest_object_vox"],
                "identity": home.identity,
                "identity_sha256": home.identity_sha256,
                **summary,
                "pyramids": [job.to_json() for job in pyramids],
                "num_blocks": home.num_blocks,
                "block": list(home.geometry.block),
                "parts": [_describe(part) for part in parts],
                "projected_peak_rss_bytes": work.projected_bytes,
                "peak_rss_bytes": peak_rss_bytes(),
                "circumstances": circumstances(seconds=time.monotonic() - began),
            },
            home.path,
        )
        log.info("%d objects in %s", summary["num_objects"], home.store)
        if "seams" in summary:
            log.info("watershed across block faces: %s", summary["seams"])


def _segment(work: Segmentation) -> None:
    """Do all steps that are not done yet."""
    blocks = range(work.home.num_blocks)
    work.label(blocks)
    work.merge()
    work.relabel(blocks)


def _check(work: Segmentation, parts: list[Path]) -> None:
    problems = work.home.problems()
    if not problems:
        return
    for part in parts:
        part.unlink(missing_ok=True)
    lines = [f"shard {index} {problem}" for index, problem in problems.items()]
    listed = "\n  ".join(lines[:20])
    raise IntegrityError(
        f"{len(lines)} shards of {work.home.store} are not whole:\n  {listed}\n"
        "repeat the same command: only these shards are written anew"
    )


def _finish(work: Segmentation) -> dict[str, Any]:
    """Add what is made of the whole, and drop the scratch files."""
    kinds, sums, numbers = work.collect()
    home = work.home
    table = describe_objects(kinds, sums, home.voxel_size_nm)
    numbers["table"] = write_table(table, home.path)
    numbers["files_sha256"] = home.hash_files()
    home.finish(numbers)
    return numbers


def _list_pyramids(
    home: SegmentationHome, files_sha256: dict[str, str]
) -> list[PyramidJob]:
    return [
        PyramidJob(
            store=store,
            is_labels=True,
            content_sha256=files_sha256[name],
            receipts=home.path / "pyramids" / name,
        )
        for name, store in (("mask", home.store), ("objects", home.objects_store))
    ]


def _describe(part: Path) -> dict[str, Any]:
    made = read_record(part)
    return {
        "path": str(part),
        "seconds": made["circumstances"]["seconds"],
        "host": made["circumstances"]["host"],
        "peak_rss_bytes": made["peak_rss_bytes"],
    }
