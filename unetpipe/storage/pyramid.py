"""Resolution levels for viewers: each shard made once, from shards just made.

::

    level 0   |0|1|2|3|4|5|6|7|    a block (here 4 shards) is what one shard of the
    level 1   | 0 | 1 | 2 | 3 |    level ``top`` covers: it is read once, and written
    level 2   |   0   |   1   |    by one job, all levels up to ``top``
    level 3   |       0       |    what is left is little, and needs no parts
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.runtime.machine import num_processors
from unetpipe.storage.downsampling import downsample
from unetpipe.storage.levels import (
    create_levels,
    name_levels,
    read_factors,
    total_factors,
)
from unetpipe.storage.volumes import (
    open_volume,
    read_stored_roi,
    shard_path,
    shard_shape,
    write_shard,
)
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    whole_volume,
)

# What one block may read: at most so much is done again after an interruption.
BLOCK_BYTES = 2**29

Files = dict[str, str]


class Pyramid:
    """The levels of a store, made block by block; see the drawing above.

    Blocks may be written in any order, by any number of jobs: no two share a shard.
    The bits do not depend on it, because each level is made from the stored voxels of
    the one before.

    Parameters
    ----------
    path : Path
        A store with ``create_levels`` behind it.
    is_labels : bool
        Downsample by mode instead of mean.

    Attributes
    ----------
    factors : list of (z, y, x)
        Of each coarser level against the one before.
    top : int
        The coarsest level that blocks write; 0 where there are no coarser levels.
    """

    def __init__(self, path: Path, *, is_labels: bool) -> None:
        self._path, self._is_labels = path, is_labels
        first = open_volume(path)
        self.factors = read_factors(path)
        self._arrays = [first] + [
            open_volume(path, mode="r+", level=level)
            for level in range(1, len(self.factors) + 1)
        ]
        shard_bytes = prod(first.shards or first.chunks) * first.dtype.itemsize
        fitting = [
            level
            for level, total in enumerate(total_factors(self.factors))
            if level <= 1 or shard_bytes * prod(total) <= BLOCK_BYTES
        ]
        self.top = fitting[-1]

    @property
    def blocks(self) -> list[Zyx]:
        """The blocks, z slowest; none where there are no coarser levels."""
        return list(self._shards(self.top)) if self.top else []

    def write_block(self, block: Zyx) -> Files:
        """Write all shards of a block; return the sha256 of each file.

        Shards of which level 0 has no file are left out: they read as the fill value.
        """
        return self._write([block], base=0, level=self.top)

    def write_rest(self) -> Files:
        """Write the levels above the blocks', from what the blocks have written."""
        last = len(self.factors)
        if last == self.top:
            return {}
        return self._write(self._shards(last), base=self.top, level=last)

    def name_levels(self) -> int:
        """Name the levels, last of all; return how many there are with level 0."""
        return name_levels(
            self._path, self.factors, "mode" if self._is_labels else "mean"
        )

    def _write(self, shards: Iterable[Zyx], *, base: int, level: int) -> Files:
        files: Files = {}
        with ThreadPoolExecutor(num_processors(), "pyramid") as threads:
            for index in shards:
                self._make(level, index, base, files, threads.map)
        return files

    def _make(
        self,
        level: int,
        index: Zyx,
        base: int,
        files: Files,
        spread: Callable[..., Iterable[Any]] = map,
    ) -> NDArray[Any] | None:
        """Return a shard's voxels, or None if there is nothing below it.

        Above ``base`` it is made of the shards that it covers, one after another (or
        spread over threads), and written.
        """
        array = self._arrays[level]
        file = shard_path(array, index)
        roi = self._roi(level, index)
        if level == base:
            return read_stored_roi(array, roi) if file.exists() else None
        factor = self.factors[level - 1]
        covered = Roi(
            as_zyx(a * f for a, f in zip(roi.start, factor, strict=True)),
            as_zyx(b * f for b, f in zip(roi.stop, factor, strict=True)),
        ).intersect(self._whole(level - 1))
        unit = shard_shape(self._arrays[level - 1])
        # Where shards hold whole cells each is halved alone, else all together.
        is_even = all(u % f == 0 for u, f in zip(unit, factor, strict=True))
        step = factor if is_even else (1, 1, 1)

        def make(part: Zyx) -> tuple[Roi, NDArray[Any] | None]:
            place = self._roi(level - 1, part).relative_to(covered.start)
            voxels = self._make(level - 1, part, base, files)
            if voxels is not None and is_even:
                voxels = downsample(voxels, factor, is_labels=self._is_labels)
            return _shrink(place, step), voxels

        inside = _shrink(covered.relative_to(covered.start), step)
        made, is_empty = np.empty((*array.shape[:-3], *inside.shape), array.dtype), True
        fill = array.fill_value
        for place, voxels in spread(make, iterate_grid(covered, unit)):
            made[(..., *place.slices)] = fill if voxels is None else voxels
            is_empty &= voxels is None
        if is_empty:
            file.unlink(missing_ok=True)
            return None
        if not is_even:
            made = downsample(made, factor, is_labels=self._is_labels)
        name = file.relative_to(self._path).as_posix()
        files[name] = write_shard(array, index, made)
        return made

    def _whole(self, level: int) -> Roi:
        return whole_volume(as_zyx(self._arrays[level].shape[-3:]))

    def _roi(self, level: int, index: Zyx) -> Roi:
        array = self._arrays[level]
        return grid_cell(index, shard_shape(array), as_zyx(array.shape[-3:]))

    def _shards(self, level: int) -> Iterator[Zyx]:
        return iterate_grid(self._whole(level), shard_shape(self._arrays[level]))


def build_pyramid(path: Path, *, is_labels: bool = False) -> int:
    """Add the coarser levels to a store in one go, and name them in its metadata, last.

    For stores that are not seen before they are whole, and for small ones; with
    receipts and in parts: ``pyramid_parts.coarsen_share``.

    Parameters
    ----------
    path : Path
        A store made by ``create_volume``, its level 0 complete.
    is_labels : bool
        Downsample by mode instead of mean.

    Returns
    -------
    int
        Number of levels, the full resolution included.
    """
    create_levels(path)
    pyramid = Pyramid(path, is_labels=is_labels)
    for block in pyramid.blocks:
        pyramid.write_block(block)
    pyramid.write_rest()
    return pyramid.name_levels()


def _shrink(roi: Roi, factor: Zyx) -> Roi:
    """Return a box in the voxels of the next level; it begins with a whole cell."""
    return Roi(
        as_zyx(a // f for a, f in zip(roi.start, factor, strict=True)),
        as_zyx(-(-b // f) for b, f in zip(roi.stop, factor, strict=True)),
    )
