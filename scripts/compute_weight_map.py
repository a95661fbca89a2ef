"""Rule compute_weight_map."""

from pathlib import Path

from unetpipe.config import WeightMapConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.compute_weight_map import compute_weight_map

log_to(Path(snakemake.log[0]))
compute_weight_map(
    ingest=Path(snakemake.input.ingest),
    weight_map=WeightMapConfig(**snakemake.params.weight_map),
    num_classes=snakemake.params.num_classes,
    ndim=snakemake.params.ndim,
    stores={name: Path(path) for name, path in snakemake.params.stores.items()},
    record=Path(snakemake.output.record),
    field_of_interest=snakemake.params.field_of_interest,
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
