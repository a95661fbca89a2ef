"""The passes of a seeded watershed: seeds of a block, then its flood."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.records.segmentation import BlockSeams
from unetpipe.segmentation.block_labels import connected_axes, face_name
from unetpipe.segmentation.classes import ClassSource
from unetpipe.segmentation.components import plane_runs
from unetpipe.segmentation.merging import FinalIds
from unetpipe.segmentation.runs import Sums, add_sums, encode_runs, paint_runs, sum_runs
from unetpipe.segmentation.store import SegmentationStore
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.tiling.boxes import Halo, Roi, Zyx, whole_volume


class WatershedPass:
    """What a watershed does with a block.

    Parameters
    ----------
    home : SegmentationStore
    source : ClassSource
        Mask and region of each class.
    rule : SeedRule
        Where seeds lie, and how far they flood.
    """

    def __init__(
        self, home: SegmentationStore, source: ClassSource, rule: SeedRule
    ) -> None:
        self.home, self.source, self.rule = home, source, rule

    def seeds(self, roi: Roi) -> tuple[NDArray[np.uint8], int]:
        """Return the class of each seed voxel of a block, and its foreground's size."""
        seen = self._grow(roi, self.rule.halo)
        inside = roi.relative_to(seen.start).slices
        classes, _, region = self.source.read_region(seen)
        seeds = np.zeros(roi.shape, np.uint8)
        for class_ in self.source.object_classes(region):
            found = self.rule.seeds(classes == class_, region == class_)
            seeds[found[inside]] = class_
        return seeds, int(np.count_nonzero(classes[inside]))

    def flood(self, number: int, ids: FinalIds) -> NDArray[np.uint64]:
        """Return the objects of a block; keep their sums, and how its edges look."""
        roi = self.home.grids.block_roi(number)
        seen = self._grow(roi, self.rule.halo)
        near = self._grow(roi, self.rule.flood_halo)
        cut = near.relative_to(seen.start).slices
        classes, stored, region = self.source.read_region(seen)
        seeds, kinds = self.home.labelled.paint(near, ids, with_kinds=True)
        flooded = np.zeros(near.shape, np.uint64)
        for class_ in self.source.object_classes(region):
            height = self.rule.height(classes == class_, stored)[cut]
            of_class = self.rule.flood(
                height,
                region[cut] == class_,
                np.where(kinds == class_, seeds, np.uint64(0)),
            )
            flooded = np.where(of_class > 0, of_class, flooded)
        inside = roi.relative_to(near.start)
        self._keep(number, roi, inside, flooded, stored[cut][inside.slices])
        return flooded[inside.slices]

    def collect(self, num_objects: int) -> tuple[Sums, BlockSeams]:
        """Return the sums of all objects, and where floods of neighbours differ.

        Beside each face between blocks lies a plane that both have flooded. Voxels of
        it that the two gave different ids are what a flood of the whole volume may
        differ by there.
        """
        sums, owners = [], []
        compared = differing = 0
        for number in range(self.home.grids.num_blocks):
            index = self.home.labelled.index(number)
            ids, own = self.home.flooded.read(index, "ids", "sums")
            sums.append(own)
            owners.append(ids[1:].astype(np.int64) - 1)
            for axis in self._axes:
                if index[axis] > 0:
                    ours, theirs = self._rims(number, axis)
                    compared += int(np.count_nonzero((ours > 0) | (theirs > 0)))
                    differing += int(np.count_nonzero(ours != theirs))
        total = add_sums(np.concatenate(sums), np.concatenate(owners), num_objects)
        seams = BlockSeams(voxels_compared=compared, voxels_differing=differing)
        return total, seams

    @property
    def _axes(self) -> range:
        return connected_axes(self.rule.connectivity)

    def _grow(self, roi: Roi, halo: Halo) -> Roi:
        """Return a box with its halo, clipped to the volume."""
        return roi.grow(halo).intersect(whole_volume(self.home.grids.volume_shape))

    def _keep(
        self,
        number: int,
        roi: Roi,
        inside: Roi,
        flooded: NDArray[np.uint64],
        stored: NDArray[np.uint8],
    ) -> None:
        """Save sums of a block's objects, and the planes on both sides of its faces."""
        beyond = {}
        for axis in self._axes:
            if inside.stop[axis] < flooded.shape[axis]:
                plane = list(inside.slices)
                plane[axis] = slice(inside.stop[axis], inside.stop[axis] + 1)
                beyond[axis] = flooded[tuple(plane)]
        own = flooded[inside.slices]
        ids, labels = _compact(own)
        runs = encode_runs(labels)
        volume_shape = self.home.grids.volume_shape
        arrays: dict[str, NDArray[Any]] = {
            "ids": ids,
            "sums": sum_runs(runs, len(ids) - 1, stored, roi.start, volume_shape),
        }
        for (axis, side), face in plane_runs(runs, roi.shape, self._axes).items():
            if side == 0:
                arrays[face_name(axis, 0)] = face
        for axis, plane_ids in beyond.items():
            arrays[f"ids_{axis}"], beside = _compact(plane_ids)
            arrays[face_name(axis, 1)] = encode_runs(np.take(beside, 0, axis=axis))
        self.home.flooded.save(self.home.labelled.index(number), arrays)

    def _rims(
        self, number: int, axis: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return a block's first plane, as itself and as the block before floods it."""
        index = self.home.labelled.index(number)
        shape = self.home.grids.block_roi(number).shape
        plane = tuple(n for a, n in enumerate(shape) if a != axis)
        before = list(index)
        before[axis] -= 1
        other: Zyx = (before[0], before[1], before[2])
        read = self.home.flooded.read
        own_ids, own = read(index, "ids", face_name(axis, 0))
        ids, seen = read(other, f"ids_{axis}", face_name(axis, 1))
        return paint_runs(own, own_ids, plane), paint_runs(seen, ids, plane)


def _compact(
    ids: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return the ids that occur, 0 first, and the same array numbered by them."""
    is_object = ids > 0
    known, numbers = np.unique(ids[is_object], return_inverse=True)
    labels = np.zeros(ids.shape, np.uint32)
    labels[is_object] = numbers + 1
    return np.concatenate([np.zeros(1, np.uint64), known]), labels
