"""Folders of labels told by what their files hold: drawings, fields of view, classes.

::

    images/  1st_manual/  2nd_manual/  mask/   two people drew; mask is the same for all
    images/  er/  mito/  nucleus/              a folder a class
    photos/  vessels/                          drawings, though no word says labels

Names come first; contents are looked at where they leave open what a folder is.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.survey.cells import write_cell
from unetpipe.survey.names import ANNOTATORS, Name, parse_file_name, words_of
from unetpipe.survey.pairs import list_briefly

LOOKED_AT = 4  # files of a folder
# A drawing has few values, or flat areas: so much of what is not its commonest value.
FEW_VALUES, FLAT = 4, 0.7
# A field of view is large, and the same in all images, but for a few voxels.
VIEW_SHARE, VIEW_OVERLAP = 0.4, 0.9
# Of classes hardly any voxel has two; what two people drew is alike.
CLASS_OVERLAP = 0.2
PLAIN = re.compile(r"^[\w -]+$")

Masks = Mapping[str, Sequence[Name]]


def take_folder(
    names: Sequence[Name], said: str
) -> tuple[list[Name], list[Name], list[str]]:
    """Return images, the labels in the folder that the user names, and notes.

    Parameters
    ----------
    names : sequence of Name
        Of all files.
    said : str
        Path of a folder, or the name that several folders bear.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    wanted = PurePosixPath(said).parts
    labels, others = [], []
    for name in names:
        parts = PurePosixPath(name.path).parts[:-1]
        starts = [k for k in range(len(parts)) if parts[k : k + len(wanted)] == wanted]
        if starts:
            stop, rest = starts[0] + len(wanted), PurePosixPath(name.path).parts
            plain = (*rest[: stop - 1], "labels", *rest[stop:])
            read = parse_file_name("/".join(plain))
            labels.append(replace(read, path=name.path, is_labels=True))
        else:
            others.append(name)
    if not labels:
        folders = list_briefly(dict.fromkeys(name.folder for name in names))
        raise DataError(
            f"--labels {said}: no such folder holds images; there are {folders}"
        )
    left = [name for name in others if name.is_labels]
    notes = []
    if left:
        folders = list_briefly(dict.fromkeys(name.folder for name in left))
        notes.append(
            f"{folders}: left out, because the labels are said to be in {said}"
        )
    return [name for name in others if not name.is_labels], labels, notes


def tell_labels(
    images: Sequence[Name], labels: Sequence[Name], root: Path
) -> tuple[list[Name], list[Name], list[Name], list[str]]:
    """Return images, labels, fields of view, and notes.

    Names come first, then what files hold.

    A folder whose name says neither holds labels if all its files look drawn, other
    folders hold images that do not, and nothing beside it says that it holds labels but
    fields of view.
    """
    drawn = _find_drawings(images, root)
    kept, views, notes = _tell_views([*labels, *drawn], root)
    named = {PurePosixPath(n.folder).parent for n in kept if n in labels}
    chosen = [n for n in kept if n in drawn and _place(n) not in named]
    folders = dict.fromkeys(name.folder for name in chosen)
    if folders:
        notes.append(
            f"{list_briefly(folders)}: the files look drawn (few values, flat areas), "
            "so they are taken as labels, though no name says so"
        )
    own = {name.path for name in chosen}
    own |= {name.path for name in views}
    rest = [n for n in images if n.path not in own]
    return rest, [*(n for n in kept if n in labels), *chosen], views, notes


def _place(name: Name) -> PurePosixPath:
    return PurePosixPath(name.folder).parent


def _find_drawings(images: Sequence[Name], root: Path) -> list[Name]:
    """Return what was drawn though no name says labels."""
    folders = _by_folder(images)
    open_to_doubt = [f for f, own in folders.items() if not own[0].says_image]
    if len(folders) < 2:
        return []
    drawn = [f for f in open_to_doubt if look_drawn(folders[f], root)]
    if not drawn or len(drawn) == len(folders):
        return []
    return [replace(n, is_labels=True) for f in drawn for n in folders[f]]


def _tell_views(
    labels: Sequence[Name], root: Path
) -> tuple[list[Name], list[Name], list[str]]:
    """Return labels, the fields of view that lie beside them, and notes."""
    folders = _by_last_word(labels)
    found = [
        n for n, own in folders.items() if len(folders) > 1 and _is_view(own, root)
    ]
    if not found or len(found) == len(folders):
        return list(labels), [], []
    note = (
        f"{list_briefly(found)}: one large area, nearly the same for all images, so it "
        "is taken as their field of view and not as labels: what lies outside is "
        "unlabelled"
    )
    kept = [name for n, own in folders.items() if n not in found for name in own]
    return kept, [name for n in found for name in folders[n]], [note]


def join_class_folders(
    labels: Sequence[Name], root: Path
) -> tuple[list[Name], list[Name], list[str]]:
    """Return labels, those that are joined of a folder a class, and notes.

    Masks of the same names in several folders are classes if hardly any voxel lies in
    two of them. The joined labels of an image have one cell: ``<c:er,mito>/a.png``.
    """
    groups = _by_last_word(labels)
    same = [n for n, own in groups.items() if not (ANNOTATORS & set(words_of(n)))]
    same = [n for n in same if PLAIN.match(n) and not parse_file_name(f"{n}/x").split]
    files = {n: {_without_class(name, n): name for name in groups[n]} for n in same}
    common = [n for n in same if _is_one_of_classes(n, files)]
    if len(common) < 2 or not _are_classes([files[n] for n in common], root):
        return list(labels), [], []
    names = sorted(common)
    joined: dict[tuple[str, str], Name] = {}
    for word in names:
        for key, name in files[word].items():
            cell = _cell_of_classes(name.path, word, names)
            joined.setdefault(key, replace(_read_without(name, word), path=cell))
    rest = [name for n, own in groups.items() if n not in common for name in own]
    numbered = ", ".join(f"{k} {word}" for k, word in enumerate(names, 1))
    note = (
        f"{len(names)} folders of masks hold a class each, and are joined: {numbered} "
        "(0: none of them)"
    )
    return rest, list(joined.values()), [note]


def look_drawn(names: Sequence[Name], root: Path) -> bool:
    """Tell whether some files of a folder all look drawn and not taken by a camera."""
    sections = [_read(name, root) for name in _some(names)]
    return bool(sections) and all(s is not None and looks_drawn(s) for s in sections)


def looks_drawn(section: NDArray[Any]) -> bool:
    """Tell whether one section, shape (y, x), has few values, or flat areas.

    Examples
    --------
    >>> looks_drawn(np.eye(9)), looks_drawn(np.arange(81).reshape(9, 9))
    (True, False)
    """
    values, counts = np.unique(section, return_counts=True)
    if values.size <= FEW_VALUES:
        return values.size > 1
    rest = section != values[counts.argmax()]
    flat = rest.copy()
    for axis in (0, 1):
        changes = np.diff(section, axis=axis) != 0
        before = [(0, 0), (0, 0)]
        for side in ((1, 0), (0, 1)):
            before[axis] = side
            flat &= ~np.pad(changes, before)
    return bool(np.count_nonzero(flat) > FLAT * np.count_nonzero(rest))


def _is_view(names: Sequence[Name], root: Path) -> bool:
    """Tell whether masks are large and nearly the same."""
    masks = [_read_mask(name, root) for name in _some(names)]
    there = [mask for mask in masks if mask is not None]
    if len(there) < 2 or len(there) < len(masks):
        return False
    if any(mask.mean() < VIEW_SHARE for mask in there):
        return False
    return all(
        a.shape == b.shape and _overlap(a, b) >= VIEW_OVERLAP
        for a, b in combinations(there, 2)
    )


def _are_classes(folders: Sequence[Mapping[Any, Name]], root: Path) -> bool:
    """Tell whether masks of the same names in several folders hardly overlap."""
    keys = [key for key in folders[0] if all(key in own for own in folders)]
    overlaps = []
    for key in keys[:LOOKED_AT]:
        masks = [_read_mask(own[key], root) for own in folders]
        if any(mask is None for mask in masks):
            return False
        pairs = combinations([mask for mask in masks if mask is not None], 2)
        overlaps += [_overlap(a, b) for a, b in pairs if a.shape == b.shape]
    return bool(overlaps) and float(np.mean(overlaps)) <= CLASS_OVERLAP


def _is_one_of_classes(word: str, files: Mapping[str, Mapping[Any, Name]]) -> bool:
    """Tell whether another folder has files of the same names."""
    own = set(files[word])
    return any(len(own & set(files[n])) * 2 >= len(own) for n in files if n != word)


def _without_class(name: Name, word: str) -> tuple[str, str]:
    """Return folder and name without the word for a class: the same for all classes."""
    path = PurePosixPath(name.path)
    return str(path.parent.parent), path.name.replace(word, "<c>")


def _cell_of_classes(path: str, word: str, names: Sequence[str]) -> str:
    """Return the cell that names a mask of each class."""
    parts = PurePosixPath(path)
    axis = f"<c:{','.join(names)}>"
    name = write_cell(parts.name).replace(word, axis)
    outer = "" if str(parts.parent.parent) == "." else f"{parts.parent.parent}/"
    return f"{write_cell(outer) if outer else ''}{axis}/{name}"


def _read_without(name: Name, word: str) -> Name:
    """Return what the path says but for its class."""
    path = PurePosixPath(name.path)
    plain = path.parent.parent / "labels" / path.name.replace(word, "")
    return parse_file_name(plain.as_posix())


def _overlap(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 0.0


def _by_folder(names: Sequence[Name]) -> dict[str, list[Name]]:
    folders: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        folders[name.folder].append(name)
    return folders


def _by_last_word(names: Sequence[Name]) -> dict[str, list[Name]]:
    """Group by the folder's own name: the same in training and test."""
    folders: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        folders[PurePosixPath(name.folder).name].append(name)
    return folders


def _some(names: Sequence[Name]) -> list[Name]:
    chosen = np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).astype(int))
    return [names[k] for k in chosen.tolist()]


def _read(name: Name, root: Path) -> NDArray[Any] | None:
    """Return the first section, or None where it cannot be read, or has colours."""
    try:
        with open_image(write_cell(name.path), root, Reading(is_labels=True)) as image:
            if image.shape[0] > 1 or image.zyx[0] > 1:
                return None
            section: NDArray[Any] = image.read_sections(0, 1)[0, 0]
            return section
    except (DataError, OSError):
        return None


def _read_mask(name: Name, root: Path) -> NDArray[np.bool_] | None:
    """Return which voxels of a mask are set, or None where it has more values."""
    section = _read(name, root)
    if section is None:
        return None
    inside = section[section != 0]
    if inside.size and inside.min() != inside.max():
        return None
    mask: NDArray[np.bool_] = section != 0
    return mask
