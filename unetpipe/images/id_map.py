"""Labels in two steps: ids of fragments, and a table of their objects."""

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
    fragments : ImageSource
        Ids of fragments.
    table : integer array, shape (n, 2)
        Id of a fragment, id of its object.
    name : str
        Of the table, for messages.

    Raises
    ------
    DataError
        If the table is none, or lists a fragment twice.
    """

    def __init__(self, fragments: ImageSource, table: NDArray[Any], name: str) -> None:
        if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
            raise DataError(
                f"{name} has shape {table.shape} and type {table.dtype}; a table of "
                "objects has two columns of integers: fragment and object"
            )
        order = np.argsort(table[:, 0], kind="stable")
        self._fragments, self._ids = table[order].T
        if (np.diff(self._fragments) == 0).any() or (self._ids < 0).any():
            raise DataError(
                f"{name} lists a fragment twice, or an object below 0; list each "
                "fragment once, with the id of its object"
            )
        self._source, self._name = fragments, name
        self.shape, self.axes = fragments.shape, fragments.axes
        self.voxel_size, self.files = fragments.voxel_size, fragments.files
        self.remarks, self.granule = fragments.remarks, fragments.granule
        fits = int(self._ids.max(initial=0)) < 2**32
        self.dtype = np.dtype(np.uint32 if fits else np.uint64)

    def read(self, index: Index) -> NDArray[Any]:
        """Return the ids of objects in a box."""
        fragments = self._source.read(index)
        places = np.searchsorted(self._fragments, fragments)
        places = np.minimum(places, max(len(self._fragments) - 1, 0))
        known = (
            len(self._fragments) > 0 and (self._fragments[places] == fragments).all()
        )
        if not known:
            missing = (
                fragments[self._fragments[places] != fragments]
                if places.size
                else fragments
            )
            raise DataError(
                f"{self.files[0]} holds the fragment {missing.reshape(-1)[0]}, which "
                f"{self._name} does not list; list all fragments, 0 too"
            )
        return np.asarray(self._ids[places], self.dtype)

    def close(self) -> None:
        """Close what is open."""
        self._source.close()
