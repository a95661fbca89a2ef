"""The pyramid of a store against a plain copy of as many bytes.

The copy reads level 0 and writes what the coarser levels hold, shard by shard, with the
same reader, writer and threads: all that the pyramid does but the halving.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import draw_sections
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio
from tests.phantoms import draw_phantom
from unetpipe.runtime.machine import num_processors
from unetpipe.storage.levels import create_levels
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import (
    create_volume,
    open_volume,
    read_stored_roi,
    shard_shape,
    write_shard,
)
from unetpipe.tiling.boxes import Roi, Zyx, grid_cell, iterate_grid, whole_volume

PATCH: Zyx = (8, 256, 256)

Part = tuple[zarr.Array[Any], Zyx, Roi]


def measure(settings: Settings) -> list[Figure]:
    """Build pyramids of an image, flat and isotropic, and of objects, in turn."""
    flat: Zyx = settings.choose(quick=(2, 600, 600), cpu=(16, 4096, 4096))
    cube: Zyx = settings.choose(quick=(4, 600, 600), cpu=(32, 2048, 2048))
    kinds: dict[str, tuple[Zyx, tuple[float, float, float], bool]] = {
        "image, halved in the plane": (flat, (50.0, 4.0, 4.0), False),
        "image, halved on all axes": (cube, (4.0, 4.0, 4.0), False),
        "objects, halved on all axes": (cube, (4.0, 4.0, 4.0), True),
    }
    return [
        _compare(settings, name, shape, size, is_labels=is_labels)
        for name, (shape, size, is_labels) in kinds.items()
    ]


def _compare(
    settings: Settings,
    name: str,
    shape: Zyx,
    size: tuple[float, float, float],
    *,
    is_labels: bool,
) -> Figure:
    folder = settings.folder / "pyramid"
    dtype = np.dtype(np.uint32 if is_labels else np.uint8)
    for home in ("ours", "copy"):
        create_volume(
            folder / home,
            shape=shape,
            dtype=dtype,
            chunk=settings.choose(quick=(1, 60, 60), cpu=(8, 128, 128)),
            shard=settings.choose(quick=(2, 120, 120), cpu=(8, 512, 512)),
            voxel_size_nm=size,
            unlabelled=0 if is_labels else None,
        )
    _fill(folder / "ours", _draw(shape, is_labels=is_labels))
    build_pyramid(folder / "ours", is_labels=is_labels)
    create_levels(folder / "copy")
    levels = sum(p.name.isdecimal() for p in (folder / "ours").iterdir())
    copy = partial(_copy, folder / "ours", folder / "copy", _hold(folder, levels))
    actions: dict[str, Callable[[], object]] = {
        "pyramid": partial(build_pyramid, folder / "ours", is_labels=is_labels),
        "copy": copy,
    }
    seconds = interleave(actions, settings.rounds)
    shutil.rmtree(folder)
    megabytes = prod(shape) * dtype.itemsize / 1e6
    rates = {key: megabytes / median(s) for key, s in seconds.items()}
    return Figure(
        f"pyramid over copy, {name}",
        median_ratio(seconds["copy"], seconds["pyramid"]),
        basis=f"MB/s of level 0, {rates['pyramid']:.0f} and {rates['copy']:.0f}; "
        f"{' x '.join(map(str, shape))} {dtype}, {levels} levels, "
        f"{num_processors()} threads",
        at_least=0.8,
        details={"seconds": seconds, "rates": rates},
    )


def _draw(shape: Zyx, *, is_labels: bool) -> Iterator[np.ndarray[Any, Any]]:
    """Yield sections: of an image, or of cells side by side with ids of their own."""
    if not is_labels:
        yield from draw_sections(shape)
        return
    _, cells = draw_phantom(shape=PATCH, num_cells=60, noise=0, seed=1)
    tiles = tuple(-(-n // p) for n, p in zip(shape[1:], PATCH[1:], strict=True))
    number = np.arange(prod(tiles), dtype=np.uint32).reshape(tiles)
    offset = np.kron(number * 61, np.ones(PATCH[1:], np.uint32))
    for z in range(shape[0]):
        section = np.tile(cells[z % PATCH[0]], tiles).astype(np.uint32)
        ids = np.where(section > 0, section + offset, 0)
        yield ids[: shape[1], : shape[2]]


def _fill(store: Path, sections: Iterator[np.ndarray[Any, Any]]) -> None:
    array = open_volume(store, mode="r+")
    depth = shard_shape(array)[0]
    for z in range(0, array.shape[0], depth):
        count = min(depth, array.shape[0] - z)
        slab = np.stack([next(sections) for _ in range(count)]).astype(array.dtype)
        layer = Roi((z, 0, 0), (z + count, *array.shape[1:]))
        for index in iterate_grid(layer, shard_shape(array)):
            roi = grid_cell(index, shard_shape(array), array.shape)
            write_shard(array, index, slab[roi.relative_to(layer.start).slices])


def _hold(folder: Path, levels: int) -> list[np.ndarray[Any, Any]]:
    """Return the voxels of the coarser levels, to be written as they are."""
    return [open_volume(folder / "ours", level=k)[...] for k in range(1, levels)]


def _copy(source: Path, target: Path, coarser: list[np.ndarray[Any, Any]]) -> None:
    """Read all shards of level 0; write all shards of the other levels."""

    def read(part: Part) -> None:
        read_stored_roi(part[0], part[2])

    def write(part: tuple[Part, np.ndarray[Any, Any]]) -> None:
        (array, index, roi), voxels = part
        write_shard(array, index, voxels[roi.slices])

    arrays = [
        open_volume(target, mode="r+", level=k) for k in range(1, len(coarser) + 1)
    ]
    with ThreadPoolExecutor(num_processors()) as threads:
        list(threads.map(read, _parts(open_volume(source))))
        for array, voxels in zip(arrays, coarser, strict=True):
            list(threads.map(write, ((part, voxels) for part in _parts(array))))


def _parts(array: zarr.Array[Any]) -> Iterator[Part]:
    unit = shard_shape(array)
    for index in iterate_grid(whole_volume(array.shape), unit):
        yield array, index, grid_cell(index, unit, array.shape)


__all__ = ["measure"]
