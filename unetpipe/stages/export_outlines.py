"""Rule export_outlines: outlines of objects for QuPath and ImageJ."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from unetpipe.measurement.outline_files import GeoJson, OutlineFile, Planes, RoiSet
from unetpipe.measurement.outlines import trace_section
from unetpipe.measurement.volume import class_of_objects, measured_of_objects
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import Outlines
from unetpipe.records.segmentation import Segmentation, WrittenFile
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_file
from unetpipe.runtime.text import count_noun
from unetpipe.storage.volumes import iterate_sections, open_volume

log = logging.getLogger(__name__)

NAMES = {"geojson": "outlines.geojson", "imagej": "outlines-rois.zip"}


def export_outlines(
    *,
    segmentation: Path,
    ingest: Path,
    formats: Sequence[str],
    class_names: Sequence[str] | None,
    are_frames: bool,
    folder: Path,
    record: Path,
) -> None:
    """Trace the objects of each section along the edges of their pixels.

    Parameters
    ----------
    segmentation, ingest : Path
        Records of the objects and of the image.
    formats : sequence of str
        ``geojson``, ``imagej``.
    class_names : sequence of str, optional
        Of the network's classes, class 0 first.
    are_frames : bool
        Sections are the frames of a time series.
    folder : Path
        Where to write ``outlines.geojson`` and ``outlines-rois.zip``.
    record : Path
        Where to write ``outlines.json``.

    Raises
    ------
    ConfigError
        If ImageJ's format is wanted and the package for it is not installed.
    """
    began = time.monotonic()
    made = Segmentation.read(segmentation)
    planes = _planes_of(IngestedVolume.read(ingest), are_frames)
    objects = open_volume((made.original or made).objects)  # where the image lies
    paths = {name: folder / NAMES[name] for name in formats}
    count = 0
    with ExitStack() as stack:
        files: list[OutlineFile] = []
        if "geojson" in paths:
            classes = class_of_objects(made, class_names)
            measured = measured_of_objects(made)
            geojson = GeoJson(paths["geojson"], classes, planes, measured)
            files.append(stack.enter_context(geojson))
        if "imagej" in paths:
            files.append(stack.enter_context(RoiSet(paths["imagej"], planes)))
        for z, section in iterate_sections(objects, range(objects.shape[0])):
            for number, polygons in trace_section(section):
                count += 1
                for file in files:
                    file.add(z, number, polygons)
    Outlines(
        volume=made.volume,
        identity_sha256=made.identity_sha256,
        num_outlines=count,
        files={
            name: WrittenFile(path=path, sha256=hash_file(path))
            for name, path in paths.items()
        },
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    told = ", ".join(map(str, paths.values()))
    log.info("%s in %s", count_noun(count, "outline"), told)


def _planes_of(volume: IngestedVolume, are_frames: bool) -> Planes:
    """Return where sections lie in the user's file, of which channels were chosen."""
    has_channels = volume.num_channels > 1 or volume.channels_of_file is not None
    return Planes(are_frames, volume.time, has_channels)
