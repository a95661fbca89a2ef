"""What a user may set: validated once, here, and nowhere else.

These models are the only source of ``config/schema.json`` and of the defaults. A key
that they do not know is an error; all problems of a configuration come at once.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unetpipe.errors import ConfigError
from unetpipe.unet_spec import UNetSpec

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
REMEDIES = {
    NAME_PATTERN: "use letters, digits, '.', '_' and '-', at most 64, no leading dot",
    SHA256_PATTERN: "use 64 hexadecimal digits, as sha256sum prints them",
}

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
# The data sets whose frames have an edge without annotation; others have none.
FieldOfInterest = Literal[
    "BF-C2DL-HSC",
    "BF-C2DL-MuSC",
    "DIC-C2DH-HeLa",
    "Fluo-C2DL-Huh7",
    "Fluo-C2DL-MSC",
    "Fluo-C3DH-H157",
    "Fluo-C3DL-MDA231",
    "Fluo-N2DH-GOWT1",
    "Fluo-N2DL-HeLa",
    "Fluo-N3DH-CE",
    "Fluo-N3DH-CHO",
    "PhC-C2DH-U373",
    "PhC-C2DL-PSC",
]
Orientation = Annotated[int, Field(ge=0, le=7)]
Interval = tuple[Annotated[int, Field(ge=0)], Count]
NumThreads = Annotated[int, Field(ge=1)] | Literal["auto"]


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class PhantomConfig(Section):
    """The seeded membrane phantom that ``source: phantom:cells`` draws."""

    shape: tuple[Count, Count, Count] = (8, 256, 256)
    """Voxels along z, y, x."""
    num_cells: Annotated[int, Field(ge=1, le=65_535)] = 60
    """Cells in the volume."""
    noise: Annotated[float, Field(ge=0)] = 24.0
    """Standard deviation of the grey-value noise, in grey values of 0 to 255."""
    seed: int = 1
    """Another seed draws another phantom."""


class IngestConfig(Section):
    """How volumes are stored."""

    chunk: tuple[Count, Count, Count] = (8, 128, 128)
    """Voxels along z, y, x that Zarr reads at once."""
    shard: tuple[Count, Count, Count] = (8, 1024, 1024)
    """Voxels along z, y, x that Zarr writes as one file; multiples of ``chunk``."""
    nan_policy: Literal["error", "replace"] = "error"
    """What to do with NaN or infinite voxels: refuse, or put the channel's mean."""

    @model_validator(mode="after")
    def _check(self) -> "IngestConfig":
        problems = [
            f"shard is {shard} voxels along {axis}, not a multiple of chunk {chunk}; "
            f"use {chunk * max(1, shard // chunk)}"
            for axis, chunk, shard in zip("zyx", self.chunk, self.shard, strict=True)
            if shard % chunk
        ]
        if problems:
            raise ConfigError("; ".join(problems))
        return self


class NetworkConfig(Section):
    """The architecture (paper: Fig. 1)."""

    ndim: Literal[2, 3] = 2
    """2: each section by itself; 3: volumetric."""
    num_classes: Annotated[int, Field(ge=2, le=255)] = 2
    """Classes of the output; class 0 is background."""
    depth: Annotated[int, Field(ge=1, le=7)] = 4
    """Number of poolings."""
    base_channels: Count = 64
    """Feature channels of the first level; they double with each pooling."""
    padding: Literal["valid", "same"] = "valid"
    """``valid`` as in the paper, or ``same`` (padded convolutions)."""
    normalization: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""
    head: Literal["softmax", "sigmoid"] = "softmax"
    """Final activation; ``sigmoid`` has one channel for two classes."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Rate at the end of the contracting path."""
    initialization: Literal["he", "default"] = "he"
    """``he``: N(0, sqrt(2/N)) as in the paper; ``default``: the library's own."""
    pooling: tuple[tuple[int, int, int], ...] = ()
    """Pooling factor (z, y, x) of each level; empty: 2 on every axis it sees."""

    def spec(self, in_channels: int = 1) -> UNetSpec:
        """Return the architecture for images of so many channels."""
        values = self.model_dump(exclude={"initialization"})
        return UNetSpec(in_channels=in_channels, **values)

    @model_validator(mode="after")
    def _check(self) -> "NetworkConfig":
        self.spec()  # raises GeometryError where numbers do not fit
        return self


class WeightMapConfig(Section):
    """Loss weights (paper: eq. 2)."""

    enabled: bool = True
    """False: no border term."""
    w0: Annotated[float, Field(ge=0)] = 10.0
    """Weight where two cells touch."""
    sigma_vox: Positive = 5.0
    """Width of the border, in voxels."""
    class_balance: bool = True
    """Weigh classes by their inverse frequency."""
    border_class: int | None = None
    """With ``label_kind: classes``: the class that separates cells."""


class AugmentationConfig(Section):
    """Random changes of each training patch (paper: Sect. 3.1)."""

    shift_vox: Annotated[float, Field(ge=0)] = 10.0
    """Largest random shift beyond the random crop, in voxels."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Largest rotation in the section plane, in degrees."""
    flip: bool = True
    """Mirror along y and x at random."""
    elastic_sigma_vox: Annotated[float, Field(ge=0)] = 10.0
    """Standard deviation of the random displacements, in voxels; 0: none."""
    elastic_grid: Annotated[int, Field(ge=2)] = 3
    """Displacements are drawn on a grid of so many points an axis."""
    grey_scale: Annotated[float, Field(ge=0)] = 0.2
    """Contrast varies by up to this fraction."""
    grey_shift: Annotated[float, Field(ge=0)] = 0.2
    """Brightness varies by up to this many standard deviations of the image."""


class TrainingConfig(Section):
    """The optimisation (paper: Sect. 3)."""

    patch: tuple[Count, Count, Count] | None = None
    """Voxels along z, y, x of the network's input, rounded up to a legal size; null:
    572 in the plane, or less where the volume is smaller."""
    steps: Count = 40_000
    """Number of optimiser steps."""
    batch_size: Count = 1
    """Patches a step; the paper takes one large patch."""
    learning_rate: Positive = 1e-3
    """Step size of the stochastic gradient descent. With momentum 0.99, steps above
    1e-3 need ``warmup_steps`` and ``gradient_clip``, or the loss becomes infinite."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of the stochastic gradient descent. In trainings of a few hundred to a
    few thousand steps 0.9, with a learning rate of 3e-2, learned faster."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the learning rate."""
    schedule_every: Count = 10_000
    """With ``step``: multiply by ``schedule_factor`` every so many steps."""
    schedule_factor: Positive = 0.1
    """With ``step``: the factor."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Raise the learning rate linearly over the first so many steps."""
    gradient_clip: Positive | None = None
    """Largest norm of the gradient; null: no clipping."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; losses are always fp32."""
    validate_every: Count = 500
    """Score the validation rows every so many steps; the best checkpoint is kept."""
    validation_metric: Literal["auto", "v_rand", "dice", "loss"] = "auto"
    """What chooses the checkpoint; auto: v_rand for two classes, dice for more."""
    checkpoint_every: Count = 200
    """Save the training state every so many steps."""
    seed: int = 0
    """Of initialisation, patches, augmentation and dropout."""
    threads: NumThreads = "auto"
    """CPU threads of torch; they change fp32 bits, so a resumed training keeps them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU where torch sees one. Not part of the recipe."""


class PredictionConfig(Section):
    """Overlap-tile prediction (paper: Fig. 2)."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; fp32 instead, with a warning, where the probe
    finds that the processor would only emulate the other."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to predict; auto: the GPU where there is one."""
    largest_flip_fraction: Fraction = 0.01
    """Planning refuses a reduced precision that flips more labels than this."""
    average: Literal[1, 4, 7, 8] | tuple[Orientation, ...] = 1
    """Average the probabilities over the first so many of the eight orientations (the
    paper: 7), or over those listed: 0 to 3 are quarter turns, 4 to 7 the mirror image,
    turned. Each costs one pass."""
    memory_gb: Positive | Literal["auto"] = "auto"
    """Memory that the activations of one forward pass may take; auto: 4 on a CPU, 70 %
    of a GPU's."""
    stride: tuple[Count, Count, Count] | None = None
    """What each tile keeps (z, y, x); null: chosen for the section shape."""
    batch_tiles: Count | Literal["auto"] = "auto"
    """Tiles in one forward pass; auto: 1 on a CPU, on a GPU as many as fill it."""
    compile: bool = False
    """Run the network through ``torch.compile`` (with CUDA graphs on a GPU) if that
    works where the probe runs."""
    autotune: bool = False
    """Let cuDNN time its algorithms on a GPU. Faster or not, it may choose another one
    in each process, so that the last bits of a prediction depend on interruptions."""
    roi: tuple[Interval, Interval, Interval] | None = None
    """Box to predict: start and stop along z, y, x, in voxels; null: all. Tiles that do
    not touch it stay 0."""
    mask: str | None = None
    """Image or OME-Zarr of which voxels other than 0 are to be predicted, at the
    volume's resolution or a coarser level; ``{volume}`` stands for the volume's name.
    Tiles that it does not touch stay 0."""
    empty_value: float | None = None
    """Tiles that hold nothing brighter than this grey value, as stored, stay 0; null:
    all tiles are predicted."""
    empty_fraction: Fraction = 0.0
    """With ``empty_value``: up to this fraction of a tile's voxels may be brighter."""
    block_shards: tuple[Count, Count, Count] = (1, 1, 1)
    """Shards that one block spans; the unit that an interruption loses at most."""
    parts: Count = 2
    """Jobs that share a volume's blocks."""
    threads: NumThreads = "auto"
    """CPU threads of torch; recorded in the plan and equal in all parts."""

    @model_validator(mode="after")
    def _check(self) -> "PredictionConfig":
        if isinstance(self.average, tuple) and (
            not self.average or len(set(self.average)) < len(self.average)
        ):
            raise ConfigError(
                f"average is {list(self.average)}; list each orientation once, at "
                "least one of 0 to 7"
            )
        for axis, (start, stop) in zip("zyx", self.roi or (), strict=False):
            if start >= stop:
                raise ConfigError(
                    f"roi is {start} to {stop} along {axis}, which is empty; give "
                    "start and stop, start first"
                )
        return self


class SegmentationConfig(Section):
    """From probability to masks and objects."""

    threshold: Fraction | None = None
    """Foreground probability above which a voxel is foreground; null: the threshold
    that scored best on the validation rows, 0.5 without any."""
    connectivity: Literal["2d", "3d"] = "2d"
    """Objects within each section, or across sections; voxels connect by faces."""
    object_classes: tuple[int, ...] | None = None
    """With more than two classes: those whose voxels make objects; null: all but 0."""
    smallest_object_vox: Annotated[int, Field(ge=0)] = 0
    """Objects of fewer voxels are dropped."""


class EvaluationConfig(Section):
    """Which scores are computed."""

    isbi_scores: bool = True
    """With two classes: the ISBI 2012 scores over thresholds, section by section."""
    warping_error: bool = True
    """With ``isbi_scores``: the warping error too."""
    baselines: bool = True
    """Score a constant map, the grey values, and a watershed beside the network."""
    field_of_interest_vox: Annotated[int, Field(ge=0)] | FieldOfInterest = 0
    """Cell Tracking Challenge: voxels at the edge of a frame that are not annotated, or
    the name of a data set of the challenge; objects that lie there alone do not count.
    """


class Config(Section):
    """The whole configuration of one run."""

    name: Name = "demo"
    """Name of the run: results lie in ``results/<name>``."""
    source: str = "phantom:cells"
    """Where the originals come from: a URL of an archive, a local archive, a local
    folder (used in place), or ``phantom:cells``."""
    source_sha256: Sha256 | None = None
    """Checksum of the archive."""
    pixel_sha256: dict[str, dict[Literal["image", "labels"], Sha256]] = {}
    """Checksum of the voxels of ``image`` and ``labels`` of a volume."""
    volumes: str = "config/volumes.tsv"
    """The sheet: which sections of which volume play which role."""
    export_ctc: bool = False
    """Write the objects of each volume in the layout of the Cell Tracking Challenge
    too: ``01_RES/mask000.tif``."""
    preset: Literal["paper", "same_padding"] = "paper"
    """Defaults of network, augmentation and training."""
    phantom: PhantomConfig = PhantomConfig()
    ingest: IngestConfig = IngestConfig()
    network: NetworkConfig = NetworkConfig()
    weight_map: WeightMapConfig = WeightMapConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    prediction: PredictionConfig = PredictionConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


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
            "momentum": 0.99,
            "weight_decay": 5e-4,
            "schedule": "step",
        },
    },
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
        if value is not None or not _known_keys((str(key),))
    }
    try:
        return Config.model_validate(_merge(preset, values))
    except ValidationError as error:
        raise ConfigError(_listing(source, _explain(error.errors()))) from None


def load_config(path: Path) -> Config:
    """Read and validate a YAML file; see ``check_config``."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys; start from config/config.yaml")
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


def _explain(problems: Iterable[Any]) -> list[str]:
    """Turn pydantic's problems into one line a key: key, value, and the remedy."""
    values: dict[str, Any] = {}
    remedies: dict[str, list[str]] = {}
    for problem in problems:
        location = _location(problem)
        key = ".".join(location) or "configuration"
        if problem["type"] in ("extra_forbidden", "value_error"):
            values[key] = None
        else:
            values.setdefault(key, repr(problem["input"]))
        remedies.setdefault(key, []).append(_remedy(problem, location))
    return [
        ": ".join(filter(None, [key, values[key], " or ".join(found)]))
        for key, found in remedies.items()
    ]


def _location(problem: Any) -> tuple[str, ...]:
    """Return the keys that lead to a problem, as a user wrote them."""
    if problem["type"] == "missing":
        problem = {**problem, "loc": problem["loc"][:-1]}
    if problem["loc"][-1:] == ("[key]",):
        return tuple(map(str, problem["loc"][:-1]))
    # With alternatives pydantic appends which of them did not fit.
    branch = isinstance(problem["loc"][-1], str) if problem["loc"] else False
    location = tuple(map(str, problem["loc"]))
    while branch and len(location) > 1 and _is_value(location[:-1]):
        location = location[:-1]
    return location


def _remedy(problem: Any, location: tuple[str, ...]) -> str:
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = get_close_matches(location[-1], known, n=1)
        return "unknown key; " + (
            f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        )
    if kind == "missing":
        return "too few values; give one for each of z, y, x"
    if kind == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        return REMEDIES.get(pattern, message)
    message = message.removeprefix("Value error, ").partition(", unable to")[0]
    return message.replace("Input should be", "must be")


def _is_value(location: tuple[str, ...]) -> bool:
    """Tell whether a location is a key of the models that has no keys of its own."""
    known = _known_keys(location[:-1])
    return location[-1] in known and not _known_keys(location)


def _known_keys(location: tuple[str, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return sorted(model.model_fields)


def _listing(source: str, lines: list[str]) -> str:
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return "\n".join([f"{source}: {count}", *(f"  {line}" for line in lines)])
