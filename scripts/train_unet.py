"""Rule train_unet."""

from pathlib import Path

from unetpipe import config
from unetpipe.runtime.logs import log_to
from unetpipe.stages.train_unet import train_unet

log_to(Path(snakemake.log[0]))
train_unet(
    rows=snakemake.params.rows,
    network=config.NetworkConfig(**snakemake.params.network),
    training=config.TrainingConfig(**snakemake.params.training),
    augmentation=config.AugmentationConfig(**snakemake.params.augmentation),
    weight_map=config.WeightMapConfig(**snakemake.params.weight_map),
    segmentation=config.SegmentationConfig(**snakemake.params.segmentation),
    average=snakemake.params.average,
    precision=snakemake.params.precision,
    state=Path(snakemake.params.state),
    model=Path(snakemake.output.model),
    model_json=Path(snakemake.output.model_json),
    history=Path(snakemake.output.history),
    record=Path(snakemake.output.record),
)
