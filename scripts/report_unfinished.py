"""Rule report_unfinished."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.collect_catalogue import collect_catalogue
from unetpipe.stages.report import report
from unetpipe.stages.report_run import report_run
from unetpipe.stages.report_unfinished import report_unfinished

log_to(Path(snakemake.log[0]))
report_unfinished(
    state=snakemake.params.state,
    pages=snakemake.params.pages,
    run_page=snakemake.params.run_page,
    catalogue=snakemake.params.catalogue,
    sheet=snakemake.params.sheet,
    write_page=report,
    write_run_page=report_run,
    write_catalogue=collect_catalogue,
)
