"""Seeded watershed whose seeds do not depend on how the volume was cut.

::

    mask     ######.####...##########      seeds: the cores of objects (deeper than
    depth    123321.1221...1233333321      ``distance``), and what is so thin for so
    seeds    ..aa...........bbbbbb...      long that it is far from any core
    flooded  aaaaaa.cccc...bbbbbbbbbb

Both kinds are found with a bounded halo, so a seed is a component like any other: whole
across blocks, with an id that no block decides. Only what is within ``reach`` steps of
a seed is flooded, and all of the mask is, so a block with a halo of ``reach`` floods
exactly its voxels. Where two floods meet may still depend, by a voxel or so, on the
block.
"""

from dataclasses import dataclass
from math import ceil

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.segmentation import watershed

from unetpipe.records.segmentation import ObjectSettings
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.tiling.boxes import Halo, as_zyx
from unetpipe.tiling.quantised import threshold_mask

# Depths are compared in such fractions of a voxel.
STEPS_PER_VOXEL = 16


@dataclass(frozen=True, slots=True)
class SeedRule:
    """Where seeds lie, and how far a block must see to find them.

    Attributes
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across sections too.
    distance : float
        Depth of the cores, in lengths of the shortest voxel edge.
    reach : int
        Steps from a core, face to face, after which thin structures are seeds.
    voxel_size : (z, y, x)
        Of any unit; depths respect it.
    """

    connectivity: Connectivity
    distance: float
    reach: int
    voxel_size: tuple[float, float, float]

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

    @classmethod
    def of(
        cls, settings: ObjectSettings, voxel_size: tuple[float, float, float]
    ) -> "SeedRule":
        """Return the rule of some settings, with their choices filled in."""
        distance, reach = settings.seed_distance_vox, settings.seed_reach_vox
        assert distance is not None
        assert reach is not None
        return cls(settings.connectivity, distance, reach, voxel_size)

    @property
    def halo(self) -> Halo:
        """What a block must see of the mask, to find the seeds that it must see."""
        depth = [ceil(self.distance / edge) + 1 for edge in self.edges]
        if self.connectivity == "2d":
            depth = [0, *depth]
        flood = self.flood_halo.before
        around = as_zyx(d + f for d, f in zip(depth, flood, strict=True))
        return Halo(around, around)

    def depth(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return how deep voxels lie in a mask (z, y, x), up to ``distance``."""
        if self.connectivity == "2d":
            return np.stack([self._depth(section) for section in mask])
        return self._depth(mask)

    def _depth(self, mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        far = edt.edt(mask, anisotropy=self.edges, black_border=False, parallel=1)
        steps = np.rint(np.minimum(far, self.distance + 1) * STEPS_PER_VOXEL)
        return np.asarray(steps, np.int32)

    def seeds(
        self, mask: NDArray[np.bool_], region: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return the seeds of one class.

        Parameters
        ----------
        mask : bool array, shape (z, y, x)
            What is certainly of the class.
        region : bool array, shape (z, y, x)
            What may be flooded; contains the mask.
        """
        core = mask & (self.depth(mask) > self.distance * STEPS_PER_VOXEL)
        return core | (mask & ~self._spread(core, region))

    def flood(
        self,
        height: NDArray[np.int32],
        region: NDArray[np.bool_],
        seeds: NDArray[np.uint64],
    ) -> NDArray[np.uint64]:
        """Return the id that each voxel of one class is flooded with.

        Parameters
        ----------
        height : int32 array, shape (z, y, x)
            The lowest voxels are flooded first.
        region : bool array, shape (z, y, x)
            What may be flooded.
        seeds : uint64 array, shape (z, y, x)
            Ids of the seeds, 0 elsewhere.
        """
        is_seed = seeds > 0
        if not is_seed.any():
            return np.zeros_like(seeds)
        known, markers = np.unique(seeds[is_seed], return_inverse=True)
        placed = np.zeros(seeds.shape, np.int32)
        placed[is_seed] = markers + 1
        flooded: NDArray[np.int32] = watershed(  # type: ignore[no-untyped-call]
            height, placed, self._cross(), mask=self._spread(is_seed, region)
        )
        table = np.concatenate([np.zeros(1, np.uint64), known])
        return np.asarray(table[flooded], np.uint64)

    def height(
        self, mask: NDArray[np.bool_], stored: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Return the landscape: deep voxels lowest, improbable ones highest."""
        above = 256 - stored.astype(np.int32)
        return np.where(mask, -self.depth(mask), above)

    def objects(
        self,
        stored: NDArray[np.uint8],
        threshold: float,
        flood_threshold: float,
        smallest: int,
    ) -> NDArray[np.uint64]:
        """Return the objects of an image that is seen as a whole.

        Parameters
        ----------
        stored : uint8 array, shape (z, y, x)
            Foreground probability, round(255 p).
        threshold, flood_threshold : float
            Probability above which a voxel is foreground, and may be flooded.
        smallest : int
            Seeds of fewer voxels are dropped.
        """
        mask = threshold_mask(stored, threshold)
        region = np.ones_like(mask)
        if flood_threshold > 0:
            region = threshold_mask(stored, flood_threshold)
        seeds, _ = label_components(self.seeds(mask, region), self.connectivity)
        small = np.bincount(seeds.reshape(-1)) < smallest
        seeds = np.where(small[seeds], 0, seeds)
        return self.flood(self.height(mask, stored), region, seeds.astype(np.uint64))

    def _spread(
        self, seeds: NDArray[np.bool_], region: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return what is within ``reach`` steps of seeds inside a region."""
        if not seeds.any():
            return seeds
        return np.asarray(
            binary_dilation(
                seeds, self._cross(), iterations=self.reach, mask=region | seeds
            )
        )

    def _cross(self) -> NDArray[np.bool_]:
        """Return which neighbours connect."""
        cross = generate_binary_structure(3, 1)
        if self.connectivity == "2d":
            cross[0] = cross[2] = False
        return np.asarray(cross)
