"""Rule adopt_network: a network that was trained earlier or elsewhere. No torch."""

import logging
import time
from pathlib import Path

from unetpipe.errors import ConfigError
from unetpipe.network.weights import check_weights
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.training import Adoption, Training
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.storage.keeping import keep_network
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
    description = Model.read(folder / "model.json")
    spec = description.spec
    if spec.num_classes != num_classes:
        raise ConfigError(
            f"the network in {folder} has {spec.num_classes} classes, "
            f"network.num_classes is {num_classes}; remove the key: a trained network "
            "brings its own"
        )
    remedy = "restore it, or name another network with the key `trained`"
    check_weights(source, description, remedy)
    write_bytes_atomic(model, source.read_bytes())
    write_bytes_atomic(model_json, described)
    course = folder / "history.csv"
    write_bytes_atomic(
        history, course.read_bytes() if course.exists() else HEADER.encode()
    )
    made = Circumstances.here(seconds=time.monotonic() - began)
    here = Adoption(folder=str(folder), path=str(folder.resolve()), circumstances=made)
    trained = Training.read_if_there(told)
    if trained is None:
        trained = Training(circumstances=made, adopted=(here,))
    else:
        places = (here, *trained.adopted)  # the newest first
        trained = trained.model_copy(update={"adopted": places})
    trained.write(record)
    keep_network(record.parent)
    log.info("%s is the network of %s (%s)", model, folder, description.weights_sha256)
