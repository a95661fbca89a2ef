"""Annotations of some frames of a sequence, as the Cell Tracking Challenge has them.

::

    01/t000.tif  t001.tif  t002.tif ...             frames
    01_GT/SEG/man_seg002.tif ...                    gold: cells of some frames, often
                                                    not of all cells in a frame
    01_GT/TRA/man_track000.tif ...                  a marker in each cell of each frame
    01_ST/SEG/man_seg000.tif ...                    silver: made by programs, all frames

Files are matched to frames by their numbers. What nobody annotated is unknown: frames
without a file, and the 0 of a gold frame with fewer cells than markers, except where
silver holds no cell either.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import AxisPlan, Index
from unetpipe.images.files import label_companions
from unetpipe.images.reader import ImageReader
from unetpipe.images.sequence import SequenceSource, open_section
from unetpipe.images.source import ImageSource

LARGEST_ID = 2**32 - 1
LISTED = 8


class FrameSource(ImageSource):
    """Labels of all frames: those annotated, and for the others one id, unlabelled.

    Parameters
    ----------
    labels : SequenceSource
        One file for each annotated frame.
    frames : list of int
        Number of each frame of the image.
    unlabelled : int or None
        Id of unknown voxels that the sheet names; None: the largest there is.
    """

    by_section = True

    def __init__(
        self, labels: SequenceSource, frames: list[int], unlabelled: int | None
    ) -> None:
        numbered = zip(labels.numbers(), labels.files, strict=True)
        self._annotated = {n: path for n, path in numbered if n is not None}
        self._frames = frames
        stray = sorted(self._annotated.keys() - set(frames))
        if stray:
            raise DataError(
                f"{self._annotated[stray[0]]} annotates frame {stray[0]}, but the "
                f"image has {len(frames)} frames, {min(frames)} to {max(frames)}; "
                "correct the sheet (image, labels) or the files"
            )
        self.dtype = np.promote_types(labels.dtype, np.uint32)
        self.shape, self.axes = (len(frames), *labels.shape[1:]), labels.axes
        self.is_palette, self.voxel_size = labels.is_palette, labels.voxel_size
        if unlabelled is None or (unlabelled < 0 and self.dtype.kind == "u"):
            unlabelled = LARGEST_ID
        self.unlabelled = unlabelled
        gold, self.markers, silver = label_companions(labels.files)
        self._silver = silver if gold else {}
        self.sparse = self._find_sparse() if gold and self.markers else []
        used = [
            self._silver[number] for number in self.sparse if number in self._silver
        ]
        self.files = (*labels.files, *self.markers.values(), *used)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the frames."""
        sections = range(*index[0].indices(len(self._frames)))
        shape = (len(sections), *(i.stop - i.start for i in index[1:]))
        out = np.full(shape, self.unlabelled, self.dtype)
        for k, section in enumerate(sections):
            number = self._frames[section]
            if number not in self._annotated:
                continue
            out[k] = read_frame(self._annotated[number], index[1:])
            if number in self.sparse:
                unknown = out[k] == 0
                if number in self._silver:
                    unknown &= read_frame(self._silver[number], index[1:]) != 0
                out[k][unknown] = self.unlabelled
        return out

    def where(self, section: int) -> str:
        """Name the file of a frame, or the frame."""
        number = self._frames[section]
        return str(self._annotated.get(number, f"frame {number}, which has no labels"))

    def marker_paths(self) -> list[str | None]:
        """Return the file of markers of each frame."""
        paths = [self.markers.get(number) for number in self._frames]
        return [None if path is None else str(path) for path in paths]

    def warnings(self) -> list[str]:
        """Say which frames are not annotated, or in part."""
        missing = len(self._frames) - len(self._annotated)
        found = []
        if missing:
            found.append(
                f"{missing} of {len(self._frames)} frames have no labels; they are "
                "unlabelled"
            )
        if self.sparse:
            numbers = ", ".join(map(str, self.sparse[:LISTED]))
            more = ", ..." if len(self.sparse) > LISTED else ""
            found.append(
                f"frames {numbers}{more} have fewer gold cells than markers; where "
                "neither gold nor silver holds a cell is background, the rest is "
                "unlabelled"
                if self._silver
                else f"frames {numbers}{more} have fewer gold cells than markers; what "
                "is no gold cell is unlabelled"
            )
        return found

    def _find_sparse(self) -> list[int]:
        """Return the annotated frames with fewer cells than markers."""
        return [
            number
            for number, path in self._annotated.items()
            if number in self.markers
            and _count_ids(path) < _count_ids(self.markers[number])
        ]


def spread_labelled_frames(
    labels: ImageReader, image: ImageReader, unlabelled: int | None
) -> ImageReader:
    """Return a reader of labels for all frames of the image, matched by number.

    Both must be sequences of files with a number each; else the labels come back as
    they are, to be matched by their place. So they do where they are as many as the
    frames and all numbers differ by the same: one is counted from 0, one from 1.

    Raises
    ------
    DataError
        If labels belong to a frame that the image does not have.
    """
    one, two = image.source, labels.source
    if not (isinstance(one, SequenceSource) and isinstance(two, SequenceSource)):
        return labels
    frames, annotated = one.numbers(), two.numbers()
    if not (are_numbered(frames) and are_numbered(annotated)):
        return labels
    has_companions = any(label_companions(two.files)[1:])
    if frame_number_offset(frames, annotated) is not None and not has_companions:
        return labels
    source = FrameSource(two, [n for n in frames if n is not None], unlabelled)
    labels.close()
    plan = AxisPlan(labels.plan.letters, source.shape)
    return ImageReader(source, plan, num_threads=1, is_labels=True)


def are_numbered(numbers: Sequence[int | None]) -> bool:
    """Tell whether each file has a number, and no two the same."""
    return None not in numbers and len(set(numbers)) == len(numbers)


def frame_number_offset(
    frames: Sequence[int | None], annotated: Sequence[int | None]
) -> int | None:
    """Return by how much all numbers of labels exceed those of their frames.

    None where the numbers contradict the places: there are fewer labels than frames, or
    gaps at different places.

    Examples
    --------
    >>> frame_number_offset([0, 1, 2], [1, 2, 3])
    1
    >>> frame_number_offset([0, 1, 3], [0, 2, 3]) is None
    True
    """
    pairs = zip(frames, annotated, strict=False)
    offsets = {b - a for a, b in pairs if a is not None and b is not None}
    is_whole = len(frames) == len(annotated) and len(offsets) == 1
    return offsets.pop() if is_whole else None


def read_frame(path: Path, inside: Index | None = None) -> NDArray[Any]:
    """Return one file of a sequence, or a box of it, shape (y, x)."""
    source = open_section(path, colours=False)
    try:
        return source.read(inside or tuple(slice(0, n) for n in source.shape))
    finally:
        source.close()


def _count_ids(path: Path) -> int:
    return int(np.count_nonzero(np.unique(read_frame(path))))
