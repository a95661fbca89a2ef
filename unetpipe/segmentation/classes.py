"""What objects are made of: the class of each voxel, and its stored probability."""

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError
from unetpipe.records.prediction import Outputs
from unetpipe.records.segmentation import ObjectSettings
from unetpipe.segmentation.thresholds import choose_classes
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.quantised import threshold_mask

Classes = NDArray[np.uint8]
CORE = 1  # place of its probability, where the network predicts one


class ClassSource:
    """Classes of the voxels of a prediction.

    Parameters
    ----------
    outputs : Outputs
        The stores of the prediction.
    settings : ObjectSettings
        Of the segmentation, choices filled in: ``threshold``,
        ``seed_threshold`` and ``flood_threshold`` with two classes; with more
        ``class_thresholds`` and ``object_classes``.
    has_affinities : bool
        Whether the network predicts affinities.

    Raises
    ------
    ConfigError
        If they are asked for, and it does not.
    """

    def __init__(
        self, outputs: Outputs, settings: ObjectSettings, *, has_affinities: bool
    ) -> None:
        self._threshold = settings.threshold
        flooded = settings.flood_threshold
        self._flood_threshold = min(
            self._threshold, self._threshold if flooded is None else flooded
        )
        self._seed_threshold = max(self._threshold, settings.seed_threshold or 0.0)
        self._chosen = settings.object_classes
        self._class_thresholds = settings.class_thresholds
        self._probability = open_volume(outputs.probability.store)
        self._classes = None
        num_stored = self._probability.shape[0]
        if settings.method == "mutex" and not has_affinities:
            raise ConfigError(
                "segmentation.method is mutex, but the network was not trained to "
                "predict affinities (network.targets); use another method"
            )
        self._has_cores = not (outputs.classes or has_affinities) and num_stored > 1
        if outputs.classes:
            self._classes = open_volume(outputs.classes.store)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, told apart by the threshold."""
        return self._classes is None

    def shown(self, roi: Roi) -> Classes:
        """Return what viewers see of a box: all classes, shape (z, y, x)."""
        if self._classes is not None:
            if self._class_thresholds:
                stored = read_stored_roi(self._probability, roi)
                return choose_classes(stored, self._class_thresholds)
            return np.asarray(read_stored_roi(self._classes, roi), np.uint8)
        stored = read_stored_roi(self._probability, roi)[0]
        return threshold_mask(stored, self._threshold).view(np.uint8)

    def classes(self, roi: Roi) -> Classes:
        """Return the class of voxels that make objects, 0 elsewhere."""
        return self._choose(self.shown(roi))

    def read(self, roi: Roi) -> tuple[Classes, NDArray[np.uint8]]:
        """Return the same, and the stored probability of that class."""
        if self._classes is None:
            stored = read_stored_roi(self._probability, roi)[0]
            return threshold_mask(stored, self._threshold).view(np.uint8), stored
        classes = self.classes(roi)
        stored = np.zeros_like(classes)
        for class_ in self.object_classes(classes):
            channel = np.asarray(self._probability[(class_, *roi.slices)])
            np.copyto(stored, channel, where=classes == class_)
        return classes, stored

    def read_region(self, roi: Roi) -> tuple[Classes, NDArray[np.uint8], Classes]:
        """Return the same, of voxels that hold seeds, and what may be flooded."""
        classes, stored = self.read(roi)
        region = classes
        if self._classes is None and self._seed_threshold > self._threshold:
            classes = threshold_mask(stored, self._seed_threshold).view(np.uint8)
        if self._classes is None and self._flood_threshold == 0:
            region = np.ones_like(classes)
        elif self._classes is None:
            region = threshold_mask(stored, self._flood_threshold).view(np.uint8)
        return classes, stored, region

    def num_foreground(self, classes: Classes, stored: NDArray[np.uint8]) -> int:
        """Return how many voxels of ``read_region`` are foreground, seeds or not."""
        if self._classes is None:
            return int(np.count_nonzero(threshold_mask(stored, self._threshold)))
        return int(np.count_nonzero(classes))

    def read_affinities(self, roi: Roi) -> tuple[Classes, NDArray[np.bool_]]:
        """Return foreground and affinities as stored, and the voxels of objects."""
        stored: Classes = read_stored_roi(self._probability, roi)
        if self._flood_threshold == 0:
            return stored, np.ones(roi.shape, bool)
        return stored, threshold_mask(stored[0], self._flood_threshold)

    def read_core(self, roi: Roi) -> NDArray[np.uint8]:
        """Return the stored probability of a core.

        Raises
        ------
        ConfigError
            If the network predicts none.
        """
        if not self._has_cores:
            raise ConfigError(
                "segmentation.seeds is learnt, but the network was not trained to "
                "predict cores (network.targets); use auto, or another kind of seeds"
            )
        core: NDArray[np.uint8] = read_stored_roi(self._probability, roi)[CORE]
        return core

    @staticmethod
    def object_classes(classes: Classes) -> list[int]:
        """Return the classes that occur, without background."""
        counts = np.bincount(classes.reshape(-1), minlength=1)
        return [int(class_) for class_ in np.flatnonzero(counts) if class_]

    def _choose(self, classes: Classes) -> Classes:
        if self._classes is None or self._chosen is None:
            return classes
        return np.where(np.isin(classes, self._chosen), classes, np.uint8(0))
