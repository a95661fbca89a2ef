"""Networks beside each other: ``comparison.json``."""

from typing import Any, ClassVar

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.metrics import Definition, Line, Row


class Spread(Value):
    """A score over networks that differ by chance, or by what they learnt from."""

    score: float
    """Their mean."""
    lowest: float
    highest: float
    n: int
    """Networks that have a score."""
    thresholds: tuple[float | None, ...]
    """Of each of them."""
    difference: float | None = None
    """Of the mean to that of the first variant; absent without one."""


class _OfSeed(Value):
    seed: int


class _OfModel(Value):
    model: str


class SeedRow(Row, _OfSeed):
    """The row of one seed, all folds pooled."""


class ModelRow(Row, _OfModel):
    """The row of one network."""


class SpreadRow(Line[Spread]):
    """One score of one predictor over several networks; else as the first one's row."""

    seeds: tuple[SeedRow, ...] = ()
    """The single rows, where seeds differ."""
    models: tuple[ModelRow, ...] = ()
    """The single rows, where networks were scored on the same sections."""


class Variant(Value):
    """Each test section of a variant by the network that never saw it."""

    variant: str
    """Its name; empty where there are none."""
    changes: dict[str, Any]
    """What it changes in the configuration."""
    models: tuple[str, ...]
    folds: tuple[str, ...]
    rows: tuple[SpreadRow, ...]


class EnsembleScores(Value):
    """The scores of an ensemble on what all its members were tested on."""

    model: str
    rows: tuple[Row, ...]


class Shared(Value):
    """The test sections that all networks of a variant share."""

    variant: str
    models: tuple[str, ...]
    volumes: tuple[str, ...]
    rows: tuple[SpreadRow, ...]
    ensemble: EnsembleScores | None


class Comparison(Record):
    """The scores of variants, folds and seeds side by side."""

    WHAT: ClassVar[str] = "the comparison of networks"

    definitions: dict[str, Definition]
    variants: tuple[Variant, ...]
    shared: tuple[Shared, ...]
    """Apart: what every network was tested on."""
    left_out: tuple[str, ...] = ()
    """Scores that are in neither, and why: a sentence a network and volume."""
    circumstances: Circumstances
