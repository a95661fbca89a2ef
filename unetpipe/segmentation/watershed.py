"""Seeded watershed that does not depend on how the volume was cut.

::

    mask     ######.####...##########     seeds: what is deeper than ``distance``,
    depth    123321.1221...1233333321     or deepest, or most probable, within it;
    seeds    ..aa...........bbbbbb...     and what is so thin for so long that it is
    flooded  aaaaaa.cccc...bbbbbbbbbb     ``reach`` steps from any other seed

Seeds are found with a bounded halo. Each voxel goes to the seed from which it is
nearest in topographic distance: the landscape's slope, summed along a path of at most
``reach`` steps; of equal ones to the seed voxel that comes first. So a block that sees
``halo`` around itself finds exactly what the whole volume has there.

Notes
-----
Topographic distance: F. Meyer, Topographic distance and watershed lines, Signal
Processing 38 (1994).
"""

from dataclasses import dataclass
from math import ceil

import edt
import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    convolve1d,
    generate_binary_structure,
    maximum_filter,
)

from unetpipe.records.segmentation import ObjectSettings, Seeds
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.tiling.boxes import Halo, as_zyx
from unetpipe.tiling.quantised import threshold_mask

# Depths and edges are compared in such fractions of a voxel.
STEPS_PER_VOXEL = 16
SMOOTHING = np.array([1, 4, 6, 4, 1])  # a Gaussian of one voxel, in whole numbers
SMOOTHED_EDGE = 1.5  # along axes whose voxels are at most so many shortest edges long


@dataclass(frozen=True, slots=True)
class SeedRule:
    """Where seeds lie, and how far a block must see to find its objects.

    Attributes
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across sections too.
    distance : float
        Of cores: their depth. Of others: within it there is one seed. In lengths of
        the shortest voxel edge.
    reach : int
        Steps from a seed, face to face, after which thin structures are seeds.
    voxel_size : (z, y, x)
        Of any unit; depths respect it.
    kind : "cores", "depth", "probability" or "learnt"
        Seeds are what lies deeper than ``distance``, or the voxels that are deepest
        or most probable around, or what the network says is a core.
    threshold : float
        Of learnt seeds: the probability of a core above which they lie.
    """

    connectivity: Connectivity
    distance: float
    reach: int
    voxel_size: tuple[float, float, float]
    kind: Seeds = "cores"
    threshold: float = 0.0

    @classmethod
    def of(
        cls, settings: ObjectSettings, voxel_size: tuple[float, float, float]
    ) -> "SeedRule":
        """Return the rule of some settings, with their choices filled in."""
        distance, reach = settings.seed_distance_vox, settings.seed_reach_vox
        assert reach is not None
        kind, threshold = settings.seeds or "cores", settings.core_threshold or 0.0
        assert distance is not None or kind == "learnt"
        return cls(
            settings.connectivity, distance or 0.0, reach, voxel_size, kind, threshold
        )

    @property
    def edges(self) -> tuple[float, ...]:
        """Length of a voxel along each axis that connects; the shortest is 1."""
        used = self.voxel_size[0 if self.connectivity == "3d" else 1 :]
        return tuple(edge / min(used) for edge in used)

    @property
    def flood_halo(self) -> Halo:
        """What a block must see of the seeds, to flood its own voxels."""
        z = self.reach if self.connectivity == "3d" else 0
        return Halo((z, self.reach, self.reach), (z, self.reach, self.reach))

    @property
    def halo(self) -> Halo:
        """What a block must see of the mask, to find its objects."""
        far = 0.0 if self.kind == "learnt" else self.deepest
        if self.kind in ("depth", "probability"):
            far += self.distance
        depth = [ceil(far / edge) + 1 + len(SMOOTHING) // 2 for edge in self.edges]
        if self.connectivity == "2d":
            depth = [0, *depth]
        flood = self.flood_halo.before
        around = as_zyx(d + 2 * f for d, f in zip(depth, flood, strict=True))
        return Halo(around, around)

    @property
    def deepest(self) -> float:
        """Depth beyond which voxels are alike, in shortest edges."""
        return self.distance + 1 if self.kind == "cores" else float(self.reach)

    def depth(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return how deep voxels lie in a mask (z, y, x), up to ``deepest``."""
        if self.connectivity == "2d":
            return np.stack([self._depth(section) for section in mask])
        return self._depth(mask)

    def _depth(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        far = edt.edt(mask, anisotropy=self.edges, black_border=False, parallel=1)
        steps = np.rint(np.minimum(far, self.deepest) * STEPS_PER_VOXEL)
        return np.asarray(steps, np.int32)

    def height(
        self,
        mask: NDArray[np.bool_],
        stored: NDArray[np.uint8],
        core: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.int32]:
        """Return the landscape: seeds lie low in it, improbable voxels highest.

        Parameters
        ----------
        mask : bool array, shape (z, y, x)
            Below 0 in the landscape.
        stored : uint8 array, shape (z, y, x)
            Foreground probability, round(255 p).
        core : uint8 array, shape (z, y, x), optional
            Probability of a core, for learnt seeds.
        """
        above = 256 - stored.astype(np.int32)
        if self.kind == "learnt":
            assert core is not None
            inside = self._smooth(core.astype(np.int32))
        elif self.kind == "probability":
            inside = self._smooth(stored.astype(np.int32))
        elif self.kind == "depth":
            inside = self._smooth(self.depth(mask))
        else:
            inside = self.depth(mask)
        return np.where(mask, -inside, above)

    def _smooth(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        for axis, edge in zip(range(-len(self.edges), 0), self.edges, strict=True):
            if edge <= SMOOTHED_EDGE:
                values = convolve1d(values, SMOOTHING, axis, mode="nearest") // 4
        return values

    def seeds(
        self,
        mask: NDArray[np.bool_],
        region: NDArray[np.bool_],
        height: NDArray[np.int32],
        core: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.bool_]:
        """Return the seeds of one class.

        Parameters
        ----------
        mask : bool array, shape (z, y, x)
            What is certainly of the class.
        region : bool array, shape (z, y, x)
            What may be flooded; contains the mask.
        height : int32 array, shape (z, y, x)
            The landscape of the mask.
        core : uint8 array, shape (z, y, x), optional
            Probability of a core, for learnt seeds.
        """
        if self.kind == "learnt":
            assert core is not None
            found = mask & threshold_mask(core, self.threshold)
        elif self.kind == "cores":
            found = mask & (height < -self.distance * STEPS_PER_VOXEL)
        else:
            found = mask & self._lowest(height)
        return found | (mask & ~self._spread(found, region))

    def _lowest(self, height: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return what is lowest within ``distance``, and what is as low as can be."""
        top = np.full((1,) * height.ndim, 255, np.int32)
        if self.kind == "depth":
            top[:] = int(self.deepest * STEPS_PER_VOXEL)
        whole = int(self._smooth(np.broadcast_to(top, (5,) * height.ndim))[0, 0, 0])
        # Of equal voxels the last one counts: an order that no cut changes.
        order = np.arange(height.size, dtype=np.int64).reshape(height.shape)
        key = np.maximum(-height, 0).astype(np.int64) * height.size + order
        around = [2 * int(self.distance / edge) + 1 for edge in self.edges]
        if self.connectivity == "2d":
            around = [1, *around]
        lowest = key == maximum_filter(key, around, mode="nearest")
        return np.asarray(lowest | (height <= -whole))

    def flood(
        self,
        height: NDArray[np.int32],
        region: NDArray[np.bool_],
        seeds: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Return the seed voxel that each voxel of one class belongs to.

        Parameters
        ----------
        height : int32 array, shape (z, y, x)
            The landscape.
        region : bool array, shape (z, y, x)
            What may be flooded.
        seeds : bool array, shape (z, y, x)

        Returns
        -------
        int64 array, shape (z, y, x)
            Flat index of the seed voxel; -1 where nothing is flooded.
        """
        edges = [round(edge * STEPS_PER_VOXEL) for edge in self.edges]
        if self.connectivity == "2d":
            edges = [0, *edges]
        source: NDArray[np.int64] = _flood(
            np.ascontiguousarray(height).reshape(-1),
            np.ascontiguousarray(region | seeds).reshape(-1),
            np.ascontiguousarray(seeds).reshape(-1),
            np.array(height.shape, np.int64),
            np.array(edges, np.int64),
            self.reach,
        )
        return source.reshape(height.shape)

    def cut(
        self,
        mask: NDArray[np.bool_],
        region: NDArray[np.bool_],
        stored: NDArray[np.uint8],
        core: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the objects of one class, and their seeds: the same ids, from 1.

        All arrays have the shape (z, y, x); see ``seeds`` and ``height``.
        """
        height = self.height(mask, stored, core)
        found = self.seeds(mask, region, height, core)
        seeds, _ = label_components(found, self.connectivity)
        source = self.flood(height, region, found)
        objects = np.where(source < 0, 0, seeds.reshape(-1)[source])
        return objects.astype(np.uint32), seeds

    def objects(
        self,
        stored: NDArray[np.uint8],
        threshold: float,
        flood_threshold: float,
        *,
        core: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint32]:
        """Return the objects of an image that is seen as a whole.

        Parameters
        ----------
        stored : uint8 array, shape (z, y, x)
            Foreground probability, round(255 p).
        threshold, flood_threshold : float
            Probability above which a voxel is foreground, and may be flooded.
        core : uint8 array, shape (z, y, x), optional
            Probability of a core, for learnt seeds.
        """
        mask = threshold_mask(stored, threshold)
        region = np.ones_like(mask)
        if flood_threshold > 0:
            region = threshold_mask(stored, flood_threshold)
        return self.cut(mask, region, stored, core)[0]

    def _spread(
        self, seeds: NDArray[np.bool_], region: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return what is within ``reach`` steps of seeds inside a region."""
        if not seeds.any():
            return seeds
        cross = generate_binary_structure(3, 1)
        if self.connectivity == "2d":
            cross[0] = cross[2] = False
        return np.asarray(
            binary_dilation(seeds, cross, iterations=self.reach, mask=region | seeds)
        )


@numba.njit(cache=True, nogil=True)
def _flood(height, region, is_seed, shape, edges, reach):  # type: ignore[no-untyped-def]
    """Spread all seeds by a step at a time: what a voxel gets depends on no order."""
    size = height.size
    strides = (shape[1] * shape[2], shape[2], 1)
    slope = np.zeros(size, np.int64)
    source = np.full(size, -1, np.int64)
    cost = np.full(size, np.iinfo(np.int64).max, np.int64)
    changed = np.zeros(size, np.int32)  # in which step, so that none is listed twice
    for voxel in range(size):
        if not region[voxel]:
            continue
        for axis in range(3):
            if edges[axis] == 0:
                continue
            place = voxel // strides[axis] % shape[axis]
            for step in (-1, 1):
                if 0 <= place + step < shape[axis]:
                    other = voxel + step * strides[axis]
                    if region[other]:
                        fall = np.int64(height[voxel]) - np.int64(height[other])
                        slope[voxel] = max(slope[voxel], fall * 16 // edges[axis])
        if is_seed[voxel]:
            source[voxel] = voxel
            cost[voxel] = np.int64(height[voxel]) * 16
    front = np.flatnonzero(is_seed)
    for number in range(1, reach + 1):
        costs, sources = cost[front], source[front]
        found = np.empty(6 * len(front), np.int64)
        count = 0
        for k in range(len(front)):
            voxel = front[k]
            for axis in range(3):
                if edges[axis] == 0:
                    continue
                place = voxel // strides[axis] % shape[axis]
                for step in (-1, 1):
                    if not 0 <= place + step < shape[axis]:
                        continue
                    other = voxel + step * strides[axis]
                    if not region[other] or is_seed[other]:
                        continue
                    fall = np.int64(height[voxel]) - np.int64(height[other])
                    steep = slope[voxel] if fall > 0 else slope[other]
                    total = costs[k] + (steep + 1) * edges[axis]
                    if total < cost[other] or (
                        total == cost[other] and sources[k] < source[other]
                    ):
                        cost[other], source[other] = total, sources[k]
                        if changed[other] != number:
                            changed[other] = number
                            found[count] = other
                            count += 1
        front = found[:count]
        if count == 0:
            break
    return source
