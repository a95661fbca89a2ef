"""Rule measure_objects: the table of measured objects of a volume."""

import logging
import time
from importlib.metadata import version
from pathlib import Path

from pyarrow import parquet

from unetpipe.measurement.passes import measure_blocks_of_part
from unetpipe.measurement.tables import join_tables, make_measured_table, write_tables
from unetpipe.measurement.volume import MeasureInputs, open_measured
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import MeasuredPart, Measurements
from unetpipe.runtime.text import count_noun

log = logging.getLogger(__name__)


def measure_objects(
    *,
    inputs: MeasureInputs,
    parts: list[Path],
    table: Path,
    text: Path,
    record: Path,
) -> None:
    """Measure the objects of a volume, or join what parts have measured.

    Parameters
    ----------
    inputs : MeasureInputs
        Records of objects and image, and what to measure.
    parts : list of Path
        Records of the parts. None: this job measures all objects.
    table, text : Path
        Where to write one row an object, as Parquet and as CSV.
    record : Path
        Where to write ``measurements.json``.
    """
    began = time.monotonic()
    work = open_measured(inputs)
    objects = work.objects
    columns = [column.name for column in objects.columns]
    if parts:
        records = map(MeasuredPart.read, parts)
        rows = join_tables(parquet.read_table(part.table.path) for part in records)
    else:
        rows = make_measured_table(
            *(columns, measure_blocks_of_part(objects), work.named),
            is_flat=objects.is_flat,
        )
    too_large = sum(map(objects.is_too_large, range(1, len(rows) + 1)))
    if too_large:
        log.warning(
            "%d objects have boxes of more than %d voxels: their shapes and "
            "neighbours are left empty",
            too_large,
            objects.largest_box,
        )
    Measurements(
        volume=work.segmentation.volume,
        identity_sha256=work.segmentation.identity_sha256,
        num_objects=len(rows),
        num_too_large=too_large,
        largest_box_vox=objects.largest_box,
        neighbour_reach_nm=objects.reach_nm,
        columns=objects.columns,
        table=write_tables(rows, table, text),
        scikit_image=version("scikit-image"),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info("%s measured in %s", count_noun(len(rows), "object"), table)
