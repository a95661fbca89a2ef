"""What is known of each section of a volume: one number a section in each column."""

from typing import Literal

from unetpipe.records import Value
from unetpipe.runtime.text import format_sections

Numbers = tuple[float, ...]
Oddness = Literal[
    "blank",
    "saturated",
    "darker",
    "brighter",
    "of other contrast",
    "blurred",
    "noisier",
    "displaced",
    "duplicated",
]


class GreySections(Value):
    """Grey values of one channel, section by section, from a sample of its voxels."""

    mean: Numbers
    std: Numbers
    """0 where a section holds one value."""
    low: Numbers
    """5th percentile."""
    high: Numbers
    """95th percentile."""
    least_share: Numbers
    """Of voxels that hold the section's least value: clipped, or empty."""
    greatest_share: Numbers
    """The same of its greatest value."""
    saturated_share: Numbers = ()
    """The same, where as bright ones follow closely below; else 0: a mask, padding, a
    few levels. Empty in records of earlier versions."""
    sharpness: Numbers
    """Mean squared difference of neighbours over twice the variance: 1 minus their
    correlation; 0 where a section holds one value."""


class Sections(Value):
    """All sections of an image, in order."""

    channels: tuple[GreySections, ...]
    likeness: Numbers
    """Correlation with the section before; 0 of the first one."""
    displacement: tuple[tuple[int, int], ...]
    """Voxels along y and x by which a section lies best on the one before."""
    displaced_likeness: Numbers
    """Their correlation there."""
    same: tuple[tuple[int, int], ...] = ()
    """Sections with the voxels of an earlier one, and that one."""


class OddSections(Value):
    """Sections of a volume that differ from those around them in one way."""

    what: Oddness
    sections: tuple[int, ...]

    @property
    def brief(self) -> str:
        """For tables: ``blank sections 3, 7-8``."""
        return f"{self.what} sections {format_sections(self.sections)}"


class FoundSections(Value):
    """What was found in each section."""

    num_objects: tuple[int, ...]
    """That reach into it."""
    foreground_vox: tuple[int, ...] | None = None
    """Voxels of its objects; None where objects span sections."""


class Span(Value):
    """The values of something over many sections."""

    lowest: float
    median: float
    highest: float
    deviation: float
    """Scaled to be the standard deviation of normal values: robust."""


class LearntSections(Value):
    """What a network's training sections are like.

    Grey values are normalised by their volume, as the network sees them.
    """

    num_sections: int
    low: Span | None = None
    """5th percentile, in standard deviations of the volume."""
    high: Span | None = None
    """95th percentile."""
    sharpness: Span | None = None
    foreground_share: Span | None = None
    """Of known voxels."""
    objects_per_million_vox: Span | None = None
    object_vox: Span | None = None
    """Mean voxels of an object in a section."""
