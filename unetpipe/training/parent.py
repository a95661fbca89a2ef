"""Fine-tuning: a network begins with the weights of another one, its parent.

::

    parent's model.json, model.safetensors  --inherit-->  UNet, notes

All layers are taken over. Only a layer whose shape follows from the channels of the
image or from the classes begins afresh where those differ; everything else has to be
the same architecture.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetpipe.config import TrainingConfig
from unetpipe.errors import ConfigError
from unetpipe.network.unet import UNet
from unetpipe.network.weights import check_weights, unpack_weights
from unetpipe.records.model import Model
from unetpipe.records.volume import name_normalisation
from unetpipe.tiling.unet_spec import UNetSpec

# These change no weight's shape in the body of the network.
MAY_DIFFER = frozenset(
    {"in_channels", "num_classes", "head", "dropout", "targets", "affinity_offsets"}
)


@dataclass(frozen=True, slots=True)
class Parent:
    """The network that a training goes on from.

    Attributes
    ----------
    folder : Path
        Holds ``model.safetensors`` and ``model.json``.
    model : Model
        Its description.
    afresh : tuple of str
        Layers that begin with random weights: ``down.0.0`` (the first convolution) if
        the image has other channels, ``out`` if there are other classes.
    is_frozen : bool
        Whether the contracting path keeps the parent's weights.
    """

    folder: Path
    model: Model
    afresh: tuple[str, ...]
    is_frozen: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What the trained bits depend on."""
        return {
            "weights_sha256": self.model.weights_sha256,
            "afresh": list(self.afresh),
            "is_frozen": self.is_frozen,
        }

    def warnings(self, percentiles: tuple[float, float] | None = None) -> list[str]:
        """Return what is odd about going on from this network.

        Parameters
        ----------
        percentiles : (low, high) or None
            What the images are normalised by; None: mean and standard deviation.
        """
        found = []
        for layer in self.afresh:
            what = "the classes" if layer == "out" else "the channels of the image"
            found.append(
                f"{what} are others than those of the network in {self.folder}: the "
                f"layer {layer} begins afresh"
            )
        known, ours = self.model.normalisation, name_normalisation(percentiles)
        if known not in (None, ours):
            found.append(
                f"the network in {self.folder} learnt from images normalised by "
                f"{known}, these are normalised by {ours}: it sees other grey values "
                "than it knows; set ingest.percentiles as it was there"
            )
        return found


def find_parent_network(training: TrainingConfig, spec: UNetSpec) -> Parent | None:
    """Return the network that ``training.start_from`` names; None where it does not.

    Parameters
    ----------
    training : TrainingConfig
    spec : UNetSpec
        Of the network to train.

    Raises
    ------
    DataError
        If the folder holds no ``model.json`` that this version reads.
    ConfigError
        If it is an ensemble, or another architecture: each key and both values.
    """
    if training.start_from is None:
        return None
    folder = Path(training.start_from).expanduser()
    model = Model.read(folder / "model.json")
    if model.is_ensemble:
        raise ConfigError(
            f"training.start_from: {folder} is an ensemble of {model.num_members} "
            "networks; name one of its members"
        )
    ours, theirs = asdict(spec), asdict(model.spec)
    if odd := [k for k in ours if k not in MAY_DIFFER and ours[k] != theirs[k]]:
        told = "; ".join(f"network.{k} is {ours[k]}, there {theirs[k]}" for k in odd)
        raise ConfigError(
            f"training.start_from: the network in {folder} is another architecture "
            f"({told}); set the section network to its values, or leave start_from out"
        )
    afresh = []
    if spec.in_channels != model.spec.in_channels:
        afresh.append("down.0.0")
    classes = [
        (s.num_classes, s.head, s.targets, s.affinity_offsets)
        for s in (spec, model.spec)
    ]
    if classes[0] != classes[1]:
        afresh.append("out")
    if training.freeze_contracting and "down.0.0" in afresh:
        raise ConfigError(
            f"training.freeze_contracting: the network in {folder} knows images of "
            f"{model.spec.in_channels} channels, these have {spec.in_channels}, so its "
            "first layer must be learnt; remove the key"
        )
    return Parent(folder, model, tuple(afresh), training.freeze_contracting)


def inherit_weights(network: UNet, parent: Parent) -> None:
    """Give a freshly initialised network the weights of its parent, in place.

    Raises
    ------
    IntegrityError
        If the parent's weights are not those that its ``model.json`` describes.
    """
    file = parent.folder / "model.safetensors"
    check_weights(file, parent.model, "restore it, or name another network")
    theirs = unpack_weights(file.read_bytes())
    ours: dict[str, Tensor] = network.state_dict()
    with torch.no_grad():
        for name, tensor in ours.items():
            if not name.startswith(tuple(f"{layer}." for layer in parent.afresh)):
                tensor.copy_(theirs[name])
