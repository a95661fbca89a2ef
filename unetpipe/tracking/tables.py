"""Tables of tracks and of the objects in them, as Parquet and as CSV."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from unetpipe.records.segmentation import WrittenFile
from unetpipe.records.tracks import LinkedObjects
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.tracking.lineages import DIVISION, GAP, NEW, Tracks

BEGINS = {NEW: "new", GAP: "gap", DIVISION: "division"}
TAKEN = ("id", "voxels")


def tabulate_tracks(tracks: Tracks) -> pa.Table:
    """Return one row a track; a parent of 0 is none, as in the challenge's files."""
    numbers = np.arange(1, len(tracks.first))
    first, last = tracks.first[1:], tracks.last[1:]
    return pa.table(
        {
            "track": pa.array(numbers),
            "first_frame": pa.array(first),
            "last_frame": pa.array(last),
            "num_frames": pa.array(last - first + 1),
            "parent": pa.array(tracks.parents[1:]),
            "begins": pa.array(
                [BEGINS[how] for how in tracks.begins[1:].tolist()], pa.string()
            ),
        }
    )


def tabulate_tracked_objects(tracks: Tracks, objects: pa.Table) -> pa.Table:
    """Return one row an object: its id, frame and track, and where it lies.

    Parameters
    ----------
    objects : pyarrow.Table
        The table of objects 1, 2, ...; those without a track are left out. Places are
        in nanometres where the size of a voxel is known, else in voxels.
    """
    is_tracked = tracks.of_objects[1:] > 0
    unit = "nm" if "centroid_y_nm" in objects.column_names else "vox"
    told = objects.select([*TAKEN, f"centroid_y_{unit}", f"centroid_x_{unit}"])
    told = told.add_column(1, "frame", pa.array(tracks.frames[1:]))
    told = told.add_column(2, "track", pa.array(tracks.of_objects[1:]))
    return told.filter(pa.array(is_tracked))


def write_track_tables(table: pa.Table, path: Path) -> dict[str, WrittenFile]:
    """Write a table as Parquet and, beside it, as CSV; return paths and hashes."""
    packed, text = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, packed)
    csv.write_csv(table, text)
    written = {}
    for kind, content in (("parquet", packed), ("csv", text)):
        one = path.with_suffix(f".{kind}")
        write_bytes_atomic(one, content.getvalue())
        written[kind] = WrittenFile(path=one, sha256=hash_file(one))
    return written


def read_lineage(
    records: Sequence[Path],
) -> tuple[NDArray[np.int64] | None, dict[int, int]]:
    """Return the track of each object by its id, and the parents of tracks.

    Parameters
    ----------
    records : sequence of Path
        ``tracks.json``; without any there are no tracks: None.
    """
    for record in records:
        linked = LinkedObjects.read(record)
        tracks = _read_tracks(linked.objects["parquet"].path)
        return tracks, _read_parents(linked.tracks["parquet"].path)
    return None, {}


def _read_tracks(path: Path) -> NDArray[np.int64]:
    table = parquet.read_table(path, columns=["id", "track"])
    ids = table["id"].to_numpy().astype(np.int64)
    tracks = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    tracks[ids] = table["track"].to_numpy()
    return tracks


def _read_parents(path: Path) -> dict[int, int]:
    table = parquet.read_table(path, columns=["track", "parent"])
    pairs = zip(table["track"].to_pylist(), table["parent"].to_pylist(), strict=True)
    return {track: parent for track, parent in pairs if parent}
