"""Rule train_unet."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.train_unet import train_unet
from unetpipe.training.order import TrainingFiles, TrainingOrder

log_to(Path(snakemake.log[0]))
train_unet(
    order=TrainingOrder(
        rows=snakemake.params.rows,
        network=snakemake.params.network,
        training=snakemake.params.training,
        augmentation=snakemake.params.augmentation,
        weight_map=snakemake.params.weight_map,
        segmentation=snakemake.params.segmentation,
        average=snakemake.params.average,
        precision=snakemake.params.precision,
    ),
    files=TrainingFiles(state=snakemake.params.state, **dict(snakemake.output.items())),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
