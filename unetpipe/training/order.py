"""What a training is asked for, and where its results go: plain values, no torch."""

from pathlib import Path

from unetpipe.config import (
    AugmentationConfig,
    NetworkConfig,
    Section,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.targets.annotated import AnnotatedRow


class TrainingOrder(Section):
    """Rows of the sheet, and the sections of the configuration that make a recipe.

    ``segmentation`` says what chooses thresholds, and how objects are made where their
    score does. ``average`` are the orientations that prediction averages over, as
    ``prediction.average`` names them: thresholds are chosen from probabilities that are
    averaged alike. The checkpoint is chosen without averaging, which would take as many
    times longer. ``precision`` is that of the prediction, for the same reason.
    """

    rows: tuple[AnnotatedRow, ...]
    network: NetworkConfig
    training: TrainingConfig
    augmentation: AugmentationConfig
    weight_map: WeightMapConfig
    segmentation: SegmentationConfig
    average: int | tuple[int, ...] = 1
    precision: str = "fp32"


class TrainingFiles(Section):
    """Files of one network, and ``state``, the folder that a training goes on from."""

    state: Path
    model: Path
    """Weights (safetensors, float32)."""
    model_json: Path
    """What they are."""
    history: Path
    """One line a step (CSV)."""
    record: Path
    """``train.json``, written last."""
