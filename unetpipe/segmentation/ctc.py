"""Results in the layout of the Cell Tracking Challenge, for the organisers' own tools.

::

    01_RES/mask000.tif  mask001.tif ...     uint16, one file a frame
    01_RES/res_track.txt                    label, first frame, last frame, parent or 0

Source: the challenge's "Naming and file content conventions".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.files import file_number

LARGEST_ID = 2**16 - 1
FRAME_FILE = re.compile(r"^t(\d{3,})$")
SEQUENCE = re.compile(r"^\d{2,}$")

Frame = NDArray[np.integer[Any]]


def name_result_folder(volume: str, images: list[str]) -> str:
    """Return the name of the folder of results: ``01_RES`` of the frames in ``01``.

    Parameters
    ----------
    volume : str
        Its name stands in where the frames lie in no numbered folder.
    images : list of str
        Paths of the image's files.

    Examples
    --------
    >>> name_result_folder("hela", ["DIC-C2DH-HeLa/01/t000.tif"])
    '01_RES'
    >>> name_result_folder("hela", ["stack.tif"])
    'hela_RES'
    """
    folders = {Path(path).parent.name for path in images}
    names = [folder for folder in folders if SEQUENCE.match(folder)]
    is_sequence = len(folders) == 1 and names and _are_frames(images)
    return f"{names[0] if is_sequence else volume}_RES"


def ctc_mask_names(images: list[str], num_frames: int) -> list[str]:
    """Return the file of each frame's mask, with the number of its image.

    Examples
    --------
    >>> ctc_mask_names(["01/t007.tif", "01/t008.tif"], 2)
    ['mask007.tif', 'mask008.tif']
    >>> ctc_mask_names(["stack.tif"], 2)
    ['mask000.tif', 'mask001.tif']
    """
    if len(images) == num_frames and _are_frames(images):
        digits = {len(_digits(path)) for path in images}
        return [f"mask{file_number(Path(p)):0{max(digits)}d}.tif" for p in images]
    digits_needed = max(3, len(str(num_frames - 1)))
    return [f"mask{number:0{digits_needed}d}.tif" for number in range(num_frames)]


class TrackIds:
    """New ids, 1 to 65535, for the objects of a sequence, frame by frame.

    An object keeps its id through all frames, and has a line in ``res_track.txt``. If
    there are too many objects for 16 bits, ids begin anew in each frame, and there are
    no tracks: SEG and DET do not need them.

    Parameters
    ----------
    tracks : int64 array, optional
        The track of each object by its id, 0 of one that is none; without them each
        object is a track.
    parents : mapping, optional
        Of tracks, those that they descend from.
    """

    def __init__(
        self,
        tracks: NDArray[np.int64] | None = None,
        parents: Mapping[int, int] | None = None,
    ) -> None:
        self._tracks, self._parents = tracks, parents or {}
        self._ids: dict[int, int] = {}
        self._spans: dict[int, tuple[int, int]] = {}
        self.num_objects = 0

    def see(self, number: int, frame: Frame) -> None:
        """Take note of the objects of a frame; frames come in rising order."""
        for old in _ids_of(self._linked(frame)).tolist():
            new = self._ids.setdefault(old, len(self._ids) + 1)
            first, _ = self._spans.get(new, (number, number))
            self._spans[new] = first, number
        self.num_objects = len(self._ids)

    @property
    def are_unique(self) -> bool:
        """Whether ids stand for one object in all frames."""
        return self.num_objects <= LARGEST_ID

    def renumber(self, frame: Frame) -> NDArray[np.uint16]:
        """Return a frame with the new ids.

        Raises
        ------
        DataError
            If one frame alone holds more than 65535 objects.
        """
        frame = self._linked(frame)
        old = _ids_of(frame)
        if self.are_unique:
            new = np.array([self._ids[i] for i in old.tolist()], np.uint16)
        elif old.size <= LARGEST_ID:
            new = np.arange(1, old.size + 1, dtype=np.uint16)
        else:
            raise DataError(
                f"a frame holds {old.size} objects, the challenge's masks at most "
                f"{LARGEST_ID}; raise segmentation.smallest_object_vox"
            )
        table = np.concatenate([np.zeros(1, np.uint16), new])
        places = np.searchsorted(old, frame) + 1
        return np.where(frame > 0, table[np.minimum(places, old.size)], 0).astype(
            np.uint16
        )

    def lines(self) -> Iterator[str]:
        """Yield a line for each track."""
        old = {new: track for track, new in self._ids.items()}
        for new, (first, last) in self._spans.items():
            parent = self._ids.get(self._parents.get(old[new], 0), 0)
            yield f"{new} {first} {last} {parent}"

    def _linked(self, frame: Frame) -> Frame:
        """Return a frame with the ids of tracks, where there are any."""
        return frame if self._tracks is None else self._tracks[frame]


def write_frame(path: Path, frame: NDArray[np.uint16]) -> None:
    """Write one frame, shape (y, x), as the challenge's own files are: LZW TIFF."""
    tifffile.imwrite(
        path, frame, photometric="minisblack", compression="lzw", metadata=None
    )


def _ids_of(frame: Frame) -> Frame:
    ids: Frame = np.unique(frame)
    return ids[ids > 0]


def _are_frames(images: list[str]) -> bool:
    return all(FRAME_FILE.match(Path(path).stem) for path in images)


def _digits(path: str) -> str:
    match = FRAME_FILE.match(Path(path).stem)
    return match[1] if match else ""
