"""Read labels, all of them or as many as time allows, and count what they hold."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from unetpipe.errors import UnetpipeError
from unetpipe.survey.label_kinds import Counted, Tally
from unetpipe.survey.volumes import Found, open_labels

MOST_VOXELS = 1 << 28  # that are read: some 20 s


def count_labels(
    volumes: Sequence[Found], root: Path
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

    Returns
    -------
    Tally
        Of all that was read.
    dict
        Volume -> voxels other than 0, of the volumes of which all was read.
    list of str
        What could not be read, and whether only some was.
    """
    tally, filled, notes = Tally(), dict[str, int](), list[str]()
    total = sum(len(v.annotated) * prod(v.header.shape[2:]) for v in volumes)
    share = min(1.0, MOST_VOXELS / max(1, total))
    owed = 0.0
    for volume in volumes:
        owed += share * len(volume.annotated)
        count = min(int(owed), len(volume.annotated))
        owed -= count
        if not count:
            continue
        try:
            values, counted = _count(volume, root, count, tally)
        except (UnetpipeError, OSError) as error:
            notes.append(f"{volume.name}: its labels cannot be read: {error}")
            filled[volume.name] = 0
            continue
        tally.images.append(values)
        tally.volumes[volume.name] = counted
        if count == len(volume.annotated):
            filled[volume.name] = counted.filled
    if share < 1:
        count = sum(len(v.annotated) for v in volumes)
        notes.append(
            f"{tally.num_sections} of {count} sections of labels were read; a "
            "value that the others alone hold is not known"
        )
    return tally, filled, notes


def _count(
    volume: Found, root: Path, count: int, tally: Tally
) -> tuple[frozenset[int], Counted]:
    """Count some sections of a volume; return their values, and what they hold."""
    values, before = set[int](), tally.counted
    with open_labels(volume, root) as labels:
        chosen = np.unique(np.linspace(0, labels.zyx[0] - 1, count).astype(int))
        for section in chosen.tolist():
            values |= tally.add(labels.read_sections(section, section + 1)[:, 0])
    return frozenset(values), tally.counted - before
