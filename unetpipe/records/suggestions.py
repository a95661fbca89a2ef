"""What annotated sections suggest for settings: ``suggestions.json``."""

from typing import Any, ClassVar

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances


class MeasuredVolume(Value):
    """The training sections of one volume."""

    volume: str
    section_shape: tuple[int, int]
    num_sections: int
    voxel_size_nm: tuple[float, float, float]
    is_depth_known: bool = True
    """Whether anybody knows how far sections are apart; frames are no length apart."""
    class_counts: tuple[int, ...]
    class_weights: tuple[float | None, ...]
    num_cells: int
    cell_diameter_vox: float | None


class SuggestedSetting(Value):
    """One setting: what it is, what is suggested, and why."""

    key: str
    now: Any
    suggested: Any
    why: str
    is_change: bool


class Suggestions(Record):
    """Settings that would suit the annotated sections, and what no setting mends."""

    WHAT: ClassVar[str] = "the record of suggested settings"

    volumes: tuple[MeasuredVolume, ...]
    suggestions: tuple[SuggestedSetting, ...]
    remarks: tuple[str, ...]
    yaml: str
    """The changes, to be put into a configuration."""
    circumstances: Circumstances
