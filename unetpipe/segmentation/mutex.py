"""Mutex watershed in small boxes: fragments of objects, from affinities.

::

    pairs, strongest first:   neighbours     attract by p       joined, if they may be
                              farther ones   repel by 1 - p     may not be joined

No seeds and no threshold: a pair counts by how sure it is. The order of all pairs of
a volume is one sequence that no block could follow, so it is followed in boxes of a
grid that belongs to the recipe, not to blocks or parts: boxes begin anew with each
shard. What is one object across boxes is found by
``unetpipe.segmentation.agglomeration``.

Notes
-----
Wolf et al. 2018, The mutex watershed, ECCV, doi:10.1007/978-3-030-01225-0_34. Of
pairs that are as sure the one of the first offset comes first, then that of the first
voxel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.segmentation.components import Connectivity
from unetpipe.tiling.boxes import Halo, Roi, Zyx, as_zyx, grid_cell, iterate_grid
from unetpipe.tiling.unet_spec import is_nearest_offset

LEVELS = 256  # of stored affinities


@dataclass(frozen=True, slots=True)
class MutexRule:
    """How fragments are made of affinities.

    Attributes
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across sections: pairs across them count too.
    offsets : tuple of (z, y, x)
        Where the other voxel of each pair lies.
    box : (z, y, x)
        Voxels of a box, or fewer where a shard ends.
    """

    connectivity: Connectivity
    offsets: tuple[Zyx, ...]
    box: Zyx

    @property
    def used(self) -> list[int]:
        """Which offsets count."""
        is_flat = self.connectivity == "2d"
        return [k for k, o in enumerate(self.offsets) if not (is_flat and o[0])]

    @property
    def halo(self) -> Halo:
        """How far from a voxel its partners lie."""
        used = [self.offsets[k] for k in self.used]
        before = as_zyx(max(0, *(-o[axis] for o in used)) for axis in range(3))
        after = as_zyx(max(0, *(o[axis] for o in used)) for axis in range(3))
        return Halo(before, after)

    def boxes(self, roi: Roi, shard: Zyx, volume_shape: Zyx) -> Iterator[Roi]:
        """Yield the boxes that a region touches, whole."""
        for place in iterate_grid(roi, shard):
            cell = grid_cell(place, shard, volume_shape)
            near = cell.intersect(roi).relative_to(cell.start)
            for index in iterate_grid(near, self.box):
                inside = grid_cell(index, self.box, cell.shape)
                yield inside.relative_to(as_zyx(-n for n in cell.start))

    def fragments(
        self, affinities: NDArray[np.uint8], region: NDArray[np.bool_]
    ) -> NDArray[np.uint32]:
        """Return the fragments of a box, numbered from 1 by their first voxels.

        Parameters
        ----------
        affinities : uint8 array, shape (offsets, z, y, x)
            round(255 p) that a voxel and its partner are of one object.
        region : bool array, shape (z, y, x)
            Voxels of objects; others have no fragment.
        """
        used = self.used
        offsets = np.array([self.offsets[k] for k in used], np.int64)
        nearest = np.array([is_nearest_offset(self.offsets[k]) for k in used])
        found: NDArray[np.uint32] = _cut(
            np.ascontiguousarray(affinities[used]).reshape(len(used), -1),
            np.ascontiguousarray(region).reshape(-1),
            np.array(region.shape, np.int64),
            offsets,
            nearest,
        )
        return found.reshape(region.shape)


@numba.njit(cache=True, nogil=True)
def _cut(affinities, region, shape, offsets, is_nearest_pair):  # type: ignore[no-untyped-def]
    """Join and forbid pairs in their order; return fragments by their first voxels."""
    size = region.size
    order = _order(affinities, region, shape, offsets, is_nearest_pair)
    steps = offsets[:, 0] * shape[1] * shape[2] + offsets[:, 1] * shape[2]
    steps += offsets[:, 2]
    parents = np.arange(size)
    sizes = np.ones(size, np.int64)
    # Of each root a list of voxels whose objects it must not join.
    first, last = np.full(size, -1), np.full(size, -1)
    lengths = np.zeros(size, np.int64)
    others, after = np.empty(64, np.int64), np.empty(64, np.int64)
    count = 0
    for pair in order:
        voxel = pair % size
        one = _root(parents, voxel)
        two = _root(parents, voxel + steps[pair // size])
        if one == two:
            continue
        short, long = (one, two) if lengths[one] <= lengths[two] else (two, one)
        place, is_forbidden = first[short], False
        while place >= 0 and not is_forbidden:
            is_forbidden = _root(parents, others[place]) == long
            place = after[place]
        if is_forbidden:
            continue
        if not is_nearest_pair[pair // size]:
            if count + 2 > others.size:
                others = np.concatenate((others, np.empty_like(others)))
                after = np.concatenate((after, np.empty_like(after)))
            for root, other in ((one, two), (two, one)):
                others[count], after[count] = other, first[root]
                if first[root] < 0:
                    last[root] = count
                first[root] = count
                lengths[root] += 1
                count += 1
            continue
        kept, gone = (one, two) if sizes[one] >= sizes[two] else (two, one)
        parents[gone] = kept
        sizes[kept] += sizes[gone]
        if first[gone] >= 0:
            if first[kept] < 0:
                last[kept] = last[gone]
            else:
                after[last[gone]] = first[kept]
            first[kept] = first[gone]
            lengths[kept] += lengths[gone]
    return _number(parents, region)


@numba.njit(cache=True, nogil=True)
def _order(affinities, region, shape, offsets, is_nearest_pair):  # type: ignore[no-untyped-def]
    """Return pairs, ``offset * voxels + voxel``, strongest first, else as they come."""
    size = region.size
    begins = np.zeros(LEVELS + 1, np.int64)
    order = np.empty(0, np.int64)
    for is_filling in (False, True):
        for k in range(len(offsets)):
            oz, oy, ox = offsets[k]
            step = (oz * shape[1] + oy) * shape[2] + ox
            for z in range(max(0, -oz), min(shape[0], shape[0] - oz)):
                for y in range(max(0, -oy), min(shape[1], shape[1] - oy)):
                    for x in range(max(0, -ox), min(shape[2], shape[2] - ox)):
                        voxel = (z * shape[1] + y) * shape[2] + x
                        if not (region[voxel] and region[voxel + step]):
                            continue
                        level = np.int64(affinities[k, voxel])
                        if is_nearest_pair[k]:
                            level = LEVELS - 1 - level
                        if is_filling:
                            order[begins[level]] = k * size + voxel
                            begins[level] += 1
                        else:
                            begins[level + 1] += 1
        if not is_filling:
            begins = np.cumsum(begins)
            order = np.empty(begins[LEVELS], np.int64)
    return order


@numba.njit(cache=True, nogil=True)
def _root(parents, voxel):  # type: ignore[no-untyped-def]
    while parents[voxel] != voxel:
        parents[voxel] = parents[parents[voxel]]
        voxel = parents[voxel]
    return voxel


@numba.njit(cache=True, nogil=True)
def _number(parents, region):  # type: ignore[no-untyped-def]
    numbers = np.zeros(parents.size, np.uint32)
    found = np.zeros(parents.size, np.uint32)
    count = np.uint32(0)
    for voxel in range(parents.size):
        if not region[voxel]:
            continue
        root = _root(parents, voxel)
        if numbers[root] == 0:
            count += np.uint32(1)
            numbers[root] = count
        found[voxel] = numbers[root]
    return found
