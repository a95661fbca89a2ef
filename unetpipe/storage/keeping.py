"""Finished networks and records stay: a new one never overwrites an old one.

::

    <model>/
        model.safetensors ...       the newest, which rules read
        weights-1a2b3c4d/           one folder for each network that was ever finished
            model.safetensors, model.json, train.json, history.csv
        <volume>/
            prediction.json ...     of the newest
            prediction-<id>/        a store, and the record that describes it
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from unetpipe.records import Record
from unetpipe.records.model import Model
from unetpipe.runtime.files import (
    hash_file,
    link_or_copy,
    sync_folder,
    write_bytes_atomic,
)

log = logging.getLogger(__name__)

NETWORK_FILES = ("model.safetensors", "model.json", "train.json", "history.csv")
DIGITS = 8


def keep_network(folder: Path) -> Path:
    """Keep a finished network beside itself, for ever, and return where.

    The files are hard links, which cost no disk, or copies where the file system has no
    links. Weights that are described in two ways (other thresholds) are kept twice.

    Parameters
    ----------
    folder : Path
        Of the network: holds ``model.safetensors`` and ``model.json``, and perhaps
        ``train.json`` and ``history.csv``.

    Returns
    -------
    Path
        ``weights-`` and the first eight digits of ``weights_sha256``.
    """
    description = folder / "model.json"
    digest = Model.read(description).weights_sha256
    home = folder / f"weights-{digest[:DIGITS]}"
    if home.exists() and not _equal(home / description.name, description):
        home = home.with_name(f"{home.name}-{hash_file(description)[:DIGITS]}")
    present = [folder / name for name in NETWORK_FILES if (folder / name).exists()]
    missing = [path for path in present if not (home / path.name).exists()]
    if not home.exists():
        _publish(home, missing)
    else:
        for path in missing:
            link_or_copy(path, home / path.name)
    return home


def keep_networks(results: Path, models: Iterable[str]) -> None:
    """Keep all networks of a run that are finished, whoever has trained them.

    For those of earlier versions, which kept none, before a rule replaces them.

    Parameters
    ----------
    results : Path
        Folder of the run.
    models : iterable of str
        Names of its networks.
    """
    for model in models:
        folder = results / model
        if all((folder / name).exists() for name in NETWORK_FILES[:2]):
            keep_network(folder)


def kept_networks(folder: Path) -> list[Path]:
    """Return the folders of the networks that are kept beside one, by name."""
    return sorted(
        path for path in folder.glob("weights-*") if (path / "model.json").exists()
    )


def write_with_copy(path: Path, record: Record, home: Path) -> None:
    """Write a record, and first a copy into the folder that it describes.

    The record is overwritten by that of the next store; the copy by none but its own,
    made again.

    Parameters
    ----------
    path : Path
        Where rules look for it.
    record : Record
        What it says.
    home : Path
        Folder of the store.
    """
    record.write(home / path.name)
    write_bytes_atomic(path, (home / path.name).read_bytes())


def _publish(home: Path, paths: list[Path]) -> None:
    """Make a folder of links that is whole from the first moment."""
    staging = home.with_name(f".{home.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # a kill leaves its half
    staging.mkdir()
    for path in paths:
        link_or_copy(path, staging / path.name)
    sync_folder(staging)
    staging.rename(home)
    sync_folder(home.parent)
    log.info("kept in %s", home)


def _equal(one: Path, two: Path) -> bool:
    return one.exists() and one.read_bytes() == two.read_bytes()
