"""Do the joints of tiles, blocks and parts show? The jump of probability across them.

::

    tile faces       |               |               |
    voxels           |. . . . . . . .|. . . . . . . .|
    jumps            F       R   R   F       R   R   F

The jump across a face (F) is compared with jumps *at the same phase of the pooling
grid* inside the tile that begins there (R): a network is equivariant to shifts of its
pooling grid only, and its up-convolutions leave a pattern within that grid that is no
seam. If tiling is exact, the ratio F / R differs from 1 by chance alone.

Chance is judged by resampling strips of faces: 128 voxels along y or x, through all
sections of a shard, because neighbours are alike. Across sections the strip is the
whole face, because sections differ as wholes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.bootstrap import bootstrap_sums
from unetpipe.metrics.curves import score_ratio
from unetpipe.records.metrics import Axis, Profile, Seam, Seams
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, grid_shape
from unetpipe.tiling.grids import TileGrids

Kind = Literal["tile", "block", "part"]

AXES: tuple[Axis, ...] = ("z", "y", "x")
KINDS: tuple[Kind, ...] = ("tile", "block", "part")
MOST_SHARDS = 128  # that are measured, spread over the volume
STRIP_VOX = 128  # of a face
LEVEL = 0.99  # of the intervals: up to nine are looked at together
FEWEST_STRIPS = 8  # fewer give no interval
REACH_VOX = 64  # of the profile, to each side of a face

Jumps = NDArray[np.float64]


@dataclass(slots=True)
class Faces:
    """What was measured at the faces of one kind along one axis.

    Attributes
    ----------
    terms : list of float64 arrays, shape (strips, 2)
        For each strip of a face: sums of the jumps across it, and of the mean jumps
        inside the tile behind it.
    positions : list of int
        Where along the axis the face of each of these arrays lies.
    num_voxels : int
        Voxels that the sums run over.
    """

    terms: list[Jumps] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    num_voxels: int = 0

    def units(self, *, whole: bool) -> Jumps:
        """Return what is resampled, (n, 2): strips, or whole faces by position."""
        if not whole:
            return np.concatenate([np.empty((0, 2)), *self.terms])
        faces: dict[int, Jumps] = defaultdict(lambda: np.zeros(2))
        for position, terms in zip(self.positions, self.terms, strict=True):
            faces[position] += terms.sum(axis=0)
        return np.array(list(faces.values())).reshape(-1, 2)


class SeamJumps:
    """Collects jumps of probability, shard by shard.

    Parameters
    ----------
    grids : TileGrids
        Where the faces are.
    pooling_grid : (z, y, x)
        Of the network.
    num_parts : int
        Parts that shared the blocks.
    """

    def __init__(self, grids: TileGrids, pooling_grid: Zyx, num_parts: int) -> None:
        self.grids, self.pooling_grid = grids, pooling_grid
        self.num_parts = num_parts
        self.faces = {(kind, axis): Faces() for kind in KINDS for axis in range(3)}
        # Sum and number of jumps by the distance to the nearest tile face.
        self.profiles = np.zeros((3, 2, 2 * REACH_VOX + 1))

    def read_roi(self, shard: Roi) -> Roi:
        """Return the voxels that a shard's jumps need: one more before each axis."""
        return Roi(as_zyx(max(0, a - 1) for a in shard.start), shard.stop)

    def add(self, shard: Roi, stored: NDArray[np.uint8]) -> None:
        """Measure one shard.

        Parameters
        ----------
        shard : Roi
            Its write ROI, clipped to the volume.
        stored : uint8 array, shape (c, z, y, x)
            round(255 p) of ``read_stored_roi(shard)``.
        """
        for axis in range(3):
            jumps, voxels = _jumps(stored, shard, axis)
            if jumps.size:
                self._add_axis(shard, axis, jumps, voxels)

    def _add_axis(
        self, shard: Roi, axis: int, jumps: Jumps, voxels: NDArray[np.int64]
    ) -> None:
        """Sort sums of jumps, shape (strips, positions), into faces and the rest."""
        first = max(shard.start[axis], 1)
        positions = np.arange(first, shard.stop[axis])
        stride = self.grids.stride[axis]
        distance = self._distance(positions, axis)
        near = np.abs(distance) <= REACH_VOX
        places, bins = distance[near] + REACH_VOX, 2 * REACH_VOX + 1
        sums = np.bincount(places, jumps.sum(axis=0)[near], bins)
        counts = np.bincount(places, minlength=bins) * voxels.sum()
        self.profiles[axis] += sums, counts
        for kind, position in self._faces(shard, axis):
            stop = position + (stride if stride > 1 else shard.shape[axis])
            inside = positions[(positions > position) & (positions < stop)]
            same = inside[(inside - position) % self.pooling_grid[axis] == 0] - first
            if same.size:
                across, behind = jumps[:, position - first], jumps[:, same].mean(axis=1)
                faces = self.faces[kind, axis]
                faces.terms.append(np.stack([across, behind], axis=1))
                faces.positions.append(position)
                faces.num_voxels += int(voxels.sum())

    def _faces(self, shard: Roi, axis: int) -> Iterator[tuple[Kind, int]]:
        """Yield kind and position of a shard's faces along one axis."""
        start, stop = shard.start[axis], shard.stop[axis]
        stride, block = self.grids.stride[axis], self.grids.block[axis]
        if stride > 1:
            for position in range(-(-start // stride) * stride, stop, stride):
                if position:
                    yield "tile", position
        if start and start % block == 0:
            yield "block", start
            before = list(shard.start)
            before[axis] -= 1
            if self._part(shard.start) != self._part(as_zyx(before)):
                yield "part", start

    def _distance(self, positions: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        """Return how far each jump is from the nearest tile face, far if there is none.

        The faces of the volume are no joints, and a grid of single voxels has none.
        """
        stride, length = self.grids.stride[axis], self.grids.volume_shape[axis]
        far = np.full(positions.shape, length + REACH_VOX)
        if stride == 1:
            return far
        before = positions % stride
        after = before - stride
        is_joint = (positions - before > 0, positions - after < length)
        before, after = (
            np.where(is_joint[0], before, far),
            np.where(is_joint[1], after, far),
        )
        return np.where(np.abs(before) <= np.abs(after), before, after)

    def _part(self, voxel: Zyx) -> int:
        """Return the part whose block holds a voxel."""
        _, ny, nx = grid_shape(self.grids.volume_shape, self.grids.block)
        z, y, x = (v // b for v, b in zip(voxel, self.grids.block, strict=True))
        number = (z * ny + y) * nx + x
        # The inverse of TileGrids.blocks_of_part.
        return ((number + 1) * self.num_parts - 1) // self.grids.num_blocks

    def report(self, *, num_shards: int) -> Seams:
        """Return all that was measured, in so many shards."""
        return Seams(
            definition="mean |p(i) - p(i - 1)| across a face over that inside the "
            "tile behind it, at the same phase of the pooling grid; resampled: strips "
            f"of faces, {STRIP_VOX} voxels long, along z whole faces",
            level=LEVEL,
            pooling_grid=self.pooling_grid,
            rows=tuple(self._row(kind, axis) for kind, axis in self.faces),
            profiles={AXES[axis]: self._profile(axis) for axis in range(3)},
            num_shards=num_shards,
            num_shards_of_volume=self.grids.num_shards,
        )

    def _row(self, kind: Kind, axis: int) -> Seam:
        """Return jump, interior and ratio of one kind of face along an axis."""
        faces = self.faces[kind, axis]
        terms = faces.units(whole=axis == 0)
        ratio = bootstrap_sums(
            terms, lambda sums: score_ratio(sums[..., 0], sums[..., 1]), level=LEVEL
        )
        across, inside = terms.sum(axis=0) / max(faces.num_voxels, 1)
        known = ratio.n >= FEWEST_STRIPS and not np.isnan(ratio.low)
        return Seam(
            face=kind,
            axis=AXES[axis],
            n=ratio.n,
            jump_across=float(across) if ratio.n else None,
            jump_inside=float(inside) if ratio.n else None,
            ratio=None if np.isnan(ratio.estimate) else ratio.estimate,
            interval=(ratio.low, ratio.high) if known else None,
            is_like_inside=bool(ratio.low <= 1 <= ratio.high) if known else None,
        )

    def _profile(self, axis: int) -> Profile:
        """Return the mean jump by distance to the nearest tile face, in voxels.

        The jump at distance 0 is the one across the face.
        """
        sums, counts = self.profiles[axis]
        known = np.flatnonzero(counts)
        return Profile(
            distance=tuple((known - REACH_VOX).tolist()),
            jump=tuple((sums[known] / counts[known]).tolist()),
        )


def choose_seam_shards(grids: TileGrids, most: int = MOST_SHARDS) -> list[Zyx]:
    """Return the indices of the shards to measure, evenly spread over the volume.

    Examples
    --------
    >>> shape, cell = (1, 64, 640), (1, 64, 64)
    >>> grids = TileGrids(shape, cell, (1, 100, 100), cell, cell, cell)
    >>> choose_seam_shards(grids, most=3)
    [(0, 0, 0), (0, 0, 4), (0, 0, 9)]
    """
    counts = grid_shape(grids.volume_shape, grids.shard)
    total = prod(counts)
    numbers = np.unique(np.linspace(0, total - 1, min(most, total)).astype(np.int64))
    return [
        as_zyx(index) for index in zip(*np.unravel_index(numbers, counts), strict=True)
    ]


def _jumps(
    stored: NDArray[np.uint8], shard: Roi, axis: int
) -> tuple[Jumps, NDArray[np.int64]]:
    """Sum |p(i) - p(i - 1)| along an axis over strips of the faces across it.

    Returns
    -------
    sums : float64 array, shape (strips, positions)
        Of several classes half the sum over them, which for two is the jump of either.
    voxels : int64 array, shape (strips,)
    """
    region = [slice(None)] * 4
    for other in range(3):
        if other != axis and shard.start[other] > 0:
            region[1 + other] = slice(1, None)
    values = stored[tuple(region)].astype(np.int16)
    jumps = np.abs(np.diff(values, axis=1 + axis)).sum(axis=0, dtype=np.int32)
    voxels = np.ones((1, 1, 1), np.int64)
    if not jumps.size:
        return np.empty((0, 0)), np.empty(0, np.int64)
    for other in range(3):
        if other == axis:
            continue
        starts = np.arange(0, jumps.shape[other], STRIP_VOX)[: None if other else 1]
        lengths = np.diff(starts, append=jumps.shape[other])
        jumps = np.add.reduceat(jumps, starts, axis=other, dtype=np.int64)
        voxels = voxels * np.expand_dims(lengths, [a for a in range(3) if a != other])
    scale = 255 * (1 if len(stored) == 1 else 2)
    sums = np.moveaxis(jumps, axis, -1) / scale
    return sums.reshape(-1, sums.shape[-1]), voxels.ravel()
