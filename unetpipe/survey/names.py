"""What names of files and folders say: image or labels, which split, which number."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

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
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validate"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NNUNET_SPLITS = {"tr": "train", "ts": "test"}  # imagesTr, labelsTs
NNUNET_CHANNEL = re.compile(r"_\d{4}$")
DROPPED = frozenset(("ground", "derivatives"))  # beside labels: they tell nothing more
SUFFIXES = (
    *(".ome.tiff", ".ome.tif", ".tiff", ".tif", ".png"),
    *(".h5.gz", ".hdf5.gz", ".hdf.gz", ".h5", ".hdf5", ".hdf", ".ome.zarr", ".zarr"),
)


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


@lru_cache(maxsize=1 << 16)
def read_name(path: str) -> Name:
    """Return what a path says.

    Examples
    --------
    >>> name = read_name("train_masks/cell-007_mask.png")
    >>> name.is_labels, name.split, name.stem_key, name.number
    (True, 'train', 'cell-007', 7)
    """
    *folders, last = PurePosixPath(path).parts
    stem, _ = split_suffix(last)
    splits, keys, spoken = [], [], ""
    for folder in folders:
        words = _words(folder)
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
    words = _words(stem)
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


def split_suffix(name: str) -> tuple[str, str]:
    """Return the name of a file without its ending, and the ending.

    Examples
    --------
    >>> split_suffix("cortex.ome.tif")
    ('cortex', '.ome.tif')
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return name, ""


def says_nothing_else(text: str) -> bool:
    """Return whether a name says image or labels, and nothing more."""
    return not set(_words(text)) - IMAGE_WORDS - LABEL_WORDS


def _words(text: str) -> list[str]:
    """Return the words of a name in lower case; a number at a word's end is a word."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    pieces = re.findall(r"[^\W_]+", apart)
    return [
        word.lower()
        for piece in pieces
        for word in re.findall(r"^.*?\D(?=\d+$)|\d+$|^.*\D$", piece)
    ]


def _key(words: Sequence[str]) -> str:
    unspoken = LABEL_WORDS | IMAGE_WORDS | SPLIT_WORDS.keys()
    rest = [word for word in words if word not in unspoken]
    if len(rest) < len(words):
        rest = [w for w in rest if w not in NNUNET_SPLITS]
    return "-".join(word for word in rest if word not in DROPPED)
