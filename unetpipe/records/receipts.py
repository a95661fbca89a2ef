"""Receipts: written last, they say that files are whole, and by which recipe."""

from typing import TypeVar

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.tiling.boxes import Zyx


class ShardReceipt(Record):
    """Of one shard of one or several arrays."""

    WHAT = "the receipt of a shard"

    shard: Zyx
    files: dict[str, str]
    """Name of the array -> sha256 of its file; empty for a skipped shard."""
    skipped: str | None
    """Why there is no file."""
    tiles: dict[str, int]
    """How many of its tiles were predicted, and how many left out for what reason."""
    identity: str
    """Hash of the recipe."""
    circumstances: Circumstances


class FilesReceipt(Record):
    """Of a block of some files, or of what is left over."""

    WHAT = "the receipt of files"

    block: Zyx | None = None
    files: dict[str, str]
    """Path inside the store -> sha256."""
    identity: str


class SectionSums(Value):
    """Sums over the voxels of one channel of a section."""

    count: int
    total: int | str
    """Exact: of floating-point numbers a fraction, ``p/q``."""
    total_squares: int | str
    minimum: int | float
    maximum: int | float
    num_nan: int


class LayerReceipt(Record):
    """Of a layer of shards of an image, with the sums of its sections."""

    WHAT = "the receipt of a layer"

    identity: str
    files: dict[str, str]
    """Name of the shard -> sha256; none of an image that is used where it is."""
    sections: tuple[tuple[SectionSums, ...], ...]


Receipt = TypeVar("Receipt", ShardReceipt, FilesReceipt, LayerReceipt)
