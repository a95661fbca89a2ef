"""Rule relabel_part: write the final ids of one part's blocks."""

import logging
import time
from pathlib import Path

from unetpipe.config import SegmentationConfig
from unetpipe.machine import peak_rss_bytes
from unetpipe.records import circumstances, write_record
from unetpipe.segmenting import at_work_on

log = logging.getLogger(__name__)


def relabel_part(
    *,
    prediction: Path,
    model_json: Path,
    ingest: Path,
    segmentation: SegmentationConfig,
    folder: Path,
    part: int,
    record: Path,
) -> None:
    """Write mask and objects of the blocks of one part that are not whole yet.

    Parameters
    ----------
    prediction : Path
        ``prediction.json`` of the finished prediction.
    model_json : Path
        Holds what was chosen on the validation rows.
    ingest : Path
        ``ingest.json``, for the voxel size.
    segmentation : SegmentationConfig
        How objects are made, and in how many parts.
    folder : Path
        Where the folder ``segmentation-<id>`` lies.
    part : int
        Which of the parts, from 0.
    record : Path
        Where to write the part's record, last.
    """
    began = time.monotonic()
    with at_work_on(
        record,
        must_be_alone=False,
        prediction=prediction,
        model_json=model_json,
        ingest=ingest,
        settings=segmentation.model_dump(mode="json"),
        folder=folder,
    ) as work:
        blocks = work.home.geometry.blocks_of_part(part, segmentation.parts)
        log.info("%.2f GiB of memory are projected", work.projected_bytes / 2**30)
        num_computed = work.relabel(blocks)
        log.info("part %d: %d of %d blocks written", part, num_computed, len(blocks))
        write_record(
            record,
            {
                "part": part,
                "num_parts": segmentation.parts,
                "identity_sha256": work.home.identity_sha256,
                "blocks": [blocks.start, blocks.stop],
                "num_computed": num_computed,
                "num_kept": len(blocks) - num_computed,
                "projected_peak_rss_bytes": work.projected_bytes,
                "peak_rss_bytes": peak_rss_bytes(),
                "circumstances": circumstances(seconds=time.monotonic() - began),
            },
        )
