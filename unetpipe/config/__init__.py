"""What a user may set: configuration, sheet, networks, and where everything lies.

::

    run             the whole configuration;  data, training, prediction  its sections
    loading         values out of YAML to a checked configuration
    sheet           which sections of which volume play which role
    networks        what is trained and joined;  trained_networks  what is taken over
    checked_run     all of it together
    layout          every path of a run;  lookups  what the workflow asks about it
"""

from unetpipe.config.data import (
    ExportConfig,
    IngestConfig,
    LabelsConfig,
    PhantomConfig,
    PyramidConfig,
)
from unetpipe.config.fields import NAME_PATTERN, Section
from unetpipe.config.loading import PRESETS, check_config, repeated_keys, with_variant
from unetpipe.config.measurement import MeasureConfig
from unetpipe.config.prediction import (
    EvaluationConfig,
    FieldOfInterest,
    PredictionConfig,
    SegmentationConfig,
    VerifyConfig,
    WarpingThresholds,
)
from unetpipe.config.run import ONLY, Config
from unetpipe.config.training import (
    AugmentationConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
)

__all__ = [
    "NAME_PATTERN",
    "ONLY",
    "PRESETS",
    "AugmentationConfig",
    "Config",
    "EvaluationConfig",
    "ExportConfig",
    "FieldOfInterest",
    "IngestConfig",
    "LabelsConfig",
    "MeasureConfig",
    "NetworkConfig",
    "PhantomConfig",
    "PredictionConfig",
    "PyramidConfig",
    "Section",
    "SegmentationConfig",
    "TrainingConfig",
    "VerifyConfig",
    "WarpingThresholds",
    "WeightMapConfig",
    "check_config",
    "repeated_keys",
    "with_variant",
]
