"""What a part of a prediction takes at most: projected from sizes, tested by measuring.

Nothing here grows with the volume.
"""

from collections.abc import Sequence
from math import prod

from unetpipe.runtime.machine import GIB
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.orientations import widest_halo
from unetpipe.tiling.unet_spec import UNetSpec

# Interpreter and libraries, before any voxel is read; CUDA maps its own libraries.
BASE_BYTES = {"cpu": 0.33 * GIB, "cuda": 3 * GIB}
# A block is being read, one waits, and one is cut into tiles.
BLOCKS_READ = 3
# One is being painted (two where a batch goes on across blocks), one waits, one is
# written, and its compressed shards lie beside it.
BLOCKS_PREDICTED = 5
# One batch is cut, two wait, one is computed, and as many more as the device lags.
BATCHES = {"cpu": 4, "cuda": 6}
# Normalised voxels, logits, probabilities, their sum and products: float32 each.
FLOATS_PER_INPUT = 2
FLOATS_PER_OUTPUT = 5


def project_part(
    grids: TileGrids,
    spec: UNetSpec,
    *,
    device: str,
    itemsize: int,
    batch_tiles: int,
    orientations: Sequence[int],
    activation_bytes: int,
    num_members: int = 1,
) -> int:
    """Return the projected peak of a part's resident memory, in bytes.

    Parameters
    ----------
    grids, spec
        Grids and network.
    device : "cpu" or "cuda"
        On a GPU activations do not count: they are not resident.
    itemsize : int
        Bytes of a stored grey value.
    batch_tiles : int
        Tiles of one forward pass.
    orientations : sequence of int
        That are averaged: they widen the halo.
    activation_bytes : int
        Of one tile.
    num_members : int
        Networks of an ensemble: they compute one after another, so that their weights
        add up, and their activations do not.
    """
    halo = widest_halo(orientations, spec.halo)
    block = grids.block_roi(0)
    tile = [s + h for s, h in zip(grids.stride, halo.total, strict=True)]
    stored = spec.num_stored
    tile_values = prod(tile) * spec.in_channels
    read = BLOCKS_READ * block.grow(halo).num_voxels * spec.in_channels * itemsize
    predicted = BLOCKS_PREDICTED * block.num_voxels * stored
    batches = BATCHES[device] * tile_values * min(itemsize, 4)
    total = BASE_BYTES[device] + read + predicted + batch_tiles * batches
    if device == "cpu":
        outputs = max(spec.out_channels, spec.num_classes) * prod(grids.input_shape)
        values = FLOATS_PER_INPUT * tile_values
        # An ensemble keeps the sum over its members too.
        values += (FLOATS_PER_OUTPUT + (num_members > 1)) * outputs
        total += batch_tiles * (activation_bytes + 4 * values)
        total += 3 * 4 * spec.num_parameters * num_members
    return int(total)
