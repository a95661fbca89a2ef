"""What a user may set: validated once, here, and nowhere else.

These models are the only source of ``config/schema.json`` and of the defaults. A key
that they do not know is an error; all problems of a configuration come at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from unetpipe.config.data import (
    ExportConfig,
    IngestConfig,
    LabelsConfig,
    PhantomConfig,
    PyramidConfig,
)
from unetpipe.config.fields import NAME_PATTERN, Name, Positive, Section, Sha256
from unetpipe.config.messages import explain, known_keys, listing, unknown_key
from unetpipe.config.prediction import (
    EvaluationConfig,
    FieldOfInterest,
    PredictionConfig,
    SegmentationConfig,
    VerifyConfig,
)
from unetpipe.config.repeats import repeated_keys
from unetpipe.config.training import (
    AugmentationConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.errors import ConfigError

ONLY = "unet"  # the name of a run's network, where it has one alone

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
    "NetworkConfig",
    "PhantomConfig",
    "PredictionConfig",
    "PyramidConfig",
    "Section",
    "SegmentationConfig",
    "TrainingConfig",
    "VerifyConfig",
    "WeightMapConfig",
    "check_config",
    "load_config",
    "schema",
    "with_variant",
]


class Config(Section):
    """The whole configuration of one run."""

    name: Name = "demo"
    """Name of the run: results lie in ``results/<name>``."""
    source: str = "phantom:cells"
    """Where the originals come from: a URL of an archive, a local archive, a local
    folder (used in place), or ``phantom:cells``."""
    source_sha256: Sha256 | None = None
    """Checksum of the archive."""
    largest_download_gb: Positive = 1000.0
    """A download that becomes larger than so many GB is broken off."""
    pixel_sha256: dict[str, dict[Literal["image", "labels"], Sha256]] = Field(
        default={}
    )
    """Checksum of the voxels of ``image`` and ``labels`` of a volume."""
    volumes: str = "config/volumes.tsv"
    """The sheet: which sections of which volume play which role."""
    export_ctc: bool = False
    """Write the objects of each volume in the layout of the Cell Tracking Challenge
    too: ``01_RES/mask000.tif``."""
    export_ngff04: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Resolution levels (0: full) to write as NGFF 0.4 (Zarr v2) too, for tools that
    cannot open 0.5: image with objects, and probability; empty: none."""
    compare: list[str] = Field(default=[])
    """Folders of networks of earlier runs, like ``results/old/unet``, to compare this
    run's with in ``report.html``: the first is the reference."""
    preset: Literal["paper", "same_padding"] = "paper"
    """Defaults of network, augmentation and training."""
    variants: dict[Name, dict[str, Any]] = Field(default={})
    """Networks to compare: name -> what differs from this configuration, of `preset`,
    `network`, `weight_map`, `augmentation` and `training`. Each is trained on the same
    rows; the first is what the others are compared with."""
    seeds: tuple[int, ...] = ()
    """Train each network once with each of these instead of ``training.seed``, to see
    how much chance there is in a score."""
    ensemble: bool = False
    """Average the probabilities of all folds and seeds of a variant: one more network,
    ``ensemble``, for the rows without a fold in the roles ``predict`` and ``test``."""
    trained: str | dict[Name, str] | None = None
    """Use a network as it is instead of training one: its folder, like
    ``results/old/unet`` or ``results/old/unet/weights-1a2b3c4d``; or several by name,
    to compare them: ``{old: results/old/unet, new: results/new/unet}``. The section
    `network` is then that of the network."""
    phantom: PhantomConfig = PhantomConfig()
    labels: LabelsConfig = LabelsConfig()
    ingest: IngestConfig = IngestConfig()
    pyramid: PyramidConfig = PyramidConfig()
    network: NetworkConfig = NetworkConfig()
    weight_map: WeightMapConfig = WeightMapConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    prediction: PredictionConfig = PredictionConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export_model: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()

    @model_validator(mode="after")
    def _check(self) -> "Config":
        palette, num_classes = self.labels.palette or {}, self.network.num_classes
        beyond = [key for key, k in palette.items() if k and k >= num_classes]
        if beyond:
            raise ConfigError(
                f"labels.palette gives {beyond[0]} the class {palette[beyond[0]]}, but "
                f"network.num_classes is {num_classes}; classes count from 0: raise "
                "num_classes, or correct the palette"
            )
        names = self.labels.class_names
        if names is not None and len(names) != num_classes:
            raise ConfigError(
                f"labels.class_names has {len(names)} names, but network.num_classes "
                f"is {num_classes}; name each class, class 0 first"
            )
        self._check_metrics()
        self._check_trained()
        self._check_names()
        return self

    @property
    def folders_of_trained(self) -> dict[str, str]:
        """The folders of networks that are used as they are, by name."""
        if isinstance(self.trained, str):
            return {ONLY: self.trained}
        return self.trained or {}

    def _check_trained(self) -> None:
        """Refuse to train and not to train."""
        if self.trained is None:
            return
        for key in ("variants", "seeds"):
            if getattr(self, key):
                raise ConfigError(
                    f"{key} asks for networks to be trained, but `trained` names "
                    "networks that are; remove one of the two keys"
                )
        if not self.folders_of_trained:
            raise ConfigError(
                "trained names no network; give a folder, like results/old/unet, or "
                "remove the key"
            )

    def _check_names(self) -> None:
        """Refuse a network that would lie where the volumes do."""
        for key, names in (
            ("trained", self.folders_of_trained),
            ("variants", self.variants),
        ):
            if "volumes" in names:
                raise ConfigError(
                    f"{key} calls a network volumes, which is a folder of the results; "
                    "call it otherwise"
                )

    def _check_metrics(self) -> None:
        """Refuse scores that the network's classes, or each other, do not allow."""
        metric, by = self.training.validation_metric, self.segmentation.choose_by
        num_classes = self.network.num_classes
        for key, value in (
            ("training.validation_metric", metric),
            ("segmentation.choose_by", by),
        ):
            if num_classes > 2 and value in ("v_rand", "seg", "f1"):
                raise ConfigError(
                    f"{key} is {value}, which needs two classes, but "
                    f"network.num_classes is {num_classes}; use auto or dice"
                )
        chosen = metric if by == "auto" else by
        if self.segmentation.smallest_object_vox == "auto" and chosen not in (
            "seg",
            "f1",
        ):
            raise ConfigError(
                "segmentation.smallest_object_vox is auto, but no score of objects "
                "chooses; set segmentation.choose_by to seg or f1, or give a number of "
                "voxels"
            )


# The common re-implementation: padded, batch-normalised, one sigmoid channel.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "same_padding": {
        "network": {
            "padding": "same",
            "normalization": "batch",
            "head": "sigmoid",
            "dropout": 0.0,
            "initialization": "default",
        },
        "weight_map": {"enabled": False, "class_balance": False},
        "augmentation": {
            "shift_vox": 0.0,
            "rotation_degrees": 0.0,
            "elastic_sigma_vox": 0.0,
            "grey_scale": 0.0,
            "grey_shift": 0.0,
        },
        "training": {
            "learning_rate": 0.01,
            "weight_decay": 5e-4,
            "schedule": "step",
        },
    },
}


# What a variant may change, and what of it the stored volumes of all depend on.
VARIED = ("preset", "network", "weight_map", "augmentation", "training")
SHARED = {
    "network": {"ndim", "num_classes"},
    "weight_map": {"w0", "sigma_vox", "border_class"},
}


def check_config(values: dict[str, Any], source: str = "the configuration") -> Config:
    """Return the validated configuration.

    Parameters
    ----------
    values : dict
        As read from YAML.
    source : str
        Where the values came from, for the message.

    Raises
    ------
    ConfigError
        Listing every problem at once: the key, the value, and what would work.
    """
    preset = PRESETS.get(str(values.get("preset", "paper")), {})
    # A section whose keys are all commented out reads as null: it has its defaults.
    values = {
        key: value
        for key, value in values.items()
        if value is not None or not known_keys(Config, (str(key),))
    }
    try:
        config = Config.model_validate(_merge(preset, values))
    except ValidationError as error:
        raise ConfigError(listing(source, explain(Config, error.errors()))) from None
    problems = [problem for name in config.variants for problem in _try(config, name)]
    if problems:
        raise ConfigError(listing(source, problems))
    return config


def with_variant(config: Config, name: str) -> Config:
    """Return the configuration with what a variant changes.

    Raises
    ------
    ConfigError
        If the variant has unknown keys or values, or changes what all variants share.
    """
    # A section whose keys are all commented out changes nothing.
    changes = {k: v for k, v in config.variants[name].items() if v is not None}
    for key, value in changes.items():
        if key not in Config.model_fields:
            raise ConfigError(f"{key}: {unknown_key(key, VARIED)}")
        if key not in VARIED:
            raise ConfigError(
                f"{key} is shared by all variants; use {', '.join(VARIED)}"
            )
        shared = set(value) & SHARED.get(key, set()) if isinstance(value, dict) else ()
        if shared:
            raise ConfigError(
                f"{key}.{', '.join(sorted(shared))}: shared by all variants; set it "
                "for the whole run"
            )
    given = config.model_dump(mode="json", exclude={"variants"}, exclude_unset=True)
    return check_config(_merge(given, changes), "the variant")


def _try(config: Config, name: str) -> list[str]:
    """Return what is wrong with a variant, a line a problem."""
    try:
        with_variant(config, name)
    except ConfigError as error:
        *head, last = str(error).splitlines()
        lines = [*head[1:], last] if head else [last]
        return [f"variants.{name}: {line.strip()}" for line in lines]
    return []


def load_config(path: Path) -> Config:
    """Read and validate a YAML file; see ``check_config``."""
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}); name a file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {error}; correct it") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys; start from config/config.yaml")
    if repeats := repeated_keys(text):
        raise ConfigError(listing(str(path), repeats))
    return check_config(values, str(path))


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, for editors."""
    return Config.model_json_schema()


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
