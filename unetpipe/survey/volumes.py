"""From candidates to volumes: cells, headers, and which sections are annotated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePosixPath

import numpy as np

from unetpipe.config.sheet_cells import BETWEEN_BOXES
from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images import ImageReader, Reading, open_image, open_masks
from unetpipe.images.endings import HDF5, split_suffix
from unetpipe.images.files import FILE_AXIS, file_numbers, find_image_files, natural_key
from unetpipe.ingestion.opening import is_empty
from unetpipe.runtime.text import count_noun
from unetpipe.survey.boxes import describe_label_boxes, find_boxes
from unetpipe.survey.cells import sheet_cell_of_series, write_cell
from unetpipe.survey.headers import Header, read_all_colours, read_image_header
from unetpipe.survey.names import JOINED, SHORT_WELL, choose_names, place_in_plate
from unetpipe.survey.pairs import Candidate, list_briefly
from unetpipe.survey.series import SAYS_SECTION
from unetpipe.tiling.boxes import Roi


@dataclass(frozen=True, slots=True)
class Found:
    """One volume as it will stand in the sheet.

    Attributes
    ----------
    name, image, labels : str
        Cells of the sheet; ``labels`` is empty where there are none.
    num_files : int
        Of the image.
    header : Header
        Of the image.
    annotated : tuple of int
        Sections with labels.
    split, kind : str
        What the layout says of role and kind of labels, or nothing.
    is_held : bool
        Whether its split is one between sequences.
    time : int or None
        Time point.
    well, field : str
        Of a plate, or nothing.
    boxes : tuple of Roi
        What labels cover, of which each box has a file that says where it lies; empty:
        they have the image's shape.
    view : str
        Cell of its field of view, or nothing.
    """

    name: str
    image: str
    labels: str
    num_files: int
    header: Header
    annotated: tuple[int, ...] = ()
    split: str = ""
    kind: str = ""
    is_held: bool = False
    time: int | None = None
    well: str = ""
    field: str = ""
    boxes: tuple[Roi, ...] = ()
    view: str = ""

    @property
    def label_cells(self) -> tuple[str, ...]:
        """What names the labels: one cell, or one for each box."""
        return tuple(self.labels.split(BETWEEN_BOXES)) if self.boxes else (self.labels,)

    @property
    def num_labelled(self) -> int:
        """Voxels along y and x of all annotated sections."""
        if self.boxes:
            return sum(box.num_voxels for box in self.boxes)
        return prod(self.header.shape[2:]) * len(self.annotated)

    @property
    def num_sections(self) -> int:
        """Sections of the image."""
        return self.header.shape[1]

    def without_labels(self) -> "Found":
        """Return the volume as it is if its labels cannot be used."""
        return replace(self, labels="", annotated=(), kind="", boxes=())


def find_volumes(
    candidates: Sequence[Candidate], root: Path, fallback: str
) -> tuple[list[Found], list[str]]:
    """Open all headers; return the volumes, and what was left out or is not certain.

    Parameters
    ----------
    candidates : sequence of Candidate
        In any order.
    root : Path
        Folder of the originals.
    fallback : str
        Name of a volume that has none of its own.
    """
    ordered = sorted(_expand(candidates, root), key=lambda c: natural_key(c.images[0]))
    names = choose_names([_naming_path(c) for c in ordered], fallback)
    found, notes = [], list[str]()
    told: dict[str, list[str]] = {}
    for candidate, name in zip(ordered, names, strict=True):
        try:
            volume, about = _describe(candidate, name, root)
        except (UnetpipeError, OSError) as error:
            notes.append(f"{candidate.images[0]} is left out: {error}")
            continue
        for note in about:
            told.setdefault(note, []).append(name)
        found += _at_times(volume)
    notes += [f"{list_briefly(names)}: {note}" for note, names in told.items()]
    kept, more = _of_one_channel_count(_place_in_plates(found), root)
    return kept, notes + more


def open_surveyed_labels(
    volume: Found, cell: str, root: Path, *, colours: bool = False
) -> ImageReader:
    """Open the labels of a volume, or of one of its boxes, as ingesting does.

    Parameters
    ----------
    volume : Found
        With labels.
    cell : str
        One of ``label_cells``.
    root : Path
        Folder of the originals.
    colours : bool
        As where a palette gives colours their classes: greys are colours, too.
    """
    if volume.kind == "masks":
        return open_masks(cell, root)
    how = Reading(
        axes=volume.header.axes,
        time=volume.time,
        is_labels=True,
        has_palette=colours,
    )
    return open_image(cell, root, how)


def _expand(candidates: Iterable[Candidate], root: Path) -> list[Candidate]:
    """Turn sequences whose frames are stacks into a candidate for each such frame."""
    expanded = []
    for candidate in candidates:
        if not (candidate.is_sequence and candidate.kind):
            expanded.append(candidate)
            continue
        try:
            is_flat = (
                read_image_header(write_cell(candidate.images[0]), root).shape[1] == 1
            )
        except (DataError, OSError):
            is_flat = True  # the error comes up again, and is told
        if is_flat:
            expanded.append(candidate)
            continue
        numbered = zip(_numbers(candidate.labels), candidate.labels, strict=True)
        labels = dict(numbered)
        frames = zip(_numbers(candidate.images), candidate.images, strict=True)
        expanded += [
            replace(
                candidate, images=(path,), labels=(labels[number],), is_sequence=False
            )
            for number, path in frames
            if number in labels
        ]
    return expanded


def _naming_path(candidate: Candidate) -> str:
    if candidate.name:
        return candidate.name
    joined = JOINED.sub("", candidate.images[0])
    path = PurePosixPath(joined.split(":")[0])
    stem, ending = split_suffix(path.name)
    if len(candidate.images) > 1 and SAYS_SECTION.search(stem):
        return str(path.with_name(f"{SAYS_SECTION.sub('', stem)}{ending}"))
    return str(path.parent if len(candidate.images) > 1 else path)


def _describe(candidate: Candidate, name: str, root: Path) -> tuple[Found, list[str]]:
    """Return one volume, and notes on it; labels that do not fit are left out."""
    notes = []
    image = _cell(candidate.images, root)
    labels = candidate.labels_cell
    boxes: tuple[Roi, ...] = ()
    if not (candidate.is_sequence or candidate.kind or labels):
        boxes = find_boxes(image, candidate.labels, root)
    if boxes:
        labels = BETWEEN_BOXES.join(map(write_cell, candidate.labels))
    elif candidate.labels and not labels:
        labels = _cell(candidate.labels, root)
    header = read_image_header(image, root, "" if boxes else labels)
    if header.note:
        notes.append(header.note)
    view = write_cell(candidate.view)
    if view and _is_blank(view, root):
        notes.append(
            f"the field of view {view} is left out: it is 0 everywhere, so that "
            "nothing would be learnt"
        )
        view = ""
    volume = Found(
        *(name, image, "", _count_files(candidate, image, root), header),
        split=candidate.split,
        kind=candidate.kind,
        is_held=candidate.is_held,
        well=candidate.well,
        field=candidate.field,
        view=view,
    )
    if not labels:
        return volume, notes
    if boxes:
        reached = {z for box in boxes for z in range(box.start[0], box.stop[0])}
        notes.append(describe_label_boxes(boxes))
        annotated = tuple(sorted(reached))
        return replace(volume, labels=labels, annotated=annotated, boxes=boxes), notes
    try:
        annotated = _check_labels(replace(volume, labels=labels), candidate, root)
    except (UnetpipeError, OSError) as error:
        return volume, [*notes, f"labels are left out: {error}"]
    return replace(volume, labels=labels, annotated=annotated), notes


def _is_blank(view: str, root: Path) -> bool:
    with open_image(view, root, Reading(is_labels=True)) as mask:
        return is_empty(mask)


def _numbers(paths: Sequence[str]) -> list[int | None]:
    return file_numbers([Path(path) for path in paths])


def _count_files(candidate: Candidate, image: str, root: Path) -> int:
    is_joined = FILE_AXIS.search(image)
    return len(find_image_files(image, root)) if is_joined else len(candidate.images)


def _check_labels(volume: Found, candidate: Candidate, root: Path) -> tuple[int, ...]:
    """Return the sections that the labels annotate, if they fit the image."""
    with open_surveyed_labels(volume, volume.labels, root) as labels:
        num_channels, num_sections, *plane = labels.shape
        if volume.header.num_times > 1:
            raise DataError(
                f"the image has {volume.header.num_times} time points, and they are of "
                "one; write a sheet by hand, with a row for that time point"
            )
        if labels.dtype.kind not in "iu":
            raise DataError(
                f"they are {labels.dtype}; save ids of objects as integers, such as "
                "uint32"
            )
        if num_channels not in (1, 3):
            raise DataError(f"they have {num_channels} channels; labels have one")
        if num_channels > 1 and labels.dtype != np.uint8:
            raise DataError(f"their colours are {labels.dtype}; save them with 8 bits")
        # One file a section, for some sections.
        is_partial = candidate.is_sequence and num_sections == len(candidate.labels)
        wanted = volume.header.shape[2:]
        is_whole = num_sections == volume.num_sections
        if tuple(plane) != wanted or not (is_whole or is_partial):
            raise DataError(
                f"the image is {volume.header.shape[1:]} (z, y, x), they are "
                f"{labels.zyx}; they must be alike, voxel on voxel"
                f"{_tell_remedy(volume.header.shape[1:], labels.zyx)}"
            )
    if is_whole:
        return tuple(range(volume.num_sections))
    places = {n: k for k, n in enumerate(_numbers(candidate.images))}
    return tuple(sorted(places[number] for number in _numbers(candidate.labels)))


def _tell_remedy(image: Sequence[int], labels: Sequence[int]) -> str:
    """Return what makes labels fit, of (z, y, x) both, or nothing."""
    sections, *factors = (i / n for i, n in zip(image, labels, strict=True))
    if factors == [1, 1] and sections > 1:
        return (
            ": if they are of successive sections, write into the column labels_at "
            "where they begin (10,0,0 is section 10); if not, save a file for each"
        )
    if sections == 1 and factors[0] == factors[1] != 1:
        return f": scale them by {factors[0]:g}, by nearest neighbours"
    return ""


def _cell(paths: Sequence[str], root: Path) -> str:
    if len(paths) == 1 and any(f"{e}:" in paths[0].lower() for e in HDF5):
        return paths[0]
    cell = sheet_cell_of_series(paths, root)
    if len(paths) == 1 and cell != paths[0] and len(find_image_files(cell, root)) > 1:
        raise DataError(
            f"a sheet can name {paths[0]} only as {cell}, which names other files too; "
            "rename it"
        )
    if not cell:
        raise DataError(
            f"no pattern names {paths[0]} and its {len(paths) - 1} companions alone; "
            "move them into a folder of their own"
        )
    return cell


def _at_times(volume: Found) -> list[Found]:
    if volume.header.num_times == 1:
        return [volume]
    return [
        replace(volume, name=f"{volume.name}-t{time}", time=time)
        for time in range(volume.header.num_times)
    ]


def _place_in_plates(found: Sequence[Found]) -> list[Found]:
    """Return volumes with well and field as their files' names tell them.

    One well alone may be anything; columns without zeros are those of a plate where
    others have two digits.
    """
    places = [place_in_plate(v.image) for v in found]
    if any(well for well, _ in places):
        pairs = zip(places, found, strict=True)
        places = [
            place if place[0] else place_in_plate(v.image, SHORT_WELL)
            for place, v in pairs
        ]
    wells = {well for well, _ in places if well}
    return [
        volume
        if volume.well or len(wells) < 2
        else replace(volume, well=well, field=field)
        for volume, (well, field) in zip(found, places, strict=True)
    ]


def _of_one_channel_count(
    found: list[Found], root: Path
) -> tuple[list[Found], list[str]]:
    """Keep the volumes with as many channels as most annotated ones: a run has one.

    A colour image whose colours are equal, as a black one is, keeps all of them there.
    """
    counts = [volume.header.shape[0] for volume in found]
    if len(set(counts)) < 2:
        return found, []
    learnt = [v.header.shape[0] for v in found if v.annotated]
    most = max(sorted(set(counts)), key=lambda n: (learnt.count(n), counts.count(n)))
    kept, left, grey = list[Found](), list[Found](), list[Found]()
    for volume in found:
        header: Header | None = volume.header
        if volume.header.shape[0] == 1 < most and not volume.header.axes:
            header = read_all_colours(volume.image, root)
        if header is None or header.shape[0] != most:
            left.append(volume)
            continue
        kept.append(replace(volume, header=header))
        grey += [volume] * (header is not volume.header)
    notes = []
    if grey:
        notes.append(
            f"{list_briefly(v.name for v in grey)}: red, green and blue are equal, and "
            f"all {most} are kept, as the other images have them (column axes)"
        )
    if left:
        notes.append(
            f"{count_noun(len(left), 'volume')} left out: not of {most} channel"
            f"{'s' * (most > 1)} as the other {len(kept)}: "
            f"{list_briefly(volume.image for volume in left)}; a run has one number of "
            "channels: make a sheet for each kind"
        )
    return kept, notes
