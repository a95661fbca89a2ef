"""The stores of one volume that are compared with each other, read box by box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.frames import read_frame
from unetpipe.metrics.cell_tracking import check_seg_field, field_border_vox
from unetpipe.records.metrics import Role
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume, Intensity, StoredLabels
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.storage.dropping import check_kept
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.targets.annotated import AROUND_BOXES
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    cells_of_boxes,
    grid_cell,
    iterate_grid,
    parts_in,
    whole_volume,
    windows_around,
)
from unetpipe.tiling.resampling import first_nearest, nearest_voxels

BOX_VOX = 512  # along y and x, of boxes that may be of any size
MOST_SECTION_VOXELS = 2**23  # of whole sections that are read together, or one

Bool = NDArray[np.bool_]
Places = tuple[NDArray[Any], ...]  # of rows and columns, to index with


class ScoredRow(TypedDict):
    """A row of the sheet, as the workflow tells it; sections None: all of them."""

    role: Role
    sections: list[int] | None


@dataclass(frozen=True, slots=True)
class EvaluationInputs:
    """The records of what is scored, and of the network that made it.

    Attributes
    ----------
    prediction, segmentation, ingest, model_json : Path
    """

    prediction: Path
    segmentation: Path
    ingest: Path
    model_json: Path


@dataclass(frozen=True, slots=True)
class ScoredRecords:
    """The records of a volume, and of a network that predicted and segmented it."""

    prediction: Prediction
    segmentation: Segmentation
    volume: IngestedVolume
    model: Model

    @classmethod
    def read(cls, inputs: EvaluationInputs) -> ScoredRecords:
        """Read all four."""
        return cls(
            Prediction.read(inputs.prediction),
            Segmentation.read(inputs.segmentation),
            IngestedVolume.read(inputs.ingest),
            Model.read(inputs.model_json),
        )

    @property
    def labels(self) -> StoredLabels:
        """The labels to score against.

        Raises
        ------
        DataError
            If the volume has none.
        """
        if self.volume.labels is None:
            raise DataError(
                f"volume {self.volume.volume} has no labels, so there is nothing to "
                "score against; give it labels, or the role predict"
            )
        return self.volume.labels


class ScoredVolume:
    """Image, labels, prediction and segmentation of a volume.

    Parameters
    ----------
    records : ScoredRecords
        Of the volume and the network.
    field_of_interest : int or str
        Voxels at the edge of a section that nobody annotated, or the name of a data
        set of the Cell Tracking Challenge.

    Raises
    ------
    GeometryError
        If the field of interest leaves nothing of a section.
    """

    def __init__(
        self,
        records: ScoredRecords,
        field_of_interest: int | str = 0,
    ) -> None:
        labels = records.labels
        self.records, self.stored_labels = records, labels
        self.shape = records.volume.shape
        border_vox = field_border_vox(field_of_interest)
        self.border_vox = records.volume.stored_vox(border_vox)
        check_seg_field(self.shape[1:], self.border_vox)
        self.num_classes = records.model.spec.num_classes
        self.has_cores = records.model.spec.has_cores
        heat = records.model.temperature
        self.temperature = heat.value if heat else None
        self.ndim = records.model.spec.ndim
        self.rois = labels.rois
        self.has_instances = labels.label_kind == "instances"
        self.unlabelled = labels.unlabelled
        self.image = open_volume(records.volume.image.store)
        self.labels = open_volume(labels.store)
        stored = records.prediction.outputs.probability.store
        check_kept(stored)
        self.probability = open_volume(stored)
        self.classes = open_volume(records.segmentation.store)
        self.objects = open_volume(records.segmentation.objects)
        self.grey_channel = 0  # whose grey values baselines see

    @property
    def name(self) -> str:
        """Of the volume in the sheet."""
        return self.records.volume.volume

    @property
    def intensity(self) -> Intensity:
        """What the grey values are normalised by."""
        return self.records.volume.intensities[self.grey_channel]

    @property
    def chosen_by(self) -> str | None:
        """The metric that chose the network; None: nobody knows."""
        recipe = self.records.model.recipe
        return recipe.validation_metric if recipe else None

    @property
    def has_ids(self) -> bool:
        """Whether objects are scored: labels have ids, or objects chose the network.

        In a mask without ids the true objects are its connected components.
        """
        metric = self.chosen_by
        is_mask = self.stored_labels.label_kind == "binary" and self.num_classes == 2
        return self.has_instances or (is_mask and metric in ("f1", "seg"))

    @property
    def objects_span_sections(self) -> bool:
        """Whether an object may lie in several sections."""
        return self.records.segmentation.identity.settings.connectivity == "3d"

    def sections(self, row: ScoredRow) -> list[int]:
        """Return the section numbers of a row of the sheet."""
        if row["sections"] is None:
            return list(range(self.shape[0]))
        return list(row["sections"])

    def roles(self, rows: list[ScoredRow]) -> dict[Role, list[int]]:
        """Return the sections of each role that is scored, of rows of the sheet.

        Of labels of boxes, those that a box reaches.
        """
        scored: tuple[Role, ...] = ("validate", "test")
        roles = {
            role: sorted(
                z
                for z in {
                    z for row in rows if row["role"] == role for z in self.sections(row)
                }
                if any(b.start[0] <= z < b.stop[0] for b in self.rois or self.windows)
            )
            for role in scored
        }
        return {role: numbers for role, numbers in roles.items() if numbers}

    @cached_property
    def windows(self) -> list[Roi]:
        """What is read: all, or boxes of labels and what lies around them."""
        if self.rois is None:
            return [whole_volume(self.shape)]
        return windows_around(self.rois, AROUND_BOXES, self.shape)

    def boxes(self, numbers: list[int]) -> Iterator[ScoredBox]:
        """Yield what is read of some sections, in boxes of bounded size."""
        depth, *chunk = self.labels.chunks
        step = as_zyx([depth, *(max(c, BOX_VOX // c * c) for c in chunk)])
        if self.rois is None:
            cells: Iterable[Zyx] = iterate_grid(whole_volume(self.shape), step)
        else:
            cells = cells_of_boxes(self.windows, step)
        for index in cells:
            for part in parts_in(self.windows, grid_cell(index, step, self.shape)):
                inside = [z for z in numbers if part.start[0] <= z < part.stop[0]]
                if inside:
                    yield ScoredBox(self, inside, part)

    def whole_sections(self, numbers: list[int]) -> Iterator[ScoredBox]:
        """Yield some sections whole, one or a few at a time."""
        for start, stop in self._layers(self.sections_together):
            inside = [z for z in numbers if start <= z < stop]
            if inside:
                yield ScoredBox(
                    self, inside, Roi((start, 0, 0), (stop, *self.shape[1:]))
                )

    def may_be_whole(self, number: int) -> bool:
        """Return whether a section may be annotated everywhere."""
        return self.rois is None or any(
            box.start[0] <= number < box.stop[0] and box.shape[1:] == self.shape[1:]
            for box in self.rois
        )

    def images(self, numbers: list[int]) -> Iterator[ScoredBox]:
        """Yield boxes in which objects are whole: of sections, or of ranges of them.

        Of labels of boxes, what lies in the windows around them.
        """
        if self.rois is None and not self.objects_span_sections:
            yield from self.whole_sections(numbers)
            return
        for group, box in enumerate(self.windows):
            (first, *low), (last, *high) = box.start, box.stop
            inside = [z for z in numbers if first <= z < last]
            most = max(1, MOST_SECTION_VOXELS // prod(box.shape[1:]))
            for run in _runs(inside, None if self.objects_span_sections else most):
                roi = Roi(as_zyx((run[0], *low)), as_zyx((run[-1] + 1, *high)))
                yield ScoredBox(self, run, roi, group)

    @property
    def sections_together(self) -> int:
        """Whole sections that are read together: a chunk's, if they are small."""
        most = max(1, MOST_SECTION_VOXELS // prod(self.shape[1:]))
        return min(int(self.labels.chunks[0]), most)

    def _layers(self, thickness: int) -> Iterator[tuple[int, int]]:
        for start in range(0, self.shape[0], thickness):
            yield start, min(start + thickness, self.shape[0])


def _runs(numbers: list[int], most: int | None) -> list[list[int]]:
    """Cut sections into runs that follow each other, of at most so many."""
    runs: list[list[int]] = []
    for z in numbers:
        if runs and runs[-1][-1] + 1 == z and len(runs[-1]) != most:
            runs[-1].append(z)
        else:
            runs.append([z])
    return runs


class ScoredBox:
    """A box of a scored volume; arrays are read when they are asked for.

    Attributes
    ----------
    numbers : list of int
        The sections in it that count.
    roi : Roi
        Its voxels.
    group : int
        Number of the window that it is a part of, where objects are numbered window by
        window.
    """

    def __init__(
        self, volume: ScoredVolume, numbers: list[int], roi: Roi, group: int = 0
    ) -> None:
        self.volume, self.numbers, self.roi, self.group = volume, numbers, roi, group

    @cached_property
    def grey(self) -> NDArray[Any]:
        """Grey values that baselines see, shape (z, y, x)."""
        channel = self.volume.grey_channel
        return np.asarray(self.volume.image[(channel, *self.roi.slices)])

    @cached_property
    def stored(self) -> NDArray[np.uint8]:
        """Foreground probability as stored; with more than two classes the class."""
        probability = self.volume.probability
        if self.volume.num_classes == 2 and probability.shape[0] == 1:
            return np.asarray(read_stored_roi(probability, self.roi)[0])
        if self.volume.num_classes == 2:
            return np.asarray(probability[(0, *self.roi.slices)])
        return np.asarray(read_stored_roi(self.volume.classes, self.roi))

    def class_probability(self, class_: int) -> NDArray[np.uint8]:
        """Return the stored probability of one of more than two classes."""
        return np.asarray(self.volume.probability[(class_, *self.roi.slices)])

    @cached_property
    def objects(self) -> NDArray[Any]:
        """Ids of the segmentation."""
        return read_stored_roi(self.volume.objects, self.roi)

    @cached_property
    def unknown(self) -> Bool:
        """Voxels that nobody annotated: no label, or outside the field of interest."""
        return np.asarray(self._unlabelled | ~self.field)

    @cached_property
    def _unlabelled(self) -> Bool:
        if self.volume.unlabelled is None:
            return np.zeros(self.roi.shape, bool)
        return np.asarray(self._labels == self.volume.unlabelled)

    @cached_property
    def instances(self) -> NDArray[Any]:
        """True ids, 0 where there is no label."""
        zero = np.zeros((), self._labels.dtype)
        return np.where(self._unlabelled, zero, self._labels)

    @cached_property
    def object_ids(self) -> NDArray[Any]:
        """True ids; of a mask, in a box of whole sections, those of its components."""
        if self.volume.has_instances:
            return self.instances
        connectivity: Connectivity = "3d" if self.volume.objects_span_sections else "2d"
        ids = label_components(self.instances > 0, connectivity)[0].astype(np.int64)
        first = self.roi.start[0] * prod(self.roi.shape[1:])
        ids[ids > 0] += first + self.group * prod(self.volume.shape)
        return ids

    @cached_property
    def drawn(self) -> NDArray[np.uint8]:
        """Class of each voxel as it was annotated, 0 where unknown."""
        if not self.volume.has_instances:
            return self.instances.astype(np.uint8)
        return (self.instances > 0).astype(np.uint8)

    @cached_property
    def truth(self) -> NDArray[np.uint8]:
        """Class that the network learns, with borders between cells that touch."""
        if not self.volume.has_instances:
            return self.instances.astype(np.uint8)
        grown, inside = self._grown()
        labels = read_stored_roi(self.volume.labels, grown)
        if self.volume.unlabelled is not None:
            labels[labels == self.volume.unlabelled] = 0
        return (self._separate(labels)[inside.slices] > 0).astype(np.uint8)

    @cached_property
    def apart(self) -> NDArray[np.uint8]:
        """Foreground probability as stored; with cores 0 between objects that touch.

        Masks of a network with cores are those of whole cells, and its objects are cut
        out of them: they are scored apart, as the truth is.
        """
        if not self.volume.has_cores:
            return self.stored
        grown, inside = self._grown()
        objects = read_stored_roi(self.volume.objects, grown)
        is_between = (objects != 0) & (self._separate(objects) == 0)
        return np.where(is_between[inside.slices], np.uint8(0), self.stored)

    def _separate(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Put background between ids that touch, in each section or across them."""
        if self.volume.ndim == 2:
            return np.stack([separate_touching(section) for section in ids])
        return separate_touching(ids)

    def markers(self, number: int) -> tuple[NDArray[Any], Places] | None:
        """Return the markers in a frame, one in each cell, if it has any.

        Frames of the Cell Tracking Challenge have them, annotated or not.

        Returns
        -------
        (markers, places)
            Shape (y, x), on the grid of their file, which may be finer or coarser than
            that of the volume; and where in the box each of these voxels lies. So none
            is lost, and each lies in one box.
        """
        paths = self.volume.stored_labels.markers
        path = paths[number] if paths else None
        if path is None:
            return None
        original = self.volume.records.volume.original
        of_file = self.volume.shape if original is None else original.shape
        inside, places = [], []
        for axis in (1, 2):
            grids = self.volume.shape[axis], of_file[axis]
            start, stop = self.roi.start[axis], self.roi.stop[axis]
            ends = first_nearest(*grids, start), first_nearest(*grids, stop)
            inside.append(slice(*ends))
            places.append(nearest_voxels(*grids, *ends) - start)
        return read_frame(Path(path), tuple(inside)), np.ix_(*places)

    def index(self, number: int) -> int:
        """Return where a section lies in the arrays."""
        return number - self.roi.start[0]

    @cached_property
    def field(self) -> Bool:
        """The field of interest that falls into the box, shape (y, x)."""
        border_vox = self.volume.border_vox
        is_inside = [
            (np.arange(a, b) >= border_vox) & (np.arange(a, b) < n - border_vox)
            for a, b, n in zip(
                self.roi.start[1:],
                self.roi.stop[1:],
                self.volume.shape[1:],
                strict=True,
            )
        ]
        return is_inside[0][:, None] & is_inside[1]

    @property
    def field_slices(self) -> tuple[slice, slice]:
        """Where, in whole sections, the field of interest lies: y, x."""
        border = self.volume.border_vox
        height, width = self.volume.shape[1:]
        return slice(border, height - border), slice(border, width - border)

    @cached_property
    def _labels(self) -> NDArray[Any]:
        return read_stored_roi(self.volume.labels, self.roi)

    def _grown(self) -> tuple[Roi, Roi]:
        """Return the box with a voxel around it, and where it lies in that."""
        reach = (0 if self.volume.ndim == 2 else 1, 1, 1)
        start = as_zyx(
            max(0, a - r) for a, r in zip(self.roi.start, reach, strict=True)
        )
        stop = as_zyx(
            min(b + r, n)
            for b, r, n in zip(self.roi.stop, reach, self.volume.shape, strict=True)
        )
        return Roi(start, stop), self.roi.relative_to(start)
