"""The whole configuration of one run, and what its sections allow only apart.

These models are the only source of ``config/schema.json`` and of the defaults. A key
that they do not know is an error.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unetpipe.config.data import (
    ExportConfig,
    IngestConfig,
    LabelsConfig,
    PhantomConfig,
    PyramidConfig,
)
from unetpipe.config.fields import Name, Positive, Section, Sha256
from unetpipe.config.measurement import MeasureConfig
from unetpipe.config.prediction import (
    EvaluationConfig,
    PredictionConfig,
    SegmentationConfig,
    VerifyConfig,
)
from unetpipe.config.proposals import ProposeConfig, ViewConfig
from unetpipe.config.tracking import TrackConfig
from unetpipe.config.training import (
    AugmentationConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.config.viewing import PrecomputedConfig
from unetpipe.errors import ConfigError
from unetpipe.tiling.orientations import choose_orientations

ONLY = "unet"  # the name of a run's network, where it has one alone


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
    too: ``01_RES/mask000.tif``; with ``track.enabled`` an object keeps its id."""
    export_ngff04: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Resolution levels (0: full) to write as NGFF 0.4 (Zarr v2) too, for tools that
    cannot open 0.5: image with objects, and probability; empty: none."""
    export_outlines: tuple[Literal["geojson", "imagej"], ...] = ()
    """Write the outlines of objects too, section by section: ``geojson`` for QuPath,
    ``imagej`` for ImageJ's ROI manager (extra ``tables``)."""
    lots: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """At most so many small volumes share a job, one after another in one process;
    ``auto``: 256, from 16 volumes of up to 4 MiB on; 1: each has jobs of its own."""
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
    container: str | None = None
    """With ``--software-deployment-method apptainer``: the image that jobs run in, a
    file like ``unetpipe.sif`` or a published one like
    ``docker://ghcr.io/OWNER/unetpipe:0.1.0``. No part of any recipe."""
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
    measure: MeasureConfig = MeasureConfig()
    track: TrackConfig = TrackConfig()
    export_model: ExportConfig = ExportConfig()
    export_precomputed: PrecomputedConfig = PrecomputedConfig()
    verify: VerifyConfig = VerifyConfig()
    propose: ProposeConfig = ProposeConfig()
    view: ViewConfig = ViewConfig()

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
        self._check_affinities()
        self._check_trained()
        self._check_lots()
        if self.track.enabled and self.segmentation.connectivity == "3d":
            raise ConfigError(
                "track.enabled says that sections are frames, but "
                "segmentation.connectivity is 3d, which makes one object of what "
                "overlaps in several; use 2d, or switch tracks off"
            )
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

    @property
    def has_lots(self) -> bool:
        """Whether volumes may share jobs."""
        return self.lots != 1 and self._key_against_lots is None

    @property
    def _key_against_lots(self) -> str | None:
        """What has jobs of its own for each volume, after others of the whole run."""
        if self.pyramid.parts > 1:
            return "pyramid.parts"
        if not self.prediction.keep_probability:
            return "prediction.keep_probability"
        return None

    def _check_lots(self) -> None:
        """Refuse lots together with what only jobs by volume do."""
        if isinstance(self.lots, int) and self.lots > 1 and self._key_against_lots:
            raise ConfigError(
                f"lots is {self.lots}, but {self._key_against_lots} asks for jobs of "
                "their own for each volume; remove one of the two keys"
            )

    def _check_affinities(self) -> None:
        """Refuse what affinities cannot do, and what only they can."""
        if self.network.targets != "affinities":
            if self.segmentation.method == "mutex" and self.trained is None:
                raise ConfigError(
                    "segmentation.method is mutex, which joins voxels by affinities, "
                    f"but network.targets is {self.network.targets}; use targets "
                    "affinities, or another method"
                )
            return
        if choose_orientations(self.prediction.average) != (0,):
            raise ConfigError(
                f"prediction.average is {self.prediction.average}, but network.targets "
                "is affinities, whose pairs another orientation would lay elsewhere; "
                "use 1"
            )
        if self.prediction.precision == "int8":
            raise ConfigError(
                "prediction.precision is int8, whose scores are not known for "
                "network.targets affinities; use fp32 or bf16"
            )
        if self.export_model.enabled:
            raise ConfigError(
                "export_model.enabled is true, but network.targets is affinities, "
                "which other programs have no use for; set it to false"
            )
        if self.training.validation_metric == "loss":
            raise ConfigError(
                "training.validation_metric is loss, which is of classes, but "
                "network.targets is affinities; use auto"
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
        if num_classes > 2 and self.training.temperature_scaling:
            raise ConfigError(
                "training.temperature_scaling is of the probability of a foreground, "
                f"but network.num_classes is {num_classes}; remove the key"
            )
