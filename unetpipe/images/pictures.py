"""JPEG, BMP and GIF: pictures of one section, decoded as wholes."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.source import ImageSource
from unetpipe.images.tiff_metadata import describe_orientation

DECODERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys((".jpg", ".jpeg"), imagecodecs.jpeg_decode),
    ".bmp": imagecodecs.bmp_decode,
    ".gif": imagecodecs.gif_decode,
}


ORIENTATION = 0x0112  # the tag of TIFF and EXIF
LONGEST_HEAD = 1 << 16  # of a JPEG: EXIF is its first segment


class PictureSource(ImageSource):
    """One picture: (y, x), or (y, x, s) with colours."""

    by_section = True

    def __init__(self, path: Path) -> None:
        self.files = (path,)
        voxels = self._decode()
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.axes = "yx" if voxels.ndim == 2 else "yxs"
        self.is_palette = path.suffix.lower() == ".gif"
        turned = describe_orientation(path, _orientation(path))
        self.remarks = (turned,) if turned else ()

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the picture."""
        return self._decode()[index]

    def _decode(self) -> NDArray[Any]:
        path = self.files[0]
        try:
            voxels = np.asarray(DECODERS[path.suffix.lower()](path.read_bytes()))
        except (RuntimeError, ValueError) as error:  # of the decoders
            raise DataError(
                f"{path} cannot be decoded ({error}); copy or download it again"
            ) from error
        if voxels.ndim == 4 and len(voxels) == 1:  # of a GIF, its only frame
            voxels = voxels[0]
        if voxels.ndim not in (2, 3):
            raise DataError(
                f"{path} holds {len(voxels)} frames; save each as a file of its own"
            )
        return voxels


def _orientation(path: Path) -> int:
    """Return how EXIF says that a JPEG is to be seen; 1: as it lies."""
    with path.open("rb") as file:
        head = file.read(LONGEST_HEAD)
    start = head.find(b"Exif\0\0") + 6
    order = {b"II": "<", b"MM": ">"}.get(head[start : start + 2])
    if start < 6 or order is None:
        return 1
    exif = head[start:]
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        entries = (
            struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * k)
            for k in range(count)
        )
        return next((value for tag, _, _, value in entries if tag == ORIENTATION), 1)
    except struct.error:  # cut off, or no EXIF at all
        return 1
