"""Rule track_objects: objects of a time series linked over its frames."""

import logging
import time
from pathlib import Path

import numpy as np
from pyarrow import parquet

from unetpipe.config.tracking import TrackConfig
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.tracks import LinkedObjects
from unetpipe.runtime.text import count_noun
from unetpipe.storage.volumes import iterate_sections, open_volume
from unetpipe.tracking.lineages import DIVISION, GAP, Motion, Tracker
from unetpipe.tracking.tables import (
    tabulate_tracked_objects,
    tabulate_tracks,
    write_track_tables,
)

log = logging.getLogger(__name__)


def track_objects(
    *,
    segmentation: Path,
    settings: TrackConfig,
    tracks: Path,
    objects: Path,
    record: Path,
) -> None:
    """Link the objects of each section to those of the next.

    Parameters
    ----------
    segmentation : Path
        Record of the objects; sections are frames.
    settings : TrackConfig
        How objects may move.
    tracks, objects : Path
        Where to write one row a track, and one row an object, as Parquet; CSV stands
        beside them.
    record : Path
        Where to write ``tracks.json``.
    """
    began = time.monotonic()
    segmented = Segmentation.read(segmentation)
    found = segmented.original or segmented  # frames as the user has them
    sizes = (segmented.original or segmented.identity).voxel_size_nm[1:]
    reach = None if isinstance(settings.reach_vox, str) else settings.reach_vox
    motion = Motion(reach, settings.longest_gap, settings.divisions)
    edges = sizes[0] / min(sizes), sizes[1] / min(sizes)
    tracker = Tracker(segmented.num_objects, edges, motion)
    frames = open_volume(found.objects)
    for _, frame in iterate_sections(frames, range(frames.shape[0])):
        tracker.see(frame)
    linked = tracker.tracks()
    LinkedObjects(
        volume=segmented.volume,
        identity_sha256=segmented.identity_sha256,
        num_frames=frames.shape[0],
        num_objects=int(np.count_nonzero(linked.of_objects)),
        num_tracks=linked.num_tracks,
        num_divisions=int(np.count_nonzero(linked.begins == DIVISION)) // 2,
        num_gaps=int(np.count_nonzero(linked.begins == GAP)),
        reach_vox=reach,
        longest_gap=settings.longest_gap,
        divisions=settings.divisions,
        tracks=write_track_tables(tabulate_tracks(linked), tracks),
        objects=write_track_tables(
            tabulate_tracked_objects(
                linked, parquet.read_table(segmented.table["parquet"].path)
            ),
            objects,
        ),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info(
        "%s of %s",
        count_noun(linked.num_tracks, "track"),
        count_noun(frames.shape[0], "frame"),
    )
