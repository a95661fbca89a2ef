"""Rule drop_probability: give the disk back that a used probability takes. No torch."""

import logging
import time
from pathlib import Path

from unetpipe.runtime.files import circumstances, read_record, write_record
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
    predicted = read_record(prediction)
    stores = [Path(output["store"]) for output in predicted["outputs"].values()]
    with claim(record.with_name(f".{record.stem}.claim"), str(record)):
        for path in (marker, *parts):
            path.unlink(missing_ok=True)
        num_bytes = drop_stores(stores[0].parent, stores)
    write_record(
        record,
        {
            "volume": predicted["volume"],
            "identity_sha256": predicted["identity_sha256"],
            "stores": [str(store) for store in stores],
            "num_bytes": num_bytes,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    log.info(
        "%s dropped from %s",
        describe_quantity(num_bytes, "B"),
        ", ".join(map(str, stores)),
    )
