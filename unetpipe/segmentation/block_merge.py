"""The one step that sees all blocks: from their sums and faces to final ids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.block_labels import LabelledBlock, connected_axes, face_name
from unetpipe.segmentation.components import pairs_of_runs
from unetpipe.segmentation.merging import join_components
from unetpipe.segmentation.runs import Runs, Sums, pack_runs, unpack_runs
from unetpipe.segmentation.store import SegmentationHome
from unetpipe.segmentation.thresholds import Connectivity
from unetpipe.tiling.boxes import Zyx, as_zyx

ONCE: Zyx = (0, 0, 0)
RUNS = ("gaps", "lengths", "ids")


def save_labelled(home: SegmentationHome, number: int, block: LabelledBlock) -> None:
    """Keep what later steps need of a labelled block."""
    faces = {face_name(*face): runs for face, runs in block.faces.items()}
    arrays: dict[str, NDArray[Any]] = {
        **dict(zip(RUNS, pack_runs(block.runs), strict=True)),
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
    kinds, *packed = home.labelled.read(home.block_index(number), "kinds", *RUNS)
    return unpack_runs(*packed), kinds


def merge_blocks(
    home: SegmentationHome,
    *,
    connectivity: Connectivity,
    smallest: int,
    largest_hole: int,
) -> int:
    """Find the final id of each component of all blocks, and return their number.

    Reads sums and faces, block by block. Memory: some 300 bytes a component, and the
    runs of faces whose other side is still to come.
    """
    axes = connected_axes(connectivity)
    sides = [(axis, side) for axis in axes for side in (0, 1)]
    waiting: dict[tuple[int, Zyx], tuple[Runs, np.uint64]] = {}
    kinds, sums, pairs = [], [], [np.zeros((0, 2), np.uint64)]
    offsets, foreground = [0], 0
    for number in range(home.num_blocks):
        index, offset = home.block_index(number), np.uint64(offsets[-1])
        of_block = home.labelled.read(
            index,
            "kinds",
            "sums",
            "inside",
            "num_foreground",
            *(face_name(*s) for s in sides),
        )
        kinds.append(of_block[0])
        sums.append(of_block[1])
        pairs.append(of_block[2] + offset)
        foreground += int(of_block[3][0])
        for (axis, side), runs in zip(sides, of_block[4:], strict=True):
            after = _beside(index, axis)
            if side == 1 and after[axis] < home.block_counts[axis]:
                waiting[axis, after] = runs, offset
            if side == 0 and index[axis] > 0:
                before, offset_before = waiting.pop((axis, index))
                both = np.array([offset_before, offset])
                pairs.append(pairs_of_runs(before, runs) + both)
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


def _beside(index: Zyx, axis: int) -> Zyx:
    """Return the block after a block along an axis."""
    return as_zyx(i + (a == axis) for a, i in enumerate(index))
