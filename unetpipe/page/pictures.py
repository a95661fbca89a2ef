"""Pictures of stored sections, with what is needed to read them.

Sections are cropped to their middle, so that memory does not grow with the volume.
"""

from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.page.figures import (
    CROP_VOXELS,
    class_picture,
    error_map,
    grey_picture,
    middle_crop,
    object_picture,
    overlay,
    png_address,
)
from unetpipe.volumes import open_volume
from unetpipe.weight_map import separate_touching

Picture = dict[str, Any]
Record = dict[str, Any]

UNKNOWN_SIZE = (1.0, 1.0, 1.0)  # what a sheet without voxel_size_nm says


class SectionViewer:
    """Shows sections of one volume, and what a network made of them.

    Parameters
    ----------
    volume : dict
        ``ingest.json``.
    segmented : dict or None
        ``segmentation.json``.
    num_classes : int
        Classes of the network; with two, the stored mask is foreground.
    """

    def __init__(
        self, volume: Record, segmented: Record | None = None, num_classes: int = 2
    ) -> None:
        self.volume, self.num_classes = volume, num_classes
        self.image = open_volume(Path(volume["image"]["store"]))
        self.labels = self.result = self.objects = None
        if volume["labels"]:
            self.labels = open_volume(Path(volume["labels"]["store"]))
        if segmented:
            self.result = open_volume(Path(segmented["store"]))
            self.objects = open_volume(Path(segmented["objects"]))
        height, width = self.image.shape[-2:]
        self.window = (middle_crop(height), middle_crop(width))
        self.cropped = (
            f"middle {CROP_VOXELS} voxels of {height} x {width}"
            if max(height, width) > CROP_VOXELS
            else None
        )

    @property
    def num_sections(self) -> int:
        """How many sections the volume has."""
        return int(self.volume["shape"][0])

    @property
    def middle(self) -> int:
        """The section half-way through the volume."""
        return self.num_sections // 2

    def grey(self, z: int) -> NDArray[np.uint8]:
        """Return the first channel of a section as grey values."""
        return grey_picture(np.asarray(self.image[(0, z, *self.window)]))

    def raw(self, z: int) -> Picture:
        """Show a section as it is."""
        return self._picture(self.grey(z), f"section {z}, raw")

    def numbered(self, z: int) -> Picture:
        """Show the objects that were found in a section, each in a colour."""
        ids = np.asarray(self._read(self.objects, z))
        return self._picture(object_picture(self.grey(z), ids), "objects found")

    def compared(self, z: int) -> list[Picture]:
        """Show a section raw, with its errors, and the errors alone."""
        grey, result = self.grey(z), self._read(self.result, z)
        truth, unknown = self._truth(z)
        if self.num_classes > 2:
            wrong = (result != truth) & ~unknown
            over = class_picture(grey, result)
            errors = error_map(~wrong, np.ones_like(wrong), unknown)
        else:
            over = overlay(grey, truth > 0, result > 0, unknown)
            errors = error_map(truth > 0, result > 0, unknown)
        return [
            self._picture(grey, "raw"),
            self._picture(over, "prediction against truth"),
            self._picture(errors, "errors alone"),
        ]

    def _truth(self, z: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return class or foreground of each voxel, and where nobody annotated."""
        labels = self._read(self.labels, z)
        unlabelled = self.volume["labels"]["unlabelled"]
        unknown = np.zeros(labels.shape, bool)
        if unlabelled is not None:
            unknown = labels == unlabelled
        known = np.where(unknown, 0, labels)
        if self.volume["labels"]["label_kind"] == "instances":
            known = separate_touching(known)
        return known, unknown

    def _read(self, array: Any, z: int) -> NDArray[Any]:
        return np.asarray(array[(z, *self.window)])

    def _picture(self, pixels: NDArray[np.uint8], caption: str) -> Picture:
        return {
            "address": png_address(pixels),
            "caption": caption,
            "scale_bar": self._scale_bar(),
        }

    def _scale_bar(self) -> dict[str, Any] | None:
        """Return a round length, at most 30 % of the width, as percent and text."""
        if tuple(self.volume["voxel_size_nm"]) == UNKNOWN_SIZE:
            return None
        width = self.volume["voxel_size_nm"][2] * (
            self.window[1].stop - self.window[1].start
        )
        power = 10.0 ** floor(log10(0.3 * width))
        length = max(f * power for f in (1, 2, 5) if f * power <= 0.3 * width)
        text = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
        return {"percent": round(100 * length / width, 2), "text": text}


def choose_sections(
    best: list[int], worst: list[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return best and worst sections without showing one twice.

    Examples
    --------
    >>> choose_sections([5, 4, 3], [3, 4, 5])
    ((5, 4), (3,))
    >>> choose_sections([9, 8, 7], [1, 2, 3])
    ((9, 8, 7), (1, 2, 3))
    """
    num_different = len({*best, *worst})
    num_best = min(len(best), (num_different + 1) // 2)
    chosen = tuple(best[:num_best])
    return chosen, tuple(z for z in worst if z not in chosen)[: len(worst)]
