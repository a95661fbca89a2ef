"""Rule drop_probability: give the disk back that a used probability takes. No torch."""

import logging
import time
from pathlib import Path

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.prediction import DroppedProbability, Prediction
from unetpipe.runtime.locks import claim
from unetpipe.runtime.text import describe_quantity
from unetpipe.storage.dropping import drop_stores

log = logging.getLogger(__name__)


def drop_probability(
    *, prediction: Path, marker: Path, parts: list[Path], record: Path
) -> None:
    """Delete the shards of a finished prediction; its receipts and records stay.

    Without ``marker`` and ``parts`` the rules that need the probability once more have
    it computed again.

    Parameters
    ----------
    prediction : Path
        ``prediction.json``.
    marker : Path
        ``probability.json``, which says that the shards are there.
    parts : list of Path
        Records of the parts that wrote them.
    record : Path
        Where to write ``dropped.json``: the bytes that were given back.
    """
    began = time.monotonic()
    predicted = Prediction.read(prediction)
    stores = tuple(predicted.outputs.stores.values())
    with claim(record.with_name(f".{record.stem}.claim"), str(record)):
        for path in (marker, *parts):
            path.unlink(missing_ok=True)
        num_bytes = drop_stores(predicted.outputs.home, stores)
    DroppedProbability(
        volume=predicted.volume,
        identity_sha256=predicted.identity_sha256,
        stores=stores,
        num_bytes=num_bytes,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info(
        "%s dropped from %s",
        describe_quantity(num_bytes, "B"),
        ", ".join(map(str, stores)),
    )
