"""The one step that sees all blocks: from their sums and faces to final ids."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.block_labels import LabelledBlock, Pairs, face_name
from unetpipe.geometry import Zyx
from unetpipe.joining import join_components
from unetpipe.runs import Runs, Sums, paint_runs
from unetpipe.segmentation import Connectivity, face_pairs
from unetpipe.segmentation_home import SegmentationHome

ONCE: Zyx = (0, 0, 0)


def save_labelled(home: SegmentationHome, number: int, block: LabelledBlock) -> None:
    """Keep what later steps need of a labelled block."""
    faces = {face_name(*face): runs for face, runs in block.faces.items()}
    arrays: dict[str, NDArray[Any]] = {
        "runs": block.runs,
        "kinds": block.kinds,
        "sums": block.sums,
        "inside": block.inside,
        "num_foreground": np.array([block.num_foreground]),
    }
    home.labelled.save(home.block_index(number), arrays | faces)


def read_labelled(
    home: SegmentationHome, number: int
) -> tuple[Runs, NDArray[np.uint8]]:
    """Return the runs of a labelled block, and the kinds of its components."""
    runs, kinds = home.labelled.read(home.block_index(number), "runs", "kinds")
    return runs, kinds


def merge_blocks(
    home: SegmentationHome,
    *,
    connectivity: Connectivity,
    smallest: int,
    largest_hole: int,
) -> int:
    """Find the final id of each component of all blocks, and return their number.

    Reads sums and faces, block by block. Memory: some 300 bytes a component.
    """
    kinds, sums, pairs = [], [], [np.zeros((0, 2), np.uint64)]
    offsets, foreground = [0], 0
    for number in range(home.num_blocks):
        index = home.block_index(number)
        of_block = home.labelled.read(
            index, "kinds", "sums", "inside", "num_foreground"
        )
        kinds.append(of_block[0])
        sums.append(of_block[1])
        pairs.append(of_block[2] + np.uint64(offsets[-1]))
        foreground += int(of_block[3][0])
        pairs += _touching(home, number, offsets, connectivity)
        offsets.append(offsets[-1] + len(of_block[0]))
    objects = join_components(
        np.concatenate(kinds),
        np.concatenate(sums),
        np.concatenate(pairs),
        volume_shape=home.geometry.volume_shape,
        connectivity=connectivity,
        smallest=smallest,
        largest_hole=largest_hole,
    )
    home.merged.save(
        ONCE,
        {
            "offsets": np.array(offsets),
            "table": objects.table,
            "kinds": objects.kinds,
            "sums": objects.sums,
            "num_foreground": np.array([foreground]),
        },
    )
    return len(objects.kinds)


def read_objects(home: SegmentationHome) -> tuple[NDArray[np.uint8], Sums, int]:
    """Return kinds and sums of the merged objects, and the foreground's voxels."""
    kinds, sums, foreground = home.merged.read(ONCE, "kinds", "sums", "num_foreground")
    return kinds, sums, int(foreground[0])


class FinalIds:
    """What each block's components are called in the end."""

    def __init__(self, home: SegmentationHome) -> None:
        self._table = home.merged.map(ONCE, "table")
        (self._offsets,) = home.merged.read(ONCE, "offsets")

    def of_block(self, number: int) -> NDArray[np.uint64]:
        """Return the final id of each component of a block; entry 0 is 0."""
        first, last = self._offsets[number : number + 2]
        ids = np.zeros(last - first + 1, np.uint64)
        ids[1:] = self._table[first + 1 : last + 1]
        return ids


def _touching(
    home: SegmentationHome,
    number: int,
    offsets: list[int],
    connectivity: Connectivity,
) -> Iterator[Pairs]:
    """Yield the pairs across the faces to the blocks before this one."""
    index = home.block_index(number)
    shape = home.geometry.block_roi(number).shape
    for axis in range(0 if connectivity == "3d" else 1, 3):
        if index[axis] == 0:
            continue
        before = list(index)
        before[axis] -= 1
        plane = tuple(n for a, n in enumerate(shape) if a != axis)
        sides = ((home.block_number((before[0], before[1], before[2])), 1), (number, 0))
        faces = []
        for of_block, side in sides:
            (runs,) = home.labelled.read(
                home.block_index(of_block), face_name(axis, side)
            )
            table = np.arange(int(runs[:, 2].max(initial=0)) + 1, dtype=np.uint32)
            faces.append(paint_runs(runs, table, plane))
        yield face_pairs(*faces) + np.array(
            [offsets[of_block] for of_block, _ in sides], np.uint64
        )
