"""What pages are made of: the records of a run, by network and by volume."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unetpipe.records.calibration import Calibration
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import Measurements
from unetpipe.records.metrics import TEST, Metrics
from unetpipe.records.model import LearntRow, Model
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.probe import Probe
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.tracks import LinkedObjects
from unetpipe.records.training import Adoption, Training
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.records.weight_map import WeightMap
from unetpipe.training.history import HistoryRow, read_history

Paths = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A network, or an ensemble of networks.

    Attributes
    ----------
    name : str
    description : Model
    training : Training or None
        None of an ensemble that was joined here.
    members : tuple of Network
        Of such an ensemble.
    history : sequence of HistoryRow
    stores : tuple of Path
        What it takes of the disk.
    page : str
        Address of its own page, from the page that is written; empty without one.
    calibration : Calibration or None
        None where it predicts in floating point.
    """

    name: str
    description: Model
    training: Training | None = None
    members: tuple[Network, ...] = ()
    history: Sequence[HistoryRow] = ()
    stores: tuple[Path, ...] = ()
    page: str = ""
    calibration: Calibration | None = None

    @property
    def calibrations(self) -> list[tuple[str, Calibration]]:
        """What int8 costs it, or each member, by name."""
        members = self.members or (self,)
        return [(one.name, one.calibration) for one in members if one.calibration]

    @property
    def is_joined(self) -> bool:
        """Whether it is an ensemble that was joined here."""
        return self.training is None

    @property
    def num_classes(self) -> int:
        """Classes that it tells apart."""
        return self.description.num_classes or self.description.spec.num_classes

    @property
    def adoption(self) -> Adoption | None:
        """Where it was taken over from, if it was."""
        adopted = self.training.adopted if self.training else ()
        return adopted[0] if adopted else None

    @property
    def made(self) -> Circumstances | None:
        """Where and when it was trained, taken over, or joined."""
        if self.training is None:
            return self.description.circumstances
        return self.adoption.circumstances if self.adoption else self.trained

    @property
    def trained(self) -> Circumstances | None:
        """Where and when it was trained; None of one that only was joined."""
        return self.training.circumstances if self.training else None

    @property
    def finished(self) -> str:
        """When that was, in UTC; empty where nobody knows."""
        return self.made.finished if self.made else ""

    @property
    def is_origin_known(self) -> bool:
        """Whether it is known what it, or each member, has learnt from."""
        members = self.members or (self,)
        return all(one.description.recipe is not None for one in members)

    def learnt(self, role: Literal["train", "validate"]) -> list[LearntRow]:
        """Return the rows that it, or all members, learnt from or were chosen by."""
        members = self.members or (self,)
        return [row for one in members for row in one.description.learnt(role)]

    def seen_sections(self, volume: IngestedVolume) -> dict[str, set[int]]:
        """Return the sections of these voxels that it has seen, by role.

        By their content, where it is known: networks that were trained elsewhere may
        call other voxels by the same name, or the same voxels otherwise.
        """
        content = volume.image.content_sha256
        roles: tuple[Literal["train", "validate"], ...] = ("train", "validate")
        seen: dict[str, set[int]] = {}
        for role in roles:
            for row in self.learnt(role):
                is_named = row.image is None and row.volume == volume.volume
                if row.image == content or is_named:
                    seen.setdefault(role, set()).update(row.sections)
        return seen


@dataclass(frozen=True, slots=True)
class Result:
    """What a network made of a volume.

    Attributes
    ----------
    model, volume : str
    folder : Path
        Of the records.
    plan, prediction, segmentation : records
    metrics : Metrics or None
        None of a volume without labels.
    probe : Probe or None
        None where nobody asks for it.
    is_kept : bool
        False where the probability is dropped after the pages are written.
    measured : Measurements or None
        None where objects are not measured.
    linked : LinkedObjects or None
        None where sections are no frames.
    """

    model: str
    volume: str
    folder: Path
    plan: PredictionPlan
    prediction: Prediction
    segmentation: Segmentation
    metrics: Metrics | None
    probe: Probe | None = None
    is_kept: bool = True
    measured: Measurements | None = None
    linked: LinkedObjects | None = None

    @property
    def tested(self) -> tuple[int, ...]:
        """Test sections that were scored."""
        return self.metrics.role_sections.get(TEST, ()) if self.metrics else ()

    @property
    def devices(self) -> tuple[str, ...]:
        """What computed the prediction."""
        if self.prediction.devices or self.probe is None:
            return self.prediction.devices
        return (self.probe.device,)


@dataclass(frozen=True, slots=True)
class Run:
    """All that the page of one network shows."""

    name: str
    manifest: Manifest | None
    volumes: dict[str, IngestedVolume]
    weight_maps: tuple[WeightMap, ...]
    network: Network
    results: tuple[Result, ...]

    @property
    def scored(self) -> list[tuple[Result, Metrics]]:
        """The results that have scores."""
        return [(one, one.metrics) for one in self.results if one.metrics]

    @property
    def finished(self) -> str:
        """When the last of its records was written; empty without results."""
        last = (one.metrics or one.segmentation for one in self.results)
        return max((record.circumstances.finished for record in last), default="")


def read_reported_training(paths: Paths, beside: Path) -> Network:
    """Read a network or an ensemble.

    Parameters
    ----------
    paths : mapping
        ``model`` (its name), ``model_json``, ``record`` (``train.json``),
        ``history``, and perhaps ``calibration``; of an ensemble ``members``, likewise,
        instead of all but the first two.
    beside : Path
        Folder of the page that will be written.
    """
    description = Path(paths["model_json"])
    folder = description.parent
    stores = (folder / "model.safetensors", folder / "state")
    members = tuple(_read_member(one, beside) for one in paths.get("members", ()))
    if members:
        return Network(
            paths["model"], Model.read(description), members=members, stores=stores[:1]
        )
    return Network(
        paths["model"],
        Model.read(description),
        Training.read(Path(paths["record"])),
        history=read_history(Path(paths["history"])),
        stores=stores,
        calibration=_read_calibration(paths),
    )


def _read_calibration(paths: Paths) -> Calibration | None:
    path = paths.get("calibration")
    return Calibration.read(Path(path)) if path else None


def _read_member(paths: Paths, beside: Path) -> Network:
    record = Path(paths["record"])
    return Network(
        paths["model"],
        Model.read(Path(paths["model_json"])),
        Training.read(record),
        page=os.path.relpath(record.with_name("report.html"), beside),
        calibration=_read_calibration(paths),
    )


def read_reported_network(name: str, folder: Path, beside: Path) -> Network:
    """Read a network from its folder, with the address of its page from another."""
    page, description = folder / "report.html", Model.read(folder / "model.json")
    # An ensemble was not trained: when it was joined is all that there is to tell. One
    # that was taken over is a network like others.
    told = folder / "train.json"
    is_joined = bool(description.members) and not told.exists()
    return Network(
        name,
        description,
        None if is_joined else Training.read(told),
        page=os.path.relpath(page, beside) if page.exists() else "",
    )


def read_reported_result(paths: Paths, *, is_kept: bool = True) -> Result:
    """Read what a network made of a volume.

    Parameters
    ----------
    paths : mapping
        ``model`` and ``volume``, their names; ``plan``, ``prediction``,
        ``segmentation``, ``metrics`` (None of a volume without labels), and perhaps
        ``probe``, ``measurements`` and ``tracks``.
    is_kept : bool
        Whether the probability stays.
    """
    segmentation, probe = Path(paths["segmentation"]), paths.get("probe")
    measured, linked = paths.get("measurements"), paths.get("tracks")
    return Result(
        paths["model"],
        paths["volume"],
        segmentation.parent,
        PredictionPlan.read(Path(paths["plan"])),
        Prediction.read(Path(paths["prediction"])),
        Segmentation.read(segmentation),
        Metrics.read(Path(paths["metrics"])) if paths["metrics"] else None,
        Probe.read(Path(probe)) if probe else None,
        is_kept,
        Measurements.read(Path(measured)) if measured else None,
        LinkedObjects.read(Path(linked)) if linked else None,
    )


def read_result_of(model: str, volume: str, folder: Path) -> Result:
    """Read what a network made of a volume from the folder of its records."""
    metrics = folder / "metrics.json"
    names = ("plan", "prediction", "segmentation")
    paths = {name: folder / f"{name}.json" for name in names}
    scores = metrics if metrics.exists() else None
    return read_reported_result(
        {"model": model, "volume": volume, **paths, "metrics": scores}
    )
