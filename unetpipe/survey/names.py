"""Names of files and folders: what they say, and the names of volumes from them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from unicodedata import normalize

from unetpipe.config.fields import ENDLESS
from unetpipe.config.layout import TAKEN_BY_NETWORK
from unetpipe.images.endings import split_suffix
from unetpipe.images.files import FILE_AXIS

LABEL_WORDS = frozenset(
    [
        "label",
        "labels",
        "lbl",
        "lbls",
        "mask",
        "masks",
        "seg",
        "segs",
        "segmentation",
        "segmentations",
        "gt",
        "gts",
        "truth",
        "groundtruth",
        "annotation",
        "annotations",
        "annot",
        "annots",
        "instance",
        "instances",
        "ids",
        "classes",
        "manual",
        "manuals",
        "drawn",
        "drawing",
        "drawings",
        "expert",
        "observer",
        "annotator",
        "rater",
        "ho",
    ]
)
IMAGE_WORDS = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "im",
        "raw",
        "frame",
        "frames",
        "grayscale",
        "greyscale",
        "gray",
        "grey",
        "input",
        "inputs",
        "volume",
        "maps",
    ]
)
# Who drew the labels: beside these words a number tells nothing of the image.
ANNOTATORS = frozenset(("manual", "expert", "observer", "annotator", "rater", "ho"))
ORDINAL = re.compile(r"^(1st|2nd|3rd|[4-9]th|first|second|third)$")
# What tells channels and sections apart in a joined name, with its mark.
JOINED = re.compile(
    rf"[-_. ]*(?:channel|slice|plane|ch|c|w|z)?[-_]?{FILE_AXIS.pattern}", re.IGNORECASE
)
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validate"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NNUNET_SPLITS = {"tr": "train", "ts": "test"}  # imagesTr, labelsTs
NNUNET_CHANNEL = re.compile(r"_\d{4}$")
DROPPED = frozenset(("ground", "derivatives"))  # beside labels: they tell nothing more
LONGEST_NAME = 48
ID_PATTERN = re.compile(r"^[0-9a-f]{16,}$")
SHORTEST_ID = 8


@dataclass(frozen=True, slots=True)
class Name:
    """What the path of a file says.

    Attributes
    ----------
    path : str
        Below the folder, with ``/``.
    is_labels : bool
        A word for labels is in its name, or in the folder that speaks of it.
    says_image : bool
        A word for images is in the folder that speaks of it.
    split : str
        train, validate, test, or nothing.
    folder_key, stem_key : str
        Folders and name without words for images, labels and splits: what an image and
        its labels have in common.
    number : int or None
        The last number in the name.
    """

    path: str
    is_labels: bool
    says_image: bool
    split: str
    folder_key: str
    stem_key: str
    number: int | None

    @property
    def folder(self) -> str:
        """The folder that holds it."""
        return str(PurePosixPath(self.path).parent)

    @property
    def series(self) -> tuple[str, str, str]:
        """Folder, name without its last number, and ending: the same in a series."""
        stem, suffix = split_suffix(PurePosixPath(self.path).name)
        return self.folder, re.sub(r"\d+(?=\D*$)", "#", stem), suffix


# What images may have in common, with its number: sub-01, Mouse3, well_B07.
SUBJECT = re.compile(
    r"(?<![a-z])(patient|subject|sub|case|donor|animal|mouse|rat|fish|fly|larva|worm"
    r"|embryo|specimen|biopsy|slide|experiment|exp|movie|video|plate|well)"
    r"(?!s\b)[-_ ]?([a-z]?[0-9]+|[a-z])(?![a-z0-9])"  # not the folder of all slides
)


# Rows and columns of plates of up to 384 wells: p1_B07_s2.tif.
WELL = re.compile(r"(?<![a-z0-9])[a-p](0[1-9]|1[0-9]|2[0-4])(?![a-z0-9])")
# The same without zeros, which by itself may be anything: A1, ..., A12.
SHORT_WELL = re.compile(r"(?<![a-z0-9])[a-p][1-9](?![a-z0-9])")
# The same by the numbers of row and column: r02c03f01p01-ch1.tiff.
GRID_WELL = re.compile(
    r"(?<![a-z0-9])r(\d{2})c(\d{2})(?=f\d|[^a-z0-9]|$)", re.IGNORECASE
)
# Fields of a well: _s2, f01, site 3, field-4.
FIELD = re.compile(
    r"(?:(?<=\d)f|(?<![a-z0-9])(?:s|f|fov|site|field|pos))[-_ ]?(\d+)(?![0-9])",
    re.IGNORECASE,
)
# QuPath's tiles of a slide: Case 3 [x=0,y=512,w=512,h=512].png.
TILE = re.compile(r"^(.+?) *\[(?:[a-z]=[0-9.]+,)*x=[0-9]+,")
# Letters that are no others with an accent.
SPELT = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d"})


def subject_of(path: str) -> str:
    """Return the patient, animal, well or the like that a path names, or nothing.

    Examples
    --------
    >>> subject_of("sub-01/anat/slice_2.png"), subject_of("img/Mouse3_field1.tif")
    ('sub-01', 'mouse3')
    >>> subject_of("slides/plate2_B07_s1.tif")
    'plate2 b07'
    >>> subject_of("tiles/H&E 12 [x=0,y=512,w=512,h=512].png")
    'h&e 12'
    >>> subject_of("images/subset.png")
    ''
    """
    found = SUBJECT.search(path.lower())
    subject = found[0] if found else ""
    last = PurePosixPath(path.lower()).name
    tile, well = TILE.match(last), WELL.search(last)
    if tile and not found:
        return tile[1]
    if well and (not found or found[1] == "plate"):
        return f"{subject} {well[0]}".lstrip()
    return subject


def place_in_plate(path: str, well_names: re.Pattern[str] = WELL) -> tuple[str, str]:
    """Return the well, and the field in it, that a file's name tells; or nothing.

    Parameters
    ----------
    path : str
    well_names : pattern
        ``SHORT_WELL``: of columns up to 9, without zeros.

    Examples
    --------
    >>> place_in_plate("plate/A01_s2_w<c>.tif"), place_in_plate("r02c13f04-ch<c>.tiff")
    (('A01', '2'), ('B13', '04'))
    >>> place_in_plate("mouse3_c2.tif"), place_in_plate("well C2 s3.tif", SHORT_WELL)
    (('', ''), ('C2', '3'))
    """
    last = PurePosixPath(path).name
    grid, well = GRID_WELL.search(last), well_names.search(last.lower())
    if grid and 1 <= int(grid[1]) <= 26:
        name, end = f"{chr(ord('A') + int(grid[1]) - 1)}{grid[2]}", grid.end()
    elif well:
        name, end = well[0].upper(), well.end()
    else:
        return "", ""
    field = FIELD.search(last, end)
    return name, field[1] if field else ""


@lru_cache(maxsize=1 << 16)
def parse_file_name(path: str) -> Name:
    """Return what a path says.

    Examples
    --------
    >>> name = parse_file_name("train_masks/cell-007_mask.png")
    >>> name.is_labels, name.split, name.stem_key, name.number
    (True, 'train', 'cell-007', 7)
    """
    *folders, last = PurePosixPath(JOINED.sub("", normalize("NFC", path))).parts
    stem, _ = split_suffix(last)
    splits, keys, spoken = [], [], ""
    for folder in folders:
        words = words_of(folder)
        known = set(words)
        if known & LABEL_WORDS:
            spoken = "labels"
        elif known & IMAGE_WORDS:
            spoken = "image"
        splits += [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
        if known & (LABEL_WORDS | IMAGE_WORDS):
            splits += [NNUNET_SPLITS[word] for word in words if word in NNUNET_SPLITS]
            if known & NNUNET_SPLITS.keys() and known & IMAGE_WORDS:
                stem = NNUNET_CHANNEL.sub("", stem)
        keys.append(_key(words))
    words = words_of(stem)
    ends = [word for word in (words[:1] + words[-1:]) if word in SPLIT_WORDS]
    numbers = re.findall(r"\d+", stem)
    return Name(
        path=path,
        is_labels=bool(spoken == "labels" or set(words) & LABEL_WORDS),
        says_image=spoken == "image",
        split=([*splits, *(SPLIT_WORDS[word] for word in ends)] or [""])[0],
        folder_key="/".join(filter(None, keys)),
        stem_key=_key(words),
        number=int(numbers[-1]) if numbers else None,
    )


def says_nothing_else(text: str) -> bool:
    """Return whether a name says image or labels, and nothing more."""
    return not set(words_of(text)) - IMAGE_WORDS - LABEL_WORDS


def words_of(text: str) -> list[str]:
    """Return the words of a name in lower case; a number at a word's end is a word."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", normalize("NFC", text))
    runs = re.findall(r"[^\W_]+", apart)
    return [
        word.lower()
        for run in runs
        for word in re.findall(r"^.*?\D(?=\d+$)|\d+$|^.*\D$", run)
    ]


def _without_annotator(words: Sequence[str]) -> list[str]:
    """Leave out which of several people drew the labels.

    Examples
    --------
    >>> _without_annotator(["21", "manual", "1"]), _without_annotator(["1st", "ho"])
    (['21', 'manual'], ['ho'])
    """
    pairs = zip(["", *words], words, strict=False)
    return [
        word
        for before, word in pairs
        if not ORDINAL.match(word)
        and not (word.isdecimal() and len(word) < 3 and before in ANNOTATORS)
    ]


def _key(words: Sequence[str]) -> str:
    unspoken = LABEL_WORDS | IMAGE_WORDS | SPLIT_WORDS.keys()
    if ANNOTATORS & set(words):
        words = _without_annotator(words)
    rest = [word for word in words if word not in unspoken]
    if len(rest) < len(words):
        rest = [w for w in rest if w not in NNUNET_SPLITS]
    return "-".join(word for word in rest if word not in DROPPED)


def plain_volume_name(text: str) -> str:
    """Return a text in letters, digits, ``.``, ``_``, ``-``; nothing if none is left.

    Examples
    --------
    >>> plain_volume_name("Zürich, 2nd day (raw)")
    'Zurich-2nd-day-raw'
    >>> plain_volume_name("Größe 1")
    'Grosse-1'
    >>> plain_volume_name("state")
    'volume-state'
    """
    plain = normalize("NFKD", text.translate(SPELT)).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._")[:LONGEST_NAME]
    return (
        f"volume-{plain}"
        if re.fullmatch(TAKEN_BY_NETWORK, plain, re.IGNORECASE)
        else plain
    )


def choose_names(paths: Sequence[str], fallback: str) -> list[str]:
    """Return a name for each volume: its file's or folder's, made unique.

    Letters that a sheet does not allow become ``-``; ids of many digits are cut where
    they still differ.

    Parameters
    ----------
    paths : sequence of str
        Of each volume's image; of a series its folder.
    fallback : str
        Of a volume that has no name of its own.

    Examples
    --------
    >>> choose_names(["a/raw/1.png", "b/raw/1.png", "b/raw/ü 2.png"], "mine")
    ['a-1', 'b-1', 'u-2']
    """
    lengths = [1] * len(paths)
    parts = [_naming_parts(path) or [fallback] for path in paths]
    while True:
        names = [
            plain_volume_name("-".join(part[-length:])) or fallback
            for part, length in zip(parts, lengths, strict=True)
        ]
        count = Counter(name.casefold() for name in names)
        longer = [
            min(length + 1, len(part)) if count[name.casefold()] > 1 else length
            for part, length, name in zip(parts, lengths, names, strict=True)
        ]
        if longer == lengths:
            break
        lengths = longer
    return _number_twins([plain_volume_name(name) for name in _shorten_ids(names)])


def _naming_parts(path: str) -> list[str]:
    """Return folders and name, without what only says image or labels."""
    parts = list(PurePosixPath(path).parts)
    if parts:
        parts[-1] = split_suffix(parts[-1])[0]
    return [part for part in parts if not says_nothing_else(part)]


def _shorten_ids(names: list[str]) -> list[str]:
    ids = {name for name in names if ID_PATTERN.match(name)}
    length = SHORTEST_ID
    while len({name[:length] for name in ids}) < len(ids):
        length += 1
    return [name[:length] if name in ids else name for name in names]


def _number_twins(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        chosen, number = ENDLESS.sub(r"\1", name[:LONGEST_NAME].rstrip("-._")), 2
        stem = chosen
        while chosen.casefold() in taken:
            chosen, number = f"{stem}-{number}", number + 1
        taken.add(chosen.casefold())
        unique.append(chosen)
    return unique
