"""What viewers are shown of a run: layers of each volume, and addresses of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from urllib.parse import quote as encode

from unetpipe.records.exports import PrecomputedCopy
from unetpipe.records.prediction import Prediction
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.commands import (
    NEUROGLANCER,
    PRECOMPUTED,
    Layer,
    neuroglancer_state,
    probability_layer,
)
from unetpipe.runtime.files import hash_of
from unetpipe.storage.dropping import are_shards_dropped
from unetpipe.tiling.scale import ToldSize

MOST_SHOWN = 50  # surfaces that an address asks for
SAFE = "{}[]:,/"  # what browsers leave alone behind #


@dataclass(frozen=True, slots=True)
class View:
    """A volume as a viewer shows it: the image, and what one network made of it.

    Attributes
    ----------
    title : str
        Volume, and network if there is one.
    layers : tuple of Layer
        Each with the name of its store on the server.
    folders : tuple of Path
        Their stores, one each.
    napari : tuple of Path
        What napari opens: the mask brings its objects with it.
    voxel_size_nm : (z, y, x)
        Where z is None, nobody knows it, or sections are frames.
    """

    title: str
    layers: tuple[Layer, ...]
    folders: tuple[Path, ...]
    napari: tuple[Path, ...]
    voxel_size_nm: ToldSize

    @property
    def stores(self) -> dict[str, Path]:
        """Names on the server, and folders."""
        pairs = zip(self.layers, self.folders, strict=True)
        return {layer.at: folder for layer, folder in pairs}

    def napari_command(self) -> str:
        """Return the command that opens it, for a shell."""
        stores = [quote(str(store)) for store in self.napari]
        return " ".join(["napari --plugin napari-ome-zarr", *stores])

    def neuroglancer(self, address: str) -> str:
        """Return neuroglancer's address of it, served at an address with a slash."""
        state = neuroglancer_state(self.layers, address, self.voxel_size_nm)
        return f"{NEUROGLANCER}/#!{encode(state, safe=SAFE)}"


def list_views(
    ingests: Iterable[Path], predictions: Iterable[dict[str, str]]
) -> Iterator[View]:
    """Yield what there is to see: of each network and volume, then bare images.

    Parameters
    ----------
    ingests : iterable of Path
        ``ingest.json`` of all volumes; those that are not there are passed over.
    predictions : iterable of dict
        ``model``, ``volume``, and the paths ``prediction``, ``segmentation`` and
        ``precomputed``.
    """
    found = {
        volume.volume: volume
        for path in ingests
        if (volume := IngestedVolume.read_if_there(path))
    }
    shown = set()
    for files in predictions:
        volume = found.get(files["volume"])
        view = _of_prediction(files, volume) if volume else None
        if view and volume:
            shown.add(volume.volume)
            yield view
    for name, volume in found.items():
        if name not in shown:
            layer = Layer("image", "image", f"volumes/{name}/image")
            store = volume.image.store
            yield View(name, (layer,), (store,), (store,), volume.told_size_nm)


def _of_prediction(files: dict[str, str], volume: IngestedVolume) -> View | None:
    """Return what a network made of a volume, None if it is not there yet."""
    predicted = Prediction.read_if_there(Path(files["prediction"]))
    segmented = Segmentation.read_if_there(Path(files["segmentation"]))
    if predicted is None and segmented is None:
        return None
    model, name = files["model"], volume.volume
    layers = [Layer("image", "image", f"volumes/{name}/image")]
    folders, opened = [volume.image.store], [volume.image.store]
    if predicted and not are_shards_dropped(
        store := predicted.outputs.probability.store
    ):
        at = f"{model}/{name}/probability"
        layers.append(probability_layer(predicted.outputs, at))
        folders.append(store)
        opened.append(store)
    if segmented:
        layer, folder = _objects_of(segmented, Path(files["precomputed"]))
        layers.append(replace(layer, at=f"{model}/{name}/{layer.at}"))
        folders.append(folder)
        opened.append(segmented.store)
    title = f"{name} by {model}"
    size_nm = volume.told_size_nm
    return View(title, tuple(layers), tuple(folders), tuple(opened), size_nm)


def _objects_of(segmented: Segmentation, record: Path) -> tuple[Layer, Path]:
    """Return the objects for neuroglancer: with their surfaces, if these have any."""
    copy = PrecomputedCopy.read_if_there(record)
    is_same = copy and copy.objects == hash_of(segmented.identity.to_json())
    if copy and is_same and copy.num_meshes:
        folder = copy.folder / "objects"
        ids = sorted(int(path.name.split(":")[0]) for path in folder.glob("mesh/*:0:0"))
        chosen = tuple(ids[:MOST_SHOWN])
        at = ("segmentation", "objects", "surfaces", PRECOMPUTED)
        return Layer(*at, chosen), folder
    return Layer("segmentation", "objects", "objects"), segmented.objects
