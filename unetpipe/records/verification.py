"""Whether all is as it was written, and comes out once more: ``verify.json``."""

from pathlib import Path

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances


class FoundProblem(Value):
    """Something that is not as its record says."""

    what: str
    remedy: str
    """The command that mends it."""


class BlockAgain(Value):
    """A block that was computed again."""

    number: int
    device: str
    differs_in: str | None
    """Why bits may differ; None: they must not."""
    num_different: int
    """Voxels; shards, where only their hashes are left."""
    largest: int | None
    """Largest difference of a probability, of 255."""
    tolerance: int
    num_beyond: int = 0
    """Voxels that differ by more than ``tolerance``."""
    most_beyond: int = 0
    """That may, where bits may differ."""


class PredictionAgain(Value):
    """What was read and computed again of one prediction."""

    prediction: Path
    num_shards: int
    blocks: tuple[BlockAgain, ...]


class Verification(Record):
    """``verify.json``, also where something is wrong."""

    WHAT = "the record of a verification"

    findings: tuple[FoundProblem, ...]
    predictions: tuple[PredictionAgain, ...]
    circumstances: Circumstances
