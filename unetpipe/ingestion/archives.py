"""Unpack archives that come from elsewhere, trusting nothing they say.

::

    archive -> originals.partial/ (every name, type, size and checksum checked)
            -> originals/          (one rename, once all of it is there)
"""

import gzip
import io
import logging
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from unetpipe.errors import DataError, ResourceError
from unetpipe.images.archive_kind import COMPRESSIONS, DAMAGED, archive_kind
from unetpipe.runtime.staging import staged_folder

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
# No honest header of a tar is longer; tarfile reads each at once, whatever it says.
LARGEST_READ = 1 << 24


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may become at most.

    The ratio counts only beyond ``free_bytes``: small archives of label images
    compress a thousandfold in all honesty.
    """

    num_files: int = 500_000
    ratio: float = 200.0
    free_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class _Entry:
    """One regular file of an archive, open for reading; ``size`` as declared."""

    name: str
    stream: IO[bytes]
    size: int | None


def unpack_archive(
    archive: Path, destination: Path, *, limits: UnpackLimits | None = None
) -> None:
    """Unpack a zip, a tar (plain, gz, bz2, xz) or one gzipped file into a folder.

    What archivers leave behind (``__MACOSX``, ``._*``, ``.DS_Store``) is skipped. A
    destination that exists is replaced once the new one is whole.

    Parameters
    ----------
    archive : Path
        Its content decides what it is, not its name.
    destination : Path
        Folder that appears when everything is unpacked.
    limits : UnpackLimits, optional
        Caps on the number of files, bytes and the ratio.

    Raises
    ------
    DataError
        If an entry is a link or a device, or would land outside the folder, if the
        archive is damaged or truncated, or if it is no archive.
    ResourceError
        If the disk has no room for it.
    """
    limits = limits or UnpackLimits()
    try:
        with staged_folder(destination) as staging:
            budget = _Budget(archive, limits, shutil.disk_usage(staging).free)
            for entry in _entries(archive):
                target = _safe_target(archive, entry.name, staging)
                _write_entry(entry, target, budget)
    except DAMAGED as error:
        raise DataError(
            f"{archive} is damaged, truncated or encrypted ({error}); "
            "delete it and fetch it again"
        ) from error
    logger.info("unpacked %d files from %s", budget.num_files, archive)


class _BoundedReads(io.RawIOBase):
    """A tar's bytes, of which nobody reads very many at once."""

    def __init__(self, archive: Path, stream: IO[bytes]) -> None:
        self._archive, self._stream = archive, stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise DataError(
                f"{self._archive} declares a header of {size} bytes, more than "
                f"{LARGEST_READ}: it is hostile or broken; get the data elsewhere"
            )
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _Budget:
    """Counts files and bytes while unpacking, and stops a decompression bomb."""

    def __init__(self, archive: Path, limits: UnpackLimits, room: int) -> None:
        self.archive, self.limits, self.room = archive, limits, room
        self.packed = archive.stat().st_size
        self.largest = max(limits.free_bytes, int(self.packed * limits.ratio))
        self.num_files = self.num_bytes = 0

    def add_file(self) -> None:
        self.num_files += 1
        if self.num_files > self.limits.num_files:
            raise DataError(
                f"{self.archive} holds more than {self.limits.num_files} files; "
                "unpack it yourself and give the folder as `source`"
            )

    def add_bytes(self, count: int) -> None:
        self.num_bytes += count
        if self.num_bytes > self.largest:
            raise DataError(
                f"{self.archive} ({self.packed} bytes) unpacks to more than "
                f"{self.largest} bytes, as a decompression bomb does; if you trust it, "
                "unpack it yourself and give the folder as `source`"
            )
        if self.num_bytes > self.room:
            raise ResourceError(
                f"{self.archive} unpacks to more than the {self.room} bytes that are "
                "free on the disk; free some, or run where there is more"
            )


def _safe_target(archive: Path, name: str, root: Path) -> Path:
    """Return where an entry goes, or refuse it."""
    parts = name.replace("\\", "/").split("/")
    if (
        name.startswith(("/", "\\"))
        or ".." in parts
        or re.match(r"^[A-Za-z]:", name)
        or not name.isprintable()
    ):
        raise DataError(
            f"{archive} holds the entry {name!r}, which is no plain path inside its "
            "folder: the archive is hostile or broken; get the data elsewhere"
        )
    return root.joinpath(*parts)


def _refuse_type(archive: Path, name: str, kind: str) -> DataError:
    return DataError(
        f"{archive} holds {name!r}, a {kind}; only files and folders are unpacked: "
        "get the data elsewhere, or pack it again without links (tar --dereference)"
    )


def _write_entry(entry: _Entry, target: Path, budget: _Budget) -> None:
    """Copy one file, counting; the streams themselves verify their checksums."""
    budget.add_file()
    written = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            while block := entry.stream.read(BLOCK_BYTES):
                written += len(block)
                budget.add_bytes(len(block))
                file.write(block)
    except FileExistsError:
        raise DataError(
            f"{budget.archive} holds {entry.name!r} twice; unpack it yourself and give "
            "the folder as `source`"
        ) from None
    if entry.size is not None and written != entry.size:
        raise EOFError(f"{entry.name} has {written} bytes of {entry.size}")


def _entries(archive: Path) -> Iterator[_Entry]:
    kind = archive_kind(archive)
    if kind == "zip":
        yield from _zip_entries(archive)
    elif kind == "tar":
        yield from _tar_entries(archive)
    elif kind == "gz":
        with gzip.open(archive) as stream:
            name = archive.name.removesuffix(".gz")
            yield _Entry(name, cast("IO[bytes]", stream), None)
    else:
        raise DataError(
            f"{archive} is no archive; use zip, tar, tar.gz, tar.bz2, tar.xz or gz"
        )


def _zip_entries(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if not info.filename:
                raise DataError(f"{archive} is damaged: a file in it has no name")
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "symbolic link" if stat.S_ISLNK(mode) else "device"
                raise _refuse_type(archive, info.filename, kind)
            if info.is_dir() or _is_litter(info.filename):
                continue
            if not 0 <= info.header_offset < archive.stat().st_size:
                raise DataError(
                    f"{archive} is damaged: {info.filename} is said to begin at byte "
                    f"{info.header_offset}, outside of the file; copy it again"
                )
            with packed.open(info) as stream:
                yield _Entry(info.filename, stream, info.file_size)


def _tar_entries(archive: Path) -> Iterator[_Entry]:
    with (
        _open_unpacked(archive) as unpacked,
        tarfile.open(fileobj=_BoundedReads(archive, unpacked), mode="r:") as packed,
    ):
        for member in packed:
            if member.islnk() or member.issym():
                raise _refuse_type(archive, member.name, "link")
            if not (member.isfile() or member.isdir()):
                raise _refuse_type(archive, member.name, "device or pipe")
            if member.isdir() or _is_litter(member.name):
                continue
            stream = packed.extractfile(member)
            assert stream is not None
            with stream:
                yield _Entry(member.name, stream, member.size)
        _check_tar_end(archive, packed)


def _open_unpacked(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        module: Any = COMPRESSIONS.get(file.read(2))
    stream: IO[bytes] = module.open(archive) if module else archive.open("rb")
    return stream


def _check_tar_end(archive: Path, packed: tarfile.TarFile) -> None:
    """Refuse a tar cut between two entries; tarfile takes that for its end."""
    stream = packed.fileobj
    assert stream is not None
    num_bytes = 0
    # To the very end: the checksum of a compressed tar comes last.
    while (block := stream.read(BLOCK_BYTES)) and num_bytes < 16 * BLOCK_BYTES:
        num_bytes += len(block)
    if not num_bytes:  # an end is two blocks of zeros, of which tarfile read one
        raise EOFError(f"{archive.name} stops before its end mark")


def _is_litter(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return name.startswith("__MACOSX/") or last.startswith("._") or last == ".DS_Store"
