"""Rule finish_pyramid: what the parts leave of some pyramids, and the metadata."""

import logging
import time
from pathlib import Path

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.pyramids import FinishedPyramids, StoresToCoarsen
from unetpipe.storage.dropping import check_kept
from unetpipe.storage.pyramid_parts import finish_levels

log = logging.getLogger(__name__)


def finish_pyramid(*, source: Path, record: Path) -> None:
    """Check all blocks of the pyramids, make the last levels, name them for viewers.

    A block without a valid receipt is made here, so that nothing is ever missing.

    Parameters
    ----------
    source : Path
        Record of the stores: its key ``pyramids``.
    record : Path
        Where to write the record, last.
    """
    began = time.monotonic()
    jobs = StoresToCoarsen.read(source).pyramids
    for job in jobs:
        check_kept(job.store)
    num_levels = {str(job.store): finish_levels(job) for job in jobs}
    made = Circumstances.here(seconds=time.monotonic() - began)
    FinishedPyramids(num_levels=num_levels, circumstances=made).write(record)
    for store, count in num_levels.items():
        log.info("%s has %d levels", store, count)
