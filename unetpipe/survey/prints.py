"""What was counted in labels, as the fingerprint that suggestions are made from."""

from collections import Counter
from collections.abc import Sequence
from math import pi, sqrt

from unetpipe.survey.label_kinds import Counted, Kind, Tally
from unetpipe.survey.rows import RoleRow
from unetpipe.survey.suggestions import VolumePrint

UNKNOWN_SIZE = (1.0, 1.0, 1.0)


def count_objects(counted: Counted, kind: Kind) -> tuple[int, int]:
    """Return how many objects there are, section by section, and their voxels."""
    if kind.label_kind == "classes":
        return 0, 0
    is_mask = kind.label_kind == "binary"
    return (counted.pieces if is_mask else counted.places), counted.filled


def object_diameter(tally: Tally, kind: Kind) -> float | None:
    """Return the diameter of a disc of an object's mean area, in voxels."""
    number, voxels = count_objects(tally.counted, kind)
    return 2 * sqrt(voxels / number / pi) if number else None


def make_prints(rows: Sequence[RoleRow], tally: Tally, kind: Kind) -> list[VolumePrint]:
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
    area = height * width * len(row.sections)
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
