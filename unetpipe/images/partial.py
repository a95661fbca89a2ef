"""Labels of a part of an image: of some boxes, or of a field of view.

::

    +-------------------------+
    |        +-----+          |     what lies in no box, and outside the field of view,
    |        | box |  +-----+ |     was annotated by nobody
    |        +-----+  | box | |
    |                 +-----+ |
    +-------------------------+
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isclose
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import AxisPlan, Index
from unetpipe.images.reader import ImageReader
from unetpipe.images.source import ImageSource
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, parts_in, whole_volume

NEARLY = 0.02  # of a voxel, or of its size: two lengths in files are alike


@dataclass(frozen=True, slots=True)
class LabelPart:
    """Labels, and the box of the image that they are of."""

    reader: ImageReader
    box: Roi

    def read(self, roi: Roi) -> NDArray[Any]:
        """Return labels of a box of the image that lies inside: (c, z, y, x)."""
        z, y, x = roi.relative_to(self.box.start).slices
        return self.reader.read_box(z.start, z.stop, y, x)


class PartialSource(ImageSource):
    """Labels of parts of an image as an array (c, z, y, x) of all of it.

    Parameters
    ----------
    parts : sequence of LabelPart
        They share no voxel; closed with this.
    shape : (z, y, x)
        Of the image.
    field : ImageReader or None
        Of the image's shape, or of one section that stands for all: other than 0 in
        the field of view. Closed with this.

    Attributes
    ----------
    field : ImageReader or None
        As given.
    boxes : tuple of Roi, or None
        What labels were given for; None: all of the image.
    """

    def __init__(
        self, parts: Sequence[LabelPart], shape: Zyx, field: ImageReader | None = None
    ) -> None:
        self.parts, self.field = tuple(parts), field
        first = parts[0].reader
        self.shape, self.axes = (first.shape[0], *shape), "czyx"
        self.dtype = np.result_type(*(part.reader.dtype for part in parts))
        if self.dtype.kind == "f":  # uint64 beside negative ids: no float holds them
            self.dtype = np.dtype(np.int64)
        self.voxel_size = first.source.voxel_size
        self.is_palette = first.source.is_palette
        whole = whole_volume(shape)
        is_whole = [part.box for part in parts] == [whole]
        self.boxes = None if is_whole else tuple(part.box for part in parts)
        self.files = tuple(p for r in self._readers for p in r.source.files)
        self.remarks = tuple(t for r in self._readers for t in r.source.remarks)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the labels, 0 where there are none."""
        channels, *place = index
        roi = _roi_of(place)
        out = np.zeros((self.shape[0], *roi.shape), self.dtype)
        for part in self.parts:
            for shared in parts_in([part.box], roi):
                out[(..., *shared.relative_to(roi.start).slices)] = part.read(shared)
        return out[channels]

    def known(self, roi: Roi) -> NDArray[np.bool_]:
        """Return which voxels of a box anybody annotated: (z, y, x)."""
        known = np.zeros(roi.shape, bool)
        for shared in parts_in([part.box for part in self.parts], roi):
            known[shared.relative_to(roi.start).slices] = True
        if self.field is not None:
            z, y, x = roi.slices
            first, last = (z.start, z.stop) if self.field.zyx[0] > 1 else (0, 1)
            known &= (self.field.read_box(first, last, y, x) != 0).any(axis=0)
        return known

    def where(self, section: int) -> str:
        """Name the file of a section: of the first box that has it."""
        for part in self.parts:
            if part.box.start[0] <= section < part.box.stop[0]:
                return part.reader.where(section - part.box.start[0])
        return self.parts[0].reader.where(0)

    def warnings(self) -> list[str]:
        """Return what is worth knowing of any of the files."""
        return [text for r in self._readers for text in r.source.warnings()]

    def all_files(self) -> tuple[Path, ...]:
        """Return the files of all parts, and of the field of view."""
        return tuple(path for reader in self._readers for path in reader.files)

    def recorded(self) -> tuple[Path, ...]:
        """Return what a record lists of all parts, and of the field of view."""
        return tuple(path for reader in self._readers for path in reader.recorded)

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers:
            reader.close()

    @property
    def _readers(self) -> list[ImageReader]:
        field = [self.field] if self.field else []
        return [*(part.reader for part in self.parts), *field]


def join_label_parts(
    parts: Sequence[LabelPart], shape: Zyx, field: ImageReader | None = None
) -> ImageReader:
    """Return a reader of labels of parts of an image; see ``PartialSource``."""
    source = PartialSource(parts, shape, field)
    plan = AxisPlan("czyx", source.shape)
    return ImageReader(source, plan, num_threads=1, is_labels=True)


def partial_label_source(reader: ImageReader) -> PartialSource | None:
    """Return the source of labels that are of a part of an image; None: of all."""
    return reader.source if isinstance(reader.source, PartialSource) else None


def labels_cover_a_part(labels: ImageReader, image: ImageReader) -> bool:
    """Return whether files say where in an image labels of another shape lie."""
    return labels.source.origin is not None and labels.zyx != image.zyx


def find_corner(labels: ImageReader, image: ImageReader) -> tuple[Zyx, str]:
    """Return the voxel of the image that is the first of labels, as files say.

    Returns
    -------
    corner : (z, y, x)
        The nearest voxel.
    remark : str
        By how much the labels lie beside their voxels; empty: they do not.

    Raises
    ------
    DataError
        If the labels' file says nothing of it, or its voxels have another size.
    """
    origin = labels.source.origin
    if origin is None:
        raise DataError(
            f"the image is {image.zyx} (z, y, x) in {image.files[0]}, the labels are "
            f"{labels.zyx} in {labels.files[0]}, which does not say where in the image "
            "they lie; write their first voxel into the column labels_at, such as "
            "16,512,768, or correct the sheet or the files"
        )
    _check_sizes(labels, image)
    # Levels of pyramids begin a part of a voxel further in.
    around = image.source.origin or (0.0, 0.0, 0.0)
    places = zip(origin, _relative_size(labels, image), around, strict=True)
    exact = [round(a * size - b, 6) for a, size, b in places]
    corner = as_zyx(floor(length + 0.5) for length in exact)
    off = [e - c for e, c in zip(exact, corner, strict=True)]
    if max(map(abs, off)) <= NEARLY:
        return corner, ""
    told = ", ".join(f"{length:.3g}" for length in off)
    return corner, (
        f"{labels.files[0]} lies {told} voxels (z, y, x) beside the image's voxels; "
        "the nearest ones are taken"
    )


def check_label_boxes(parts: Sequence[LabelPart], image: ImageReader) -> None:
    """Refuse boxes that leave the image, or share voxels.

    Raises
    ------
    DataError
        With the corners of both.
    """
    whole = whole_volume(image.zyx)
    for part in parts:
        if part.box.intersect(whole) != part.box:
            raise DataError(
                f"the labels in {_name(part)} leave the image, which reaches from "
                f"(0, 0, 0) to {image.zyx} in {image.files[0]}; correct labels_at, "
                "or the place that the file of the labels says"
            )
    for k, one in enumerate(parts):
        for other in parts[:k]:
            if parts_in([one.box], other.box):
                raise DataError(
                    f"the labels in {_name(other)} and in {_name(one)} share voxels; "
                    "boxes must lie apart: correct labels_at, or leave one of them out"
                )


def _name(part: LabelPart) -> str:
    return f"{part.reader.files[0]}, from {part.box.start} to {part.box.stop},"


def _check_sizes(labels: ImageReader, image: ImageReader) -> None:
    one, two = labels.voxel_size_nm, image.voxel_size_nm
    if one is None or two is None:
        return
    if not all(isclose(a, b, rel_tol=NEARLY) for a, b in zip(one, two, strict=True)):
        raise DataError(
            f"voxels are {one} nm (z, y, x) in {labels.files[0]}, {two} nm in "
            f"{image.files[0]}, so its place says nothing; name the level of the image "
            "with such voxels (column level), or correct the files"
        )


def _relative_size(labels: ImageReader, image: ImageReader) -> tuple[float, ...]:
    """Return the edges of a voxel of labels in voxels of the image: near 1.

    Files round them, and far from the first voxel that makes several voxels.
    """
    one, two = labels.voxel_size_nm, image.voxel_size_nm
    if one is None or two is None:
        return (1.0, 1.0, 1.0)
    return tuple(a / b for a, b in zip(one, two, strict=True))


def _roi_of(place: Sequence[slice]) -> Roi:
    return Roi(as_zyx(i.start for i in place), as_zyx(i.stop for i in place))
