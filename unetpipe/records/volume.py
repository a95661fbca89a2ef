"""What is known of a volume that was brought into its store: ``ingest.json``."""

from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, Self

from pydantic import ConfigDict

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.pyramids import PyramidJob
from unetpipe.records.sections import OddSections, Sections
from unetpipe.tiling.boxes import Roi, Zyx
from unetpipe.tiling.scale import ToldSize, told_size

ZyxNm = tuple[float, float, float]
LabelKind = Literal["instances", "binary", "classes"]
NORMALISATION = "volume mean and standard deviation"
"""How images are normalised before a network sees them, in its record's words."""


def name_normalisation(percentiles: tuple[float, float] | None) -> str:
    """Return what images are normalised by, in words.

    Examples
    --------
    >>> name_normalisation((1, 99.5))
    'volume percentiles 1 and 99.5'
    """
    if percentiles is None:
        return NORMALISATION
    return f"volume percentiles {percentiles[0]:g} and {percentiles[1]:g}"


class OriginalFile(Value):
    """A file as it was read: where, how many bytes, and their hash.

    The chunks of a Zarr array are one entry: their folder, and the hash of all names
    and hashes in it.
    """

    path: str
    size: int
    sha256: str
    num_files: int | None = None


class Manifest(Record):
    """``manifest.json``: where the originals are, and which files they are."""

    WHAT = "the manifest of a download"

    source: str = ""
    kind: str = "folder"
    """``archive``, ``folder`` or ``phantom``."""
    root: str
    files: tuple[OriginalFile, ...] = ()
    """None of a folder that is used where it is: its files are hashed as they are
    read."""
    circumstances: Circumstances | None = None


def deviations_between(percentiles: tuple[float, float]) -> float:
    """Return half the distance of two percentiles of a normal distribution.

    Examples
    --------
    >>> round(deviations_between((1, 99)), 3)
    2.326
    """
    low, high = (NormalDist().inv_cdf(rank / 100) for rank in percentiles)
    return (high - low) / 2


class Intensity(Value):
    """What the grey values of a channel are normalised by.

    Where percentiles were chosen: their centre, and what the deviation would be if the
    values were normally distributed.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, values: Any) -> Self:
        """Return the same of a mapping, or of anything with these attributes.

        Percentiles, where there are any, go before mean and standard deviation.
        """
        name = "percentiles"
        is_mapping = isinstance(values, Mapping)
        robust = values.get(name) if is_mapping else getattr(values, name, None)
        if robust:
            found = GreyPercentiles.model_validate(robust, from_attributes=True)
            std = found.half_width / deviations_between(found.ranks)
            return cls(mean=found.centre, std=std)
        return cls.model_validate(values, from_attributes=True)


class GreyPercentiles(Value):
    """Two percentiles of the grey values of a channel, which few voxels cannot move."""

    ranks: tuple[float, float]
    """In percent."""
    values: tuple[float, float]
    """The grey values there."""
    centre: float
    """In the middle between them."""
    half_width: float
    """From the centre to each."""

    @classmethod
    def between(cls, ranks: tuple[float, float], values: tuple[float, float]) -> Self:
        """Return the record of two grey values of these ranks."""
        low, high = values
        centre, half_width = low / 2 + high / 2, high / 2 - low / 2
        return cls(ranks=ranks, values=values, centre=centre, half_width=half_width)


class ChannelStatistics(Value):
    """Exact sums over the finite voxels of one channel, and what follows from them."""

    # Its hash is part of what a training was made from.
    model_config = ConfigDict(extra="allow")

    count: int
    total: int | float
    total_squares: int | float
    minimum: int | float | None
    maximum: int | float | None
    num_nan: int
    mean: float
    std: float
    percentiles: GreyPercentiles | None = None
    """With ``ingest.percentiles``: what is used in place of mean and deviation."""


class StoredImage(Value):
    """The image of a volume."""

    store: Path
    is_copied: bool = True
    """False: an OME-Zarr of somebody else, used where it is."""
    content_sha256: str
    """Of the voxels as they are stored."""
    pixel_sha256: str | None = None
    """Of the voxels as the files hold them."""
    files: tuple[OriginalFile, ...] = ()


class LabelledBox(Value):
    """A box of a volume that somebody annotated: half-open, in voxels (z, y, x)."""

    start: Zyx
    stop: Zyx


class StoredLabels(Value):
    """The labels of a volume."""

    store: Path
    content_sha256: str
    pixel_sha256: str | None = None
    files: tuple[OriginalFile, ...] = ()
    markers: tuple[str | None, ...] | None = None
    """Of each frame of a Cell Tracking volume the file with a mark for each object."""
    dtype: str
    label_kind: LabelKind
    unlabelled: int | None
    """The stored value of voxels that nobody annotated."""
    num_ids: int
    boxes: tuple[LabelledBox, ...] | None = None
    """That labels were given for: shards that none touches are not stored, and read as
    unlabelled. None: labels of the whole volume."""

    @property
    def rois(self) -> tuple[Roi, ...] | None:
        """The boxes, as geometry counts with them."""
        if self.boxes is None:
            return None
        return tuple(Roi(box.start, box.stop) for box in self.boxes)


class OriginalGrid(Value):
    """The grid that a volume had before it was resampled."""

    shape: Zyx
    voxel_size_nm: ZyxNm


class Scale(Record):
    """What the record of a network, or of a volume, tells of the size of voxels."""

    WHAT = "a record with the size of voxels"

    voxel_size_nm: ZyxNm | None = None
    voxel_size_from: Literal["sheet", "file", "nobody"] = "sheet"

    @property
    def known_size_nm(self) -> ZyxNm | None:
        """The size of a voxel, if anybody said it."""
        return None if self.voxel_size_from == "nobody" else self.voxel_size_nm


class IngestedVolume(Record):
    """``ingest.json``: axes, shape, stores, intensities."""

    WHAT = "the record of an ingested volume"

    volume: str
    shape: Zyx
    num_channels: int
    dtype: str
    axes_of_file: str | None = None
    time: int | None = None
    channel_names: tuple[str, ...] = ()
    channels_of_file: tuple[int, ...] | None = None
    voxel_size_nm: ZyxNm
    voxel_size_from: Literal["sheet", "file", "nobody"] = "nobody"
    is_depth_known: bool = True
    """Whether somebody told how far sections are apart; of frames there is no such
    thing. Where not, z of the voxel size is what is counted with, and told nowhere."""
    georeference: dict[str, Any] | None = None
    """Where on the earth the file says that it lies, by the names of GeoTIFF."""
    original: OriginalGrid | None = None
    """What was resampled to this shape and size; None: they are the file's."""
    labels: StoredLabels | None
    image: StoredImage
    statistics: tuple[ChannelStatistics, ...]
    num_nan: int = 0
    pyramids: tuple[PyramidJob, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: Sections | None = None
    """What each section is like; None of volumes of earlier versions."""
    odd_sections: tuple[OddSections, ...] = ()
    circumstances: Circumstances | None = None

    @property
    def known_size_nm(self) -> ZyxNm | None:
        """The size of a voxel, if anybody said it."""
        return None if self.voxel_size_from == "nobody" else self.voxel_size_nm

    @property
    def told_size_nm(self) -> ToldSize:
        """The size of a voxel as stores and tables tell it."""
        return told_size(self.voxel_size_nm, is_depth_known=self.is_depth_known)

    @property
    def told_known_nm(self) -> ToldSize | None:
        """The same, if anybody said it."""
        return self.told_size_nm if self.known_size_nm else None

    def stored_vox(self, length_vox: float) -> int:
        """Return how many stored voxels make a length in voxels of the files."""
        if self.original is None:
            return round(length_vox)
        return round(length_vox * self.shape[1] / self.original.shape[1])

    @property
    def intensities(self) -> tuple[Intensity, ...]:
        """What the grey values of each channel are normalised by."""
        return tuple(map(Intensity.of, self.statistics))

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Ranks of the percentiles that it is normalised by; None: mean, deviation."""
        found = (channel.percentiles for channel in self.statistics)
        return next((one.ranks for one in found if one), None)


class IngestedPart(Record):
    """One part's share of the layers of an image."""

    WHAT = "the record of a part of an ingested volume"

    part: int
    num_parts: int
    layers: tuple[int, int]
    num_layers_written: int
    files: tuple[OriginalFile, ...]
    peak_rss_bytes: int
    circumstances: Circumstances
