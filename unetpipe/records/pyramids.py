"""Pyramids that several jobs make: what parts need to know, and what they have done."""

from pathlib import Path

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances


class PyramidJob(Value):
    """What parts need to know of a store."""

    store: Path
    """With ``levels.create_levels`` behind it, its level 0 complete."""
    is_labels: bool
    """Downsample by mode instead of mean."""
    content_sha256: str
    """Tells what level 0 holds: another content, another pyramid."""
    receipts: Path
    """Folder of the receipts, outside the store."""


class StoresToCoarsen(Record):
    """Any record with a key ``pyramids``; its other keys are not looked at."""

    WHAT = "the record of stores with pyramids"

    pyramids: tuple[PyramidJob, ...] = ()


class CoarsenedPart(Record):
    """One part's share of the blocks of pyramids."""

    WHAT = "the record of a part of pyramids"

    part: int
    num_parts: int
    num_blocks_written: dict[str, int]
    """By store."""
    peak_rss_bytes: int
    circumstances: Circumstances


class FinishedPyramids(Record):
    """Pyramids that are whole, by store: the number of levels."""

    WHAT = "the record of finished pyramids"

    num_levels: dict[str, int]
    circumstances: Circumstances
