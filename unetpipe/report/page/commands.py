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

from unetpipe.records.prediction import Outputs
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.run import Result
from unetpipe.tiling.boxes import UNKNOWN_SIZE
from unetpipe.tiling.scale import ToldSize

PORT = 8080
PRECOMPUTED = "precomputed"
IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
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
    outputs = result.plan.outputs
    images = [Layer("image", "image", str(volume.image.store))]
    if result.is_kept:
        images.append(probability_layer(outputs, str(outputs.probability.store)))
    stores = [*(one.at for one in images), str(result.segmentation.store)]
    napari = " ".join(["napari --plugin napari-ome-zarr", *map(quote, stores)])
    return {
        "napari": [napari],
        "Fiji": [_write_tiff(volume, objects, are_frames=result.linked is not None)],
        "neuroglancer": [
            f"npx http-server --cors -p {PORT} .",
            _neuroglancer(images, objects, volume.told_size_nm),
        ],
    }


def _write_tiff(volume: IngestedVolume, objects: str, *, are_frames: bool) -> str:
    """Write image and objects as hyperstacks of ImageJ, with the size of a voxel."""
    depth = volume.shape[0]
    is_small = 4 * volume.num_channels * prod(volume.shape) <= MOST_TIFF_BYTES
    where = ":" if is_small else f"{depth // 2}:{depth // 2 + 1}"
    name, along = volume.volume, "T" if are_frames else "Z"
    read = 'zarr.open_array({}, mode="r")[{}{}]'
    image = read.format(_text(_level(str(volume.image.store))), ":, ", where)
    found = read.format(_text(_level(objects)), "", where)
    kept = "" if volume.dtype in IMAGEJ_DTYPES else '.astype("float32")'
    size_nm = volume.told_known_nm
    lines = [
        "import zarr, tifffile",
        _save(
            f"{name}_image.tif", f"{image}.swapaxes(0, 1){kept}", f"{along}CYX", size_nm
        ),
        _save(
            f"{name}_objects.tif", f'{found}.astype("float32")', f"{along}YX", size_nm
        ),
    ]
    return f"python -c {quote('; '.join(lines))}"


def _save(name: str, voxels: str, axes: str, size_nm: ToldSize | None) -> str:
    """Return the line of Python that saves a hyperstack."""
    about: dict[str, Any] = {"axes": axes}
    resolution = ""
    if size_nm:
        z, *plane = size_nm
        y, x = (length / 1000 for length in plane)
        # ImageJ takes a distance that is not there for 1, of the unit of x.
        about |= {"spacing": z / 1000} if z else {"zunit": "pixel"}
        about["unit"] = "um"
        resolution = f"resolution=({1 / x:.9g}, {1 / y:.9g}), "
    return (
        f"tifffile.imwrite({_text(name)}, {voxels}, imagej=True, {resolution}"
        f"metadata={json.dumps(about)})"
    )


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
    surfaces are shown, ``channel`` is the one of an image that is shown first.
    """

    kind: str
    name: str
    at: str
    form: str = "zarr3"
    chosen: tuple[int, ...] = ()
    channel: int = 0


def probability_layer(outputs: Outputs, at: str) -> Layer:
    """Return a probability as a layer that begins with the foreground.

    It is the first of what is stored, affinities follow; of several classes the first
    is the background.
    """
    return Layer("image", "probability", at, channel=1 if outputs.classes else 0)


def neuroglancer_state(
    layers: Iterable[Layer], base: str, voxel_size_nm: ToldSize
) -> str:
    """Return what neuroglancer is to show, stores below an address, as JSON."""
    # Else the first panel shows z across: axes are z, y, x in the stores.
    z, y, x = voxel_size_nm
    is_known = voxel_size_nm != UNKNOWN_SIZE
    lengths = zip("xyz", (x, y, z or y), strict=True)
    dimensions: dict[str, Any] = {
        axis: [length / 1e9, "m"] if is_known else [1, ""] for axis, length in lengths
    }
    scales = {}
    if z is None:  # as the stores have it; but beside metres a number is no length
        dimensions["z"], scales = [y, ""], {"relativeDisplayScales": {"z": 1e-9}}
    shown: list[dict[str, Any]] = []
    for one in layers:
        source: Any = f"{one.form}://{base}{one.at}"
        if one.form == PRECOMPUTED:
            source = {"url": source, "transform": _centred(dimensions)}
        shown.append({"type": one.kind, "name": one.name, "source": source})
        if one.kind == "image":  # else neuroglancer begins in the middle
            axis = {"c'": [1, ""]}
            shown[-1] |= {"localDimensions": axis, "localPosition": [one.channel]}
        if one.chosen:
            ids = list(map(str, one.chosen))
            shown[-1] |= {"segments": ids, "notSelectedAlpha": 0.3}
    state = {"dimensions": dimensions, **scales, "layers": shown}
    return json.dumps(state, separators=(",", ":"))


def _centred(dimensions: dict[str, Any]) -> dict[str, Any]:
    """Return how precomputed voxels lie where those of OME-Zarr do.

    These have their centres at whole numbers, precomputed ones their corners, and
    nanometres even where nobody knows the size of a voxel.
    """
    rows = [[float(a == b) for b in dimensions] + [-0.5] for a in dimensions]
    told = {"inputDimensions": dimensions, "outputDimensions": dimensions}
    return told | {"matrix": rows}


def _neuroglancer(images: list[Layer], objects: str, size_nm: ToldSize) -> str:
    """Open an address that shows stores which this computer serves.

    Stores outside the folder are left out: the server does not reach them.
    """
    layers = [*images, Layer("segmentation", "objects", objects)]
    inside = [one for one in layers if not one.at.startswith(("/", ".."))]
    state = neuroglancer_state(inside, f"http://localhost:{PORT}/", size_nm)
    return f"xdg-open {quote(f'{NEUROGLANCER}/#!{state}')}"
