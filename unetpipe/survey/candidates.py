"""From files to candidates: image and labels, one volume each or a series."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from unetpipe.errors import DataError
from unetpipe.images.files import HDF5_CELL, file_number, natural_key
from unetpipe.survey.boxes import find_boxes
from unetpipe.survey.cells import sheet_cell_of_folder, sheet_cell_of_series, write_cell
from unetpipe.survey.headers import Header, read_image_header
from unetpipe.survey.label_folders import join_class_folders, take_folder, tell_labels
from unetpipe.survey.names import Name, parse_file_name
from unetpipe.survey.pairs import Candidate, list_briefly, pair_names
from unetpipe.survey.series import SeriesFinder, join_channel_files, join_section_files


def make_candidates(
    paths: Iterable[str], root: Path, images: str, labels: str = ""
) -> tuple[list[Candidate], list[str]]:
    """Return candidates of all files, and notes on what is unclear.

    Parameters
    ----------
    paths : iterable of str
        Files of one image each, or a cell of a store.
    root : Path
        Folder of the originals.
    images : str
        ``independent``, ``stack``, or ``auto``: what numbered files of one size are.
    labels : str
        The folder that the user says holds the labels, or nothing.
    """
    pictures, drawn, classes, views, notes = _sort_names(
        [parse_file_name(path) for path in paths], root, labels
    )
    headers, more = _read_headers(pictures, root)
    notes += more
    pictures = [name for name in pictures if name.path in headers]
    boxes: dict[str, tuple[str, ...]] = {}

    def are_boxes(image: Name, fitting: Sequence[Name]) -> bool:
        paths = tuple(name.path for name in fitting)
        if find_boxes(write_cell(image.path), paths, root):
            boxes[image.path] = paths
        return image.path in boxes

    found, used, more = pair_names(pictures, [*drawn, *classes], are_boxes)
    notes += more
    view_of = pair_names(pictures, views)[0]
    finder = SeriesFinder(root, images, headers)
    series, single = finder.find(pictures)
    notes += finder.notes()
    free = [name for name in [*drawn, *classes] if name.path not in used]
    without = [group for group in series if not any(n.path in found for n in group)]
    rivals = Counter(_shape_of_series(group, headers) for group in without)
    rivals.update(headers[n.path].shape[1:] for n in single if n.path not in found)
    candidates = []
    is_of_classes = {name.path for name in classes}
    if classes:  # which are joined image by image
        series, single = [], [n for group in [*series, single] for n in group]
    for group in series:
        own, more = _candidates_of_series(group, found, free, headers, rivals, root)
        candidates += own
        notes += more
    if len(pictures) == len(free) == 1 and single and not found:
        found = {pictures[0].path: free[0].path}
        notes.append(
            f"{pictures[0].path} and {free[0].path} are paired, though their names "
            "have nothing in common: there is nothing else"
        )
    for name in single:
        pair = boxes.get(name.path, ())
        if name.path in found and not pair:
            pair = (found[name.path],)
        kind = "classes" if is_of_classes & set(pair) else ""
        view = view_of.get(name.path, "") if pair else ""
        candidates.append(Candidate((name.path,), pair, name.split, kind, view=view))
    taken = {path for candidate in candidates for path in candidate.labels}
    stray = [name.path for name in free if name.path not in taken]
    if stray:
        notes.append(
            f"{len(stray)} label file{'s' * (len(stray) > 1)} without an image: "
            f"{list_briefly(stray)}; give image and labels the same name, or, where "
            "they are of single sections of a stack, name them in the sheet with their "
            "places in the column labels_at (10,0,0 is all of section 10)"
        )
    return candidates, notes


def _sort_names(
    names: Sequence[Name], root: Path, said: str
) -> tuple[list[Name], list[Name], list[Name], list[Name], list[str]]:
    """Return images, labels, labels of a folder a class, fields of view, and notes.

    What the user says counts; else names say what is what; where they do not, what the
    files hold.
    """
    images = [name for name in names if not name.is_labels]
    labels = [name for name in names if name.is_labels]
    classes, views = list[Name](), list[Name]()
    if said:
        images, labels, notes = take_folder(names, said)
    else:
        images, labels, views, notes = tell_labels(images, labels, root)
        images, labels, more = _tell_apart([*images, *labels])
        notes += more
        labels, classes, more = join_class_folders(labels, root)
        notes += more
    images, more = join_channel_files(images)
    if any("<z>" in name.path for name in images):
        labels = join_section_files(labels)
    return images, labels, classes, views, notes + more


def _tell_apart(names: list[Name]) -> tuple[list[Name], list[Name], list[str]]:
    """Return images, labels and notes; leave out what is neither by its folder."""
    labels = [name for name in names if name.is_labels]
    images = [name for name in names if not name.is_labels]
    if labels and not images:
        note = (
            "all names say labels, so the files are taken as images; rename one folder "
            "to images and the other to labels"
        )
        return labels, [], [note]
    folders: dict[str, list[Name]] = defaultdict(list)
    for name in images:
        folders[name.folder].append(name)
    said = [folder for folder, own in folders.items() if own[0].says_image]
    kept, others = list[Name](), defaultdict[str, list[str]](list)
    for folder, own in folders.items():
        parent = PurePosixPath(folder).parent
        twins = [f for f in said if f != folder and PurePosixPath(f).parent == parent]
        stems = {name.stem_key for twin in twins for name in folders[twin]}
        if folder not in said and stems >= {name.stem_key for name in own}:
            others[twins[0]].append(folder)
        else:
            kept += own
    notes = [
        f"{list_briefly(own)}: left out, because by name they are neither images nor "
        f"labels, and their files are named like those of {twin}; if one holds the "
        "labels, rename it to labels"
        for twin, own in others.items()
    ]
    return kept, labels, notes


def _read_headers(
    names: Sequence[Name], root: Path
) -> tuple[dict[str, Header], list[str]]:
    headers, notes, others = {}, [], set[str]()
    for name in names:
        if _file_of(name.path) in others:  # another file of an image that is known
            continue
        try:
            header = headers[name.path] = read_image_header(write_cell(name.path), root)
            others.update(set(header.others) - {_file_of(name.path)})
        except (DataError, OSError) as error:
            notes.append(f"{name.path} is left out: {error}")
    parts = [path for path in headers if _file_of(path) in others]
    if parts:
        notes.append(
            f"{list_briefly(parts)}: left out, because the voxels are those of another "
            "dataset that is made of them"
        )
    return {path: h for path, h in headers.items() if path not in parts}, notes


def _file_of(path: str) -> str:
    """Return the file that a cell names, without a dataset."""
    match = HDF5_CELL.match(path)
    return match[1] if match else path


def _candidates_of_series(
    group: Sequence[Name],
    found: dict[str, str],
    free: Sequence[Name],
    headers: dict[str, Header],
    rivals: Mapping[tuple[int, ...], int],
    root: Path,
) -> tuple[list[Candidate], list[str]]:
    """Return a series with its labels; each section by itself if these do not fit.

    A stack of labels in its shape is taken if it bears the folder's name, or if there
    is one such stack and nothing else of this shape without labels (``rivals``).
    """
    paths = tuple(name.path for name in group)
    split = group[0].split
    labels = tuple(found[path] for path in paths if path in found)
    if not labels:
        wanted = _shape_of_series(group, headers)
        fitting = [name for name in free if _shape(name.path, root) == wanted]
        key = group[0].folder_key.split("/")[-1].casefold()
        named = [n for n in fitting if key and n.stem_key.casefold() == key]
        why = f"it bears their folder's name and has their shape {wanted}"
        if not named and rivals[wanted] == 1:
            named, why = fitting, f"it alone has their shape {wanted}"
        if len(named) != 1:
            return [Candidate(paths, (), split, is_sequence=True)], []
        note = (
            f"{named[0].path} is taken as the labels of the sections in "
            f"{group[0].folder}: {why}"
        )
        return [Candidate(paths, (named[0].path,), split, is_sequence=True)], [note]
    cell = sheet_cell_of_series(labels, root) if len(labels) > 1 else ""
    cell = cell or (sheet_cell_of_folder(labels[0], root) if len(labels) == 1 else "")
    if cell and _are_in_order(paths, {p: found[p] for p in paths if p in found}):
        whole = Candidate(paths, labels, split, is_sequence=True, labels_cell=cell)
        return [whole], []
    note = (
        f"the sections in {group[0].folder} stay images of their own, because their "
        "labels are no series: put them into one folder, numbered like the sections"
    )
    single = [
        Candidate((path,), (found[path],) if path in found else (), split)
        for path in paths
    ]
    return single, [note]


def _are_in_order(paths: Sequence[str], found: dict[str, str]) -> bool:
    """Tell whether labels are read as those of their sections.

    Of all sections they are read in order, of some by the last number in their names.
    """
    if len(found) == len(paths):
        return sorted(found.values(), key=natural_key) == list(found.values())
    return all(
        file_number(Path(image)) == file_number(Path(labels)) is not None
        for image, labels in found.items()
    )


def _shape_of_series(
    group: Sequence[Name], headers: Mapping[str, Header]
) -> tuple[int, ...]:
    return len(group), *headers[group[0].path].shape[2:]


def _shape(path: str, root: Path) -> tuple[int, int, int] | None:
    try:
        return read_image_header(write_cell(path), root).shape[1:]
    except (DataError, OSError):
        return None
