"""The scores of a network on a volume: ``metrics.json`` and ``section_scores.json``.

Fields, units and versions, so that one can cite them. ``Metrics`` writes the record and
is the only source of ``config/metrics.schema.json``.
"""

from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances

Role = Literal["validate", "test"]
Better = Literal["higher", "lower"]
Unit = Literal["1", "nats", "bits"]
Units = Literal["sections", "objects", "volumes"]
Rule = Literal["chosen", "best"]
Pair = tuple[float, float]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Sections = tuple[Whole, ...]
Scores = tuple[float | None, ...]
Axis = Literal["z", "y", "x"]

OURS = "unet"
TEST: Role = "test"


# Docstrings are looked up for what is published alone: it takes each process a while.
STRICT = ConfigDict(
    json_schema_extra={"additionalProperties": False}, use_attribute_docstrings=True
)


class Published(Value):
    """A part of the published schema, which knows all its fields."""

    model_config = STRICT


class Definition(Published):
    """What a score means. Cite the reference, and the version of the definition."""

    definition: str
    """In words."""
    better: Better
    """Which way is better."""
    reference: str
    """The publication that defines the score; empty for textbook terms."""
    unit: Unit
    """Unit; 1 is a share or a ratio."""
    version: Count
    """Of the definition: raised when the score changes its meaning. Scores of
    different versions must not be compared."""


class Score(Published):
    """A score at a threshold."""

    threshold: float | None
    """Of the foreground probability, 0 to 1; null where the score has none."""
    score: float | None
    """In the unit of the row; null where it is undefined."""


S = TypeVar("S")


class Line(Published, Generic[S]):
    """One score of one predictor, ``S`` at a threshold."""

    predictor: str
    """``unet``, or the baseline: ``constant``, ``grey value``, ``Otsu``, ``local
    threshold``, and both with `` + watershed``."""
    metric: str
    """A key of ``definitions``."""
    definition: str
    """As in ``definitions``."""
    better: Better
    """As in ``definitions``."""
    unit: Unit
    """As in ``definitions``."""
    best: S | None
    """At the threshold that is best on these very sections: it flatters. Null where
    the metric has no threshold."""
    chosen: S | None
    """Of the network, at the threshold of the delivered masks, which validation
    sections, the configuration or the default of 0.5 chose: the one to cite. Of
    baselines, at the threshold that validation sections chose; null if there are none.
    """
    per_section: Scores | None
    """The score of each of the table's sections, at the chosen threshold. Null without
    one, and where sections have no scores of their own."""
    interval: Pair | None
    """Low and high end of the 95 % percentile bootstrap interval."""
    interval_of: Rule | None
    """Which score the interval belongs to."""
    n: Whole
    """How many units were resampled for the interval."""
    n_of: Units
    """What these units are."""
    num_sections: Whole
    """Sections that were scored."""


class Row(Line[Score]):
    """One score of one predictor."""

    @property
    def score(self) -> float | None:
        """The value to cite; None where no threshold was chosen, or it is undefined.

        Never the best one, which the scored sections themselves chose.
        """
        return self.chosen.score if self.chosen else None


class Table(Published):
    """Scores of voxels in one role."""

    role: Role
    """Validation sections chose checkpoint and thresholds; test sections did not."""
    sections: Sections
    """Section numbers, from 0, in the order of ``per_section``."""
    rows: tuple[Row, ...]

    @property
    def ours(self) -> dict[str, Row]:
        """The network's own rows, by metric."""
        return {row.metric: row for row in self.rows if row.predictor == OURS}

    def section_scores(self, row: Row) -> dict[int, float]:
        """Return the scores of single sections that are defined, by number."""
        if not row.per_section or row.chosen is None:
            return {}
        pairs = zip(self.sections, row.per_section, strict=True)
        return {z: score for z, score in pairs if score is not None}


class Sizes(Published):
    """Objects by size: 1, 2 to 3, 4 to 7, ... voxels."""

    truth: tuple[int, ...]
    """How many true objects."""
    result: tuple[int, ...]
    """How many predicted objects."""


class Baseline(Published):
    """How grey values alone were made into cells, as validation sections chose it."""

    predictor: str
    """Its name in the tables."""
    channel: Whole = 0
    """Of the image, counted from 0: the one in which cells stand out most."""
    is_bright: bool
    """Whether cells are brighter than the rest."""
    sigma_vox: float
    """Of the Gaussian that smooths before."""
    block_vox: Whole | None
    """Side of the surroundings whose mean is the threshold; null of Otsu's."""
    offset: float | None
    """How far beyond it cells lie, in standard deviations; null of Otsu's."""
    num_sections: Whole
    """Validation sections that chose it; 0: none were there, these are defaults."""


class ObjectTable(Table):
    """Scores of objects in one role."""

    sizes: dict[str, Sizes]
    """Of each predictor."""
    truth_is: Literal["ids", "components"] = "ids"
    """What true objects are: annotated ids, or connected components of a mask."""
    field_border_vox: Whole
    """Cell Tracking Challenge: voxels at the edge that do not count."""


class Calibration(Published):
    """How often voxels of a predicted probability are of the class."""

    role: Role
    class_: Annotated[int, Field(alias="class")]
    """Of the network."""
    probability: Scores
    """Mean probability of each bin, 0 to 1; null where the bin is empty."""
    share: Scores
    """Share of the bin's voxels that are truly of the class."""
    num_voxels: tuple[int, ...]
    """Voxels in the bin."""
    expected_error: Fraction | None
    """Mean distance of both, weighted by voxels."""
    temperature: float | None = None
    """Probabilities are those at this temperature, which the validation sections chose;
    null: as they are stored."""


class Curve(Published):
    """A score over thresholds, all sections pooled."""

    role: Role
    predictor: str
    metric: str
    thresholds: tuple[float, ...]
    """Of the foreground probability, 0 to 1."""
    scores: Scores
    """In the unit of the metric."""


class Seam(Published):
    """The jump of probability across faces of one kind along one axis."""

    face: Literal["tile", "block", "part"]
    axis: Axis
    n: Whole
    """Strips of faces that were measured."""
    jump_across: float | None
    """Mean jump of the foreground probability between the voxels at both sides."""
    jump_inside: float | None
    """The same inside tiles."""
    ratio: float | None
    """Across over inside: 1 where seams cannot be seen."""
    interval: Pair | None
    """Of the ratio, at ``level``."""
    is_like_inside: bool | None
    """Whether the interval holds 1."""


class Profile(Published):
    """The mean jump by distance."""

    distance: tuple[int, ...]
    """From the nearest tile face, in voxels; 0 is across the face."""
    jump: tuple[float, ...]
    """Mean jump of the probability."""


class Seams(Published):
    """Whether the joints of tiles, blocks and parts show."""

    definition: str
    level: Fraction
    """Of the intervals."""
    pooling_grid: tuple[Count, Count, Count]
    """Of the network, in voxels along z, y, x."""
    rows: tuple[Seam, ...]
    profiles: dict[Axis, Profile]
    """By axis."""
    num_shards: int
    """Shards that were measured."""
    num_shards_of_volume: int
    picture: str = ""
    """File beside the record: ``seams.svg``, of version 0.1 ``seams.png``."""


class Metrics(Record):
    """All scores of one network on one volume: ``metrics.json``."""

    model_config = STRICT
    WHAT: ClassVar[str] = "the scores of a volume"

    volume: str
    """Name in the sheet."""
    schema_version: Literal[1]
    """Of this schema: raised when a field changes its meaning."""
    definitions: dict[str, Definition]
    """By metric."""
    role_sections: dict[Role, Sections]
    """Section numbers, from 0, that were scored."""
    warnings: tuple[str, ...] = ()
    """What looks like a mistake: worse than a baseline, far more or fewer objects than
    are annotated, a class that is never predicted."""
    baselines: tuple[Baseline, ...] = ()
    """What needs no network; not with more than two classes."""
    not_computed: tuple[str, ...] = ()
    """Scores that sections of this size go without, and why."""
    left_out: Sections
    """Sections with unlabelled voxels: without scores over thresholds."""
    tables: tuple[Table, ...]
    """Scores of voxels."""
    objects: tuple[ObjectTable, ...]
    """Scores of objects; only where labels are instances."""
    calibration: tuple[Calibration, ...]
    curves: tuple[Curve, ...]
    seams: Seams
    leading: tuple[str, ...] = ()
    """Metrics that rank sections, if they were computed: first those that chose the
    network; of an earlier version none."""
    sections_best: Sections
    """By the leading score, best first."""
    sections_worst: Sections
    """Worst first."""
    seconds: Annotated[float, Field(ge=0)]
    """What the scoring took."""
    projected_peak_rss_bytes: Count
    """Memory that was projected before."""
    peak_rss_bytes: Count
    """Memory that was used."""
    circumstances: Circumstances
    """Host and versions: recorded, never compared."""

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """The tables of voxels, then those of objects."""
        return (*self.tables, *self.objects)

    @property
    def by_role(self) -> list[Table]:
        """The tables of voxels, that of the test sections first."""
        return sorted(self.tables, key=lambda table: table.role != TEST)


class SectionTerms(Value):
    """What single sections contribute to one score over thresholds."""

    role: Role
    predictor: str
    metric: str
    sections: Sections
    """Section numbers, in the order of ``terms``."""
    chosen: float | None
    """The threshold that validation sections chose."""
    thresholds: tuple[float, ...]
    terms: tuple[tuple[Scores, ...], ...]
    """Of each section and threshold: what adds up to the score."""
    scores: tuple[Scores, ...]
    """Of each section and threshold."""


class OverlapTerms(Value):
    """Truth against masks in single sections, counted in voxels: it adds up."""

    role: Role
    predictor: str
    sections: Sections
    """Section numbers, in the order of ``confusion``."""
    confusion: tuple[tuple[tuple[Whole, ...], ...], ...]
    """Of each section: rows are true classes, columns those that were found."""


class ObjectTerms(Value):
    """What single images contribute to the scores of objects, at the delivered masks.

    Null where an image has no such score.
    """

    role: Role
    predictor: str
    images: tuple[Sections, ...]
    """The sections of each image: one, or all where objects span sections."""
    matched: tuple[Scores, ...]
    """True objects, objects found, the sum of IoU of those that match, and how many
    match above an IoU of 0.50, 0.55, ... 0.95: these add up."""
    partitions: tuple[Scores, ...]
    """``vi_split``, ``vi_merge``, both in bits, ``adapted_rand_error``: means are taken
    of these."""
    seg: tuple[Scores, ...]
    """Sum of the Jaccard indices of reference objects, and their number."""
    det: tuple[Scores, ...]
    """What it costs to mend the detections, and to start anew."""


class SectionScores(Record):
    """What each section contributes to the scores: ``section_scores.json``."""

    WHAT: ClassVar[str] = "what the sections of a volume contribute to its scores"

    volume: str
    definitions: dict[str, Definition]
    rows: tuple[SectionTerms, ...]
    """To scores over thresholds."""
    overlap: tuple[OverlapTerms, ...] = ()
    objects: tuple[ObjectTerms, ...] = ()
    circumstances: Circumstances
