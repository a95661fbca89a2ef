"""The records, pages and tables of a run, whatever its volumes and networks are called.

Stores, receipts and states of trainings are passed over: they may hold very many files,
and lie at depths at which no volume or network lies::

    <network>/state    volumes/<volume>/*.zarr    <network>/<volume>/*/receipts
"""

import os
from collections.abc import Iterator
from pathlib import Path


def list_small_files(results: Path) -> Iterator[Path]:
    """Yield the files of a run but those of stores, receipts and states."""
    for folder, inside, names in os.walk(results):
        depth = len(Path(folder).relative_to(results).parts) + 1
        inside[:] = [name for name in inside if not _holds_many(name, depth)]
        for name in names:
            yield Path(folder) / name


def _holds_many(name: str, depth: int) -> bool:
    if depth == 2:
        return name == "state"
    return depth > 2 and name.endswith((".zarr", "receipts"))
