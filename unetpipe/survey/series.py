"""Files that belong together: layouts that a convention fixes, numbered sections."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from unetpipe.images.endings import CHANNELS, PICTURES, SECTIONS, split_suffix
from unetpipe.images.files import natural_key, series_key
from unetpipe.runtime.text import count_noun
from unetpipe.survey.cells import sheet_cell_of_series, write_cell
from unetpipe.survey.headers import Header, compare_neighbours
from unetpipe.survey.names import GRID_WELL, Name, parse_file_name, words_of
from unetpipe.survey.pairs import Candidate, list_briefly

FRAME = re.compile(r"^((?:.*/)?\d{2,})/t\d+\.tiff?$", re.IGNORECASE)
ANNOTATION = re.compile(r"^((?:.*/)?\d{2,})_(GT|ST)/SEG/man_seg\D*\d+.*\.tiff?$")
COMPANION = re.compile(r"^((?:.*/)?\d{2,})_[A-Z_]+/")  # also 01_RES, 01_ERR_SEG, TRA
FEWEST_SECTIONS = 2
MOST_CHANNELS = 8
# Channels and sections in names: a_z00_ch01, x_0001 (nnU-Net), x_DAPI.
CHANNEL = re.compile(r"(?<=[^A-Za-z])(?:channel|ch|c|w)[-_]?(\d{1,2})(?!\d)", re.I)
LETTER = re.compile(r"(?<=[^A-Za-z])[cw][-_]?<c>", re.IGNORECASE)
NNUNET, NNUNET_FOLDER = re.compile(r"_(\d{4})$"), {"tr", "ts"}
STAIN = re.compile(
    r"(?<=[^A-Za-z])(dapi|hoechst|gfp|yfp|cfp|rfp|mcherry|fitc|tritc|cy[357]|bf|phase)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
SECTION = re.compile(r"((?<=[^A-Za-z])(?:z|slice|plane)[-_]?)(\d+)(?!.*\d*/)", re.I)
# r01c01f01p03-ch1: the microscope's planes of a field.
PLANE_OF_FIELD = re.compile(r"((?<=\d)p)(\d+)(?=-ch)", re.IGNORECASE)
SAYS_SECTION = re.compile(r"(?<=[^A-Za-z])z[-_]?\d+$", re.IGNORECASE)


def find_sequences(
    paths: Sequence[str],
) -> tuple[list[Candidate], list[str], list[str]]:
    """Return sequences of the Cell Tracking Challenge, what is left, and notes.

    With labels of several sequences, all but the last train and the last is tested
    on: there by gold labels, in training by silver ones, which cover every frame.
    """
    frames: dict[str, list[str]] = defaultdict(list)
    annotated: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in paths:
        if match := FRAME.match(path):
            frames[match[1]].append(path)
        if match := ANNOTATION.match(path):
            annotated[match[1], match[2]].append(path)
    # Numbered folders of t000.tif alone may be anything: one must have its labels, or
    # no other kind of file lie around.
    sequences = sorted(frames, key=natural_key)
    companions = {m[1] for path in paths if (m := COMPANION.match(path))}
    if not companions & set(sequences):
        return [], list(paths), []
    known = set(sequences)
    left = [
        path
        for path in paths
        if not (m := FRAME.match(path) or COMPANION.match(path)) or m[1] not in known
    ]
    with_labels = [s for s in sequences if annotated[s, "GT"] or annotated[s, "ST"]]
    tested = with_labels[-1] if len(with_labels) > 1 else ""
    found, notes = [], []
    for sequence in sequences:
        split = "test" if sequence == tested else "train" if tested else ""
        order = ("GT", "ST") if sequence == tested or not tested else ("ST", "GT")
        kind = next((k for k in order if annotated[sequence, k]), "")
        labels = (
            tuple(sorted(annotated[sequence, kind], key=natural_key)) if kind else ()
        )
        images = tuple(sorted(frames[sequence], key=natural_key))
        split = split if labels else ""
        found.append(
            Candidate(
                *(images, labels, split, "instances"),
                is_sequence=True,
                is_held=bool(tested),
            )
        )
        if labels:
            made = "gold, drawn by people" if kind == "GT" else "silver, by programs"
            notes.append(
                f"sequence {sequence}: labels of {len(labels)} of {len(images)} frames "
                f"from {sequence}_{kind}/SEG ({made})"
            )
    if tested:
        rest = list_briefly(s for s in with_labels if s != tested)
        notes.insert(0, f"Cell Tracking Challenge: trains on {rest}, tests on {tested}")
    return found, left, notes


def find_mask_folders(
    paths: Sequence[str],
) -> tuple[list[Candidate], list[str], list[str]]:
    """Return images with one mask file for each object, what is left, and notes.

    ::

        ID/images/ID.png       one image a folder
        ID/masks/*.png         its objects, whose names have nothing of the image's
    """
    images: dict[str, list[str]] = defaultdict(list)
    masks: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        name, parent = parse_file_name(path), str(PurePosixPath(path).parent.parent)
        folder = parse_file_name(f"{PurePosixPath(path).parent.name}/x.png")
        if parent == "." or len(PurePosixPath(path).parts) < 3:
            continue
        if folder.is_labels and path.lower().endswith(SECTIONS):
            masks[parent].append(path)
        elif folder.says_image and not name.is_labels:
            images[parent].append(path)
    folders = [p for p in images if len(images[p]) == 1 and masks[p]]
    is_layout = any(
        len(masks[p]) > 1 and not _share_names(images[p][0], masks[p]) for p in folders
    )
    if not is_layout:
        return [], list(paths), []
    found = []
    for parent in folders:
        split = parse_file_name(images[parent][0]).split
        labels = tuple(sorted(masks[parent], key=natural_key))
        found.append(Candidate((images[parent][0],), labels, split, "masks"))
    used = {path for c in found for path in (*c.images, *c.labels)}
    note = (
        f"{len(found)} folder{'s' * (len(found) > 1)} with one image and a mask file "
        "for each object"
    )
    return found, [path for path in paths if path not in used], [note]


def _share_names(image: str, labels: Sequence[str]) -> bool:
    key = parse_file_name(image).stem_key
    return bool(key) and all(
        parse_file_name(p).stem_key.startswith(key) for p in labels
    )


def join_channel_files(names: Sequence[Name]) -> tuple[list[Name], list[str]]:
    """Return names in which files of channels, and of their sections, are one.

    ::

        a_z00_ch00.tif a_z00_ch01.tif ...     a_z<z>_ch<c>.tif
        imagesTr/x_0000.tif x_0001.tif        imagesTr/x_<c>.tif
        x_DAPI.tif x_GFP.tif                  x_<c>.tif

    All groups must have the same channels, and all of their sections.
    """
    groups: dict[str, list[tuple[str, Name]]] = defaultdict(list)
    for name in names:
        cell, channel = _cell_of_channel(name)
        if cell:
            groups[cell].append((channel, name))
    sets = {cell: frozenset(c for c, _ in own) for cell, own in groups.items()}
    joined, torn = dict[str, Name](), list[str]()
    for cell, own in groups.items():
        channels = sets[cell]
        alike = [other for other, found in sets.items() if found == channels]
        # A single letter may count cells as well as channels.
        is_sure = len(alike) > 1 or "<z>" in cell or not LETTER.search(cell)
        is_whole = len(own) % len(channels) == 0 and 1 < len(channels) <= MOST_CHANNELS
        if is_whole and is_sure:
            joined |= {name.path: parse_file_name(cell) for _, name in own}
        elif is_sure and 1 < len(channels) <= MOST_CHANNELS:
            torn.append(cell)
    notes = [
        f"{list_briefly(torn)}: some channels lack some sections, so each file stays "
        "an image of its own; add the files that are missing"
    ] * bool(torn)
    if not joined:
        return list(names), notes
    kept = [name for name in names if name.path not in joined]
    cells = list(dict.fromkeys(name.path for name in joined.values()))
    numbers = sorted({len(sets[cell]) for cell in cells})
    note = (
        f"{len(joined)} files are the channels of {count_noun(len(cells), 'image')} in "
        f"files of their own ({', '.join(map(str, numbers))} each), and are joined: "
        f"{list_briefly(cells, 2)}"
    )
    return kept + [parse_file_name(cell) for cell in cells], [note, *notes]


def join_section_files(names: Sequence[Name]) -> list[Name]:
    """Return names in which files of the sections of labels are one."""
    groups: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        groups[SECTION.sub(r"\1<z>", write_cell(name.path))].append(name)
    return [
        replace(parse_file_name(cell), is_labels=True) if len(own) > 1 else own[0]
        for cell, own in groups.items()
    ]


def _cell_of_channel(name: Name) -> tuple[str, str]:
    """Return the cell in which a file is one channel, and which; or nothing twice."""
    folder, _, last = write_cell(name.path).rpartition("/")
    stem, suffix = split_suffix(last)
    is_nnunet = NNUNET_FOLDER & set(words_of(folder)) and name.says_image
    # The column of a well is no channel.
    searched = GRID_WELL.sub(lambda well: "_" * len(well[0]), stem)
    match = NNUNET.search(stem) if is_nnunet else None
    match = match or CHANNEL.search(searched) or STAIN.search(searched)
    if match is None or match.start(1) == 0 or not suffix.lower().endswith(CHANNELS):
        return "", ""
    rest = f"{stem[: match.start(1)]}<c>{stem[match.end(1) :]}"
    if suffix.lower().endswith(SECTIONS):
        rest = SECTION.sub(r"\1<z>", PLANE_OF_FIELD.sub(r"\1<z>", rest))
    return f"{folder}{'/' * bool(folder)}{rest}{suffix}", match[1]


@dataclass(slots=True)
class SeriesFinder:
    """Puts files of one section each together, and remembers why.

    Parameters
    ----------
    root : Path
        Folder of the originals.
    images : str
        ``independent``, ``stack``, or ``auto``: compare neighbours.
    headers : mapping
        Path -> header of each image.
    """

    root: Path
    images: str
    headers: Mapping[str, Header]
    judged: dict[bool, list[str]] = field(default_factory=dict)
    unlike: list[str] = field(default_factory=list)

    def find(self, images: Sequence[Name]) -> tuple[list[list[Name]], list[Name]]:
        """Return groups of files that are sections of one volume, and all others."""
        groups: dict[object, list[Name]] = defaultdict(list)
        for name in images:
            is_flat = self.headers[name.path].shape[1] == 1
            is_section = is_flat and name.path.lower().endswith((*SECTIONS, *PICTURES))
            groups[name.series if is_section else name.path].append(name)
        series, single = [], list[Name]()
        for group in groups.values():
            key = series_key([name.path for name in group])
            group.sort(key=lambda name: key(name.path))
            if len(group) >= FEWEST_SECTIONS and self._is_series(group):
                series.append(group)
            else:
                single += group
        return series, single

    def notes(self) -> list[str]:
        """Say what numbered files of one size are taken for, and how to say no."""
        found = []
        if self.unlike:
            found.append(
                f"{list_briefly(self.unlike)} differ in size, type or ending, so each "
                "stays a volume"
            )
        for is_series, groups in self.judged.items():
            meaning = (
                "the sections of one volume each; if each file is an image of its own: "
                "--images independent"
                if is_series
                else "images of their own; if they are the sections of one volume: "
                "--images stack"
            )
            found.append(
                f"numbered files of one size: {list_briefly(groups, 2)} are taken as "
                f"{meaning}"
            )
        return found

    def _is_series(self, group: Sequence[Name]) -> bool:
        """Decide whether files are the sections of one volume."""
        if self.images == "independent":
            return False
        folder, paths = group[0].folder, [name.path for name in group]
        about = f"the {len(group)} files of {'the folder' if folder == '.' else folder}"
        kinds = {(self.headers[p].shape, self.headers[p].dtype) for p in paths}
        if len(kinds) > 1 or not sheet_cell_of_series(paths, self.root):
            self.unlike += [about] if self.images == "stack" else []
            return False
        stems = [split_suffix(PurePosixPath(path).name)[0] for path in paths]
        if self.images == "stack" or all(map(SAYS_SECTION.search, stems)):
            return True
        numbers = {name.number for name in group if name.number is not None}
        if len(numbers) < len(group):
            return False
        missing = max(numbers) - min(numbers) + 1 - len(numbers)
        gaps = f", {missing} missing in between" if missing else ""
        likeness = compare_neighbours(paths, self.root)
        if likeness is None:
            self.judged.setdefault(False, []).append(f"{about} (too few to compare)")
            return False
        self.judged.setdefault(likeness.is_series, []).append(
            f"{about}{gaps} (neighbours correlate by {likeness.near:.2f}, files far "
            f"apart by {likeness.far:.2f})"
        )
        return likeness.is_series
