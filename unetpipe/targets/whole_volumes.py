"""Target and border term of a whole volume: their stores, and what they hold."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.storage.volumes import create_volume, shard_shape
from unetpipe.targets.cores import NUM_LEARNT, usual_diameter
from unetpipe.targets.weight_blocks import Annotation, Weigher
from unetpipe.tiling.boxes import Zyx, as_zyx, whole_volume
from unetpipe.tiling.scale import ToldSize

# With ndim 3: blocks with their halo fit into memory, and patches read little.
CHUNK_3D: Zyx = (32, 64, 64)
SHARD_3D: Zyx = (64, 256, 256)
SECTIONS_MEASURED, SIDE_MEASURED = 8, 2048  # for the usual diameter of cells


def create_weight_map_like(
    labels: zarr.Array[Any],
    path: Path,
    voxel_size_nm: ToldSize,
    ndim: int,
    *,
    unlabelled: int | None,
) -> zarr.Array[Any]:
    """Create a store shaped like the labels; with ndim 2 its shards are sections.

    Of a target, uint8, which reads as ``unlabelled`` where nothing is written; if that
    is None, of border terms, float32.
    """
    chunk, shard = CHUNK_3D, SHARD_3D
    if ndim == 2:
        chunk = (1, *as_zyx(labels.chunks)[1:])
        shard = (1, *shard_shape(labels)[1:])
    return create_volume(
        path,
        shape=as_zyx(labels.shape),
        dtype=np.float32 if unlabelled is None else np.uint8,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=voxel_size_nm,
        unlabelled=unlabelled,
    )


@dataclass(slots=True)
class CountedCells:
    """What target and border term of a volume hold, section by section.

    Attributes
    ----------
    class_counts : int64 array, shape (z, k)
        Known voxels of each class.
    num_cells : list of int
        Cells as annotated.
    learnt_counts : dict
        Of the targets with cores the same as ``class_counts``.
    lost : dict
        Section -> ids of the cells of which nothing is left in its target.
    kept : set of int
        Ids of which something is left in any section; none where each is by itself.
    """

    class_counts: NDArray[np.int64]
    num_cells: list[int]
    learnt_counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    lost: dict[int, NDArray[Any]] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)

    @property
    def num_lost(self) -> int:
        """Lost cells, of all sections together."""
        return sum(ids.size for ids in self.lost.values())

    @property
    def swallowed(self) -> dict[int, NDArray[Any]]:
        """Of each section the cells of which nothing is left anywhere."""
        found = {
            z: np.array([i for i in ids.tolist() if i not in self.kept], ids.dtype)
            for z, ids in self.lost.items()
        }
        return {z: ids for z, ids in found.items() if ids.size}


def choose_weight_border(
    annotation: Annotation, wanted: float | None, share: float
) -> float:
    """Return how wide rims are, in voxels.

    Parameters
    ----------
    annotation : Annotation
        Labels of a volume; a few sections are read, of its largest box if it has
        boxes, and of large ones the middle.
    wanted : float or None
        None: a share of the diameter that cells usually have, at least 1.
    share : float
    """
    if wanted is not None:
        return wanted
    whole = whole_volume(as_zyx(annotation.labels.shape))
    region = max(annotation.boxes or [whole], key=lambda box: box.num_voxels)
    first, stop = region.start[0], region.stop[0]
    numbers = np.unique(np.linspace(first, stop - 1, SECTIONS_MEASURED).astype(int))
    box = []
    for start, length in zip(region.start[1:], region.shape[1:], strict=True):
        begin = start + (length - min(length, SIDE_MEASURED)) // 2
        box.append(slice(begin, begin + min(length, SIDE_MEASURED)))
    sections = [
        annotation.to_instances(np.asarray(annotation.labels[(z, *box)]))
        for z in numbers.tolist()
    ]
    return max(1.0, round(share * usual_diameter(sections), 1))


def weigh_all(weigher: Weigher, volume: str) -> CountedCells:
    """Store all blocks; return what they hold.

    Where borders between touching cells swallow cells whole, all is computed once more,
    so that these keep what sets them apart from each other: which they are is known
    only when all blocks are done.
    """
    weigher.check_memory(f"volume {volume}: weight map")
    try:
        counted = _count_all(weigher)
        if swallowed := counted.swallowed:
            weigher.thin = swallowed
            counted = _count_all(weigher)
    except DataError as error:
        raise DataError(f"volume {volume}, {error}") from error
    return counted


def _count_all(weigher: Weigher) -> CountedCells:
    num_sections = weigher.shape[0]
    class_counts = np.zeros((num_sections, weigher.num_classes), np.int64)
    learnt_counts = {
        name: np.zeros((num_sections, NUM_LEARNT), np.int64)
        for name in weigher.cores.stores
    }
    counted = CountedCells(class_counts, [0] * num_sections, learnt_counts)
    # Of the sections in work: a cell may lie in several blocks of its section.
    cells: dict[int, list[NDArray[Any]]] = {}
    kept: dict[int, list[NDArray[Any]]] = {}

    def finish(z: int) -> None:
        all_cells, left = (np.unique(np.concatenate(i.pop(z))) for i in (cells, kept))
        counted.num_cells[z] = all_cells.size
        lost = np.setdiff1d(all_cells, left)
        if lost.size:
            counted.lost[z] = lost
        if weigher.ndim == 3:
            counted.kept.update(left.tolist())

    for block in weigher.blocks():
        first, stop = block.roi.start[0], block.roi.stop[0]
        class_counts[first:stop] += block.class_counts
        for name, counts in block.learnt_counts.items():
            learnt_counts[name][first:stop] += counts
        for z in [z for z in cells if z < first]:
            finish(z)
        for z, found in enumerate(block.cells, start=first):
            cells.setdefault(z, []).append(found)
            kept.setdefault(z, []).append(block.kept[z - first])
    for z in list(cells):
        finish(z)
    return counted
