"""Rule merge_objects: find which components of all blocks are one object."""

import logging
import time
from pathlib import Path

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import MergedObjects
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.segmentation.passes import SegmentationInputs, locked_segmentation

log = logging.getLogger(__name__)


def merge_objects(*, inputs: SegmentationInputs, record: Path) -> None:
    """Merge the components of all blocks, and create the empty stores.

    Only faces and sums of the blocks are read.

    Parameters
    ----------
    inputs : SegmentationInputs
        Records, settings, and where to write.
    record : Path
        Where to write the record, last.

    Raises
    ------
    IntegrityError
        If a block is missing.
    """
    began = time.monotonic()
    with locked_segmentation(record, inputs, must_be_alone=True) as work:
        work.merge()
        num_blocks = work.home.grids.num_blocks
        MergedObjects(
            identity_sha256=work.home.identity_sha256,
            num_blocks=num_blocks,
            peak_rss_bytes=peak_rss_bytes(),
            circumstances=Circumstances.here(seconds=time.monotonic() - began),
        ).write(record)
        log.info("components of %d blocks merged", num_blocks)
