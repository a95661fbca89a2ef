"""Rule export_outlines: outlines of objects for QuPath and ImageJ."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from unetpipe.measurement.outline_files import GeoJson, OutlineFile, RoiSet
from unetpipe.measurement.outlines import trace_section
from unetpipe.measurement.volume import class_of_objects
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import Outlines
from unetpipe.records.segmentation import Segmentation, WrittenFile
from unetpipe.runtime.files import hash_file
from unetpipe.storage.volumes import iterate_sections, open_volume

log = logging.getLogger(__name__)

NAMES = {"geojson": "outlines.geojson", "imagej": "outlines-rois.zip"}


def export_outlines(
    *,
    segmentation: Path,
    formats: Sequence[str],
    class_names: Sequence[str] | None,
    folder: Path,
    record: Path,
) -> None:
    """Trace the objects of each section along the edges of their pixels.

    Parameters
    ----------
    segmentation : Path
        Record of the objects.
    formats : sequence of str
        ``geojson``, ``imagej``.
    class_names : sequence of str, optional
        Of the network's classes, class 0 first.
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
    objects = open_volume((made.original or made).objects)  # where the image lies
    paths = {name: folder / NAMES[name] for name in formats}
    count = 0
    with ExitStack() as stack:
        files: list[OutlineFile] = []
        if "geojson" in paths:
            classes = class_of_objects(made, class_names)
            files.append(stack.enter_context(GeoJson(paths["geojson"], classes)))
        if "imagej" in paths:
            files.append(stack.enter_context(RoiSet(paths["imagej"])))
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
    log.info("%d outlines in %s", count, ", ".join(map(str, paths.values())))
