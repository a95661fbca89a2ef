"""Objects of a volume: the steps that make them, and the whole."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.pyramids import PyramidJob
from unetpipe.records.sections import FoundSections
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.scale import ToldSize, told_size

ZyxNm = tuple[float, float, float]
Seeds = Literal["cores", "depth", "probability", "learnt"]


class ObjectSettings(Value):
    """How objects are made, with what was chosen on the validation rows.

    Part of an identity, so it is written as it was read, also in later versions.
    """

    model_config = ConfigDict(extra="allow")

    threshold: float
    connectivity: Literal["2d", "3d"]
    object_classes: tuple[int, ...] | None = None
    method: Literal["components", "watershed", "mutex"] = "components"
    seeds: Seeds | None = None
    """Of a watershed; None: cores."""
    seed_distance_vox: float | None = None
    seed_reach_vox: int | None = None
    core_threshold: float | None = None
    """Of learnt seeds: the probability of a core above which they lie."""
    flood_threshold: float | None = None
    seed_threshold: float | None = None
    """Of a watershed: above which seeds lie; None: the threshold."""
    fragment_vox: Zyx | None = None
    """Of a mutex watershed: the boxes in which it is followed."""
    merge_threshold: float | None = None
    """Of a mutex watershed: mean affinity above which its fragments are joined."""
    smallest_object_vox: int = 0
    largest_hole_vox: int = 0
    class_thresholds: dict[int, float] | None = None
    block_shards: Zyx | None = None
    """Of earlier versions' watershed, whose floods met where blocks did."""


class SegmentationIdentity(Value):
    """What decides the stored bits of a segmentation; its hash names the store."""

    model_config = ConfigDict(extra="allow")

    prediction: str
    """``identity_sha256`` of the prediction."""
    content: str
    """``content_sha256`` of the prediction."""
    settings: ObjectSettings
    voxel_size_nm: ZyxNm
    is_depth_known: bool = True
    """Whether stores and table tell lengths along z."""
    code: str | dict[str, str]
    """Fingerprint of the arithmetic."""

    @property
    def told_size_nm(self) -> ToldSize:
        """The size of a voxel as stores tell it."""
        return told_size(self.voxel_size_nm, is_depth_known=self.is_depth_known)


class WrittenFile(Value):
    """A file and its hash."""

    path: Path
    sha256: str


class FinishedObjects(Record):
    """``finished.json``: what is known once every shard is whole."""

    WHAT: ClassVar[str] = "the record of finished objects"

    num_objects: int
    num_foreground_voxels: int
    table: dict[str, WrittenFile]
    """Of the objects, by format."""
    files_sha256: dict[str, str]
    """Of all shards of ``mask`` and of ``objects``."""

    def told(self) -> dict[str, Any]:
        """Return what is known, as the record of the whole has it."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class OriginalObjects(Value):
    """Mask and objects on the grid that a volume had before it was resampled."""

    store: Path
    objects: Path
    shape: Zyx
    voxel_size_nm: ZyxNm


class StepSummary(Value):
    """A job of the segmentation, as the record of the whole has it."""

    path: Path
    seconds: float | None
    host: str
    peak_rss_bytes: int


class Segmentation(Record):
    """``segmentation.json``: objects that are whole."""

    WHAT: ClassVar[str] = "the record of a segmentation"

    volume: str
    store: Path
    """Of the mask, with more than two classes of the classes."""
    objects: Path
    threshold: float
    threshold_source: str
    class_thresholds: dict[int, float] | None = None
    smallest_object_vox: int = 0
    identity: SegmentationIdentity
    identity_sha256: str
    num_objects: int
    num_foreground_voxels: int
    table: dict[str, WrittenFile]
    files_sha256: dict[str, str]
    georeference: dict[str, Any] | None = None
    """Of the image; its pixels are those of the file, which resampling changes."""
    original: OriginalObjects | None = None
    """Of a volume that was resampled; the table and all else are of its new grid."""
    warnings: tuple[str, ...] = ()
    """How it differs from what was annotated for the training."""
    sections: FoundSections | None = None
    pyramids: tuple[PyramidJob, ...] = ()
    num_blocks: int
    block: Zyx
    parts: tuple[StepSummary, ...] = ()
    projected_peak_rss_bytes: int
    peak_rss_bytes: int
    circumstances: Circumstances

    @property
    def home(self) -> Path:
        """The folder of the stores, their receipts and the table."""
        return self.store.parent


class SegmentedPart(Record):
    """``segment/<p>.json`` and ``relabel/<p>.json``: one part's share of the blocks."""

    WHAT: ClassVar[str] = "the record of a part of a segmentation"

    part: int
    num_parts: int
    identity_sha256: str
    blocks: tuple[int, int]
    num_computed: int
    num_kept: int
    projected_peak_rss_bytes: int
    peak_rss_bytes: int
    circumstances: Circumstances


class MergedObjects(Record):
    """``segment/merge.json``: the final id of each component is known."""

    WHAT: ClassVar[str] = "the record of merged objects"

    identity_sha256: str
    num_blocks: int
    peak_rss_bytes: int
    circumstances: Circumstances


class SegmentationStep(Record):
    """Any record of a step: what the record of the whole tells of it."""

    WHAT: ClassVar[str] = "the record of a step of a segmentation"

    peak_rss_bytes: int
    circumstances: Circumstances

    def summary(self, path: Path) -> StepSummary:
        """Return what is told of the step whose record lies there."""
        made = self.circumstances
        return StepSummary(
            path=path,
            seconds=made.seconds,
            host=made.host,
            peak_rss_bytes=self.peak_rss_bytes,
        )
