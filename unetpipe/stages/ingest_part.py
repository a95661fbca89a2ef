"""Rule ingest_part: one part's share of the layers of a volume's image."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from unetpipe.config import IngestConfig
from unetpipe.config.sheet import Row
from unetpipe.ingestion.copying import Layout, check_ingestion_memory
from unetpipe.ingestion.layers import Layers
from unetpipe.ingestion.opening import (
    is_depth_told,
    list_original_files,
    open_original_image,
    voxel_size_of_original,
)
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedPart, Manifest
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.runtime.problems import Problems
from unetpipe.tiling.boxes import range_of_part
from unetpipe.tiling.scale import told_size

log = logging.getLogger(__name__)


def ingest_part(
    *,
    manifest: Path,
    volume: str,
    row: dict[str, Any],
    ingest: IngestConfig,
    part: int,
    folder: Path,
    record: Path,
) -> None:
    """Store one part's layers of shards, with the sums of their grey values.

    Layers with a valid receipt are kept: repeating the call goes on from there, also
    with another number of parts. ``ingest_volume`` makes the volume's store of them.

    Parameters
    ----------
    manifest : Path
        Record of ``download_dataset``: where the originals are.
    volume : str
        Name of the volume, for messages.
    row : dict
        Its first row of the sheet.
    ingest : IngestConfig
        Chunk, shard, and the number of parts.
    part : int
        Which share of the layers, from 0; its share of the files is hashed, too.
    folder : Path
        Where the layers of all parts are stored.
    record : Path
        Where to write the part's record, last.

    Raises
    ------
    DataError
        If the image cannot be read, or holds voxels that are not finite.
    ResourceError
        If memory does not suffice, or the disk is full; what is finished is kept.
    """
    began = time.monotonic()
    originals = Manifest.read(manifest)
    problems = Problems(f"volume {volume}")
    with ExitStack() as stack, problems:
        first = Row(**row)
        image = open_original_image(first, Path(originals.root), stack)
        voxel_size_nm, _ = voxel_size_of_original(first, image, [])
        is_depth_known = is_depth_told(first, image)
        told_nm = told_size(voxel_size_nm, is_depth_known=is_depth_known)
        layout = Layout(ingest.chunk, ingest.shard, told_nm)
        check_ingestion_memory(image, layout, image.dtype, f"volume {volume}: image")
        layers = Layers(image, layout, folder)
        numbers = range_of_part(layers.num_layers, part, ingest.parts)
        num_written = layers.copy(numbers)
        recorded = image.recorded
        files = [recorded[i] for i in range_of_part(len(recorded), part, ingest.parts)]
        IngestedPart(
            part=part,
            num_parts=ingest.parts,
            layers=(numbers.start, numbers.stop),
            num_layers_written=num_written,
            files=list_original_files(files, originals),
            peak_rss_bytes=peak_rss_bytes(),
            circumstances=Circumstances.here(seconds=time.monotonic() - began),
        ).write(record)
        log.info("part %d done: %d layers", part, len(numbers))
    problems.raise_any()
