"""Tracks of the objects of a time series."""

from typing import ClassVar

from unetpipe.records import Record
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import WrittenFile


class LinkedObjects(Record):
    """``tracks.json``: objects linked over frames, and how many did what."""

    WHAT: ClassVar[str] = "the record of tracks"

    volume: str
    identity_sha256: str
    """Of the segmentation."""
    num_frames: int
    num_objects: int
    """That are in a track: those of the frames as they were before resampling."""
    num_tracks: int
    num_divisions: int
    num_gaps: int
    """Objects that were lost for some frames and found again."""
    reach_vox: float | None
    """As it was set; None: as wide as the median object of two frames."""
    longest_gap: int
    divisions: bool
    tracks: dict[str, WrittenFile]
    """One row a track, by format."""
    objects: dict[str, WrittenFile]
    """One row an object, by format."""
    circumstances: Circumstances
