"""Stored probabilities that are dropped after use: told of, and never read as 0.

::

    prediction-<id>/
        dropped.json             written first, removed when the shards are there again
        probability.ome.zarr     its metadata, without shards
        receipts/                stay: they tell the hash of each shard
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from unetpipe.errors import IntegrityError
from unetpipe.records.prediction import DroppedNote

NOTE = "dropped.json"


def drop_stores(home: Path, stores: Sequence[Path]) -> int:
    """Delete all shards of some stores, of coarser levels too; keep the metadata.

    A note is written before the first shard goes, so that a kill in between leaves no
    store that looks whole.

    Parameters
    ----------
    home : Path
        Folder of the stores.
    stores : sequence of Path
        Folders of OME-Zarr images.

    Returns
    -------
    int
        Bytes that the shards took, also those that a killed call has deleted.
    """
    folders = [folder for store in stores for folder in _shard_folders(store)]
    found = sum(
        path.stat().st_size
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    )
    note = home / NOTE
    before = DroppedNote.read_if_there(note)
    num_bytes = max(found, before.num_bytes if before else 0)
    names = tuple(store.name for store in stores)
    DroppedNote(num_bytes=num_bytes, stores=names).write(note)
    for folder in folders:
        shutil.rmtree(folder)
    shutil.rmtree(home / "pyramids", ignore_errors=True)  # receipts of coarser levels
    return num_bytes


def are_shards_dropped(store: Path) -> bool:
    """Return whether the shards of a store were dropped."""
    return (store.parent / NOTE).exists()


def check_kept(store: Path) -> None:
    """Refuse to read a store whose shards were dropped: all of it would be 0.

    Raises
    ------
    IntegrityError
        If they were.
    """
    if are_shards_dropped(store):
        raise IntegrityError(
            f"the shards of {store} were dropped after use, because "
            "prediction.keep_probability is false; the run's own command computes them "
            "again where they are needed"
        )


def take_shards_back(home: Path) -> None:
    """Declare stores whole again."""
    (home / NOTE).unlink(missing_ok=True)


def _shard_folders(store: Path) -> Iterator[Path]:
    """Yield the folder of the shards of each level."""
    for metadata in sorted(store.glob("*/zarr.json")):
        folder = metadata.with_name("c")
        if folder.is_dir():
            yield folder
