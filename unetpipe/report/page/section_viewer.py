"""Pictures of stored sections, with what is needed to read them.

Sections are cropped to their middle, so that memory does not grow with the volume.
"""

from functools import lru_cache
from math import floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.mistakes import Mistake
from unetpipe.report.page.painting import (
    CROP_VOXELS,
    Rgb,
    class_picture,
    error_map,
    grey_picture,
    label_picture,
    map_address,
    object_picture,
    paint_outlines,
    photo_address,
    shown_crop,
    shrink,
)
from unetpipe.report.page.run import Result
from unetpipe.segmentation.components import label_components
from unetpipe.storage.dropping import are_shards_dropped
from unetpipe.storage.volumes import open_volume
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.boxes import UNKNOWN_SIZE
from unetpipe.tiling.scale import ToldSize

Picture = dict[str, Any]
Window = tuple[slice, slice]

NUM_COLOURS = 3
ZOOM_VOXELS = 96  # of a window around a mistake
SMALL_PIXELS = 320  # smaller pictures are enlarged without blur


class SectionViewer:
    """Shows sections of one volume, and what a network made of them.

    Parameters
    ----------
    volume : IngestedVolume
    result : Result or None
    num_classes : int
        Classes of the network; with two, the stored mask is foreground.
    side : int
        Pixels along the longer side of a picture, at most.
    """

    def __init__(
        self,
        volume: IngestedVolume,
        result: Result | None = None,
        *,
        num_classes: int = 2,
        side: int = CROP_VOXELS,
    ) -> None:
        self.volume, self.num_classes, self.side = volume, num_classes, side
        self.image = open_volume(volume.image.store)
        self.labels = self.result = self.objects = self.probability = None
        if volume.labels:
            self.labels = open_volume(volume.labels.store)
        if result:
            self.result = open_volume(result.segmentation.store)
            self.objects = open_volume(result.segmentation.objects)
            stored = result.plan.outputs.probability.store
            # It may have been deleted to save space.
            is_there = stored.exists() and not are_shards_dropped(stored)
            self.probability = open_volume(stored) if is_there else None
        height, width = self.image.shape[-2:]
        self.window: Window = (shown_crop(height), shown_crop(width))
        self.cropped = (
            f"middle {CROP_VOXELS} voxels of {height} x {width}"
            if max(height, width) > CROP_VOXELS
            else None
        )
        self.read = lru_cache(maxsize=8)(self._read)

    @property
    def num_sections(self) -> int:
        """How many sections the volume has."""
        return self.volume.shape[0]

    @property
    def middle(self) -> int:
        """The section half-way through the volume."""
        return self.num_sections // 2

    @property
    def _label_kind(self) -> str:
        return self.volume.labels.label_kind if self.volume.labels else ""

    def raw(self, z: int) -> Picture:
        """Show a section as it is."""
        return self._photo(self._shown(z), f"section {z}, image")

    def compared(self, z: int) -> list[Picture]:
        """Show a section: image, labels, probability, errors."""
        truth, unknown = self.truth(z)
        if self._label_kind == "classes":
            labels = class_picture(np.zeros(truth.shape, np.uint8), truth, opacity=1)
        else:
            labels = label_picture(truth, unknown, flat=self._label_kind == "binary")
        return [
            self._photo(self._shown(z), "image"),
            self._map(labels, "labels"),
            *self._probabilities(z),
            self.errors(z, "errors"),
        ]

    def found(self, z: int) -> list[Picture]:
        """Show a section without labels: image, probability, objects."""
        return [
            self._photo(self._shown(z), f"section {z}, image"),
            *self._probabilities(z),
            self.coloured(z, "objects found"),
        ]

    def coloured(self, z: int, caption: str) -> Picture:
        """Show a section with a colour over each object that was found."""
        ids = self.read("objects", z)
        return self._photo(object_picture(self._shown(z), ids), caption)

    def truth(self, z: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return class, or id with borders, of each voxel, and what is unlabelled."""
        labels = self.read("labels", z)
        unlabelled = self.volume.labels.unlabelled if self.volume.labels else None
        unknown = np.zeros(labels.shape, bool)
        if unlabelled is not None:
            unknown = labels == unlabelled
        known = np.where(unknown, 0, labels)
        if self._label_kind == "instances":
            known = separate_touching(known)
        return known, unknown

    def objects_of(
        self, z: int
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Return ids of true and of found objects, and what is unlabelled.

        Without true ids those are the section's own 4-connected components.
        """
        truth, unknown = self.truth(z)
        if self._label_kind == "instances":
            return truth, self.read("objects", z), unknown
        components = label_components(truth[None] != 0, "2d")[0][0]
        return components, self.read("objects", z), unknown

    def zoomed(self, z: int, mistake: Mistake) -> list[Picture]:
        """Show the surroundings of a mistake: image with labels' outline, both ids."""
        truth, result, unknown = self.objects_of(z)
        window = tuple(
            around(at, length)
            for at, length in zip((mistake.y, mistake.x), truth.shape, strict=True)
        )
        hidden = np.zeros_like(unknown)
        pictures = [
            paint_outlines(self._shown(z)[window], truth[window]),
            label_picture(truth[window], unknown[window], flat=False),
            label_picture(result[window], hidden[window], flat=False),
        ]
        names = ("image, true outlines", "true objects", "objects found")
        return [
            {
                "address": map_address(picture),
                "caption": name,
                "size": picture.shape[1::-1],
                "is_small": True,
                "scale_bar": None,
            }
            for picture, name in zip(pictures, names, strict=True)
        ]

    def errors(self, z: int, caption: str) -> Picture:
        """Show where the result differs from the labels."""
        return self._map(self._errors(z), caption)

    def _errors(self, z: int) -> Rgb:
        truth, unknown = self.truth(z)
        result = self.read("result", z)
        if self.num_classes > 2:
            wrong = (result != truth) & ~unknown
            return error_map(~wrong, np.ones_like(wrong), unknown)
        return error_map(truth > 0, result > 0, unknown)

    def _probabilities(self, z: int) -> list[Picture]:
        """Show what is stored, of several classes the most probable; or nothing."""
        if self.probability is None:
            return []
        channels = slice(1) if self.num_classes == 2 else slice(None)
        stored = np.asarray(self.probability[(channels, z, *self.window)])
        caption = "probability" if len(stored) == 1 else "probability of the class"
        return [self._photo(stored.max(axis=0), caption)]

    def _shown(self, z: int) -> NDArray[np.uint8]:
        """Return a section in its three colours, else the first channel in grey."""
        if self.volume.num_channels != NUM_COLOURS:
            return grey_picture(self.read("image", z))
        colours = np.asarray(self.image[(slice(None), z, *self.window)])
        return np.ascontiguousarray(np.moveaxis(grey_picture(colours), 0, -1))

    def _read(self, name: str, z: int) -> NDArray[Any]:
        array = getattr(self, name)
        first = (0, z) if array.ndim == 4 else (z,)
        return np.asarray(array[(*first, *self.window)])

    def _photo(self, pixels: NDArray[np.uint8], caption: str) -> Picture:
        small = shrink(pixels, self.side, mean=True)
        return self._picture(photo_address(small), small, caption)

    def _map(self, pixels: Rgb, caption: str) -> Picture:
        small = shrink(pixels, self.side, mean=False)
        return self._picture(map_address(small), small, caption)

    def _picture(self, address: str, pixels: NDArray[Any], caption: str) -> Picture:
        return {
            "address": address,
            "caption": caption,
            "size": pixels.shape[1::-1],
            "is_small": max(pixels.shape) <= SMALL_PIXELS,
            "scale_bar": self._scale_bar(),
        }

    def _scale_bar(self) -> dict[str, Any] | None:
        """Return a round length, at most 30 % of the width, as percent and text."""
        size = told_voxel_size(self.volume)
        if size is None:
            return None
        width = size[2] * (self.window[1].stop - self.window[1].start)
        power = 10.0 ** floor(log10(0.3 * width))
        length = max(f * power for f in (1, 2, 5) if f * power <= 0.3 * width)
        text = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
        return {"percent": round(100 * length / width, 2), "text": text}


def told_voxel_size(volume: IngestedVolume) -> ToldSize | None:
    """Return the size of a voxel, if anybody told it, in an early record as well."""
    is_unknown = volume.known_size_nm is None and volume.voxel_size_nm == UNKNOWN_SIZE
    return None if is_unknown else volume.told_size_nm


def around(at: int, length: int) -> slice:
    """Return a window around a place that stays inside an axis.

    Examples
    --------
    >>> around(3, 200), around(150, 200), around(7, 20)
    (slice(0, 96, None), slice(102, 198, None), slice(0, 20, None))
    """
    start = max(0, min(at - ZOOM_VOXELS // 2, length - ZOOM_VOXELS))
    return slice(start, min(length, start + ZOOM_VOXELS))
