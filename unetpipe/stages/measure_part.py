"""Rule measure_part: measure one part's objects."""

import time
from pathlib import Path

from unetpipe.measurement.passes import measure_blocks_of_part as measure
from unetpipe.measurement.tables import make_measured_table, write_packed
from unetpipe.measurement.volume import MeasureInputs, open_measured
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import MeasuredPart


def measure_part(
    *, inputs: MeasureInputs, part: int, table: Path, record: Path
) -> None:
    """Measure the objects whose boxes begin in the blocks of one part.

    Parameters
    ----------
    inputs : MeasureInputs
        Records of objects and image, and what to measure.
    part : int
        Which of the parts, from 0.
    table : Path
        Where to write their rows, as Parquet.
    record : Path
        Where to write the part's record, last.
    """
    began = time.monotonic()
    work = open_measured(inputs)
    columns = [column.name for column in work.objects.columns]
    rows = measure(work.objects, part, inputs.settings.parts)
    made = make_measured_table(columns, rows, work.named, is_flat=work.objects.is_flat)
    MeasuredPart(
        part=part,
        num_parts=inputs.settings.parts,
        num_objects=len(made),
        identity_sha256=work.segmentation.identity_sha256,
        table=write_packed(made, table),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
