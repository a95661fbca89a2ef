"""Rule ingest_lot."""

from pathlib import Path

from unetpipe.lots.running import LotFiles
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.ingest_lot import ingest_lot

log_to(Path(snakemake.log[0]))
ingest_lot(
    orders=snakemake.params.orders,
    files=LotFiles(
        record=Path(snakemake.output.record), content=Path(snakemake.output.content)
    ),
    may_fail=snakemake.params.may_fail,
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
