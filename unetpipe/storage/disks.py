"""Zarr on disks without hard links: exFAT, SMB, some of FUSE and of clusters."""

import asyncio
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from unetpipe.runtime.files import write_bytes_atomic


class DiskStore(LocalStore):
    """A folder that new groups and arrays may be created in, on any disk.

    The library creates what must not be there yet by a hard link. Where the disk has
    none, a file is written beside and renamed: then two that create the same at the
    same moment both succeed, with equal bytes.
    """

    async def _set(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        try:
            await super()._set(key, value, exclusive)
        except FileExistsError:
            raise
        except OSError:
            path = self.root / key
            if not exclusive:
                raise
            if path.exists():
                raise FileExistsError(path) from None
            await asyncio.to_thread(_put, path, value)


def _put(path: Path, value: Buffer) -> None:
    write_bytes_atomic(path, value.to_bytes())
