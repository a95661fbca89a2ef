"""Objects of a volume that was resampled, written back on its original grid."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.records.segmentation import OriginalObjects, Segmentation
from unetpipe.records.volume import OriginalGrid
from unetpipe.runtime.staging import partial_folder
from unetpipe.segmentation.store import SegmentationStore
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    is_volume_store,
    open_volume,
    read_stored_roi,
    shard_path,
    write_shard,
)
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    round_up,
    whole_volume,
)
from unetpipe.tiling.resampling import nearest_voxels
from unetpipe.tiling.scale import told_size


def write_objects_on_original_grid(
    home: SegmentationStore, grid: OriginalGrid
) -> OriginalObjects:
    """Write mask and objects on the grid that the volume had before it was resampled.

    Each voxel takes the id of the nearest one; shard by shard, in the memory of one.
    The store appears under its name when it is whole.

    Parameters
    ----------
    home : SegmentationStore
        Whole.
    grid : OriginalGrid
        Of the volume.
    """
    store = home.path / "original.ome.zarr"
    made = OriginalObjects(
        store=store,
        objects=store / "labels" / "objects",
        shape=grid.shape,
        voxel_size_nm=grid.voxel_size_nm,
    )
    if is_volume_store(store):
        return made
    chunk = as_zyx(map(min, home.grids.chunk, grid.shape))
    whole = as_zyx(map(round_up, grid.shape, chunk))
    shard = as_zyx(map(round_up, map(min, home.grids.shard, whole), chunk))
    with partial_folder(store) as staging:
        for name, source in home.shards.arrays.items():
            path = staging
            if name == "objects":
                path = create_labels_group(staging, (name,)) / name
            create_volume(
                path,
                shape=grid.shape,
                dtype=source.dtype,
                chunk=chunk,
                shard=shard,
                voxel_size_nm=told_size(
                    grid.voxel_size_nm,
                    is_depth_known=home.identity.is_depth_known,
                ),
                unlabelled=0,
            )
            _copy(source, path, shard)
            build_pyramid(path, is_labels=True)
    return made


def differing_object_shards(segmented: Segmentation) -> list[Path]:
    """Return the shards of the original grid that are not those of today's objects.

    Each is compared with the nearest voxels of the resampled grid, shard by shard.

    Parameters
    ----------
    segmented : Segmentation
        Its own shards are whole.
    """
    made = segmented.original
    if made is None:
        return []
    pairs = ((segmented.store, made.store), (segmented.objects, made.objects))
    found = []
    for source, array in (map(open_volume, pair) for pair in pairs):
        shape, shard = as_zyx(array.shape), as_zyx(array.shards or array.chunks)
        for index in iterate_grid(whole_volume(shape), shard):
            box = grid_cell(index, shard, shape)
            if not _is_nearest(array, source, box):
                found.append(shard_path(array, index))
    return found


def _is_nearest(array: Any, source: Any, box: Roi) -> bool:
    """Return whether a box can be read, and is as it would be written now."""
    try:
        stored = read_stored_roi(array, box)
    except (OSError, ValueError, RuntimeError):  # what damaged shards raise
        return False
    return np.array_equal(stored, _read_nearest(source, box, as_zyx(array.shape)))


def _copy(source: Any, path: Path, shard: Zyx) -> None:
    target = open_volume(path, mode="r+")
    shape = as_zyx(target.shape)
    for index in iterate_grid(whole_volume(shape), shard):
        box = grid_cell(index, shard, shape)
        write_shard(target, index, _read_nearest(source, box, shape))


def _read_nearest(source: Any, box: Roi, shape: Zyx) -> NDArray[Any]:
    """Return a box of the original grid, (z, y, x), from the resampled array."""
    lengths = zip(source.shape, shape, box.start, box.stop, strict=True)
    places = [nearest_voxels(*own) for own in lengths]
    voxels = np.asarray(source[tuple(slice(p[0], p[-1] + 1) for p in places)])
    for axis, own in enumerate(places):
        voxels = np.take(voxels, own - own[0], axis)
    return voxels
