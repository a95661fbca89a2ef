"""Bring originals into a folder: fetch with checksum, unpack, or write the phantom."""

import errno
import logging
import re
import shutil
import time
from collections.abc import Iterable
from math import inf
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pooch
import tifffile
from numpy.typing import NDArray

from unetpipe.errors import DataError, ResourceError
from unetpipe.images.archive_kind import archive_kind
from unetpipe.ingestion.archives import unpack_archive
from unetpipe.runtime.files import hash_file, sync_folder
from unetpipe.runtime.machine import check_free_disk
from unetpipe.runtime.staging import staged_folder

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60
PAUSES_SECONDS = (2.0, 10.0, 60.0)  # before each further attempt
CLASSIC_TIFF_BYTES = 2**32 - 2**25
# The first bytes of single files that need no unpacking.
IMAGE_SUFFIXES = {
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"\x89HDF": ".h5",
    b"\x89PNG": ".png",
}


def download_file(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    largest_gb: float = inf,
    pauses: Iterable[float] = PAUSES_SECONDS,
) -> None:
    """Bring a URL to a file that appears only when whole and of the right checksum.

    Nothing is done where the file is there with that checksum, or where it is there and
    no checksum is known.

    Parameters
    ----------
    url : str
        http or https. A server that says nothing for a minute is given up; without a
        checksum, one that leads from https to http is refused.
    target : Path
        Final name of the file.
    sha256 : str or None
        Checksum to insist on; without it the one found is logged, so that it can be
        written into the configuration.
    largest_gb : float
        More is broken off.
    pauses : iterable of float
        Seconds to wait before each further attempt; refusals (404, 403) are final.

    Raises
    ------
    DataError
        If the server refuses, no attempt succeeds, it sends too much, or the checksum
        is another.
    ResourceError
        If the disk has too little room.
    """
    if target.exists():
        found = hash_file(target)
        if sha256 in (None, found):
            logger.info("%s is there already, sha256 %s", target, found)
            return
        logger.info("%s has sha256 %s, not %s: fetching anew", target, found, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        _transfer(url, partial, (*pauses,), largest_gb, is_pinned=sha256 is not None)
        check_sha256(partial, sha256, url)
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def check_sha256(path: Path, expected: str | None, name: str) -> None:
    """Compare a file with its checksum, or log the checksum where none is known.

    Raises
    ------
    DataError
        Naming both checksums.
    """
    found = hash_file(path)
    if expected is None:
        logger.info(
            "%s has sha256 %s; to insist on it, set `source_sha256: %s`",
            name,
            found,
            found,
        )
    elif found != expected:
        raise DataError(
            f"{name} has sha256 {found}, but `source_sha256` is {expected}; the file "
            "was damaged or has changed: fetch it again, or check its origin and set "
            "the new checksum"
        )


def unpack_originals(path: Path, destination: Path, origin: str) -> None:
    """Unpack an archive, or take one single image file, as the folder of originals.

    Raises
    ------
    DataError
        If the file is neither, as when a server sends a web page instead.
    """
    if archive_kind(path) is not None:
        unpack_archive(path, destination)
        return
    with path.open("rb") as file:
        head = file.read(60)
    suffix = IMAGE_SUFFIXES.get(head[:4])
    if suffix is None:
        raise DataError(
            f"{origin} is neither an archive (zip, tar, gz) nor TIFF, PNG or HDF5: it "
            f"begins with {head!r}; check the address"
        )
    name = path.name if PurePosixPath(path.name).suffix else f"{path.name}{suffix}"
    with staged_folder(destination) as staging:
        shutil.copyfile(path, staging / name)


def write_phantom_files(
    destination: Path,
    sections: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint16]]],
    num_bytes: int,
) -> None:
    """Write a phantom as ``phantom/image.tif`` and ``phantom/labels.tif``.

    Parameters
    ----------
    destination : Path
        Folder that appears when both are whole.
    sections : iterable of (image, labels)
        Each of shape (y, x).
    num_bytes : int
        Of the larger of the two, to choose between TIFF and BigTIFF.
    """
    big = num_bytes > CLASSIC_TIFF_BYTES
    with staged_folder(destination) as staging:
        folder = staging / "phantom"
        folder.mkdir()
        with (
            tifffile.TiffWriter(folder / "image.tif", bigtiff=big) as images,
            tifffile.TiffWriter(folder / "labels.tif", bigtiff=big) as labels,
        ):
            for image, ids in sections:
                images.write(image, contiguous=True, photometric="minisblack")
                labels.write(ids, contiguous=True, photometric="minisblack")


def list_downloaded_files(root: Path) -> list[dict[str, Any]]:
    """Return path below the folder, size in bytes and sha256 of every file."""
    return [
        {
            "path": path.relative_to(root).as_posix(),
            "size": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]


def name_of_download(url: str) -> str:
    """Return the plain file name under which a URL is kept.

    Examples
    --------
    >>> name_of_download("https://example.org/data/my%20stack.zip?download=1")
    'my_stack.zip'
    """
    last = unquote(PurePosixPath(urlsplit(url).path).name)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".")[-100:] or "download"


def _transfer(
    url: str,
    target: Path,
    pauses: tuple[float, ...],
    largest_gb: float,
    *,
    is_pinned: bool,
) -> None:
    """Fetch a URL, trying again after each pause."""
    for attempt, pause in enumerate((*pauses, None), start=1):
        try:
            with target.open("wb") as file:
                arriving = _Arriving(url, file, largest_gb * 1e9)
                _downloader(arriving, is_pinned=is_pinned)(url, arriving, None)
        except (OSError, EOFError) as error:  # requests' are OSErrors
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceError(
                    f"no room for {url} in {target.parent} ({error}); free some space "
                    "and run again"
                ) from error
            status = getattr(getattr(error, "response", None), "status_code", 0) or 0
            is_final = 400 <= status < 500 and status not in (408, 429)
            if pause is None or is_final:
                raise DataError(
                    f"{url} could not be fetched after {attempt} "
                    f"attempt{'s' if attempt > 1 else ''} ({error}); check the address "
                    "and the network, or fetch it by hand and give the file as `source`"
                ) from error
            logger.warning("%s: %s; trying again in %g s", url, error, pause)
            time.sleep(pause)
        else:
            return


def _downloader(arriving: "_Arriving", *, is_pinned: bool) -> Any:
    return pooch.HTTPDownloader(
        progressbar=arriving,
        chunk_size=1 << 16,
        timeout=TIMEOUT_SECONDS,
        headers={"Accept-Encoding": "identity"},  # or the checksum is of other bytes
        hooks={} if is_pinned else {"response": _refuse_downgrade},
    )


def _refuse_downgrade(response: Any, *_: Any, **__: Any) -> None:
    """Refuse to be led from https to http, where anybody may change the bytes."""
    target = response.headers.get("Location", "")
    if response.url.startswith("https:") and target.lower().startswith("http:"):
        raise DataError(
            f"{response.url} leads to {target}, which is not encrypted; set "
            "`source_sha256` to accept it, or give another address"
        )


class _Arriving:
    """The file being fetched; counts what comes, and logs it every ten seconds.

    A bar would flood a job's log. Both the file and the bar that pooch wants.
    """

    def __init__(self, url: str, file: IO[bytes], largest: float) -> None:
        self._url, self._file, self._largest = url, file, largest
        self._total = self._count = 0
        self._next = time.monotonic() + 10.0

    @property
    def total(self) -> int:
        """Bytes that the server announces; 0 where it does not."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._check(total)
        check_free_disk(Path(self._file.name).parent, total)
        self._total = total

    def write(self, data: bytes) -> None:
        """Keep bytes that have arrived."""
        self._count += len(data)
        self._check(self._count)
        self._file.write(data)
        if time.monotonic() > self._next:
            self._next = time.monotonic() + 10.0
            logger.info(
                "%s: %d of %d MB", self._url, self._count >> 20, self._total >> 20
            )

    def flush(self) -> None:
        """Leave it to the file when to write."""

    def update(self, count: int) -> None:
        """Do nothing: ``write`` counts."""

    def reset(self) -> None:
        """Do nothing: ``write`` counts."""

    def close(self) -> None:
        """Say that all has arrived."""
        logger.info("%s: %d bytes fetched", self._url, self._count)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._largest:
            raise DataError(
                f"{self._url} is larger than {self._largest / 1e9:g} GB; if that is "
                "right, raise `largest_download_gb`"
            )
