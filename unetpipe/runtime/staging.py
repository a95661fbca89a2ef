"""Folders that appear whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unetpipe.runtime.files import sync_folder
from unetpipe.runtime.locks import claim


@contextmanager
def staged_folder(destination: Path) -> Iterator[Path]:
    """Give a folder to fill, and its final name once nothing went wrong.

    What stood under the final name is replaced; after an error it stands as before.
    """
    with partial_folder(destination) as staging:
        staging.mkdir()
        yield staging


@contextmanager
def partial_folder(destination: Path) -> Iterator[Path]:
    """Do as ``staged_folder``, but leave it to the caller to create the folder."""
    with claim(destination.with_name(f".{destination.name}.claim"), str(destination)):
        partial = destination.with_name(f"{destination.name}.partial")
        old = destination.with_name(f"{destination.name}.old")
        shutil.rmtree(partial, ignore_errors=True)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not destination.exists():  # killed between two renames
            old.rename(destination)
        try:
            yield partial
            shutil.rmtree(old, ignore_errors=True)
            if destination.exists():
                destination.rename(old)
            try:
                partial.rename(destination)
            except OSError:
                if old.exists():
                    old.rename(destination)
                raise
            shutil.rmtree(old, ignore_errors=True)
            sync_folder(destination.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield where something may lie for a while; what a killed job left there goes."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
