"""Measured objects of a volume, the parts of that work, and their outlines."""

from typing import ClassVar

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import WrittenFile


class Column(Value):
    """A column of the table of measurements: what it holds, in which unit."""

    name: str
    property: str
    """By scikit-image's name, where it has one."""
    unit: str
    """``nm``, ``nm2``, ``nm3``, ``rad``, ``grey`` as stored, ``vox``, or nothing."""
    axis: str | None = None
    channel: str | None = None


class MeasuredPart(Record):
    """``measure/<p>.json``: one part's share of the objects."""

    WHAT: ClassVar[str] = "the record of a part of measured objects"

    part: int
    num_parts: int
    num_objects: int
    identity_sha256: str
    """Of the segmentation."""
    table: WrittenFile
    circumstances: Circumstances


class Measurements(Record):
    """``measurements.json``: what was measured of the objects of a volume."""

    WHAT: ClassVar[str] = "the record of measured objects"

    volume: str
    identity_sha256: str
    """Of the segmentation."""
    num_objects: int
    num_too_large: int
    """Objects whose box is too large to hold: their shapes are empty."""
    largest_box_vox: int
    """That is not too large."""
    neighbour_reach_nm: float
    columns: tuple[Column, ...]
    table: dict[str, WrittenFile]
    """By format."""
    scikit_image: str | None = None
    """Version of what defines the shapes."""
    circumstances: Circumstances


class Outlines(Record):
    """``outlines.json``: outlines of objects, section by section."""

    WHAT: ClassVar[str] = "the record of outlines"

    volume: str
    identity_sha256: str
    """Of the segmentation."""
    num_outlines: int
    """Objects, each counted in every section that it has voxels of."""
    files: dict[str, WrittenFile]
    """By format."""
    circumstances: Circumstances
