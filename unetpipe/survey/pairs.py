"""An image and its labels: which belong together, by their names alone."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from unetpipe.survey.names import Name

Key = Callable[[Name], Hashable]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image with its labels, known from paths alone.

    Attributes
    ----------
    images : tuple of str
        Files of sections in order, or one file, store or ``file.h5:dataset``.
    labels : tuple of str
        The same, of its labels; empty where there are none.
    split : str
        The role that its folder or name gives it: train, validate, test, or nothing.
    kind : str
        Kind of its labels where the layout tells, or nothing.
    is_sequence : bool
        Whether the files are the sections of one volume for certain.
    labels_cell : str
        How the sheet names the labels, where their files alone do not tell.
    is_held : bool
        Whether one of these sequences is tested on while others train.
    name, well, field : str
        Of a field of a plate: what to call it, and where it lies; else empty.
    view : str
        File of its field of view, or nothing.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...] = ()
    split: str = ""
    kind: str = ""
    is_sequence: bool = False
    labels_cell: str = ""
    is_held: bool = False
    name: str = ""
    well: str = ""
    field: str = ""
    view: str = ""


def list_briefly(paths: Iterable[str], most: int = 4) -> str:
    """Return the first few of some texts, and how many more there are.

    Examples
    --------
    >>> list_briefly(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    given = list(paths)
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return f"{', '.join(given[:most])}{more}"


def pair_names(
    images: Sequence[Name],
    labels: Sequence[Name],
    are_boxes: Callable[[Name, Sequence[Name]], bool] = lambda image, labels: False,
) -> tuple[dict[str, str], set[str], list[str]]:
    """Return the labels of each image that has some, and images that have several.

    In this order: the same name in folders that correspond; the labels' name begins
    with the image's; the same name in any folders; the same number in folders whose
    files have one number each.

    Parameters
    ----------
    images, labels : sequence of Name
        All there are.
    are_boxes : callable
        Tells of an image and several labels that fit whether each is of a box of it:
        then all are taken.

    Returns
    -------
    dict
        Path of an image -> path of its labels.
    set of str
        Labels that fit an image, those that were not taken too.
    list of str
        Notes on images with several labels.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    twins: list[str] = []

    def take(image: Name, fitting: Sequence[Name]) -> None:
        found[image.path] = fitting[0].path
        used.update(name.path for name in fitting)
        if len(fitting) > 1 and not are_boxes(image, fitting):
            twins.append(
                f"{image.path}: {fitting[0].path} is taken, though "
                f"{list_briefly(name.path for name in fitting[1:])} would fit too"
            )

    used: set[str] = set()
    _by_key(images, labels, found, used, take, _same_name)
    _by_beginning(images, labels, found, used, take)
    _by_key(images, labels, found, used, take, _same_name_anywhere)
    for key in (_same_number, _same_number_anywhere):
        _by_number(images, labels, found, used, take, key)
    if twins:
        notes.append(
            f"several labels of {len(twins)} image{'s' * (len(twins) > 1)}: "
            f"{list_briefly(twins, 1)}; move those that you do not want elsewhere, or "
            "name the folder of those that you want with --labels"
        )
    return found, used, notes


def _same_name(name: Name) -> Hashable:
    return name.split, name.folder_key.casefold(), name.stem_key.casefold()


def _same_name_anywhere(name: Name) -> Hashable:
    return (name.split, name.stem_key.casefold()) if name.stem_key else None


def _same_number(name: Name) -> Hashable:
    return name.split, name.folder_key.casefold()


def _same_number_anywhere(name: Name) -> Hashable:
    return name.split


Take = Callable[[Name, Sequence[Name]], None]


def _by_key(
    images: Iterable[Name],
    labels: Iterable[Name],
    found: dict[str, str],
    used: set[str],
    take: Take,
    key: Key,
) -> None:
    """Pair an image with the labels of its key, where it is the only image of it.

    Images with labels count: what is left of others may be labels of theirs, too.
    """
    ours, theirs = _group(images, (), key), _group(labels, used, key)
    for same, (image, *others) in ours.items():
        is_alone = same is not None and not others and image.path not in found
        if is_alone and theirs.get(same):
            take(image, theirs[same])


def _by_beginning(
    images: Iterable[Name],
    labels: Iterable[Name],
    found: dict[str, str],
    used: set[str],
    take: Take,
) -> None:
    """Pair an image with the labels whose name goes on where the image's ends.

    With img-1 and img-1-b the longer name has them: also where it has labels already,
    if it lies beside, or where it has none and lies elsewhere.
    """
    ours, theirs = (
        _group(images, found, _same_number),
        _group(labels, used, _same_number),
    )
    beside = _group(images, (), _same_number)
    without = {_stem(image) for group in ours.values() for image in group}
    for same, group in ours.items():
        stems = without | {_stem(image) for image in beside[same]}
        fitting: dict[str, list[Name]] = defaultdict(list)
        for name in theirs.get(same, ()):
            fitting[_owner(_stem(name), stems)].append(name)
        for image in group:
            own = fitting.pop(_stem(image), None)
            if own and _stem(image):
                take(image, own)


def _stem(name: Name) -> str:
    return name.stem_key.casefold()


def _owner(stem: str, stems: Collection[str]) -> str:
    """Return the longest of some names that this one begins with, or nothing.

    Examples
    --------
    >>> _owner("img-1-b-2", {"img", "img-1"}), _owner("img-10", {"img", "img-1"})
    ('img-1', 'img')
    >>> _owner("img-1", {"img", "img-1"})
    ''
    """
    words = stem.split("-")
    beginnings = ("-".join(words[:count]) for count in range(len(words), 0, -1))
    found = next((name for name in beginnings if name in stems), "")
    return found if found != stem else ""


def _by_number(
    images: Iterable[Name],
    labels: Iterable[Name],
    found: dict[str, str],
    used: set[str],
    take: Take,
    key: Key,
) -> None:
    """Pair by number where each number occurs once, in one folder on each side.

    As many labels as images with other numbers are counted from another start.
    """
    ours, theirs = _group(images, (), key), _group(labels, used, key)
    for same, group in ours.items():
        others = theirs.get(same, [])
        if not (_are_numbered(group) and _are_numbered(others)):
            continue
        by_number = {name.number: name for name in others}
        if len(group) == len(others) and by_number.keys() != {n.number for n in group}:
            continue
        for image in group:
            if image.path not in found and image.number in by_number:
                take(image, [by_number[image.number]])


def _are_numbered(names: Sequence[Name]) -> bool:
    numbers = [name.number for name in names]
    is_one_series = len({name.series for name in names}) == 1
    return is_one_series and None not in numbers and len(set(numbers)) == len(numbers)


def _group(
    names: Iterable[Name], without: Iterable[str], key: Key
) -> dict[Hashable, list[Name]]:
    groups: dict[Hashable, list[Name]] = defaultdict(list)
    left_out = set(without)
    for name in names:
        if name.path not in left_out:
            groups[key(name)].append(name)
    return groups
