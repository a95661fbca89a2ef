"""What a user may set of the measurements of objects."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from unetpipe.config.fields import Count, Section
from unetpipe.errors import ConfigError

# Names of scikit-image's regionprops, and five that it has not.
Property = Literal[
    "area",
    "centroid",
    "intensity_mean",
    "intensity_min",
    "intensity_max",
    "intensity_std",
    "intensity_sum",
    "centroid_weighted",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "perimeter",
    "surface_area",
    "solidity",
    "feret_diameter_max",
    "euler_number",
    "touches_border",
    "neighbour_distance",
]
ALL: tuple[Property, ...] = Property.__args__  # type: ignore[attr-defined]


class MeasureConfig(Section):
    """What is measured of each object, in one table a volume and one of the run."""

    properties: Literal["all"] | tuple[Property, ...] = Field(default=())
    """``all``, or those listed, by the names of scikit-image's ``regionprops``; empty:
    nothing is measured beyond the table of objects. What needs a section is left out
    of objects across sections, and the other way round."""
    channels: Literal["all"] | tuple[str | int, ...] = "all"
    """Channels of the image whose grey values are measured, by name or by number from
    0."""
    neighbour_reach_vox: Count = 64
    """How far the nearest neighbour is looked for, in lengths of the shortest voxel
    edge; empty in the table if there is none so near."""
    parts: Count = 1
    """Jobs that share a volume's objects."""
    anndata: bool = False
    """Write the table of the run as ``measurements.h5ad`` too (extra
    ``tables``)."""

    @field_validator("properties", mode="after")
    @classmethod
    def _check_once(cls, names: object) -> object:
        if isinstance(names, tuple) and len(set(names)) < len(names):
            raise ConfigError(
                f"measure.properties is {', '.join(names)}; name each property once"
            )
        return names

    @model_validator(mode="after")
    def _check_wanted(self) -> "MeasureConfig":
        if self.anndata and not self.properties:
            raise ConfigError(
                "measure.anndata asks for a table of measurements, but "
                "measure.properties is empty; use all, or name some"
            )
        return self

    @property
    def names(self) -> tuple[Property, ...]:
        """The properties to measure; none: nothing is."""
        return ALL if isinstance(self.properties, str) else self.properties
