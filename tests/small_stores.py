"""Arrays as stores of small shards."""

from unetpipe.storage.volumes import create_volume, open_volume, write_shard
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume


def store_voxels(path, voxels, *, chunk, shard, voxel_size_nm=(50, 4, 4), **options):
    """Write an array (z, y, x) or (c, z, y, x) shard by shard; return it."""
    shape = voxels.shape[-3:]
    create_volume(
        path,
        shape=shape,
        dtype=voxels.dtype,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=voxel_size_nm,
        **options,
    )
    array = open_volume(path, mode="r+")
    for index in iterate_grid(whole_volume(shape), shard):
        write_shard(array, index, voxels[(..., *grid_cell(index, shard, shape).slices)])
    return array
