"""Commands that open a volume in the viewers people use; each can be copied whole.

Who reads what: OME-Zarr 0.5 (Zarr v3, sharded) opens in napari with napari-ome-zarr and
in neuroglancer; Fiji's readers of Zarr v3 are not reliable yet, so Fiji gets a TIFF.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath
from shlex import quote
from typing import Any

from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.run import Result
from unetpipe.tiling.scale import SizeNm

PORT = 8080
MOST_TIFF_BYTES = 2**28  # of which a TIFF is written whole; above, one section
NEUROGLANCER = "https://neuroglancer-demo.appspot.com"


def viewer_commands(volume: IngestedVolume, result: Result) -> dict[str, list[str]]:
    """Return how to open image, probability and objects, by viewer.

    Parameters
    ----------
    volume : IngestedVolume
    result : Result
        Where its probability is dropped, nobody is led to an empty store.

    Returns
    -------
    dict
        napari, Fiji and neuroglancer: shell commands, to be run in the folder that the
        workflow runs in.
    """
    objects = str(result.segmentation.objects)
    images = {"image": str(volume.image.store)}
    if result.is_kept:
        images["probability"] = str(result.plan.outputs.probability.store)
    stores = [*images.values(), str(result.segmentation.store)]
    napari = " ".join(["napari --plugin napari-ome-zarr", *map(quote, stores)])
    return {
        "napari": [napari],
        "Fiji": [_write_tiff(volume, objects)],
        "neuroglancer": [
            f"npx http-server --cors -p {PORT} .",
            _neuroglancer(images, objects, volume.voxel_size_nm),
        ],
    }


def _write_tiff(volume: IngestedVolume, objects: str) -> str:
    """Write image and objects as TIFF files that ImageJ reads, channels left out."""
    depth = volume.shape[0]
    is_small = 4 * prod(volume.shape) <= MOST_TIFF_BYTES
    where = ":" if is_small else str(depth // 2)
    name = volume.volume
    read = f'zarr.open_array({{}}, mode="r")[{{}}{where}]'
    image = read.format(_text(_level(str(volume.image.store))), "0, ")
    found = read.format(_text(_level(objects)), "")
    save = 'tifffile.imwrite({}, {}, photometric="minisblack")'
    lines = [
        "import zarr, tifffile",
        save.format(_text(f"{name}_image.tif"), image),
        save.format(_text(f"{name}_objects.tif"), f'{found}.astype("float32")'),
    ]
    return f"python -c {quote('; '.join(lines))}"


def _text(value: str) -> str:
    """Return a string of Python in double quotes, which shell quotes leave alone."""
    return json.dumps(value, ensure_ascii=False)


def _level(store: str) -> str:
    """Return the array of full resolution in a store."""
    return str(PurePosixPath(store) / "0")


@dataclass(frozen=True, slots=True)
class Layer:
    """A store in a viewer: ``image`` or ``segmentation``, its name, its path there.

    ``form`` is what it is, as neuroglancer calls it; ``chosen`` are the ids whose
    surfaces are shown.
    """

    kind: str
    name: str
    at: str
    form: str = "zarr3"
    chosen: tuple[int, ...] = ()


def neuroglancer_state(
    layers: Iterable[Layer], base: str, voxel_size_nm: SizeNm
) -> str:
    """Return what neuroglancer is to show, stores below an address, as JSON."""
    shown: list[dict[str, Any]] = []
    for one in layers:
        source = f"{one.form}://{base}{one.at}"
        shown.append({"type": one.kind, "name": one.name, "source": source})
        if one.chosen:
            ids = list(map(str, one.chosen))
            shown[-1] |= {"segments": ids, "notSelectedAlpha": 0.3}
    # Else the first panel shows z across: axes are z, y, x in the stores.
    lengths = zip("xyz", voxel_size_nm[::-1], strict=True)
    dimensions = {axis: [length * 1e-9, "m"] for axis, length in lengths}
    state = {"dimensions": dimensions, "layers": shown}
    return json.dumps(state, separators=(",", ":"))


def _neuroglancer(images: dict[str, str], objects: str, size_nm: SizeNm) -> str:
    """Open an address that shows stores which this computer serves.

    Stores outside the folder are left out: the server does not reach them.
    """
    layers = [Layer("image", name, at) for name, at in images.items()]
    layers.append(Layer("segmentation", "objects", objects))
    inside = [one for one in layers if not one.at.startswith(("/", ".."))]
    state = neuroglancer_state(inside, f"http://localhost:{PORT}/", size_nm)
    return f"xdg-open {quote(f'{NEUROGLANCER}/#!{state}')}"
