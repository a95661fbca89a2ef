"""Which resolution levels a store has: their sizes, empty arrays, and metadata."""

from math import inf
from pathlib import Path
from typing import Any

import zarr

from unetpipe.storage.disks import DiskStore
from unetpipe.storage.documents import read_zarr_group, update_group
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import UNKNOWN_SIZE, Zyx, as_zyx
from unetpipe.tiling.scale import ToldSize

# Viewers want a coarsest level that fits a screen.
COARSEST_VOXELS = 512


def pyramid_factors(shape: Zyx, voxel_size_nm: ToldSize) -> list[Zyx]:
    """Return the factor (z, y, x) of each further level against the one before.

    Only axes that are still finer than twice the coarsest voxel edge are halved, so
    that anisotropic voxels become more isotropic level by level. Where nobody knows how
    far sections are apart, they may be frames of a time series: then they stay apart.

    Examples
    --------
    >>> pyramid_factors((30, 2048, 2048), (50.0, 4.0, 4.0))
    [(1, 2, 2), (1, 2, 2)]
    >>> pyramid_factors((30, 1024, 1024), UNKNOWN_SIZE)
    [(1, 2, 2)]
    >>> pyramid_factors((30, 1024, 1024), (None, 4.0, 4.0))
    [(1, 2, 2)]
    """
    factors: list[Zyx] = []
    z, y, x = voxel_size_nm
    size = [inf if z is None or (z, y, x) == UNKNOWN_SIZE else z, y, x]
    lengths = list(shape)
    while max(lengths[1:]) > COARSEST_VOXELS:
        finest = min(size)
        factor = as_zyx(
            2 if s < 2 * finest and n > 1 else 1
            for s, n in zip(size, lengths, strict=True)
        )
        if factor == (1, 1, 1):
            break
        factors.append(factor)
        size = [s * f for s, f in zip(size, factor, strict=True)]
        lengths = [-(-n // f) for n, f in zip(lengths, factor, strict=True)]
    return factors


def create_levels(path: Path) -> None:
    """Create the empty arrays of a store's coarser levels, before any job fills them.

    Chunks and shards are those of level 0. Levels that are there already stay.
    """
    if not (factors := read_factors(path)):
        return
    group = zarr.open_group(DiskStore(path), mode="r+")
    array = open_volume(path)
    for level, factor in enumerate(factors, start=1):
        lengths = zip(array.shape[-3:], factor, strict=True)
        shape = (*array.shape[:-3], *(-(-n // f) for n, f in lengths))
        there = group.get(str(level))
        if not isinstance(there, zarr.Array) or not _is_alike(there, array, shape):
            there = group.create_array(
                str(level),
                shape=shape,
                chunks=array.chunks,
                shards=array.shards,
                dtype=array.dtype,
                compressors=array.compressors,
                fill_value=array.fill_value,
                dimension_names=["c", "z", "y", "x"][4 - array.ndim :],
                overwrite=True,
            )
        array = there


def read_factors(path: Path) -> list[Zyx]:
    """Return the factors of the levels that a store should have."""
    metadata = _read_metadata(path)
    z, y, x = _first_scale(metadata)[-3:]
    is_deep = "unit" in metadata["multiscales"][0]["axes"][-3]
    size = (z if is_deep else None, y, x)
    return pyramid_factors(as_zyx(open_volume(path).shape[-3:]), size)


def total_factors(factors: list[Zyx]) -> list[Zyx]:
    """Return the factor of each level against level 0, which comes first.

    Examples
    --------
    >>> total_factors([(1, 2, 2), (2, 2, 2)])
    [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
    """
    totals: list[Zyx] = [(1, 1, 1)]
    for factor in factors:
        totals.append(as_zyx(t * f for t, f in zip(totals[-1], factor, strict=True)))
    return totals


def name_levels(path: Path, factors: list[Zyx], method: str) -> int:
    """Name the levels in a store's metadata, so that viewers see them.

    To be called last: a level that is named is whole.

    Parameters
    ----------
    path : Path
        The store.
    factors : list of (z, y, x)
        Of each coarser level against the one before.
    method : str
        How they were made: mean or mode.

    Returns
    -------
    int
        Number of levels, the full resolution included.
    """
    metadata = _read_metadata(path)
    scale = _first_scale(metadata)
    multiscale = metadata["multiscales"][0]
    multiscale["datasets"] = multiscale["datasets"][:1] + [
        _dataset(level, scale, total)
        for level, total in enumerate(total_factors(factors)[1:], start=1)
    ]
    if factors:
        multiscale["type"] = method
    update_group(path, ome=metadata)
    return len(factors) + 1


def _read_metadata(path: Path) -> Any:
    return read_zarr_group(path)["ome"]


def _first_scale(metadata: Any) -> list[float]:
    level = metadata["multiscales"][0]["datasets"][0]
    scale: list[float] = level["coordinateTransformations"][0]["scale"]
    return scale


def _is_alike(
    there: zarr.Array[Any], finer: zarr.Array[Any], shape: tuple[int, ...]
) -> bool:
    return (
        there.shape,
        there.chunks,
        there.shards,
        there.dtype,
        there.fill_value,
    ) == (shape, finer.chunks, finer.shards, finer.dtype, finer.fill_value)


def _dataset(level: int, scale: list[float], total: Zyx) -> dict[str, Any]:
    """Return a level's metadata; its voxels' centres lie half a voxel further in."""
    lead = len(scale) - 3
    factors = [1] * lead + list(total)
    return {
        "path": str(level),
        "coordinateTransformations": [
            {
                "type": "scale",
                "scale": [s * f for s, f in zip(scale, factors, strict=True)],
            },
            {
                "type": "translation",
                "translation": [
                    s * (f - 1) / 2 for s, f in zip(scale, factors, strict=True)
                ],
            },
        ],
    }
