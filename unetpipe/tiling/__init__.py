"""Which voxels, and what they cost: boxes, grids, halo, mirroring, tiles, memory."""
