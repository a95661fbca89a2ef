"""Resolution levels for viewers: halved block by block, one whole shard at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.geometry import Roi, Zyx, as_zyx, iterate_grid, whole_volume
from unetpipe.volumes import open_volume, read_roi, shard_shape, write_shard

# Viewers want a coarsest level that fits a screen.
COARSEST_VOXELS = 512


def pyramid_factors(shape: Zyx, voxel_size_nm: tuple[float, ...]) -> list[Zyx]:
    """Return the factor (z, y, x) of each further level against the one before.

    Only axes that are still finer than twice the coarsest voxel edge are halved, so
    that anisotropic voxels become more isotropic level by level.

    Examples
    --------
    >>> pyramid_factors((30, 2048, 2048), (50.0, 4.0, 4.0))
    [(1, 2, 2), (1, 2, 2)]
    """
    factors: list[Zyx] = []
    size = list(voxel_size_nm)
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


def downsample(voxels: NDArray[Any], factor: Zyx, *, is_labels: bool) -> NDArray[Any]:
    """Halve an array: the mean of each cell, or for labels one of its commonest ids.

    Parameters
    ----------
    voxels : array, shape (..., z, y, x)
        Where a length is odd the last voxel repeats.
    factor : (z, y, x)
        1 or 2 an axis.
    is_labels : bool
        Take the mode (ties: the first in z, y, x order), which invents no ids.
    """
    widths = [(0, 0)] * (voxels.ndim - 3) + [
        (0, -n % f) for n, f in zip(voxels.shape[-3:], factor, strict=True)
    ]
    padded = np.pad(voxels, widths, mode="edge")
    fz, fy, fx = factor
    members = np.stack(
        [
            padded[..., z::fz, y::fy, x::fx]
            for z in range(fz)
            for y in range(fy)
            for x in range(fx)
        ]
    )
    if not is_labels:
        mean = members.mean(axis=0, dtype=np.float64)
        if np.issubdtype(voxels.dtype, np.integer):
            mean = np.rint(mean)
        return np.asarray(mean, voxels.dtype)
    votes = np.zeros(members.shape, np.uint8)
    for member, count in zip(members, votes, strict=True):
        for other in members:
            count += member == other
    winner = votes.argmax(axis=0)
    return np.asarray(np.take_along_axis(members, winner[None], axis=0)[0])


def build_pyramid(path: Path, *, is_labels: bool = False) -> int:
    """Add the coarser levels to a store and name them in its metadata, last.

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
    group = zarr.open_group(path, mode="r+")
    metadata: Any = dict(group.attrs["ome"])  # type: ignore[arg-type]
    multiscale = metadata["multiscales"][0]
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    finer = open_volume(path)
    multiscale["datasets"] = multiscale["datasets"][:1]
    factors = pyramid_factors(as_zyx(finer.shape[-3:]), tuple(scale[-3:]))
    total: Zyx = (1, 1, 1)
    for level, factor in enumerate(factors, start=1):
        finer = _add_level(group, finer, level, factor, is_labels=is_labels)
        total = as_zyx(t * f for t, f in zip(total, factor, strict=True))
        multiscale["datasets"].append(_dataset(level, scale, total))
    group.attrs["ome"] = metadata
    return len(factors) + 1


def _add_level(
    group: zarr.Group,
    finer: zarr.Array[Any],
    level: int,
    factor: Zyx,
    *,
    is_labels: bool,
) -> zarr.Array[Any]:
    lead = finer.shape[:-3]
    shape = as_zyx(-(-n // f) for n, f in zip(finer.shape[-3:], factor, strict=True))
    coarser = group.create_array(
        str(level),
        shape=(*lead, *shape),
        chunks=finer.chunks,
        shards=finer.shards,
        dtype=finer.dtype,
        compressors=finer.compressors,
        fill_value=0,
        dimension_names=["c", "z", "y", "x"][4 - finer.ndim :],
        overwrite=True,
    )
    bounds = whole_volume(as_zyx(finer.shape[-3:]))
    unit = shard_shape(coarser)
    for index in iterate_grid(whole_volume(shape), unit):
        start = as_zyx(i * u * f for i, u, f in zip(index, unit, factor, strict=True))
        stop = as_zyx(
            (i + 1) * u * f for i, u, f in zip(index, unit, factor, strict=True)
        )
        voxels = read_roi(finer, Roi(start, stop).intersect(bounds))
        write_shard(coarser, index, downsample(voxels, factor, is_labels=is_labels))
    return coarser


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
