"""Stage: bring the originals here and say what they are."""

from math import prod
from pathlib import Path

from unetpipe.config import PhantomConfig
from unetpipe.images.files import source_kind
from unetpipe.ingestion.download import (
    check_sha256,
    download_file,
    list_downloaded_files,
    logger,
    name_of_download,
    unpack_originals,
    write_phantom_files,
)
from unetpipe.ingestion.phantom import draw_phantom_sections
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import Manifest
from unetpipe.runtime.files import hash_of


def download_dataset(
    *,
    source: str,
    source_sha256: str | None,
    largest_download_gb: float = 1000.0,
    phantom: PhantomConfig,
    destination: Path,
    manifest: Path,
) -> None:
    """Bring the originals into ``destination``, and write down what came.

    ::

        URL              -> destination/archive/<hash of the URL>/stack.zip
        URL or archive   -> destination/originals/...
        phantom:cells    -> destination/originals/phantom/{image,labels}.tif
        folder           used in place, nothing is copied

    Parameters
    ----------
    source : str
        http or https address; local archive or folder; or ``phantom:cells``.
    source_sha256 : str or None
        Checksum of the archive.
    largest_download_gb : float
        A download that becomes larger is broken off.
    phantom : PhantomConfig
        What ``phantom:cells`` draws.
    destination : Path
        Folder for what is fetched and unpacked.
    manifest : Path
        Record, written last: source, kind, root folder, and path, size and sha256 of
        each file (none for a folder: ingesting hashes what it reads).

    Raises
    ------
    ConfigError, DataError, ResourceError
        If the source is not there, refused, of another checksum, or hostile. Nothing
        is then left under a final name.
    """
    kind = source_kind(source)
    originals = destination / "originals"
    if source_sha256 and kind in ("phantom", "folder"):
        logger.warning("source is a %s: `source_sha256` is not compared", kind)
    if kind == "folder":
        originals = Path(source).expanduser()
    elif kind == "phantom":
        sections = draw_phantom_sections(**phantom.model_dump())
        write_phantom_files(originals, sections, num_bytes=2 * prod(phantom.shape))
    else:
        if kind == "url":
            archive = destination / "archive" / hash_of(source)[:8]
            archive /= name_of_download(source)
            if source_sha256 is None:
                logger.warning(
                    "`source_sha256` is not set: nobody can tell %s from a "
                    "replaced or damaged one",
                    source,
                )
            download_file(
                source, archive, sha256=source_sha256, largest_gb=largest_download_gb
            )
        else:
            archive = Path(source).expanduser()
            check_sha256(archive, source_sha256, str(archive))
        unpack_originals(archive, originals, source)
    Manifest(
        source=source,
        kind="archive" if kind == "url" else kind,
        root=str(originals),
        files=() if kind == "folder" else tuple(list_downloaded_files(originals)),
        circumstances=Circumstances.here(),
    ).write(manifest)
