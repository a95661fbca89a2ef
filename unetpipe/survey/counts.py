"""Read labels, as many as time allows; what they hold, and what it tells of objects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import pi, sqrt
from pathlib import Path

import numpy as np

from unetpipe.errors import UnetpipeError
from unetpipe.images import ImageReader
from unetpipe.ingestion.palette import Palette
from unetpipe.survey.label_kinds import Counted, Kind, Tally
from unetpipe.survey.roles import RoleRow
from unetpipe.survey.suggestions import VolumePrint
from unetpipe.survey.volumes import Found, open_surveyed_labels
from unetpipe.tiling.boxes import UNKNOWN_SIZE

MOST_VOXELS = 1 << 28  # that are read: some 20 s


def count_labels(
    volumes: Sequence[Found], root: Path, palette: Palette | None = None
) -> tuple[Tally, dict[str, int], list[str]]:
    """Return what labels hold, and the objects' voxels of each volume that was read.

    Sections are chosen evenly where there are more voxels than can be read in a short
    while.

    Parameters
    ----------
    volumes : sequence of Found
        With labels.
    root : Path
        Folder of the originals.
    palette : Palette, optional
        Count classes instead of values.

    Returns
    -------
    Tally
        Of all that was read.
    dict
        Volume -> voxels other than 0, of the volumes of which all was read.
    list of str
        What could not be read, and whether only some was.
    """
    total = sum(volume.num_labelled for volume in volumes)
    share = min(1.0, MOST_VOXELS / max(1, total))
    colours = palette is not None and palette.has_colours
    tally = Tally()
    filled, notes = _count_all(volumes, root, share, tally, colours, palette)
    if tally.has_colours and not colours:  # so that greys of other files are, too
        tally = Tally()
        filled, notes = _count_all(volumes, root, share, tally, True, None)
    elif tally.set_apart is not None and palette is None:
        tally = Tally(marker=tally.set_apart)
        filled, notes = _count_all(volumes, root, share, tally, colours, palette)
    elif tally.is_mask_of_unlabelled:
        tally = Tally(by_custom=False)
        filled, notes = _count_all(volumes, root, share, tally, colours, palette)
    if share < 1:
        count = sum(len(v.annotated) for v in volumes)
        notes.append(
            f"{tally.num_sections} of {count} sections of labels were read; a "
            "value that the others alone hold is not known"
        )
    return tally, filled, notes


def _count_all(
    volumes: Sequence[Found],
    root: Path,
    share: float,
    tally: Tally,
    colours: bool,
    palette: Palette | None,
) -> tuple[dict[str, int], list[str]]:
    """Count a share of the sections of each volume, evenly chosen."""
    filled, notes = dict[str, int](), list[str]()
    owed = 0.0
    for volume in volumes:
        owed += share * len(volume.annotated)
        count = min(int(owed), len(volume.annotated))
        owed -= count
        if not count:
            continue
        try:
            before, values = tally.counted, frozenset[int]()
            for cell in volume.label_cells:
                with open_surveyed_labels(
                    volume, cell, root, colours=colours
                ) as labels:
                    values |= _count(
                        labels, _places(volume, labels), count, tally, palette
                    )
            counted = tally.counted - before
        except (UnetpipeError, OSError) as error:
            notes.append(f"{volume.name}: its labels cannot be read: {error}")
            filled[volume.name] = 0
            continue
        tally.images.append(values)
        tally.volumes[volume.name] = counted
        if count == len(volume.annotated):
            filled[volume.name] = counted.filled
    return filled, notes


def _places(volume: Found, labels: ImageReader) -> Sequence[int]:
    """Return which sections of a file of labels are annotated."""
    is_whole = not volume.boxes and labels.zyx[0] == volume.num_sections
    return volume.annotated if is_whole else range(labels.zyx[0])


def _count(
    labels: ImageReader,
    places: Sequence[int],
    count: int,
    tally: Tally,
    palette: Palette | None,
) -> frozenset[int]:
    """Count some sections of a volume, or of a box of it; return their values."""
    values = set[int]()
    chosen = np.unique(np.linspace(0, len(places) - 1, count).astype(int))
    for section in (places[k] for k in chosen.tolist()):
        given = labels.read_sections(section, section + 1)[:, 0]
        if palette is not None:
            given = palette.translate(given)[0][None]
        values |= tally.add(given)
    return frozenset(values)


def keep_drawn_sections(
    volumes: Sequence[Found], root: Path
) -> tuple[list[Found], list[str]]:
    """Leave out empty sections of stacks of labels of which not all were drawn.

    Where no two drawn sections are neighbours, and most are empty, somebody drew each
    tenth, say: the empty ones are not annotated. Nor are they where an object is drawn
    before and after one, in the same place.

    Parameters
    ----------
    volumes : sequence of Found
        With labels or without.
    root : Path
        Folder of the originals.

    Returns
    -------
    list of Found
        With fewer annotated sections.
    list of str
        What was left out; what is in doubt.
    """
    kept, notes = [], list[str]()
    for volume in volumes:
        drawn, is_bridged = _find_drawn(volume, root)
        count = len(volume.annotated)
        kept.append(volume)
        is_sparse = 0 < 2 * len(drawn) < count
        if not is_sparse and not is_bridged:
            continue
        about = (
            f"{volume.name}: {count - len(drawn)} of {count} sections of labels hold "
        )
        if is_bridged or (len(drawn) > 1 and min(np.diff(drawn)) > 1):
            kept[-1] = replace(volume, annotated=drawn)
            why = "with single drawn ones between"
            if is_bridged:
                why = "though objects are drawn before and after in the same place"
            about += (
                f"nothing but 0, {why}: they are taken as not annotated; if there is "
                "nothing to see in them, add them to the column sections"
            )
        else:
            about += (
                "nothing but 0, and are learnt as background; if nobody annotated "
                "them, take them out of the column sections"
            )
        notes.append(about)
    return kept, notes


def _find_drawn(volume: Found, root: Path) -> tuple[tuple[int, ...], bool]:
    """Return the sections of a stack of labels that hold more than 0.

    And whether one without lies between two of which most of what the smaller one
    holds is in the same place.
    """
    is_stack = len(volume.annotated) == volume.num_sections > 2
    if not is_stack or volume.boxes or volume.kind or volume.num_labelled > MOST_VOXELS:
        return volume.annotated, False
    drawn, before, is_bridged = list[int](), None, False
    try:
        with open_surveyed_labels(volume, volume.labels, root) as labels:
            for z in volume.annotated:
                filled = labels.read_sections(z, z + 1) != 0
                if not filled.any():
                    continue
                if before is not None and z > drawn[-1] + 1:
                    least = min(before.sum(), filled.sum())
                    is_bridged |= bool(2 * (before & filled).sum() > least)
                drawn.append(z)
                before = filled
    except (UnetpipeError, OSError):
        return volume.annotated, False  # counting tells what is wrong
    return tuple(drawn), is_bridged


def count_objects(counted: Counted, kind: Kind) -> tuple[int, int]:
    """Return how many objects there are, section by section, and their voxels."""
    if kind.label_kind == "classes":
        return 0, 0
    is_mask = kind.label_kind == "binary"
    return (counted.components if is_mask else counted.places), counted.filled


def object_diameter(tally: Tally, kind: Kind) -> float | None:
    """Return the diameter of a disc of an object's mean area, in voxels."""
    number, voxels = count_objects(tally.counted, kind)
    return 2 * sqrt(voxels / number / pi) if number else None


def make_volume_prints(
    rows: Sequence[RoleRow], tally: Tally, kind: Kind
) -> list[VolumePrint]:
    """Return one fingerprint for each volume's training sections.

    Counts are those of its sections that were read, carried over to all; of a volume
    that was not read, those of all others.
    """
    return [
        _print(row, tally.volumes.get(row.volume.name, tally.counted), tally, kind)
        for row in rows
        if row.role == "train"
    ]


def _print(row: RoleRow, read: Counted, tally: Tally, kind: Kind) -> VolumePrint:
    header = row.volume.header
    height, width = header.shape[2:]
    area = row.volume.num_labelled * len(row.sections) // len(row.volume.annotated)
    number, filled = count_objects(read, kind)
    shares = [1 - filled / read.voxels, filled / read.voxels]
    if kind.label_kind == "classes":
        shares = _class_shares(tally, kind)
    return VolumePrint(
        volume=row.volume.name,
        section_shape=(height, width),
        num_sections=len(row.sections),
        voxel_size_nm=header.voxel_size_nm or UNKNOWN_SIZE,
        class_counts=tuple(round(area * share) for share in shares),
        num_cells=round(number * area / read.voxels),
        cell_voxels=round(filled * area / read.voxels),
        # So that two dimensions are suggested: each section by itself, fast and never
        # wrong. A note tells where three may do better.
        is_size_known=False,
        has_ids=kind.label_kind in ("instances", "masks"),
    )


def _class_shares(tally: Tally, kind: Kind) -> list[float]:
    """Return which share of all voxels each class has."""
    of_class: Counter[int] = Counter()
    for value, count in tally.voxels.items():
        of_class[_class_of(value, tally, kind)] += count
    return [of_class[k] / of_class.total() for k in range(kind.num_classes)]


def _class_of(value: int, tally: Tally, kind: Kind) -> int:
    key = f"#{value:06x}" if tally.has_colours else str(value)
    return kind.palette.get(key, value) if kind.palette else value
