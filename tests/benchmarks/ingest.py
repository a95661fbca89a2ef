"""Ours against dask: the same TIFF stack into the same layout.

Ours also counts intensities, hashes voxels, file and shards, and syncs what it writes.
"""

import hashlib
import shutil
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import dask
import dask.array
import numpy as np
import tifffile
import zarr

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import VOXEL_SIZE_NM, describe_tiff, draw_sections
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio
from tests.stages.ingested import ingest_volume
from unetpipe.config import IngestConfig
from unetpipe.runtime.files import write_record
from unetpipe.runtime.machine import num_processors
from unetpipe.storage.volumes import create_volume, open_volume
from unetpipe.tiling.boxes import Zyx, as_zyx, round_up


def measure(settings: Settings) -> list[Figure]:
    """Store a plain and a compressed stack with both, in turn."""
    shape: Zyx = settings.choose(quick=(2, 64, 96), cpu=(128, 2048, 2048))
    folder = settings.folder / "ingest"
    figures = []
    for name, compression in (("uncompressed", None), ("deflate", "zlib")):
        home = folder / name
        home.mkdir(parents=True)
        with tifffile.TiffWriter(home / "image.tif", bigtiff=True) as file:
            file.write(
                draw_sections(shape),
                shape=shape,
                dtype="uint8",
                compression=compression,
            )
        actions = {
            "ours": partial(_ingest, home),
            "dask": partial(_store_with_dask, home, shape),
        }
        seconds = interleave(actions, settings.rounds)
        _check_equal(home, shape)
        megabytes = prod(shape) / 1e6
        rates = {key: megabytes / median(s) for key, s in seconds.items()}
        figures.append(
            Figure(
                f"ours over dask, {name} TIFF",
                median_ratio(seconds["dask"], seconds["ours"]),
                "x",
                basis=f"MB/s, {rates['ours']:.0f} and {rates['dask']:.0f}; "
                f"{' x '.join(map(str, shape))} uint8, {num_processors()} threads",
                at_least=1.0,
                details={"seconds": seconds, "rates": rates},
            )
        )
        shutil.rmtree(home)
    return figures


def _ingest(home: Path) -> None:
    """Run the stage, from the file's bytes to a record."""
    write_record(
        home / "manifest.json", {"root": str(home), "kind": "folder", "files": []}
    )
    ingest_volume(
        manifest=home / "manifest.json",
        volume="stack",
        rows=[describe_tiff("stack")],
        pixel_sha256={},
        ingest=IngestConfig(),
        num_classes=2,
        image_store=home / "ours.ome.zarr",
        labels_store=home / "labels.ome.zarr",
        record=home / "ingest.json",
        with_pyramid=False,
    )


def _store_with_dask(home: Path, shape: Zyx) -> None:
    """Do what the manuals show: a lazy array of the file, cut into shards, stored."""
    usual = IngestConfig()
    chunk = as_zyx(map(min, usual.chunk, shape))
    shard = as_zyx(map(min, usual.shard, map(round_up, shape, chunk)))
    store = home / "dask.ome.zarr"
    shutil.rmtree(store, ignore_errors=True)
    array = create_volume(
        store,
        shape=shape,
        dtype=np.uint8,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=VOXEL_SIZE_NM,
    )
    with (
        tifffile.TiffFile(home / "image.tif") as file,
        dask.config.set(scheduler="threads", num_workers=num_processors()),
    ):
        pages: Any = zarr.open_array(file.aszarr(), mode="r")
        dask.array.from_zarr(pages).rechunk(shard).to_zarr(array)


def _check_equal(home: Path, shape: Zyx) -> None:
    """Make sure that both stored the same voxels."""
    hashes = []
    for name in ("ours", "dask"):
        array = open_volume(home / f"{name}.ome.zarr")
        digest = hashlib.sha256()
        for z in range(0, shape[0], 8):
            digest.update(np.ascontiguousarray(array[..., z : z + 8, :, :]))
        hashes.append(digest.hexdigest())
    if len(set(hashes)) > 1:
        raise RuntimeError("ours and dask stored different voxels")


__all__ = ["measure"]
