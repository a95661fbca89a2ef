"""What lies in a folder, and what inside its HDF5 files and OME-Zarr."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from os import walk
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

from unetpipe.errors import DataError
from unetpipe.images.endings import (
    CONVERTED,
    HDF5,
    IMAGES,
    PICTURES,
    ZIPPED_ZARR,
)
from unetpipe.images.files import is_zarr_image, natural_key, refuse_dangling_image
from unetpipe.images.hdf5 import list_datasets
from unetpipe.images.zarr_store import is_zipped_zarr
from unetpipe.runtime.text import count_noun
from unetpipe.survey.boxes import find_boxes
from unetpipe.survey.names import parse_file_name
from unetpipe.survey.pairs import list_briefly

# A table of a fragment's object has two columns.
TABLE_COLUMNS = 2


LEVEL = re.compile(r"^s?\d+$")

ROI = "ROI"
OF_ROIS = (
    "ROIs of ImageJ, which are outlines and no image: draw them into a label image (in "
    "Fiji: ROI Manager, then LaRoMe, ROIs to Label image) and save it as TIFF"
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a plate: where it lies, its well, and its number in the well."""

    path: str
    well: str
    field: str


@dataclass(slots=True)
class Contents:
    """Paths below a folder, with ``/``, in natural order.

    Attributes
    ----------
    files : list of str
        Of one image each: TIFF, PNG, JPEG, NIfTI, MRC, NRRD, Imaris, zipped OME-Zarr.
    stores : list of str
        OME-Zarr folders.
    hdf5 : list of str
        HDF5 files.
    fields : list of Field
        Of plates, which are OME-Zarr folders of many images.
    notes : list of str
        What lies there and cannot be read.
    """

    files: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    hdf5: list[str] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
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
        if is_zarr_image(here) and _take_zarr(found, here, inside.as_posix(), folder):
            folders.clear()
            continue
        if _is_n5(here):
            others[".n5"] += 1
            folders.clear()
            continue
        folders[:] = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
        for name in files:
            if name.startswith("."):
                continue
            if name.lower().endswith((".zarr", ".n5")) and (here / name).is_symlink():
                found.notes += _dangling(here / name)
            else:
                _sort(found, others, here / name, (inside / name).as_posix())
    if is_zarr_image(folder) and not (found.fields or found.stores):
        raise DataError(
            f"{folder} is one OME-Zarr; name the folder that holds it, {folder.parent}"
        )
    found.files, previews = _without_previews(found.files)
    found.notes += [*(_say(*item) for item in sorted(others.items())), *previews]
    if found.fields:
        wells = {(item.path.split("/")[0], item.well) for item in found.fields}
        found.notes.append(
            f"a plate: {count_noun(len(found.fields), 'field')} in "
            f"{count_noun(len(wells), 'well')}, each a volume"
        )
    for paths in (found.files, found.stores, found.hdf5):
        paths.sort(key=natural_key)
    if not (found.files or found.stores or found.hdf5 or found.fields):
        more = f"; {'; '.join(found.notes)}" if found.notes else ""
        raise DataError(
            f"{folder} holds no TIFF, PNG, HDF5, OME-Zarr or other image that is read"
            f"{more}; name the folder that holds the images"
        )
    return found


def _take_zarr(found: Contents, here: Path, path: str, folder: Path) -> bool:
    """Note what a Zarr folder is; return whether nothing else lies in it."""
    fields, levels = list_fields(here, path), list_pyramid_levels(here)
    found.fields += fields
    found.notes += _missing_wells(here, path, fields)
    if levels:
        top = levels[0] if path == "." else f"{path}/{levels[0]}"
        found.stores.append(top)
        found.notes.append(
            f"{top}: {', '.join(levels[1:])} beside it are smaller copies of it, and "
            "no images of their own"
        )
    elif not fields and here != folder and _is_one_image(here):
        found.stores.append(path)
        return True
    return bool(fields or levels)


def list_fields(place: Path, path: str) -> list[Field]:
    """Return the fields of a plate, of a row of its wells, or of a well; else none.

    Parameters
    ----------
    place : Path
        A Zarr folder.
    path : str
        The same as the sheet is to write it, ``.`` for the source itself.
    """
    about = read_attributes(place)
    inside = "" if path == "." else f"{path}/"
    if wells := about.get("plate", {}).get("wells"):
        paths = [well["path"] for well in wells]
        return [
            found
            for well in sorted(paths, key=natural_key)
            for found in _fields_of_well(place / well, f"{inside}{well}", well)
        ]
    if "well" in about:
        return _fields_of_well(place, path, "/".join(place.parts[-2:]))
    return []


def _missing_wells(place: Path, path: str, fields: list[Field]) -> list[str]:
    """Tell of wells that a plate names, and that hold nothing."""
    wells = read_attributes(place).get("plate", {}).get("wells") or []
    there = {item.well for item in fields}
    missing = [w["path"] for w in wells if w["path"].replace("/", "") not in there]
    if not missing:
        return []
    return [
        f"{path}: of the {count_noun(len(wells), 'well')} that it names, "
        f"{list_briefly(missing)} {'is' if len(missing) == 1 else 'are'} not there"
    ]


def list_pyramid_levels(place: Path) -> list[str]:
    """Return the arrays of a group that are one image and smaller copies, in order.

    Called s0, s1, ... or 0, 1, ..., by programs that write nothing more about them.
    """
    names = sorted(
        (p.name for p in place.iterdir() if LEVEL.match(p.name) and p.is_dir()),
        key=natural_key,
    )
    if len(names) < 2 or _is_one_image(place):
        return []
    shapes = [_shape_of_array(place / name) for name in names]
    for large, small in pairwise(shapes):
        is_alike = len(large) == len(small) > 1 and large != small
        pairs = zip(large, small, strict=False)
        if not is_alike or not all(_is_shrunk(*pair) for pair in pairs):
            return []
    return names


def _is_shrunk(large: int, small: int) -> bool:
    """Tell whether a length is another one, or a half to a quarter of it."""
    return any(small in (large // k, -(-large // k)) for k in range(1, 5))


def _shape_of_array(place: Path) -> tuple[int, ...]:
    for name in (".zarray", "zarr.json"):
        try:
            return tuple(json.loads((place / name).read_text()).get("shape", ()))
        except (OSError, ValueError):
            continue
    return ()


def _dangling(link: Path) -> list[str]:
    try:
        refuse_dangling_image(link)
    except DataError as error:
        return [f"{link.name} is left out: {error}"]
    return []


def _fields_of_well(place: Path, path: str, well: str) -> list[Field]:
    images = read_attributes(place).get("well", {}).get("images", [])
    inside, name = "" if path == "." else f"{path}/", well.replace("/", "")
    return [Field(f"{inside}{i['path']}", name, str(i["path"])) for i in images]


def _is_one_image(place: Path) -> bool:
    """Tell whether a Zarr folder is an array or an image, not a group of others."""
    if (place / ".zarray").is_file():
        return True
    about = read_attributes(place)
    if "multiscales" in about or about.get("node_type") == "array":
        return True
    children = [p for p in place.iterdir() if p.name.isdecimal() and is_zarr_image(p)]
    # Bioformats wraps even a single image.
    return "bioformats2raw.layout" in about and len(children) == 1


def read_attributes(place: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group or array of either format."""
    for name in (".zattrs", "zarr.json"):
        try:
            about = json.loads((place / name).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            own = about.get("attributes", {}) if name == "zarr.json" else about
            return {"node_type": about.get("node_type"), **own, **own.get("ome", {})}
    return {}


def _is_n5(place: Path) -> bool:
    try:
        return "n5" in json.loads((place / "attributes.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


def _sort(found: Contents, others: Counter[str], place: Path, path: str) -> None:
    """Put a file where it belongs by its ending."""
    ending = place.name.lower()
    if ending.endswith(".roi") or (ending.endswith(".zip") and _holds_rois(place)):
        others[ROI] += 1
    elif ending.endswith(HDF5):
        found.hdf5.append(path)
    elif ending.endswith(IMAGES) and not _is_archive(place):
        found.files.append(path)
    elif place.suffix.lower() in CONVERTED:
        others[place.suffix.lower()] += 1


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ZIPPED_ZARR) and not is_zipped_zarr(path)


def _without_previews(files: list[str]) -> tuple[list[str], list[str]]:
    """Leave out a picture beside a file of its name that is none, and say so."""
    whole = {
        PurePosixPath(path).with_suffix("")
        for path in files
        if not path.lower().endswith(PICTURES)
    }
    kept = [
        path
        for path in files
        if not path.lower().endswith(PICTURES)
        or PurePosixPath(path).with_suffix("") not in whole
    ]
    num_left = len(files) - len(kept)
    note = (
        f"{num_left} of {', '.join(PICTURES)} left out: beside each lies a file of its "
        "name that loses nothing"
    )
    return kept, [note] if num_left else []


def _holds_rois(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return any(name.lower().endswith(".roi") for name in archive.namelist())
    except (BadZipFile, OSError):
        return False


def _say(ending: str, count: int) -> str:
    """Return what is to be done with files that are passed over."""
    some = f"{count} file{'s' * (count > 1)}"
    if ending == ROI:
        return f"{some} (.roi, RoiSet.zip) hold{'s' * (count == 1)} {OF_ROIS}"
    named = some.replace(" ", f" {ending} ", 1)
    return f"{named} cannot be read: {CONVERTED[ending].advice}"


@dataclass(frozen=True, slots=True)
class Inside:
    """The image and the labels in one HDF5 file or one OME-Zarr, as cells.

    ``boxes`` are the labels where there are several, each of a box of the image.
    """

    image: str
    labels: str
    notes: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All labels that are taken."""
        return self.boxes or ((self.labels,) if self.labels else ())


def look_into_hdf5(folder: Path, path: str) -> Inside:
    """Return which datasets of a file are image and labels, by name and type.

    Raises
    ------
    DataError
        If it cannot be read, or holds nothing of two or more axes.
    """
    found = list_datasets(folder / path)
    tables = [d for d in found if _is_table(d.shape, d.dtype.kind)]
    arrays = [d for d in found if d not in tables]
    if not arrays:
        raise DataError(f"{path} holds no image; name a file with a dataset of one")
    labels = [d for d in arrays if d.dtype.kind in "iub" and _says_labels(d.name)]
    images = [d for d in arrays if d not in labels]
    if not labels and len(images) > 1:  # no name tells: ids have many bits
        labels = [d for d in images if d.dtype.kind in "iu" and d.dtype.itemsize > 2]
        images = [d for d in images if d not in labels]
    if not labels and parse_file_name(path).is_labels:
        labels, images = images, []
    notes = []
    if images:
        first = max(images, key=lambda d: ("raw" in d.name.lower(), len(d.shape)))
        rest = [d.name for d in images if d is not first]
        notes += (
            [f"{path}: {first.name} is taken as the image"] if rest or labels else []
        )
        notes += [f"{path}: left out: {', '.join(rest)}"] if rest else []
        same = [d for d in labels if d.shape == first.shape]
        labels = same or labels
        cells = tuple(f"{path}:{d.name}" for d in labels)
        if len(cells) > 1 and find_boxes(f"{path}:{first.name}", cells, folder):
            return Inside(f"{path}:{first.name}", cells[0], tuple(notes), cells)
    else:
        first = None
    chosen = max(labels, key=lambda d: _preference(d.name)) if labels else None
    label_cell = ""
    if chosen:
        label_cell = f"{path}:{chosen.name}"
        rest = [d.name for d in labels if d is not chosen]
        if first or rest:
            notes.append(
                f"{path}: {chosen.name} is taken as the labels"
                + (f", though there are {', '.join(rest)} too" if rest else "")
            )
        if len(tables) == 1 and chosen.dtype.kind in "iu":
            label_cell += f"->{tables[0].name}"
            notes.append(
                f"{path}: {tables[0].name} has two columns and is taken as the object "
                f"of each id of {chosen.name}"
            )
    return Inside(f"{path}:{first.name}" if first else "", label_cell, tuple(notes))


def look_into_zarr(folder: Path, path: str) -> Inside:
    """Return an OME-Zarr and the labels that lie inside it."""
    inside = folder / path / "labels"
    stores = (
        sorted(p.name for p in inside.iterdir() if is_zarr_image(p))
        if inside.is_dir()
        else []
    )
    if not stores:
        return Inside(path, "")
    cells = tuple(f"{path}/labels/{name}" for name in sorted(stores, key=natural_key))
    if len(cells) > 1 and find_boxes(path, cells, folder):
        return Inside(path, cells[0], boxes=cells)
    chosen = max(stores, key=_preference)
    note = f"{path}: labels/{chosen} is taken as the labels"
    if len(stores) > 1:
        rest = ", ".join(f"labels/{name}" for name in stores if name != chosen)
        note += f", though there are {rest} too"
    return Inside(path, f"{path}/labels/{chosen}", (note,))


def _is_table(shape: tuple[int, ...], kind: str) -> bool:
    return len(shape) == 2 and shape[1] == TABLE_COLUMNS and kind in "iu"


def _says_labels(name: str) -> bool:
    return parse_file_name(name).is_labels or "neuron_ids" in name


def _preference(name: str) -> tuple[bool, bool, int]:
    """Prefer ids of objects to other annotations, and short names to long ones."""
    last = name.rsplit("/", 1)[-1].lower()
    says_ids = any(word in last for word in ("neuron_ids", "instance", "gt_seg"))
    return says_ids, _says_labels(last), -len(name)
