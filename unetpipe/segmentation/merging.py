"""One table of all blocks' components: what touches is one, holes are filled.

``join_components`` is pure; ``LabelledBlocks`` keeps what it needs of each block on the
disk, so that only the table lies in memory.

::

    block 0  1 1 . 2 | 1 1  block 1      ids 1, 2 and 3 (= 1 of block 1)
                                         2 and 3 touch: one object

Ids of the result are consecutive, in the order of the objects' first voxels (z, then
y, then x): they do not depend on the blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetpipe.segmentation.agglomeration import (
    NO_EDGES,
    ONE,
    TWO,
    Edges,
    agglomerate,
    sum_edges,
)
from unetpipe.segmentation.block_files import BlockFiles
from unetpipe.segmentation.block_labels import (
    HOLE,
    NO_LINKS,
    LabelledBlock,
    Links,
    Pairs,
    connected_axes,
    face_name,
)
from unetpipe.segmentation.components import Connectivity, pairs_of_runs
from unetpipe.segmentation.runs import (
    FIRST,
    HIGH,
    LOW,
    NOWHERE,
    VOXELS,
    Runs,
    Sums,
    merge_components,
    pack_runs,
    paint_runs,
    runs_of_sections,
    unpack_runs,
)
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    grid_index,
    grid_number,
    grid_shape,
    iterate_grid,
)

PACKED = ("gaps", "lengths", "ids")


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a volume.

    Attributes
    ----------
    table : uint64 array, shape (components + 1,)
        Final id of each component, counted through all blocks from 1; 0: background.
    kinds : uint8 array, shape (objects,)
        Class of each object.
    sums : Sums, shape (objects, columns)
        Of each object, filled holes included.
    """

    table: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Merged:
    """The objects of some blocks, and where each block's components stand.

    Attributes
    ----------
    objects : Objects
    offsets : int64 array, shape (blocks + 1,)
        Components before each block.
    num_foreground : int
        Voxels of objects before any filter.
    """

    objects: Objects
    offsets: NDArray[np.int64]
    num_foreground: int


@dataclass(frozen=True, slots=True)
class LabelledBlocks:
    """Blocks whose components are numbered, on the disk.

    Attributes
    ----------
    files : BlockFiles
        One file a block.
    volume_shape, block : (z, y, x)
        Of the volume and of its blocks.
    connectivity : "2d" or "3d"
        Whether components reach across sections.
    """

    files: BlockFiles
    volume_shape: Zyx
    block: Zyx
    connectivity: Connectivity

    @property
    def counts(self) -> Zyx:
        """Blocks along each axis."""
        return grid_shape(self.volume_shape, self.block)

    def index(self, number: int) -> Zyx:
        """Return where a block lies in the grid of blocks."""
        return grid_index(number, self.counts)

    def number(self, index: Zyx) -> int:
        """Return the number of a block."""
        return grid_number(index, self.counts)

    def roi(self, number: int) -> Roi:
        """Return the voxels of a block."""
        return grid_cell(self.index(number), self.block, self.volume_shape)

    def is_missing(self, number: int) -> bool:
        """Return whether a block is not labelled, or its file is not whole."""
        return self.files.problem(self.index(number)) is not None

    def save(self, number: int, block: LabelledBlock) -> None:
        """Keep what later steps need of a labelled block."""
        faces = {face_name(*face): runs for face, runs in block.faces.items()}
        arrays: dict[str, NDArray[Any]] = {
            **dict(zip(PACKED, pack_runs(block.runs), strict=True)),
            "kinds": block.kinds,
            "sums": block.sums,
            "inside": block.inside,
            "num_foreground": np.array([block.num_foreground]),
            "links": block.links,
            "edges": block.edges,
        }
        self.files.save(self.index(number), arrays | faces)

    def read(self, number: int) -> tuple[Runs, NDArray[np.uint8]]:
        """Return the runs of a labelled block, and the kinds of its components."""
        kinds, *packed = self.files.read(self.index(number), "kinds", *PACKED)
        return unpack_runs(*packed), kinds

    def paint(self, box: Roi, ids: "FinalIds") -> NDArray[np.uint64]:
        """Return final ids in a box of several blocks."""
        painted = np.zeros(box.shape, np.uint64)
        for index in iterate_grid(box, self.block):
            number = self.number(index)
            block = self.roi(number)
            shared = block.intersect(box)
            into = shared.relative_to(box.start).slices
            sections, *plane = shared.relative_to(block.start).slices
            runs, _ = self.read(number)
            runs = runs_of_sections(runs, sections, block.shape)
            shape = (sections.stop - sections.start, *block.shape[1:])
            inside = (slice(None), *plane)
            painted[into] = paint_runs(runs, ids.of_block(number), shape)[inside]
        return painted

    def merge(
        self,
        blocks: range,
        *,
        smallest: int,
        largest_hole: int,
        merge_threshold: float | None = None,
    ) -> Merged:
        """Find the final id of each component of consecutive blocks.

        Reads sums, faces and links, block by block, and what is linked. Memory: some
        300 bytes a component, and the runs of faces whose other side is still to come.

        Parameters
        ----------
        blocks : range
            All blocks, or whole layers of them where sections stand apart.
        smallest, largest_hole : int
            Of ``join_components``.
        merge_threshold : float, optional
            Of ``agglomerate``, where components are fragments of affinities.
        """
        axes = connected_axes(self.connectivity)
        faces = [(axis, side) for axis in axes for side in (0, 1)]
        names = ("kinds", "sums", "inside", "num_foreground", "links", "edges")
        waiting: dict[tuple[int, Zyx], tuple[Runs, np.uint64]] = {}
        all_kinds, all_sums, pairs = [], [], [np.zeros((0, 2), np.uint64)]
        offsets, foreground, all_links = [0], 0, [NO_LINKS]
        all_edges = [NO_EDGES]
        for number in blocks:
            index, offset = self.index(number), np.uint64(offsets[-1])
            kinds, sums, inside, counted, links, edges, *planes = self.files.read(
                index, *names, *(face_name(*face) for face in faces)
            )
            all_kinds.append(kinds)
            all_sums.append(sums)
            pairs.append(inside + offset)
            foreground += int(counted[0])
            all_links.append(links + np.array([offsets[-1], 0, 0]))
            all_edges.append(edges)
            for (axis, side), runs in zip(faces, planes, strict=True):
                after = _beside(index, axis)
                if side == 1 and after[axis] < self.counts[axis]:
                    waiting[axis, after] = runs, offset
                if side == 0 and index[axis] > 0:
                    before, offset_before = waiting.pop((axis, index))
                    both = np.array([offset_before, offset])
                    pairs.append(pairs_of_runs(before, runs) + both)
            offsets.append(offsets[-1] + len(kinds))
        pairs.append(
            self._find_linked(np.concatenate(all_links), offsets, blocks.start)
        )
        all_sums = [np.concatenate(all_sums)]
        if merge_threshold is not None:
            joined = join_fragments(
                all_edges, all_sums[0], threshold=merge_threshold, smallest=smallest
            )
            pairs.append(joined)
        objects = join_components(
            np.concatenate(all_kinds),
            all_sums[0],
            np.concatenate(pairs),
            volume_shape=self.volume_shape,
            connectivity=self.connectivity,
            smallest=smallest,
            largest_hole=largest_hole,
        )
        return Merged(objects, np.array(offsets), foreground)

    def _find_linked(self, links: Links, offsets: list[int], first: int) -> Pairs:
        """Return links as pairs of components, counted through all blocks."""
        links = links[np.argsort(links[:, 1], kind="stable")]
        numbers, begins = np.unique(links[:, 1], return_index=True)
        ids = []
        for number, of_block in zip(numbers, np.split(links, begins[1:]), strict=False):
            runs, _ = self.read(int(number))
            places = np.searchsorted(runs[:, 0], of_block[:, 2], side="right") - 1
            ids.append(runs[places, 2].astype(np.int64) + offsets[number - first])
        both = [links[:, 0], np.concatenate([NO_LINKS[:, 0], *ids])]
        return np.stack(both, axis=1).astype(np.uint64)


@dataclass(frozen=True, slots=True)
class FinalIds:
    """What the components of blocks are called in the end.

    Attributes
    ----------
    table : uint64 array, shape (components + 1,)
        As ``Objects`` has it; it may lie on the disk.
    offsets : int64 array, shape (blocks + 1,)
        Components before each block.
    first : int
        Number of the first block.
    """

    table: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    first: int = 0

    def of_block(self, number: int) -> NDArray[np.uint64]:
        """Return the final id of each component of a block; entry 0 is 0."""
        place = number - self.first
        low, high = self.offsets[place : place + 2]
        ids = np.zeros(high - low + 1, np.uint64)
        ids[1:] = self.table[low + 1 : high + 1]
        return ids


def join_fragments(
    edges: Sequence[Edges], sums: Sums, *, threshold: float, smallest: int
) -> Pairs:
    """Return which fragments of all blocks belong together, as pairs, from 1.

    Parameters
    ----------
    edges : sequence of Edges
        Of each block, fragments called by their first voxels, from 1.
    sums : Sums, shape (fragments, columns)
        Of each fragment.
    threshold : float
        Mean affinity above which two are joined.
    smallest : int
        Objects of fewer voxels join the most alike one that they touch.
    """
    order = np.argsort(sums[:, FIRST])
    names = sums[order, FIRST] + 1
    ranked = sum_edges(edges)
    ranked[:, [ONE, TWO]] = np.searchsorted(names, ranked[:, [ONE, TWO]])
    found = agglomerate(
        ranked, sums[order, VOXELS], threshold=threshold, smallest=smallest
    )
    return np.stack([order, order[found]], axis=1).astype(np.uint64) + np.uint64(1)


def _beside(index: Zyx, axis: int) -> Zyx:
    """Return the block after a block along an axis."""
    return as_zyx(i + (a == axis) for a, i in enumerate(index))


def join_components(
    kinds: NDArray[np.uint8],
    sums: Sums,
    pairs: Pairs,
    *,
    volume_shape: Zyx,
    connectivity: Connectivity,
    smallest: int,
    largest_hole: int,
) -> Objects:
    """Return the objects that all blocks' components make up.

    A hole is background of at most ``largest_hole`` voxels that touches no face of
    the volume (with "2d": of the section) and only one object. Filling it therefore
    never joins objects.

    Parameters
    ----------
    kinds : uint8 array, shape (components,)
        Class of each component of all blocks, or ``HOLE``.
    sums : Sums, shape (components, columns)
        Of each component.
    pairs : uint64 array, shape (n, 2)
        Components that touch, counted from 1.
    volume_shape : (z, y, x)
        Shape of the volume.
    connectivity : "2d" or "3d"
        Whether the volume's first and last section are faces.
    smallest : int
        Objects of fewer voxels, their holes included, are dropped.
    largest_hole : int
        Voxels of the largest hole that is filled.
    """
    size = len(kinds)
    one, two = (pairs.T.astype(np.int64) - 1).reshape(2, -1)
    alike = kinds[one] == kinds[two]
    links = coo_array(
        (np.ones(int(alike.sum()), bool), (one[alike], two[alike])), shape=(size, size)
    )
    count, roots = connected_components(links, directed=False)
    totals = merge_components(sums, roots, count)
    root_kinds = np.zeros(count, np.uint8)
    root_kinds[roots] = kinds
    if largest_hole:
        filled = _fill(
            root_kinds,
            totals,
            roots[one[~alike]],
            roots[two[~alike]],
            _beyond(totals, volume_shape, connectivity) | (totals[:, 0] > largest_hole),
        )
        roots = filled[roots]
        totals = merge_components(sums, roots, count)
    keep = (root_kinds != HOLE) & (totals[:, VOXELS] >= max(smallest, 1))
    order = np.argsort(np.where(keep, totals[:, FIRST], NOWHERE), kind="stable")
    order = order[: int(keep.sum())]
    final = np.zeros(count, np.uint64)
    final[order] = np.arange(1, len(order) + 1, dtype=np.uint64)
    table = np.concatenate([np.zeros(1, np.uint64), final[roots]])
    return Objects(table, root_kinds[order], totals[order])


def _fill(
    kinds: NDArray[np.uint8],
    totals: Sums,
    one: NDArray[np.intp],
    two: NDArray[np.intp],
    is_open: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return which component each one belongs to, once holes are filled."""
    count = len(kinds)
    holes = np.concatenate([one, two])
    around = np.concatenate([two, one])
    is_edge = (kinds[holes] == HOLE) & (kinds[around] != HOLE)
    holes, around = holes[is_edge], around[is_edge]
    lowest, highest = np.full(count, count), np.full(count, -1)
    np.minimum.at(lowest, holes, around)
    np.maximum.at(highest, holes, around)
    is_filled = (kinds == HOLE) & (lowest == highest) & ~is_open
    belongs = np.arange(count)
    belongs[is_filled] = lowest[is_filled]
    return belongs


def _beyond(
    totals: Sums, volume_shape: Zyx, connectivity: Connectivity
) -> NDArray[np.bool_]:
    """Return what touches a face of the volume."""
    axes = range(0 if connectivity == "3d" else 1, 3)
    touches = np.zeros(len(totals), bool)
    for axis in axes:
        touches |= totals[:, LOW + axis] == 0
        touches |= totals[:, HIGH + axis] == volume_shape[axis]
    return touches
