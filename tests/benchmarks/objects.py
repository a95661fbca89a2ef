"""Objects made block by block against the whole volume at once, store to store.

Both read the same stored probabilities, and write the same mask and objects into shards
of the same size. The whole volume is labelled by cc3d; block by block runs are joined,
and then merged across faces and summed up for the table of objects.
"""

import time
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import measure_fresh
from tests.benchmarks.settings import Settings
from tests.records.whole import whole
from unetpipe.config import SegmentationConfig
from unetpipe.runtime.files import write_record
from unetpipe.segmentation.passes import Segmentation, SegmentationInputs
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    read_stored_roi,
    write_shard,
)
from unetpipe.tiling.boxes import Zyx, grid_cell, iterate_grid, whole_volume
from unetpipe.tiling.quantised import threshold_mask

VOXELS_A_CELL = 32_000
THRESHOLD = 0.5


def measure(settings: Settings) -> list[Figure]:
    """Time both ways in turn, compare the partitions, then let the volume grow."""
    side = settings.choose(quick=32, cpu=512)
    shard = settings.choose(quick=(16, 16, 16), cpu=(128, 128, 128))
    folder = settings.folder / "objects"
    make_objects(_store(folder / "small", (32, 32, 32), (16, 16, 16)))  # compiles
    stored = _store(folder / "large", (side, side, side), shard)
    blocks, whole = [], []
    for number in range(settings.rounds):
        began = time.process_time()
        found = make_objects(stored, home=folder / f"blocks-{number}")
        blocks.append(time.process_time() - began)
        began = time.process_time()
        expected = make_whole(stored, home=folder / f"whole-{number}")
        whole.append(time.process_time() - began)
    shape, blocked = f"{side}^3", " x ".join(map(str, shard))
    num_different, num_objects = compare(found, expected)
    half = side // 2
    grown = [_store(folder / "half", (half, half, half), shard), stored]
    peaks = [
        measure_fresh(
            __name__,
            "make_objects",
            in_process=settings.is_quick,
            folder=path,
            home=folder / f"fresh-{number}",
        ).peak_bytes
        for number, path in enumerate(grown)
    ]
    listed = " and ".join(f"{peak / 2**20:.0f}" for peak in peaks)
    return [
        Figure(
            "blocks over whole volume, CPU time",
            min(blocks) / min(whole),
            basis=f"{shape} in blocks of {blocked}: {min(blocks):.1f} s against "
            f"{min(whole):.1f} s; read, label, write mask and objects",
            at_most=1.5,
            details={"blocks": blocks, "whole": whole},
        ),
        Figure(
            "voxels that another partition would hold",
            float(num_different),
            basis=f"{shape}, {num_objects} objects",
            at_most=0,
        ),
        Figure(
            "peak RSS",
            peaks[1] / peaks[0],
            basis=f"8 x the volume over 1 x: {listed} MiB",
            at_most=1.15,
            details={"peak_bytes": peaks},
        ),
    ]


def make_objects(folder: Path, home: Path | None = None) -> Path:
    """Make objects of a stored prediction block by block; return their store."""
    settings = SegmentationConfig(threshold=THRESHOLD, connectivity="3d")
    inputs = SegmentationInputs(
        prediction=folder / "prediction.json",
        model_json=folder / "model.json",
        ingest=folder / "ingest.json",
        settings=settings,
        folder=home or folder,
    )
    work = Segmentation(inputs)
    work.run()
    return work.home.objects_store


def make_whole(folder: Path, home: Path) -> Path:
    """Make the same objects with the whole volume in memory; return their store."""
    source = open_volume(folder / "probability.ome.zarr")
    _, *shape = source.shape
    shard: Any = source.shards[1:]
    grids: dict[str, Any] = {
        "shape": tuple(shape),
        "chunk": source.chunks[1:],
        "shard": shard,
        "voxel_size_nm": (10.0, 10.0, 10.0),
    }
    create_volume(home / "mask.ome.zarr", dtype="uint8", **grids)
    objects = create_labels_group(home / "mask.ome.zarr", ("objects",)) / "objects"
    create_volume(objects, dtype="uint32", unlabelled=0, **grids)
    roi = whole_volume((shape[0], shape[1], shape[2]))
    mask = threshold_mask(read_stored_roi(source, roi)[0], THRESHOLD)
    labels = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32)
    pairs = (home / "mask.ome.zarr", mask.view(np.uint8)), (objects, labels)
    for path, voxels in pairs:
        array = open_volume(path, mode="r+")
        for index in iterate_grid(roi, shard):
            write_shard(array, index, voxels[grid_cell(index, shard, roi.shape).slices])
    return objects


def compare(found: Path, expected: Path) -> tuple[int, int]:
    """Return how many voxels two partitions disagree on, and the number of objects."""
    one, two = open_volume(found), open_volume(expected)
    slabs = [slice(z, z + one.chunks[0]) for z in range(0, one.shape[0], one.chunks[0])]
    largest = [max(int(np.max(a[slab])) for slab in slabs) for a in (one, two)]
    there = np.zeros(largest[0] + 1, np.int64)
    back = np.zeros(largest[1] + 1, np.int64)
    for slab in slabs:
        a, b = np.asarray(one[slab]), np.asarray(two[slab])
        there[a], back[b] = b, a
    num_different = 0
    for slab in slabs:
        a, b = np.asarray(one[slab]), np.asarray(two[slab])
        num_different += int(np.count_nonzero((there[a] != b) | (back[b] != a)))
    return num_different, largest[0]


def draw_probability(shape: Zyx) -> NDArray[np.uint8]:
    """Return cells with dim borders and noise, repeated every 128 voxels at most."""
    side = min(128, *shape)
    rng = np.random.default_rng(1)
    centres = rng.uniform(0, side, (max(4, side**3 // VOXELS_A_CELL), 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    near, _ = cKDTree(centres, boxsize=side).query(grid.reshape(-1, 3), k=2)
    border = (near[:, 1] - near[:, 0]).reshape(side, side, side)
    clean = 255 / (1 + np.exp(2.0 - border))
    tile = np.clip(clean + rng.normal(0, 24, clean.shape), 0, 255).astype(np.uint8)
    repeats = [-(-n // side) for n in shape]
    z, y, x = shape
    return np.tile(tile, repeats)[:z, :y, :x]


def _store(folder: Path, shape: Zyx, shard: Zyx) -> Path:
    """Store probabilities as a finished prediction does; return its folder."""
    store = folder / "probability.ome.zarr"
    chunk = tuple(max(1, n // 2) for n in shard)
    create_volume(
        store,
        shape=shape,
        dtype="uint8",
        chunk=(chunk[0], chunk[1], chunk[2]),
        shard=shard,
        voxel_size_nm=(10.0, 10.0, 10.0),
        channels=("cells",),
    )
    array, voxels = open_volume(store, mode="r+"), draw_probability(shape)
    for index in iterate_grid(whole_volume(shape), shard):
        roi = grid_cell(index, shard, shape)
        write_shard(array, index, voxels[roi.slices][None])
    geometry = dict.fromkeys(("stride", "input_shape", "shard", "block"), shard)
    record = {
        "volume": folder.name,
        "identity_sha256": folder.name,
        "content_sha256": "",
        "geometry": {"volume_shape": shape, "chunk": chunk, **geometry},
        "outputs": {"probability": {"store": str(store)}},
    }
    write_record(folder / "prediction.json", whole("prediction", record))
    sizes = {"voxel_size_nm": [10.0, 10.0, 10.0]}
    write_record(folder / "ingest.json", whole("ingest", sizes))
    write_record(folder / "model.json", whole("model", {"thresholds": {}}))
    return folder
