"""Steps of a segmentation as jobs: claimed while they run, recorded when they end."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unetpipe.runtime.files import circumstances, read_record, write_record
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.segmentation.passes import Segmentation
from unetpipe.storage.dropping import check_kept

log = logging.getLogger(__name__)


@contextmanager
def at_work_on(
    record: Path, *, must_be_alone: bool, **arguments: Any
) -> Iterator[Segmentation]:
    """Yield a ``Segmentation`` whose step no other process is at work on.

    Parameters
    ----------
    record : Path
        What the step will write; names its claim.
    must_be_alone : bool
        False where two processes would write the same bytes.
    **arguments
        Of ``Segmentation``.
    """
    outputs = read_record(arguments["prediction"])["outputs"]
    check_kept(Path(outputs["probability"]["store"]))
    path = record.with_name(f".{record.stem}.claim")
    with claim(path, str(record), must_be_alone=must_be_alone):
        yield Segmentation(**arguments)


def record_part(
    compute: Callable[[Segmentation, range], int],
    *,
    part: int,
    num_parts: int,
    record: Path,
    **arguments: Any,
) -> None:
    """Do one step for the blocks of one part, and write the part's record, last.

    Parameters
    ----------
    compute : callable
        The step, ``Segmentation.label`` or ``.relabel``: skips blocks that are done,
        and returns how many were not.
    part, num_parts : int
        Which of the parts, from 0.
    record : Path
        Where to write.
    **arguments
        Of ``Segmentation``.
    """
    began = time.monotonic()
    with at_work_on(record, must_be_alone=False, **arguments) as work:
        blocks = work.home.geometry.blocks_of_part(part, num_parts)
        num_computed = compute(work, blocks)
        num_kept = len(blocks) - num_computed
        log.info("part %d: %d blocks done, %d kept", part, num_computed, num_kept)
        write_record(
            record,
            {
                "part": part,
                "num_parts": num_parts,
                "identity_sha256": work.home.identity_sha256,
                "blocks": [blocks.start, blocks.stop],
                "num_computed": num_computed,
                "num_kept": num_kept,
                "projected_peak_rss_bytes": work.projected_bytes,
                "peak_rss_bytes": peak_rss_bytes(),
                "circumstances": circumstances(seconds=time.monotonic() - began),
            },
        )
