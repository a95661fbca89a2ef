"""JPEG, BMP and GIF: pictures of one section, decoded as wholes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.source import ImageSource

DECODERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys((".jpg", ".jpeg"), imagecodecs.jpeg_decode),
    ".bmp": imagecodecs.bmp_decode,
    ".gif": imagecodecs.gif_decode,
}


class PictureSource(ImageSource):
    """One picture: (y, x), or (y, x, s) with colours."""

    by_section = True

    def __init__(self, path: Path) -> None:
        self.files = (path,)
        voxels = self._decode()
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.axes = "yx" if voxels.ndim == 2 else "yxs"
        self.is_palette = path.suffix.lower() == ".gif"

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
