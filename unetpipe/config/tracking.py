"""What a user may set of tracks: objects linked over the frames of a time series."""

from typing import Annotated, Literal

from pydantic import Field

from unetpipe.config.fields import Positive, Section


class TrackConfig(Section):
    """Objects linked over sections that are the frames of a time series."""

    enabled: bool = False
    """The sections of each volume are frames: link their objects to tracks, divisions
    included. ``export_ctc`` then writes tracks."""
    reach_vox: Positive | Literal["auto"] = "auto"
    """How far the middle of an object moves from a frame to the next, where it does not
    overlap with where it was; in lengths of the shorter edge of a voxel. auto: as far
    as the median object of both frames is wide."""
    longest_gap: Annotated[int, Field(ge=0)] = 2
    """Frames for which an object may be lost and still go on as the same."""
    divisions: bool = True
    """Whether one object may become two."""
