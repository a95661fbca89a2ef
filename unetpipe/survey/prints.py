"""What was counted in labels, as the fingerprint that suggestions are made from."""

from collections import Counter
from collections.abc import Sequence
from math import pi, prod, sqrt

from unetpipe.suggestions import VolumePrint
from unetpipe.survey.kinds import Kind, Tally
from unetpipe.survey.rows import RoleRow

UNKNOWN_SIZE = (1.0, 1.0, 1.0)


def count_objects(tally: Tally, kind: Kind) -> tuple[int, int]:
    """Return how many objects there are, section by section, and their voxels."""
    if kind.label_kind == "classes":
        return 0, 0
    voxels = sum(count for value, count in tally.voxels.items() if value)
    is_mask = kind.label_kind == "binary"
    return (tally.pieces if is_mask else tally.places), voxels


def object_diameter(tally: Tally, kind: Kind) -> float | None:
    """Return the diameter of a disc of an object's mean area, in voxels."""
    number, voxels = count_objects(tally, kind)
    return 2 * sqrt(voxels / number / pi) if number else None


def make_prints(rows: Sequence[RoleRow], tally: Tally, kind: Kind) -> list[VolumePrint]:
    """Return one fingerprint for all training sections of each shape.

    Counts are those of the sections that were read, carried over to all.
    """
    sections: Counter[tuple[int, int]] = Counter()
    sizes: dict[tuple[int, int], tuple[float, float, float]] = {}
    for row in rows:
        if row.role == "train":
            _, _, height, width = row.volume.header.shape
            sections[height, width] += len(row.sections)
            size = row.volume.header.voxel_size_nm
            sizes.setdefault((height, width), size or UNKNOWN_SIZE)
    read = sum(tally.voxels.values())
    number, voxels = count_objects(tally, kind)
    if kind.label_kind == "classes":
        of_class: Counter[int] = Counter()
        for value, count in tally.voxels.items():
            of_class[_class_of(value, tally, kind)] += count
        counts = [of_class[k] for k in range(kind.num_classes)]
    else:
        counts = [read - voxels, voxels]
    return [
        VolumePrint(
            volume=f"{height} x {width}",
            section_shape=(height, width),
            num_sections=num_sections,
            voxel_size_nm=sizes[height, width],
            class_counts=tuple(round(n * share) for n in counts),
            num_cells=round(number * share),
            cell_voxels=round(voxels * share),
            # So that two dimensions are suggested: each section by itself, fast and
            # never wrong. A note tells where three may do better.
            is_size_known=False,
        )
        for (height, width), num_sections in sections.items()
        if (share := prod((height, width, num_sections)) / read)
    ]


def _class_of(value: int, tally: Tally, kind: Kind) -> int:
    key = f"#{value:06x}" if tally.has_colours else str(value)
    return kind.palette.get(key, value) if kind.palette else value
