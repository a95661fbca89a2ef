"""The course of a training: ``train.json``."""

from typing import Self

from pydantic import ConfigDict, model_validator

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.tiling.boxes import Zyx


class TrainedModel(Value):
    """Which network came out of which recipe."""

    weights_sha256: str
    description_sha256: str
    recipe: str


class Adoption(Value):
    """Where a network was taken from."""

    folder: str
    path: str
    circumstances: Circumstances


class Descent(Value):
    """The network that a training went on from."""

    folder: str
    weights_sha256: str
    step: int | None = None


class Training(Record):
    """``train.json``; of an adopted network, as far as it is known."""

    WHAT = "the record of a training"

    model: TrainedModel | None = None
    steps: int | None = None
    best_step: int | None = None
    metric: str | None = None
    """That chose the checkpoint; None: without validation rows."""
    seconds: float | None = None
    resumed_at: tuple[int, ...] = ()
    """Steps after which the training was interrupted."""
    patch: Zyx | None = None
    output: Zyx | None = None
    class_counts: tuple[int, ...] = ()
    class_weights: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    parent: Descent | None = None
    """None: the training began with random weights."""
    circumstances: Circumstances
    adopted: tuple[Adoption, ...] = ()
    """Places that it was taken over from, the newest first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model is None and not self.adopted:
            raise ValueError("it tells of no network, neither trained nor adopted")
        return self


class FormerRecipe(Record):
    """``recipe.json``: what the name of a folder of training states stands for."""

    model_config = ConfigDict(extra="allow")

    WHAT = "the recipe of a training"
