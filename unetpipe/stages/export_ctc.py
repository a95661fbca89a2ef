"""Rule export_ctc: objects in the layout of the Cell Tracking Challenge."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from unetpipe.images.files import file_number
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import CtcResult, WrittenFile
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_file
from unetpipe.runtime.staging import staged_folder
from unetpipe.runtime.text import count_noun
from unetpipe.segmentation.ctc import (
    TrackIds,
    ctc_mask_names,
    name_result_folder,
    write_frame,
)
from unetpipe.storage.volumes import iterate_sections, open_volume
from unetpipe.tracking.tables import read_lineage

log = logging.getLogger(__name__)


def export_ctc(
    *,
    segmentation: Path,
    ingest: Path,
    folder: Path,
    record: Path,
    tracks: Sequence[Path] = (),
) -> None:
    """Write the objects of each section as ``01_RES/mask000.tif``.

    The organisers' tools, and others that read their layout, can then score the
    result. Ids become 16-bit numbers, unique over all frames where they suffice: those
    of objects, or of their tracks.

    Parameters
    ----------
    segmentation, ingest : Path
        Records of the objects, and of the image whose files name the frames.
    folder : Path
        Where the folder of results is created; an older one is replaced.
    record : Path
        Where to write ``ctc.json``.
    tracks : sequence of Path
        ``tracks.json``, or none.

    Raises
    ------
    DataError
        If one frame holds more objects than 16 bits can number.
    """
    began = time.monotonic()
    segmented, volume = Segmentation.read(segmentation), IngestedVolume.read(ingest)
    images = [file.path for file in volume.image.files]
    found = segmented.original or segmented  # frames as the challenge has them
    objects = open_volume(found.objects)
    num_frames = objects.shape[0]
    target = folder / name_result_folder(volume.volume, images)
    names = ctc_mask_names(images, num_frames)
    ids = TrackIds(*read_lineage(tracks))
    with staged_folder(target) as staging:
        for z, frame in iterate_sections(objects, range(num_frames)):
            ids.see(file_number(Path(names[z])) or 0, frame)
        for z, frame in iterate_sections(objects, range(num_frames)):
            write_frame(staging / names[z], ids.renumber(frame))
        if ids.are_unique:
            lines = "".join(f"{line}\n" for line in ids.lines())
            (staging / "res_track.txt").write_text(lines)
        else:
            log.warning(
                "%d objects are more than 16 bits can number: ids begin anew in each "
                "frame, and there is no res_track.txt",
                ids.num_objects,
            )
    CtcResult(
        volume=volume.volume,
        folder=target,
        num_frames=num_frames,
        num_objects=ids.num_objects,
        ids_are_unique=ids.are_unique,
        are_tracks=bool(tracks),
        files=tuple(
            WrittenFile(path=path.name, sha256=hash_file(path))
            for path in sorted(target.iterdir())
        ),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info(
        "%s of %s in %s",
        count_noun(ids.num_objects, "track" if tracks else "object"),
        count_noun(num_frames, "frame"),
        target,
    )
