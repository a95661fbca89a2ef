"""Pyramids in N static parts: receipts by block, so that nothing is made twice.

::

    create_levels    once, with the store
    coarsen_share    N jobs, each its share of the blocks
    finish_levels    once: looks at every receipt, makes the rest, names the levels
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.errors import DataError
from unetpipe.runtime.background import named
from unetpipe.runtime.files import hash_file, hash_of, read_record, write_record
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.progress import track
from unetpipe.storage.pyramid import Pyramid
from unetpipe.storage.receipts import receipt_path
from unetpipe.tiling.boxes import Zyx

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PyramidJob:
    """What parts need to know of a store; a record carries it as JSON.

    Attributes
    ----------
    store : Path
        With ``levels.create_levels`` behind it, its level 0 complete.
    is_labels : bool
        Downsample by mode instead of mean.
    content_sha256 : str
        Tells what level 0 holds: another content, another pyramid.
    receipts : Path
        Folder of the receipts, outside the store.
    """

    store: Path
    is_labels: bool
    content_sha256: str
    receipts: Path

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "store": str(self.store),
            "is_labels": self.is_labels,
            "content_sha256": self.content_sha256,
            "receipts": str(self.receipts),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PyramidJob":
        """Return what ``to_json`` has turned into plain values."""
        return cls(
            Path(values["store"]),
            values["is_labels"],
            values["content_sha256"],
            Path(values["receipts"]),
        )

    def identity(self, pyramid: Pyramid) -> str:
        """Return the hash of what decides the stored bits."""
        return hash_of(
            {
                "content": self.content_sha256,
                "is_labels": self.is_labels,
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
    identity, blocks = job.identity(pyramid), pyramid.blocks
    share = blocks[
        len(blocks) * part // num_parts : len(blocks) * (part + 1) // num_parts
    ]
    todo = [block for block in share if not _is_done(job, block, identity)]
    if share:
        log.info("%s: %d of %d blocks to write", job.store, len(todo), len(share))
    for block in track(todo, job.store.name, "block"):
        with named(f"pyramid of {job.store}, block {block}"):
            files = pyramid.write_block(block)
            write_record(
                receipt_path(job.receipts, block),
                {"block": list(block), "files": files, "identity": identity},
            )
    return len(todo)


def finish_levels(job: PyramidJob) -> int:
    """Make what is left of a pyramid, and name its levels, last.

    Blocks without a valid receipt are written here: all of them, where there are no
    parts.

    Returns
    -------
    int
        Number of levels, the full resolution included.
    """
    pyramid = Pyramid(job.store, is_labels=job.is_labels)
    if coarsen_share(job) or not _has_rest(job, pyramid):
        files = pyramid.write_rest()
        write_record(
            _rest_path(job), {"files": files, "identity": job.identity(pyramid)}
        )
    return pyramid.name_levels()


def _rest_path(job: PyramidJob) -> Path:
    return job.receipts / "rest.json"


def _has_rest(job: PyramidJob, pyramid: Pyramid) -> bool:
    return _is_valid(job, _rest_path(job), job.identity(pyramid))


def _is_done(job: PyramidJob, block: Zyx, identity: str) -> bool:
    return _is_valid(job, receipt_path(job.receipts, block), identity)


def _is_valid(job: PyramidJob, receipt: Path, identity: str) -> bool:
    """Return whether a receipt is of this recipe, and its files have their bytes."""
    if not receipt.exists():
        return False
    try:
        record = read_record(receipt)
    except DataError:
        return False
    if record.get("identity") != identity:
        return False
    for name, sha256 in record["files"].items():
        file = job.store / name
        if not file.exists() or hash_file(file) != sha256:
            log.warning("%s has not the bytes that were written; made again", file)
            return False
    return True
