"""Rule adopt_network: a network that was trained earlier or elsewhere. No torch."""

import logging
import time
from pathlib import Path

from unetpipe.errors import ConfigError, IntegrityError
from unetpipe.runtime.files import (
    circumstances,
    hash_file,
    read_record,
    write_bytes_atomic,
    write_record,
)
from unetpipe.storage.keeping import keep_network
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.history import HEADER

log = logging.getLogger(__name__)


def adopt_network(
    *,
    folder: Path,
    num_classes: int,
    model: Path,
    model_json: Path,
    history: Path,
    record: Path,
) -> None:
    """Take a network over as it is, so that all later steps find it in its place.

    What its training left, ``train.json`` and ``history.csv``, is taken over too, if it
    is there; ``train.json`` then also tells where the network is from.

    Parameters
    ----------
    folder : Path
        Holds ``model.safetensors`` and ``model.json``.
    num_classes : int
        Of the volumes' labels.
    model, model_json, history, record : Path
        The files to write: weights, description, history, and ``train.json`` last.

    Raises
    ------
    IntegrityError
        If the weights are not those that the description was written for.
    ConfigError
        If the network has another number of classes.
    """
    began = time.monotonic()
    source, told = folder / "model.safetensors", folder / "train.json"
    described = (folder / "model.json").read_bytes()
    description = read_record(folder / "model.json")
    spec = UNetSpec.from_json(description["spec"])
    if spec.num_classes != num_classes:
        raise ConfigError(
            f"the network in {folder} has {spec.num_classes} classes, "
            f"network.num_classes is {num_classes}; remove the key: a trained network "
            "brings its own"
        )
    found = hash_file(source)
    if found != description["weights_sha256"]:
        raise IntegrityError(
            f"{source} has sha256 {found}, its model.json says "
            f"{description['weights_sha256']}; the file is damaged or replaced: "
            "restore it, or name another network with the key `trained`"
        )
    write_bytes_atomic(model, source.read_bytes())
    write_bytes_atomic(model_json, described)
    course = folder / "history.csv"
    write_bytes_atomic(
        history, course.read_bytes() if course.exists() else HEADER.encode()
    )
    trained = read_record(told) if told.exists() else {}
    made = circumstances(seconds=time.monotonic() - began)
    here = {"folder": str(folder), "path": str(folder.resolve()), "circumstances": made}
    places = [here, *trained.get("adopted", [])]  # the newest first
    write_record(record, {"circumstances": made} | trained | {"adopted": places})
    keep_network(record.parent)
    log.info("%s is the network of %s (%s)", model, folder, found[:8])
