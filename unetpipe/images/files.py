"""Which files a source and a cell of the sheet name, without opening any image."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import translate
from itertools import zip_longest
from pathlib import Path, PosixPath
from typing import Any, Literal
from unicodedata import normalize

from unetpipe.errors import ConfigError, DataError
from unetpipe.images.archive_kind import archive_kind
from unetpipe.images.endings import PICTURES, SECTIONS

SourceKind = Literal["phantom", "url", "archive", "folder"]
PHANTOM = "phantom:cells"
PROTOCOLS = ("http", "https")
HDF5_CELL = re.compile(
    r"^(.+\.(?:h5|hdf5|hdf|ims|czi|nd2|lif)(?:\.gz)?)(?::(.*))?$", re.IGNORECASE
)
SEQUENCE_FOLDER = re.compile(r"^(\d+)_(GT|ST)$")

# An address, perhaps of another form than Zarr: precomputed://gs://bucket/a, n5://...
REMOTE = re.compile(
    r"^(?:(?P<form>precomputed|n5)://|zarr://)?(?P<address>(?:s3|gs|https?)://.+)$"
)
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
# Parts of a path that tell channels, or sections, apart; or list the channels.
FILE_AXIS = re.compile(r"<(z|c(?::[^<>/]+)?)>")
# How letters with accents are written: as one character, or as two.
FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")

# In a name; with decimals only as a length.
NUMBER = re.compile(r"(\d+\.\d+(?=[ _]?(?:nm|um|µm|μm|mm))|\d+)", re.IGNORECASE)
# What ends in a hyphen that may be a sign, whatever other names say: a_-1, z-1.
AFTER_SEPARATOR = re.compile(r"(?:^|[_ =/])-$")
OF_Z = re.compile(r"(?:^|[\W\d_])z-$", re.IGNORECASE)
LONG_ENDINGS = {".tiff": ".tif", ".jpeg": ".jpg"}

Numbered = dict[int, Path]


def source_kind(source: str) -> SourceKind:
    """Return what the configuration's ``source`` is.

    Raises
    ------
    ConfigError
        If it names an unknown phantom or protocol.
    DataError
        If it is a path and nothing, or nothing that can be unpacked, is there.
    """
    if source.startswith("phantom:"):
        if source != PHANTOM:
            raise ConfigError(f"source is {source!r}; the one phantom is {PHANTOM}")
        return "phantom"
    if match := re.match(r"^([A-Za-z][A-Za-z0-9+.-]+)://", source):
        if match[1].lower() not in PROTOCOLS:
            raise ConfigError(
                f"source is {source!r}; use {' or '.join(PROTOCOLS)}, or the path of a "
                "local archive or folder"
            )
        return "url"
    path = Path(source).expanduser()
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise DataError(
            f"source is {source!r}, but there is no file or folder {path.absolute()}; "
            f"give a URL, an archive, a folder, or {PHANTOM}"
        )
    if archive_kind(path) is None:
        raise DataError(
            f"source is the file {path}, which is no archive (zip, tar, tar.gz, "
            f"tar.bz2, tar.xz, gz); for plain images give their folder, {path.parent}"
        )
    return "archive"


class Address(PosixPath):
    """An address, which is written as one: ``s3://bucket/a.zarr``.

    Nothing is there on the disk. ``num_bytes`` and ``sha256`` are of the metadata that
    were read from it.
    """

    num_bytes: int = 0
    sha256: str = ""

    def __str__(self) -> str:
        """Return the address with both slashes."""
        return re.sub(r"^(\w+):/+", r"\1://", super().__str__())


def is_remote(cell: str) -> bool:
    """Return whether a cell is an address, not a path."""
    return REMOTE.match(cell.strip()) is not None


def find_image_files(cell: str, root: Path) -> list[Path]:
    """Return the files that a cell names, without opening them; [] if none exist.

    Labels of the Cell Tracking Challenge come with their markers and silver labels.
    """
    paths = found[0] if (found := find_alternative(cell, root)) else []
    if len(paths) == 1 and paths[0].is_dir():
        if is_zarr_image(paths[0]):
            return sorted(paths[0].glob("*.json")) or sorted(paths[0].glob(".z*"))
        paths = section_files(paths[0])
    is_gold, markers, silver = label_companions(paths) if paths else (False, {}, {})
    return [*paths, *markers.values(), *(silver.values() if is_gold else ())]


def find_alternative(cell: str, root: Path) -> tuple[list[Path], str, str] | None:
    """Return files, alternative and HDF5 dataset of the first alternative there is."""
    for alternative in (part.strip() for part in cell.split("|")):
        match = HDF5_CELL.match(alternative)
        paths = _find(match[1] if match else alternative, root) if alternative else []
        if paths:
            return paths, alternative, match[2] or "" if match else ""
    return None


def _find(pattern: str, root: Path) -> list[Path]:
    path = path_as_spelled(root / Path(pattern).expanduser())
    refuse_dangling_image(path)
    if path.exists():
        return [path]
    if FILE_AXIS.search(pattern):
        looks_like = file_name_pattern(pattern)
        found = _find(FILE_AXIS.sub("*", pattern), root)
        return [p for p in found if looks_like.search(normalize("NFC", p.as_posix()))]
    if not re.search(r"[*?\[]", pattern):
        return []
    parts = Path(pattern).expanduser().parts
    first = next(k for k, part in enumerate(parts) if re.search(r"[*?\[]", part))
    base = path_as_spelled(root.joinpath(*parts[:first]))
    rest = str(Path(*parts[first:]))
    spelled = {normalize(form, rest) for form in FORMS} | {rest}
    matching = {path for pattern in spelled for path in base.glob(pattern)}
    found = without_hidden(matching, base)
    for path in found:
        refuse_dangling_image(path)
    names = {path: path.relative_to(base).as_posix() for path in found}
    key = series_key(list(names.values()))
    return sorted(found, key=lambda path: key(names[path]))


def file_name_pattern(cell: str) -> re.Pattern[str]:
    """Return what the end of a path looks like, with groups ``c`` and ``z``.

    Parameters
    ----------
    cell : str
        With ``<z>``, which stands for a number, ``<c>`` for a number or a word, or
        ``<c:er,mito>`` for one of those words.

    Examples
    --------
    >>> file_name_pattern("a_z<z>_<c>.tif").search("/data/a_z07_DAPI.tif").groupdict()
    {'z': '07', 'c': 'DAPI'}
    """
    parts = FILE_AXIS.split(normalize("NFC", cell))
    looks_like = _as_regular(parts[0])
    for axis, text in zip(parts[1::2], parts[2::2], strict=True):
        name, _, listed = axis.partition(":")
        words = "|".join(map(re.escape, listed.split(","))) or r"[^/]+?"
        group = rf"(?P<{name}>\d+)" if name == "z" else f"(?P<c>{words})"
        if f"(?P<{name}>" in looks_like:
            group = f"(?P={name})"
        looks_like += group + _as_regular(text)
    return re.compile(f"(?:^|/){looks_like}$")


def listed_channels(cell: str) -> list[str]:
    """Return the channels that a cell lists, in this order; none where it does not.

    Examples
    --------
    >>> listed_channels("masks/<c:er,mito>/a.png")
    ['er', 'mito']
    """
    axes = (axis.partition(":") for axis in FILE_AXIS.findall(cell))
    return next((listed.split(",") for _, _, listed in axes if listed), [])


def _as_regular(pattern: str) -> str:
    """Return a file pattern as a regular expression, without its end."""
    return re.sub(r"^\(\?s:(.*)\)\\[zZ]$", r"\1", translate(pattern), flags=re.DOTALL)


def path_as_spelled(path: Path) -> Path:
    """Return the path as the disk spells it.

    The same letter with an accent may be one character or two; systems differ in what
    they write, and show both alike.
    """
    if path.exists() or path.is_symlink() or path.parent == path:
        return path
    parent = path_as_spelled(path.parent)
    wanted = normalize("NFC", path.name)
    if parent.is_dir() and not wanted.isascii():
        for entry in parent.iterdir():
            if normalize("NFC", entry.name) == wanted:
                return entry
    return parent / path.name


def refuse_dangling_image(path: Path) -> None:
    """Refuse an image file that is a link to nothing: voxels never fetched.

    Raises
    ------
    DataError
        With the link and where it points.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link to {path.readlink()}, which is not there; fetch the "
            "content (git annex get, datalad get), or remove the link"
        )


def without_hidden(paths: Iterable[Path], root: Path) -> list[Path]:
    """Leave out what file managers and archivers hide below the root."""
    return [
        path
        for path in paths
        if not any(
            part.startswith(".") or part == "__MACOSX"
            for part in path.relative_to(root).parts
        )
    ]


def section_files(folder: Path) -> list[Path]:
    """Return the sections in a folder, in natural order."""
    files = [
        path
        for path in without_hidden(folder.iterdir(), folder)
        if path.suffix.lower() in SECTIONS and not path.is_dir()
    ]
    for path in files:
        refuse_dangling_image(path)
    if not files:
        files = [
            path
            for path in without_hidden(folder.iterdir(), folder)
            if path.suffix.lower() in PICTURES
        ]
    endings = (path.suffix.lower() for path in files)
    kinds = sorted({LONG_ENDINGS.get(ending, ending) for ending in endings})
    if len(kinds) > 1:
        raise DataError(
            f"{folder} holds sections as {' and '.join(kinds)}; name one kind in the "
            f"sheet, as {folder.name}/*{kinds[0]}"
        )
    if not files:
        raise DataError(
            f"{folder} holds no PNG or TIFF; name a file, or a folder of sections"
        )
    key = series_key([path.name for path in files])
    return sorted(files, key=lambda path: key(path.name))


def is_zarr_image(path: Path) -> bool:
    """Return whether a folder is an image in Zarr, of either format."""
    return any((path / n).is_file() for n in ("zarr.json", ".zgroup", ".zarray"))


def label_companions(labels: Sequence[Path]) -> tuple[bool, Numbered, Numbered]:
    """Return whether labels are gold, and the markers and silver labels beside them.

    The folders are those of the Cell Tracking Challenge: see ``images.frames``.

    Parameters
    ----------
    labels : sequence of Path
        Files in ``01_GT/SEG`` or ``01_ST/SEG``; of others nothing is known.
    """
    match = SEQUENCE_FOLDER.match(labels[0].parent.parent.name)
    if labels[0].parent.name != "SEG" or not match:
        return False, {}, {}
    root, sequence = labels[0].parent.parent.parent, match[1]
    markers = files_by_number(root.glob(f"{sequence}_GT/TRA/man_track*.tif"))
    silver = files_by_number(root.glob(f"{sequence}_ST/SEG/man_seg*.tif"))
    return match[2] == "GT", markers, silver


def files_by_number(files: Iterable[Path]) -> Numbered:
    """Return files by the last number in their names, rising."""
    numbered = {file_number(path): path for path in files}
    return {n: numbered[n] for n in sorted(k for k in numbered if k is not None)}


def file_numbers(files: Sequence[Path]) -> list[int | None]:
    """Return the number of each file of a series: the one that tells them apart.

    Where names differ in more than one number, or in words, it is the last.

    Examples
    --------
    >>> file_numbers([Path("case_001_0000.png"), Path("case_002_0000.png")])
    [1, 2]
    >>> file_numbers([Path("a3.png"), Path("b4_v2.png")])
    [3, 2]
    """
    names = [re.split(r"(\d+)", path.stem) for path in files]
    words = {tuple(name[::2]) for name in names}
    if len(words) == 1 and len(names) > 1:
        numbers = [[int(part) for part in name[1::2]] for name in names]
        varying = [
            k for k, own in enumerate(zip(*numbers, strict=True)) if len(set(own)) > 1
        ]
        if len(varying) == 1:
            return [own[varying[0]] for own in numbers]
    return [file_number(path) for path in files]


def file_number(path: Path) -> int | None:
    """Return the last number in a file's name.

    Examples
    --------
    >>> file_number(Path("01_GT/SEG/man_seg067.tif"))
    67
    """
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else None


def series_key(names: Sequence[str]) -> Callable[[str], tuple[Any, ...]]:
    """Return a key that sorts the names of one series by their numbers.

    A hyphen is a sign where other names have none at that place and no other reading
    makes sense: z-1, z0, z1, but not cell-1, cell-2, cell1, cell2.
    """
    numbers: dict[tuple[str, ...], list[list[str]]] = {}
    for name in names:
        parts = NUMBER.split(name)
        numbers.setdefault(tuple(parts[::2]), []).append(parts[1::2])
    signs = {
        (own, k)
        for own, with_hyphen in numbers.items()
        for k, word in enumerate(own[:-1])
        if word.endswith("-")
        and (plain := numbers.get((*own[:k], word[:-1], *own[k + 1 :])))
        and _is_sign(word, *({float(n[k]) for n in ns} for ns in (with_hyphen, plain)))
    }

    def key(name: str) -> tuple[Any, ...]:
        own = tuple(NUMBER.split(name)[::2])
        return natural_key(name, {k for k in range(len(own)) if (own, k) in signs})

    return key


def _is_sign(word: str, below: set[float], others: set[float]) -> bool:
    """Tell whether the hyphen that ends a word is a sign, not a separator.

    Parameters
    ----------
    word : str
        What stands before the number.
    below, others : set of float
        The numbers with a hyphen there, and those without.
    """
    if 0 in below:
        return False
    if AFTER_SEPARATOR.search(word):
        return True
    if OF_Z.search(word):
        return 0 in others or not below & others
    is_run = len(below) + len(others) == max(below) + max(others) + 1
    return 0 in others and len(others) > 1 and is_run


def natural_key(text: str, signed: Collection[int] = ()) -> tuple[Any, ...]:
    """Return a key that sorts numbers by value: 2.png before 10.png.

    Lengths may have decimals: 0.25um is less than 0.5um. Of the numbers whose places
    are ``signed`` the hyphen before them is a sign.

    Examples
    --------
    >>> sorted(["10.png", "2.png", "1.png"], key=natural_key)
    ['1.png', '2.png', '10.png']
    """
    parts = NUMBER.split(text)
    values = [float(n) if "." in n else int(n) for n in parts[1::2]]
    for k in signed:
        parts[2 * k], values[k] = parts[2 * k].removesuffix("-"), -values[k]
    words = [(-1, word) for word in parts[::2]]
    numbered = ((value, "") for value in values)
    pairs = zip_longest(words, numbered, fillvalue=(-1, ""))
    return (*(part for pair in pairs for part in pair), (-1, text))
