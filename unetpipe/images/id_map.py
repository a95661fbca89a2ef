"""Labels in two steps: ids of pieces, and a table of their objects."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.source import ImageSource


class MappedSource(ImageSource):
    """Another source whose ids are looked up in a table.

    Parameters
    ----------
    pieces : ImageSource
        Ids of pieces.
    table : integer array, shape (n, 2)
        Id of a piece, id of its object.
    name : str
        Of the table, for messages.

    Raises
    ------
    DataError
        If the table is none, or lists a piece twice.
    """

    def __init__(self, pieces: ImageSource, table: NDArray[Any], name: str) -> None:
        if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
            raise DataError(
                f"{name} has shape {table.shape} and type {table.dtype}; a table of "
                "objects has two columns of integers: piece and object"
            )
        order = np.argsort(table[:, 0], kind="stable")
        self._pieces, self._ids = table[order].T
        if (np.diff(self._pieces) == 0).any() or (self._ids < 0).any():
            raise DataError(
                f"{name} lists a piece twice, or an object below 0; list each piece "
                "once, with the id of its object"
            )
        self._source, self._name = pieces, name
        self.shape, self.axes = pieces.shape, pieces.axes
        self.voxel_size, self.files = pieces.voxel_size, pieces.files
        self.remarks, self.granule = pieces.remarks, pieces.granule
        fits = int(self._ids.max(initial=0)) < 2**32
        self.dtype = np.dtype(np.uint32 if fits else np.uint64)

    def read(self, index: Index) -> NDArray[Any]:
        """Return the ids of objects in a box."""
        pieces = self._source.read(index)
        places = np.searchsorted(self._pieces, pieces)
        places = np.minimum(places, max(len(self._pieces) - 1, 0))
        known = len(self._pieces) > 0 and (self._pieces[places] == pieces).all()
        if not known:
            missing = pieces[self._pieces[places] != pieces] if places.size else pieces
            raise DataError(
                f"{self.files[0]} holds the piece {missing.reshape(-1)[0]}, which "
                f"{self._name} does not list; list all pieces, 0 too"
            )
        return np.asarray(self._ids[places], self.dtype)

    def close(self) -> None:
        """Close what is open."""
        self._source.close()
