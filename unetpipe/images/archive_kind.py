"""What a file can be unpacked as, by its content."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Literal

COMPRESSIONS = {b"\x1f\x8b": gzip, b"BZ": bz2, b"\xfd7": lzma}


DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted entry
)


def archive_kind(path: Path) -> Literal["zip", "tar", "gz"] | None:
    """Return what a file can be unpacked as, by its content, or None."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if module := COMPRESSIONS.get(head[:2]):
        try:
            start = _unpacked_start(path, module)
        except (OSError, *DAMAGED):  # bz2 raises OSError
            return "tar"  # whose opening will say that it is damaged
        if start[257:262] != b"ustar":
            return "gz" if module is gzip else None
        return "tar"
    return "tar" if head[257:262] == b"ustar" else None


def _unpacked_start(path: Path, module: ModuleType) -> bytes:
    with module.open(path) as file:
        start: bytes = file.read(512)
    return start
