"""Rule coarsen_part: one part's share of the coarser levels of some stores."""

import logging
import time
from pathlib import Path

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.pyramids import CoarsenedPart, StoresToCoarsen
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.storage.dropping import check_kept
from unetpipe.storage.pyramid_parts import coarsen_share

log = logging.getLogger(__name__)


def coarsen_part(*, source: Path, part: int, num_parts: int, record: Path) -> None:
    """Write one part's blocks of the pyramids of all stores that a record names.

    Blocks with a valid receipt are kept: repeating the call goes on from there.

    Parameters
    ----------
    source : Path
        Record of the stores, each whole at full resolution: its key ``pyramids``.
    part, num_parts : int
        Which share of the blocks, from 0.
    record : Path
        Where to write the part's record, last.

    Raises
    ------
    ResourceError
        If the disk is full; what is finished is kept.
    """
    began = time.monotonic()
    jobs = StoresToCoarsen.read(source).pyramids
    for job in jobs:
        check_kept(job.store)
    written = {
        str(job.store): coarsen_share(job, part=part, num_parts=num_parts)
        for job in jobs
    }
    CoarsenedPart(
        part=part,
        num_parts=num_parts,
        num_blocks_written=written,
        peak_rss_bytes=peak_rss_bytes(),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info("part %d done: %d blocks", part, sum(written.values()))
