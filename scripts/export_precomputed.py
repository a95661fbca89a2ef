"""Rule export_precomputed."""

from pathlib import Path

from unetpipe.config.viewing import PrecomputedConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.export_precomputed import export_precomputed

log_to(Path(snakemake.log[0]))
export_precomputed(
    ingest=Path(snakemake.input.ingest),
    segmentation=Path(snakemake.input.segmentation),
    settings=PrecomputedConfig.model_validate(snakemake.params.settings),
    folder=Path(snakemake.params.folder),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
