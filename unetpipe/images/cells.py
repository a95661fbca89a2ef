"""Open what a cell of the sheet names."""

from itertools import islice
from pathlib import Path

from unetpipe.errors import DataError
from unetpipe.images import microscopes
from unetpipe.images.channel_files import open_channel_files
from unetpipe.images.endings import (
    CONVERTED,
    HDF5,
    IMAGES,
    MICROSCOPES,
    PICTURES,
    SECTIONS,
    TIFF,
    ZIPPED_ZARR,
)
from unetpipe.images.files import (
    FILE_AXIS,
    HDF5_CELL,
    find_alternative,
    find_image_files,
    is_remote,
    is_zarr_image,
    natural_key,
    path_as_spelled,
    section_files,
    without_hidden,
)
from unetpipe.images.formats import opener_of
from unetpipe.images.hdf5 import Hdf5Source
from unetpipe.images.id_map import MappedSource
from unetpipe.images.mask_files import MaskFiles
from unetpipe.images.remote import open_remote
from unetpipe.images.sequence import SequenceSource
from unetpipe.images.source import ImageSource
from unetpipe.images.tensor_source import TensorSource, tensor_form
from unetpipe.images.tiff import open_tiff
from unetpipe.images.zarr_store import ZarrSource, is_zipped_zarr

LOOKED_AT = 2000  # files of a large folder, for the message that nothing was found
MAPPED_TO = "->"  # between the dataset of fragments and the table of their objects


def open_cell(
    cell: str, root: Path, *, colours: bool | None = None, level: int = 0
) -> ImageSource:
    """Open what a cell of the sheet names.

    Parameters
    ----------
    cell : str
        A path below ``root`` (or an absolute one) of a TIFF or PNG file, an OME-Zarr
        folder, a folder of sections, or ``file.h5:dataset``. ``*``, ``?`` and ``**``
        match several files: one stack, or sections in natural order. Alternatives are
        separated by ``|``; the first that exists counts. ``<c>`` and ``<z>`` stand for
        what tells files of channels and sections apart: see ``images.channel_files``.
    root : Path
        Folder of the originals.
    colours : bool, optional
        Of files with a palette, give the colours, or the numbers of its entries; None:
        of PNG the colours, of TIFF the entries.
    level : int
        Of a pyramid; 0: full resolution.

    Raises
    ------
    DataError
        If nothing is there, or what is there is no image, or has no such level.
    """
    if is_remote(cell):
        return open_remote(cell.strip(), level)
    found = find_alternative(cell, root)
    if not found:
        raise _not_found(cell, root)
    is_name = found[0] == [path_as_spelled(root / Path(found[1]).expanduser())]
    if FILE_AXIS.search(found[1]) and not is_name:
        return open_channel_files(found[0], found[1], colours=colours)
    if level and (path := found[0][0]).suffix.lower() in TIFF:
        return open_tiff(path, colours=bool(colours), level=level)
    if level and is_zarr_image(path):
        return ZarrSource(path, level=level)
    if level and path.is_dir() and (form := tensor_form(path)):
        return TensorSource.of_folder(form, path, level)
    if level:
        raise DataError(
            f"{cell!r} has no pyramid, but level is {level} in the sheet; levels are "
            "of OME-Zarr and of TIFF: leave level empty"
        )
    return _open(*found, colours)


def open_mask_files(cell: str, root: Path) -> MaskFiles:
    """Open masks of single objects, of which each folder makes up one section.

    Raises
    ------
    DataError
        If nothing is there, or what is there is no PNG or TIFF.
    """
    files = find_image_files(cell, root)
    if not files:
        raise _not_found(cell, root)
    wrong = [p for p in files if p.suffix.lower() not in SECTIONS or p.is_dir()]
    if wrong:
        raise DataError(
            f"{cell!r} names {wrong[0]}{_and_more(wrong)}, which is no mask; with "
            "label_kind masks use a folder or pattern of PNG or TIFF, a file an object"
        )
    return MaskFiles(files)


def _not_found(cell: str, root: Path) -> DataError:
    """Return an error that names what is there instead."""
    some = islice(root.rglob("*"), LOOKED_AT)
    readable = {*IMAGES, *HDF5, *CONVERTED, ".zarr"}
    files = (p for p in without_hidden(some, root) if p.suffix.lower() in readable)
    near = sorted((str(p.relative_to(root)) for p in files), key=natural_key)
    listing = ", ".join(near[:8]) + (", ..." if len(near) > 8 else "")
    return DataError(
        f"{cell!r}: there is no such file or folder in {root.absolute()}; correct the "
        f"sheet or `source`; there are: {listing or 'no images at all'}"
    )


def _open(
    paths: list[Path], cell: str, dataset: str, colours: bool | None
) -> ImageSource:
    path = paths[0]
    if len(paths) == 1 and path.is_dir():
        if is_zarr_image(path):
            return ZarrSource(path)
        if form := tensor_form(path):
            return TensorSource.of_folder(form, path)
        return _open_sections(section_files(path), cell, colours)
    if len(paths) == 1 and (ending := path.suffix.lower()) in MICROSCOPES:
        return microscopes.OPENERS[ending](path, dataset)
    if len(paths) == 1 and not dataset and (opener := opener_of(path)):
        return opener(path)
    if len(paths) == 1 and path.suffix.lower() in ZIPPED_ZARR and is_zipped_zarr(path):
        return ZarrSource(path)
    if len(paths) == 1 and HDF5_CELL.match(path.name):
        return _open_hdf5(path, dataset)
    if len(paths) == 1 and path.suffix.lower() in TIFF:
        return open_tiff(path, colours=bool(colours))
    if path.suffix.lower() in CONVERTED:
        raise _foreign(path.suffix.lower(), path)
    known = (*SECTIONS, *PICTURES)
    wrong = [p for p in paths if p.suffix.lower() not in known or p.is_dir()]
    if wrong:
        raise DataError(
            f"{cell!r} names {wrong[0]}{_and_more(wrong)}, which cannot be read as "
            f"{'sections' if len(paths) > 1 else 'an image'}; use TIFF, PNG, HDF5 as "
            "file.h5:dataset, OME-Zarr, or a folder or pattern of PNG or TIFF sections"
        )
    return _open_sections(paths, cell, colours)


def _foreign(ending: str, path: Path) -> DataError:
    kind, advice = CONVERTED[ending]
    return DataError(f"{path} is {kind}, which is not read; {advice}")


def _open_sections(paths: list[Path], cell: str, colours: bool | None) -> ImageSource:
    """Open files of one section each, or all files of one OME-TIFF."""
    if len(paths) > 1 and paths[0].suffix.lower() in TIFF:
        first = open_tiff(paths[0], colours=bool(colours))
        if len(first.files) > 1:
            named, members = (
                {path.resolve() for path in files} for files in (paths, first.files)
            )
            if named == members:
                return first
            first.close()
            about = (
                "some are missing: name all of them, or any one"
                if named < members
                else "others are among them: give each image a row of its own in the "
                "sheet, and name any one of its files"
            )
            raise DataError(
                f"{cell!r} names {len(named)} files, but {paths[0]} and "
                f"{len(members) - 1} more make up one image; {about}"
            )
        first.close()
    return SequenceSource(paths, colours=colours)


def _open_hdf5(path: Path, dataset: str) -> ImageSource:
    """Open a dataset; one of fragments together with the table of their objects."""
    wanted, _, table = (part.strip() for part in dataset.partition(MAPPED_TO))
    source = Hdf5Source(path, wanted)
    if not table:
        return source
    try:
        return MappedSource(source, source.read_whole(table), f"{path}:{table}")
    except DataError:
        source.close()
        raise


def _and_more(paths: list[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""
