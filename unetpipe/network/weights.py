"""Weights as files: safetensors, checked against the record that describes them."""

from pathlib import Path

from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor

from unetpipe.errors import IntegrityError
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.unet import UNet
from unetpipe.records.model import Model
from unetpipe.runtime.files import hash_file

# At most one: large networks are not to lie in memory twice.
_kept: dict[tuple[Path, int, int, str], UNet | Ensemble] = {}


def check_weights(weights: Path, model: Model, remedy: str) -> None:
    """Raise IntegrityError unless a file holds the weights that a record describes.

    Parameters
    ----------
    weights : Path
        The safetensors file.
    model : Model
        Its ``model.json``.
    remedy : str
        What mends it.
    """
    found = hash_file(weights)
    if found != model.weights_sha256:
        raise IntegrityError(
            f"{weights} has sha256 {found}, its model.json says "
            f"{model.weights_sha256}; the file is damaged or replaced: {remedy}"
        )


def load_network(weights: Path, model: Model) -> UNet | Ensemble:
    """Build the network, or ensemble, of a ``model.json`` and load its weights.

    Raises
    ------
    IntegrityError
        If the weights file is not the one that the description was written for.
    """
    check_weights(
        weights,
        model,
        "delete it and repeat the same command: it is written again from the "
        "training state",
    )
    spec, count = model.spec, model.num_members
    network = UNet(spec) if count == 1 else Ensemble(spec, count)
    network.load_state_dict(load_file(weights))
    return network.eval()


def kept_network(weights: Path, model: Model) -> UNet | Ensemble:
    """Return the network of a file, the same one as before while the file is the same.

    A lot predicts many volumes with one network, which is read and checked once. It is
    not to be changed: ``load_network`` returns one of the caller's own.

    Raises
    ------
    IntegrityError
        As ``load_network``.
    """
    state = weights.stat()
    key = (weights, state.st_mtime_ns, state.st_size, model.weights_sha256)
    if key not in _kept:
        _kept.clear()
        _kept[key] = load_network(weights, model)
    return _kept[key]


def pack_weights(network: dict[str, Tensor]) -> bytes:
    """Return weights as the bytes of a safetensors file; floats become float32."""
    return save_safetensors(
        {
            name: (t.float() if t.is_floating_point() else t).cpu().contiguous()
            for name, t in network.items()
        }
    )


def unpack_weights(content: bytes) -> dict[str, Tensor]:
    """Return the weights in the bytes of a safetensors file."""
    weights: dict[str, Tensor] = load_safetensors(content)
    return weights
