"""Pyramids in N static parts: receipts by block, so that nothing is made twice.

::

    create_levels    once, with the store
    coarsen_share    N jobs, each its share of the blocks
    finish_levels    once: looks at every receipt, makes the rest, names the levels
"""

import logging
from pathlib import Path

from unetpipe.records.pyramids import PyramidJob
from unetpipe.records.receipts import FilesReceipt
from unetpipe.runtime.background import named_in_errors
from unetpipe.runtime.files import hash_of
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.progress import track_progress
from unetpipe.storage.pyramid import Pyramid
from unetpipe.storage.receipts import differing_file, receipt_path
from unetpipe.tiling.boxes import range_of_part

log = logging.getLogger(__name__)


def pyramid_identity(job: PyramidJob, pyramid: Pyramid) -> str:
    """Return the hash of what decides the stored bits."""
    return hash_of(
        {
            "content": job.content_sha256,
            "is_labels": job.is_labels,
            "factors": pyramid.factors,
            "code": code_fingerprint("unetpipe.storage.downsampling"),
        }
    )


def coarsen_share(job: PyramidJob, *, part: int = 0, num_parts: int = 1) -> int:
    """Write one part's blocks of a pyramid, all but those with a valid receipt.

    Any number of parts gives the same bits, and it may change between runs. Parts may
    run at the same time: no two write the same file. Memory: a few shards for each
    thread. After a kill at most one block is made again.

    Parameters
    ----------
    job : PyramidJob
        The store.
    part, num_parts : int
        Which share of the blocks, from 0.

    Returns
    -------
    int
        Number of blocks written now.

    Raises
    ------
    ResourceError
        If the disk is full; what is finished is kept.
    """
    pyramid = Pyramid(job.store, is_labels=job.is_labels)
    identity, blocks = pyramid_identity(job, pyramid), pyramid.blocks
    own = [blocks[i] for i in range_of_part(len(blocks), part, num_parts)]
    receipts = {block: receipt_path(job.receipts, block) for block in own}
    todo = [b for b, path in receipts.items() if not _is_done(job, path, identity)]
    if own:
        log.info("%s: %d of %d blocks to write", job.store, len(todo), len(own))
    for block in track_progress(todo, job.store.name, "block"):
        with named_in_errors(f"pyramid of {job.store}, block {block}"):
            files = pyramid.write_block(block)
            receipt = FilesReceipt(block=block, files=files, identity=identity)
            receipt.write(receipts[block])
    return len(todo)


def finish_levels(job: PyramidJob) -> int:
    """Make what is left of a pyramid, and name its levels, last.

    Blocks without a valid receipt are written here: all of them, where there are no
    parts. A store that needs no coarser levels gets no receipt either.

    Returns
    -------
    int
        Number of levels, the full resolution included.
    """
    pyramid = Pyramid(job.store, is_labels=job.is_labels)
    if not pyramid.factors:
        return pyramid.name_levels()
    rest, identity = job.receipts / "rest.json", pyramid_identity(job, pyramid)
    if coarsen_share(job) or not _is_done(job, rest, identity):
        files = pyramid.write_rest()
        FilesReceipt(files=files, identity=identity).write(rest)
    return pyramid.name_levels()


def _is_done(job: PyramidJob, receipt: Path, identity: str) -> bool:
    """Return whether a receipt is of this recipe, and its files have their bytes."""
    file = differing_file(receipt, job.store, identity)
    if file not in (None, receipt):
        log.warning("%s has not the bytes that were written; made again", file)
    return file is None
