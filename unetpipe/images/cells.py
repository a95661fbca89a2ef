"""Find the files that a cell of the sheet names."""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from unetpipe.errors import DataError
from unetpipe.images.arrays import Hdf5Source, ZarrSource, is_zarr
from unetpipe.images.id_map import MappedSource
from unetpipe.images.mask_files import MaskFiles
from unetpipe.images.sequence import (
    SECTION_SUFFIXES,
    SequenceSource,
    companions,
    natural_key,
)
from unetpipe.images.source import ImageSource
from unetpipe.images.tiff import open_tiff

LOOKED_AT = 2000  # files of a large folder, for the message that nothing was found
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
HDF5_CELL = re.compile(r"^(.+\.(?:h5|hdf5|hdf)(?:\.gz)?)(?::(.*))?$", re.IGNORECASE)
MAPPED_TO = "->"  # between the dataset of pieces and the table of their objects


def open_cell(cell: str, root: Path, *, colours: bool = False) -> ImageSource:
    """Open what a cell of the sheet names.

    Parameters
    ----------
    cell : str
        A path below ``root`` (or an absolute one) of a TIFF or PNG file, an OME-Zarr
        folder, a folder of sections, or ``file.h5:dataset``. ``*``, ``?`` and ``**``
        match several files: one stack, or sections in natural order. Alternatives are
        separated by ``|``; the first that exists counts.
    root : Path
        Folder of the originals.
    colours : bool
        Of TIFF with a palette, give the colours instead of the indices.

    Raises
    ------
    DataError
        If nothing is there, or what is there is no image.
    """
    found = _first_found(cell, root)
    if not found:
        raise _not_found(cell, root)
    return _open(*found, colours)


def open_mask_files(cell: str, root: Path) -> MaskFiles:
    """Open masks of single objects, of which each folder makes up one section.

    Raises
    ------
    DataError
        If nothing is there, or what is there is no PNG or TIFF.
    """
    files = find_files(cell, root)
    if not files:
        raise _not_found(cell, root)
    wrong = [p for p in files if p.suffix.lower() not in SECTION_SUFFIXES or p.is_dir()]
    if wrong:
        raise DataError(
            f"{cell!r} names {wrong[0]}{_and_more(wrong)}, which is no mask; with "
            "label_kind masks use a folder or pattern of PNG or TIFF, a file an object"
        )
    return MaskFiles(files)


def _not_found(cell: str, root: Path) -> DataError:
    """Return an error that names what is there instead."""
    some = islice(root.rglob("*"), LOOKED_AT)
    readable = (*SECTION_SUFFIXES, *HDF5_SUFFIXES, ".gz", ".zip")
    files = (p for p in _visible(some, root) if p.suffix.lower() in readable)
    near = sorted((str(p.relative_to(root)) for p in files), key=natural_key)
    listing = ", ".join(near[:8]) + (", ..." if len(near) > 8 else "")
    return DataError(
        f"{cell!r}: there is no such file or folder in {root.absolute()}; correct the "
        f"sheet or `source`; there are: {listing or 'no images at all'}"
    )


def find_files(cell: str, root: Path) -> list[Path]:
    """Return the files that a cell names, without opening them; [] if none exist.

    Labels of the Cell Tracking Challenge come with their markers and silver labels.
    """
    paths = found[0] if (found := _first_found(cell, root)) else []
    if len(paths) == 1 and paths[0].is_dir():
        if is_zarr(paths[0]):
            return sorted(paths[0].glob("*.json")) or sorted(paths[0].glob(".z*"))
        paths = _sections_of(paths[0])
    is_gold, markers, silver = companions(paths) if paths else (False, {}, {})
    return [*paths, *markers.values(), *(silver.values() if is_gold else ())]


def _first_found(cell: str, root: Path) -> tuple[list[Path], str, str] | None:
    """Return files, alternative and HDF5 dataset of the first alternative there is."""
    for alternative in (part.strip() for part in cell.split("|")):
        match = HDF5_CELL.match(alternative)
        paths = _find(match[1] if match else alternative, root) if alternative else []
        if paths:
            return paths, alternative, match[2] or "" if match else ""
    return None


def _find(pattern: str, root: Path) -> list[Path]:
    path = root / Path(pattern).expanduser()
    if path.exists():
        return [path]
    if not re.search(r"[*?\[]", pattern):
        return []
    parts = Path(pattern).expanduser().parts
    first = next(k for k, part in enumerate(parts) if re.search(r"[*?\[]", part))
    base = root.joinpath(*parts[:first])
    found = _visible(base.glob(str(Path(*parts[first:]))), base)
    return sorted(found, key=lambda p: natural_key(p.relative_to(base).as_posix()))


def _visible(paths: Iterable[Path], root: Path) -> list[Path]:
    """Leave out what file managers and archivers hide below the root."""
    return [
        path
        for path in paths
        if not any(
            part.startswith(".") or part == "__MACOSX"
            for part in path.relative_to(root).parts
        )
    ]


def _open(paths: list[Path], cell: str, dataset: str, colours: bool) -> ImageSource:
    path = paths[0]
    if len(paths) == 1 and path.is_dir():
        if is_zarr(path):
            return ZarrSource(path)
        return SequenceSource(_sections_of(path), colours=colours)
    if len(paths) == 1 and HDF5_CELL.match(path.name):
        return _open_hdf5(path, dataset)
    if len(paths) == 1 and path.suffix.lower() in (".tif", ".tiff"):
        return open_tiff(path, colours=colours)
    if path.suffix.lower() in (".gz", ".zip", ".tar"):
        raise DataError(
            f"{cell!r} names {path}, which is packed; unpack it, or give it as `source`"
        )
    wrong = [p for p in paths if p.suffix.lower() not in SECTION_SUFFIXES or p.is_dir()]
    if wrong:
        raise DataError(
            f"{cell!r} names {wrong[0]}{_and_more(wrong)}, which cannot be read as "
            f"{'sections' if len(paths) > 1 else 'an image'}; use TIFF, PNG, HDF5 as "
            "file.h5:dataset, OME-Zarr, or a folder or pattern of PNG or TIFF sections"
        )
    return SequenceSource(paths, colours=colours)


def _open_hdf5(path: Path, dataset: str) -> ImageSource:
    """Open a dataset; one of pieces together with the table of their objects."""
    wanted, _, table = (part.strip() for part in dataset.partition(MAPPED_TO))
    source = Hdf5Source(path, wanted)
    if not table:
        return source
    try:
        return MappedSource(source, source.read_whole(table), f"{path}:{table}")
    except DataError:
        source.close()
        raise


def _sections_of(folder: Path) -> list[Path]:
    """Return the sections in a folder, in natural order."""
    files = [
        path
        for path in _visible(folder.iterdir(), folder)
        if path.is_file() and path.suffix.lower() in SECTION_SUFFIXES
    ]
    kinds = sorted({path.suffix.lower() for path in files})
    if len(kinds) > 1:
        raise DataError(
            f"{folder} holds sections as {' and '.join(kinds)}; name one kind in the "
            f"sheet, as {folder.name}/*{kinds[0]}"
        )
    if not files:
        raise DataError(
            f"{folder} holds no PNG or TIFF; name a file, or a folder of sections"
        )
    return sorted(files, key=lambda path: natural_key(path.name))


def _and_more(paths: list[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
