"""What lies in a folder: files of sections, stacks, HDF5 datasets, OME-Zarr."""

from collections import Counter
from dataclasses import dataclass, field
from os import walk
from pathlib import Path

from unetpipe.errors import DataError
from unetpipe.images.files import SECTION_SUFFIXES, is_zarr, natural_key

HDF5_ENDINGS = tuple(
    f"{suffix}{packed}" for suffix in (".h5", ".hdf5", ".hdf") for packed in ("", ".gz")
)
# Images that need another program first, and what it is to write.
CONVERTED = {
    **dict.fromkeys((".czi", ".nd2", ".lif", ".lsm", ".oib", ".vsi"), "OME-TIFF"),
    **dict.fromkeys((".jpg", ".jpeg", ".bmp", ".gif", ".npy"), "TIFF or PNG"),
    **dict.fromkeys((".nii", ".nii.gz", ".mrc", ".rec", ".nrrd"), "TIFF"),
    **dict.fromkeys((".zip", ".tar", ".tgz"), "a folder: unpack it"),
}
# A table of a piece's object has two columns.
TABLE_COLUMNS = 2


@dataclass(slots=True)
class Contents:
    """Paths below a folder, with ``/``, in natural order.

    Attributes
    ----------
    files : list of str
        TIFF and PNG.
    stores : list of str
        OME-Zarr folders.
    hdf5 : list of str
        HDF5 files.
    notes : list of str
        What lies there and cannot be read.
    """

    files: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    hdf5: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_contents(folder: Path) -> Contents:
    """Return the images in a folder and below; hidden files are passed over.

    Raises
    ------
    DataError
        If it is no folder, or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name the folder that holds the images")
    found, others, seen = Contents(), Counter[str](), set[Path]()
    for place, folders, files in walk(folder, followlinks=True):
        here = Path(place)
        if here.resolve() in seen:  # links may go round in circles
            folders.clear()
            continue
        seen.add(here.resolve())
        inside = here.relative_to(folder)
        if here != folder and is_zarr(here):
            found.stores.append(inside.as_posix())
            folders.clear()
            continue
        folders[:] = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
        for name in files:
            if name.startswith("."):
                continue
            path, ending = (inside / name).as_posix(), name.lower()
            if ending.endswith(SECTION_SUFFIXES):
                found.files.append(path)
            elif ending.endswith(HDF5_ENDINGS):
                found.hdf5.append(path)
            else:
                others.update(e for e in CONVERTED if ending.endswith(e))
    if is_zarr(folder):
        raise DataError(
            f"{folder} is one OME-Zarr; name the folder that holds it, {folder.parent}"
        )
    found.notes = [
        f"{count} {ending} file{'s' * (count > 1)} cannot be read: convert to "
        f"{CONVERTED[ending]}"
        for ending, count in sorted(others.items())
    ]
    for paths in (found.files, found.stores, found.hdf5):
        paths.sort(key=natural_key)
    if not (found.files or found.stores or found.hdf5):
        more = f"; {'; '.join(found.notes)}" if found.notes else ""
        raise DataError(
            f"{folder} holds no TIFF, PNG, HDF5 or OME-Zarr{more}; name the folder "
            "that holds the images"
        )
    return found
