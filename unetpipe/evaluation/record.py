"""What ``metrics.json`` holds: fields, units and versions, so that one can cite it.

These models are the only source of ``config/metrics.schema.json``; the tests check
real records against it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from unetpipe.config.fields import Count, Fraction, Section

Role = Literal["validate", "test"]
Pair = tuple[float, float]
Sections = list[Annotated[int, Field(ge=0)]]
Axis = Literal["z", "y", "x"]


class Definition(Section):
    """What a score means. Cite the reference, and the version of the definition."""

    definition: str
    """In words."""
    better: Literal["higher", "lower"]
    """Which way is better."""
    reference: str
    """The publication that defines the score; empty for textbook terms."""
    unit: Literal["1", "nats", "bits"]
    """Unit; 1 is a share or a ratio."""
    version: Count
    """Of the definition: raised when the score changes its meaning. Scores of
    different versions must not be compared."""


class Score(Section):
    """A score at a threshold."""

    threshold: float | None
    """Of the foreground probability, 0 to 1; null where the score has none."""
    score: float | None
    """In the unit of the row; null where it is undefined."""


class Row(Section):
    """One score of one predictor."""

    predictor: str
    """``unet``, or the baseline: ``constant``, ``grey value``, ``Otsu``,
    ``Otsu + watershed``."""
    metric: str
    """A key of ``definitions``."""
    definition: str
    """As in ``definitions``."""
    better: Literal["higher", "lower"]
    """As in ``definitions``."""
    unit: Literal["1", "nats", "bits"]
    """As in ``definitions``."""
    best: Score | None
    """At the threshold that is best on these very sections: it flatters. Null where
    the metric has no threshold."""
    chosen: Score | None
    """At the threshold that validation sections or the configuration chose: the one
    to cite for test sections. Null if nothing chose one."""
    per_section: list[float | None] | None
    """The score of each of the table's sections, at the chosen threshold, else at the
    best. Null where sections have no scores of their own."""
    interval: Pair | None
    """Low and high end of the 95 % percentile bootstrap interval."""
    interval_of: Literal["chosen", "best"] | None
    """Which score the interval belongs to."""
    n: Annotated[int, Field(ge=0)]
    """How many units were resampled for the interval."""
    n_of: Literal["sections", "objects", "volumes"]
    """What these units are."""
    num_sections: Annotated[int, Field(ge=0)]
    """Sections that were scored."""


class Table(Section):
    """Scores of voxels in one role."""

    role: Role
    """Validation sections chose checkpoint and thresholds; test sections did not."""
    sections: Sections
    """Section numbers, from 0, in the order of ``per_section``."""
    rows: list[Row]


class Sizes(Section):
    """Objects by size: 1, 2 to 3, 4 to 7, ... voxels."""

    truth: list[int]
    """How many true objects."""
    result: list[int]
    """How many predicted objects."""


class ObjectTable(Table):
    """Scores of objects in one role."""

    sizes: dict[str, Sizes]
    """Of each predictor."""
    field_border_vox: Annotated[int, Field(ge=0)]
    """Cell Tracking Challenge: voxels at the edge that do not count."""


class Calibration(Section):
    """How often voxels of a predicted probability are of the class."""

    role: Role
    class_: Annotated[int, Field(alias="class")]
    """Of the network."""
    probability: list[float | None]
    """Mean probability of each bin, 0 to 1; null where the bin is empty."""
    share: list[float | None]
    """Share of the bin's voxels that are truly of the class."""
    num_voxels: list[int]
    """Voxels in the bin."""
    expected_error: Fraction | None
    """Mean distance of both, weighted by voxels."""


class Curve(Section):
    """A score over thresholds, all sections pooled."""

    role: Role
    predictor: str
    metric: str
    thresholds: list[float]
    """Of the foreground probability, 0 to 1."""
    scores: list[float | None]
    """In the unit of the metric."""


class Seam(Section):
    """The jump of probability across faces of one kind along one axis."""

    face: Literal["tile", "block", "part"]
    axis: Axis
    n: Annotated[int, Field(ge=0)]
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


class Profile(Section):
    """The mean jump by distance."""

    distance: list[int]
    """From the nearest tile face, in voxels; 0 is across the face."""
    jump: list[float]
    """Mean jump of the probability."""


class Seams(Section):
    """Whether the joints of tiles, blocks and parts show."""

    definition: str
    level: Fraction
    """Of the intervals."""
    pooling_grid: tuple[Count, Count, Count]
    """Of the network, in voxels along z, y, x."""
    rows: list[Seam]
    profiles: dict[Axis, Profile]
    """By axis."""
    num_shards: int
    """Shards that were measured."""
    num_shards_of_volume: int
    picture: str
    """File beside the record."""


class MetricsRecord(Section):
    """All scores of one network on one volume: ``metrics.json``."""

    volume: str
    """Name in the sheet."""
    schema_version: Literal[1]
    """Of this schema: raised when a field changes its meaning."""
    definitions: dict[str, Definition]
    """By metric."""
    role_sections: dict[Role, Sections]
    """Section numbers, from 0, that were scored."""
    left_out: Sections
    """Sections with unlabelled voxels: without scores over thresholds."""
    tables: list[Table]
    """Scores of voxels."""
    objects: list[ObjectTable]
    """Scores of objects; only where labels are instances."""
    calibration: list[Calibration]
    curves: list[Curve]
    seams: Seams
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
    circumstances: dict[str, Any]
    """Host and versions: recorded, never compared."""


def metrics_schema() -> dict[str, Any]:
    """Return the JSON schema of ``metrics.json``."""
    return MetricsRecord.model_json_schema(by_alias=True)
