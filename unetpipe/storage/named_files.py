"""Compare files that records name, beside their stores, with the hashes told there.

Tables of objects, coarser levels, exported masks, packed networks, copies of stores.
Nothing here changes a file.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from unetpipe.records.exports import CtcResult, ModelPackage, NgffCopy
from unetpipe.records.prediction import Prediction
from unetpipe.records.pyramids import StoresToCoarsen
from unetpipe.records.receipts import FilesReceipt
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.tracks import LinkedObjects
from unetpipe.runtime.files import hash_file
from unetpipe.storage.dropping import are_shards_dropped
from unetpipe.storage.pyramid import Pyramid
from unetpipe.storage.pyramid_parts import pyramid_identity

# Path and sha256; no hash where a record tells none.
Named = Iterator[tuple[Path, str | None]]
LISTED = 3


def _of_receipts(receipts: Path, root: Path, identity: str | None = None) -> Named:
    for path in sorted(receipts.rglob("*.json")):
        receipt = FilesReceipt.read(path)
        if identity in (None, receipt.identity):
            for name, sha256 in receipt.files.items():
                yield root / name, sha256


def _of_levels(record: Path) -> Named:
    """Name the files of levels; receipts of an earlier image are left out."""
    for job in StoresToCoarsen.read(record).pyramids:
        if job.receipts.is_dir():
            pyramid = Pyramid(job.store, is_labels=job.is_labels)
            identity = pyramid_identity(job, pyramid)
            yield from _of_receipts(job.receipts, job.store, identity)


def _of_prediction(record: Path) -> Named:
    if not are_shards_dropped(Prediction.read(record).outputs.probability.store):
        yield from _of_levels(record)


def _of_segmentation(record: Path) -> Named:
    for file in Segmentation.read(record).table.values():
        yield file.path, file.sha256
    yield from _of_levels(record)


def _of_tracks(record: Path) -> Named:
    linked = LinkedObjects.read(record)
    for file in (*linked.tracks.values(), *linked.objects.values()):
        yield file.path, file.sha256


def _of_challenge(record: Path) -> Named:
    result = CtcResult.read(record)
    for file in result.files:
        near = result.folder / file.path
        yield near if near.exists() else Path(file.path), file.sha256


def _of_package(record: Path) -> Named:
    packed = ModelPackage.read(record)
    yield packed.package, packed.package_sha256


def _of_copies(record: Path) -> Named:
    copied = NgffCopy.read(record)
    for store in copied.stores:
        yield copied.folder / store / ".zattrs", None
        for level, _ in enumerate(copied.levels_copied[store]):
            receipts = copied.receipts / store / str(level)
            yield from _of_receipts(receipts, copied.folder / store)


KINDS: dict[str, Callable[[Path], Named]] = {
    "ingest.json": _of_levels,
    "prediction.json": _of_prediction,
    "segmentation.json": _of_segmentation,
    "ctc.json": _of_challenge,
    "tracks.json": _of_tracks,
    "export.json": _of_package,
    "ngff04.json": _of_copies,
}


def changed_files(record: Path) -> list[str]:
    """Return what is wrong with each file that a record names.

    Parameters
    ----------
    record : Path
        One of ``KINDS``, by its name.

    Raises
    ------
    DataError
        If the record cannot be read.
    """
    found = []
    for path, sha256 in KINDS[record.name](record):
        if not path.exists():
            found.append(f"{path} is missing")
        elif sha256 is not None and hash_file(path) != sha256:
            found.append(f"{path} is not the file that was written")
    if found[LISTED:]:
        found[LISTED:] = [f"and {len(found) - LISTED} more"]
    return found
