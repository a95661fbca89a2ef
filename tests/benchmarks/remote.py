"""What is fetched of an image on a server, over what it has: each voxel once, or twice.

Ingest reads the image once; prediction, with its halos, reads the copy.
"""

from pathlib import Path

import numpy as np
import zarr

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.inputs import draw_sections
from tests.benchmarks.settings import Settings
from tests.images.servers import serving
from tests.stages.ingested import ingest_volume
from unetpipe.config import IngestConfig
from unetpipe.runtime.files import write_record
from unetpipe.tiling.boxes import Zyx

LAYOUTS: dict[str, tuple[Zyx, Zyx | None]] = {
    "chunks of 64 cubed": ((64, 64, 64), None),
    "chunks of 500, that fit nowhere": ((10, 500, 500), None),
    "shards of 32 x 1024 x 1024": ((8, 128, 128), (32, 1024, 1024)),
}
MOST = 1.3


def measure(settings: Settings) -> list[Figure]:
    """Ingest one image by a web server of this machine, stored in three layouts."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise CannotRun("obstore is not installed") from None
    shape: Zyx = settings.choose(quick=(4, 64, 96), cpu=(128, 1500, 2100))
    voxels = np.stack(list(draw_sections(shape)))
    return [_measure(settings, name, *LAYOUTS[name], voxels) for name in LAYOUTS]


def _measure(
    settings: Settings, name: str, chunk: Zyx, shard: Zyx | None, voxels: np.ndarray
) -> Figure:
    home = settings.folder / name.replace(" ", "-")
    home.mkdir(parents=True)
    zarr.create_array(
        home / "a.zarr",
        data=voxels,
        chunks=chunk,
        shards=shard,
        compressors=None,
        dimension_names=list("zyx"),
    )
    stored = sum(
        p.stat().st_size for p in (home / "a.zarr").rglob("c/**/*") if p.is_file()
    )
    with serving(home) as (address, told):
        _ingest(home, f"{address}/a.zarr")
    sent = sum(size for _, size in told)
    return Figure(
        f"bytes fetched over bytes stored, {name}",
        sent / stored,
        basis=f"{len(told)} requests; {' x '.join(map(str, voxels.shape))} uint8",
        at_most=MOST,
        details={"sent": sent, "stored": stored, "requests": len(told)},
    )


def _ingest(home: Path, address: str) -> None:
    values = {"root": str(home), "kind": "folder", "files": []}
    write_record(home / "manifest.json", values)
    row = {"volume": "a", "image": address, "labels": "", "sections": None}
    row |= {"role": "predict", "fold": "", "axes": "", "label_kind": "instances"}
    ingest_volume(
        manifest=home / "manifest.json",
        volume="a",
        rows=[row | {"voxel_size_nm": (50.0, 4.0, 4.0), "unlabelled": None}],
        ingest=IngestConfig(),
        num_classes=2,
        image_store=home / "image.ome.zarr",
        labels_store=home / "labels.ome.zarr",
        record=home / "ingest.json",
        parts_folder=home / "layers",
    )
