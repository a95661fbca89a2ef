"""A predicted volume whose crops may be proposed: what is stored of it, and files."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetpipe.evaluation.proposals import (
    Crops,
    Values,
    measure_proposals,
    proposal_lattice,
)
from unetpipe.records import Value
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.proposals import IMAGE, PREDICTED
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume, OriginalGrid
from unetpipe.storage.volumes import open_volume, read_stored_roi, shard_shape
from unetpipe.targets.likeness import looks_of_sections, novelty_of_sections
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx
from unetpipe.tiling.resampling import nearest_voxels

BLANK = "blank"


class PredictedVolume(Value):
    """The records of a volume, and of what networks made of it.

    Attributes
    ----------
    volume : str
    ingest : Path
    models, predictions, segmentations : tuple of Path
        ``model.json``, ``prediction.json``, ``segmentation.json`` of each network that
        predicted it; objects are those of the first.
    annotated : tuple of int or None
        Sections with a role other than ``predict``; None: all.
    """

    volume: str
    ingest: Path
    models: tuple[Path, ...]
    predictions: tuple[Path, ...]
    segmentations: tuple[Path, ...]
    annotated: tuple[int, ...] | None = ()


class ProposedVolume:
    """The stored images of a predicted volume.

    Parameters
    ----------
    files : PredictedVolume
    is_scaled_again : bool
        The next training resamples all volumes, by ``ingest.scale``: crops are written
        on the grid of the volume's files.
    """

    def __init__(
        self, files: PredictedVolume, *, is_scaled_again: bool = False
    ) -> None:
        self.files = files
        self._is_scaled_again = is_scaled_again
        self.ingested = IngestedVolume.read(files.ingest)
        self._model = Model.read(files.models[0])
        self._segmented = Segmentation.read(files.segmentations[0])
        stores = [
            Prediction.read(path).outputs.probability.store
            for path in files.predictions
        ]
        self._probabilities = [open_volume(store) for store in stores]
        self.num_classes = self._model.spec.num_classes
        self.ndim = self._model.spec.ndim

    @property
    def voxel_size_nm(self) -> tuple[float, float, float] | None:
        """The size of a voxel of a crop that is written, if anybody said it."""
        size, original = self.ingested.known_size_nm, self._original
        return original.voxel_size_nm if size and original else size

    def place_in_files(self, start: Zyx) -> Zyx | None:
        """Return the voxel of the files that is the first of a crop.

        None where the next training takes the files as they are, and this one did not.
        """
        if self.ingested.original is None:
            return start
        if self._original is None:
            return None
        pairs = zip(start, self.ingested.shape, self._original.shape, strict=True)
        return as_zyx(round(edge * theirs / ours) for edge, ours, theirs in pairs)

    @property
    def _original(self) -> OriginalGrid | None:
        return self.ingested.original if self._is_scaled_again else None

    def crops(self, side: int) -> Crops:
        """Measure all crops of the volume."""
        shape = self.ingested.shape
        array = self._probabilities[0]
        # With two classes the foreground decides, whatever else is stored.
        deciding = slice(1 if self.num_classes == 2 else None)
        entropy, disagreement, means = measure_proposals(
            lambda roi: [
                read_stored_roi(one, roi)[deciding] for one in self._probabilities
            ],
            shape,
            shard_shape(array),
            side,
            self._segmented.threshold,
        )
        is_free = np.ones(shape[0], bool)
        annotated = self.files.annotated
        is_free[slice(None) if annotated is None else list(annotated)] = False
        is_free[self._blank_sections()] = False
        return Crops(
            volume=self.files.volume,
            starts=(proposal_lattice(shape[1], side), proposal_lattice(shape[2], side)),
            side=(min(side, shape[1]), min(side, shape[2])),
            entropy=entropy,
            disagreement=disagreement,
            novelty=novelty_of_sections(self._model.learnt_sections, self.ingested),
            looks=self._looks(entropy, means),
            is_free=is_free,
        )

    def _blank_sections(self) -> list[int]:
        """Return the sections where there is nothing to annotate."""
        of_channels = self.ingested.sections.channels if self.ingested.sections else ()
        contrast = np.array([channel.std for channel in of_channels])
        # Where all sections hold one value, none is odd among the others.
        found = (
            np.flatnonzero((contrast == 0).all(axis=0)).tolist() if of_channels else []
        )
        for odd in self.ingested.odd_sections:
            if odd.what == BLANK:
                found += odd.sections
        return found

    def _looks(self, entropy: Values, means: Values) -> Values:
        """Return what crops look like, to the network and of what it found there."""
        of_sections = looks_of_sections(self.ingested)
        everywhere = np.broadcast_to(
            of_sections[:, None, None], (*entropy.shape, of_sections.shape[1])
        )
        return np.concatenate([entropy[..., None], means, everywhere], axis=-1)

    def write(self, roi: Roi, folder: Path) -> None:
        """Write image and predicted ids of a crop of one section, as TIFF.

        With more than two classes the classes are written in place of ids.
        """
        folder.mkdir(parents=True, exist_ok=True)
        image = read_stored_roi(open_volume(self.ingested.image.store), roi)[:, 0]
        shown = image if len(image) > 1 else image[0]
        store = (
            self._segmented.objects if self.num_classes == 2 else self._segmented.store
        )
        found = read_stored_roi(open_volume(store), roi)
        labels = found[0] if found.ndim == 3 else found[0, 0]
        if self.num_classes == 2:
            labels = number_proposed_ids(labels)
        _write(folder / IMAGE, self._as_filed(shown, roi))
        _write(folder / PREDICTED, self._as_filed(labels, roi))

    def _as_filed(self, voxels: NDArray[Any], roi: Roi) -> NDArray[Any]:
        """Return a crop (..., y, x) on the grid of the next training's files.

        Each voxel takes the nearest one, so that resampling gives them back.
        """
        if self._original is None:
            return voxels
        for axis in (-2, -1):
            ours, theirs = self.ingested.shape[axis], self._original.shape[axis]
            start, stop = roi.start[axis], roi.stop[axis]
            wanted = (round(edge * theirs / ours) for edge in (start, stop))
            places = nearest_voxels(ours, theirs, *wanted) - start
            voxels = np.take(voxels, places.clip(0, stop - start - 1), axis)
        return voxels


def number_proposed_ids(ids: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Return ids 1, 2, ... in the order of the old ones: editors know 16 bits."""
    _, inverse = np.unique(ids, return_inverse=True)
    numbers = inverse.reshape(ids.shape) + (1 if ids.all() else 0)
    return numbers.astype(np.min_scalar_type(max(256, int(numbers.max()))))


def _write(path: Path, voxels: NDArray[Any]) -> None:
    tifffile.imwrite(
        path,
        voxels,
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": "CYX" if voxels.ndim == 3 else "YX"},
    )
