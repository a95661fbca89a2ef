"""Rule merge_objects: find which components of all blocks are one object."""

import logging
import time
from pathlib import Path

from unetpipe.config import SegmentationConfig
from unetpipe.runtime.files import circumstances, write_record
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.segmentation.segmentation_jobs import at_work_on

log = logging.getLogger(__name__)


def merge_objects(
    *,
    prediction: Path,
    model_json: Path,
    ingest: Path,
    segmentation: SegmentationConfig,
    folder: Path,
    record: Path,
) -> None:
    """Merge the components of all blocks, and create the empty stores.

    Only faces and sums of the blocks are read.

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
        Where the folder ``segmentation-<id>`` lies.
    record : Path
        Where to write the record, last.

    Raises
    ------
    IntegrityError
        If a block is missing.
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
        work.merge()
        write_record(
            record,
            {
                "identity_sha256": work.home.identity_sha256,
                "num_blocks": work.home.num_blocks,
                "peak_rss_bytes": peak_rss_bytes(),
                "circumstances": circumstances(seconds=time.monotonic() - began),
            },
        )
        log.info("components of %d blocks merged", work.home.num_blocks)
