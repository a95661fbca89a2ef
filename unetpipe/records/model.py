"""What a network is: ``model.json``, beside its weights."""

from dataclasses import fields
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_serializer, field_validator

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.sections import LearntSections
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec

SEGMENTATION = "segmentation"


class LearntRow(Value):
    """Sections that a network has learnt from, or was chosen by."""

    model_config = ConfigDict(extra="allow")

    volume: str
    sections: tuple[int, ...]
    image: str | None = None
    """``content_sha256`` of the image; None: nobody knows it."""
    statistics: str | None = None
    target: str | None = None
    border_term: str | None = None


class ParentNetwork(Value):
    """The network whose weights a training began with."""

    weights_sha256: str
    afresh: tuple[str, ...] = ()
    """Layers that began with random weights all the same."""
    is_frozen: bool = False
    """Whether the contracting path kept the parent's weights."""


class TrainedFrom(Value):
    """What a training was made from; of an ensemble only the rows.

    What else an earlier or later version says of it stays as it is.
    """

    model_config = ConfigDict(extra="allow")

    spec: dict[str, Any] | None = None
    initialization: str | None = None
    optimisation: dict[str, Any] | None = None
    validation_metric: str | None = None
    choosing: dict[str, Any] | None = None
    connectivity: str | None = None
    threads: int | str | None = None
    seed: int | None = None
    deterministic: bool | None = None
    augmentation: dict[str, Any] | None = None
    patch: Zyx | None = None
    foreground_fraction: Any = None
    class_weights: tuple[float, ...] | None = None
    train_rows: tuple[LearntRow, ...] = Field((), alias="train")
    validate_rows: tuple[LearntRow, ...] = Field((), alias="validate")
    code: str | dict[str, str] | None = None
    parent: ParentNetwork | None = None
    """None: the training began with random weights."""
    weight_map: dict[str, Any] | None = None
    thresholds_average: tuple[int, ...] | None = None
    thresholds_precision: str | None = None

    def rows(self, role: Literal["train", "validate"]) -> tuple[LearntRow, ...]:
        """Return the rows that the network has learnt from, or was chosen by."""
        return self.train_rows if role == "train" else self.validate_rows


class Member(Value):
    """A network of an ensemble."""

    name: str
    weights_sha256: str


class Temperature(Value):
    """What makes stored probabilities as sure as they are right, on validation rows.

    A foreground probability p means sigmoid(logit(p) / value); nothing that is stored
    is changed by it.
    """

    value: float
    loss_before: float
    """Mean cross-entropy in nats a voxel, of what is stored."""
    loss_after: float
    num_voxels: int
    """That it was fitted on."""


class Model(Record):
    """``model.json``: architecture, recipe, thresholds, scores on validation rows."""

    WHAT = "the description of a network"

    spec: UNetSpec
    num_classes: int | None = None
    normalisation: str | None = None
    """How images are normalised, in words."""
    percentiles: tuple[float, float] | None = None
    """Of grey values, in percent, that images are normalised by; None: by mean and
    standard deviation."""
    num_members: int = 1
    """More than one: an ensemble."""
    members: tuple[Member, ...] = ()
    recipe: TrainedFrom | None = None
    """None: nobody knows what the network has learnt from."""
    weights_sha256: str
    is_averaged: bool = False
    """Whether the weights are the mean of those of many steps."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Where each metric was best on validation rows; ``segmentation`` and
    ``class_<k>`` are what the segmentation uses."""
    thresholds_are: str | None = None
    validation: dict[str, float] = Field(default_factory=dict)
    """Scores on validation rows, by metric."""
    temperature: Temperature | None = None
    """None: none was asked for, or the network has more than two classes."""
    voxel_size_nm: tuple[float, float, float] | None = None
    """Along z, y, x, of all volumes that it has learnt from; None: they differ, or
    nobody knows it."""
    learnt_sections: LearntSections | None = None
    """What its training sections are like; None: nobody knows."""
    step: int | None = None
    """After which the weights were taken."""
    circumstances: Circumstances | None = None

    @field_validator("spec", mode="before")
    @classmethod
    def _knows_all(cls, spec: Any) -> Any:
        """Refuse an architecture of which this version would leave something out."""
        known = {field.name for field in fields(UNetSpec)}
        if isinstance(spec, dict) and (unknown := sorted(spec.keys() - known)):
            raise ValueError(
                f"{', '.join(unknown)} is not known here: of a later version? "
                "Use the version that trained it"
            )
        return spec

    @field_serializer("spec")
    def _spec(self, spec: UNetSpec) -> dict[str, Any]:
        return spec.to_json()

    @property
    def is_ensemble(self) -> bool:
        """Whether several networks were joined into this one."""
        return "num_members" in self.model_fields_set

    @property
    def chosen_threshold(self) -> float | None:
        """Foreground probability that scored best on validation rows, if any did."""
        return self.thresholds.get(SEGMENTATION)

    def learnt(self, role: Literal["train", "validate"]) -> tuple[LearntRow, ...]:
        """Return the rows that the network has learnt from, or was chosen by."""
        return self.recipe.rows(role) if self.recipe else ()
