"""Bring annotations of any kind into the form that is stored, and judge them.

=========  =====================================  ==============================
kind       given                                  stored
=========  =====================================  ==============================
binary     0 and one other value                  uint8: 0, 1
binary     colours or values of a palette         uint8: 0, 1
classes    class ids below the number of classes  uint8: the same
classes    colours or values of a palette         uint8: their classes
instances  any ids                                uint32, or uint64: the same
=========  =====================================  ==============================

Voxels that nobody annotated are 255 in uint8; among ids they keep their given id, or if
that is negative get the largest that can be stored.
"""

from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.ingestion.palette import UNLABELLED, Palette, name_colour
from unetpipe.tiling.boxes import Zyx

LISTED = 8  # values named in a message
FLAGGED_IDS = 1 << 24  # ids below are ticked off in an array, larger ones collected


class AnnotationReader:
    """Translates sections one after the other, and remembers what they hold.

    Parameters
    ----------
    kind : {"binary", "classes", "instances"}
        What the ids mean.
    unlabelled : int or None
        Id of voxels that nobody annotated; may be negative.
    num_classes : int
        With ``classes``: ids must be smaller.
    largest : int
        Largest id that can occur, to choose between uint32 and uint64.
    palette : Palette, optional
        With ``classes``: what the values or colours stand for.
    is_partial : bool
        Voxels may be unlabelled whatever their id.
    """

    def __init__(
        self,
        kind: str,
        *,
        unlabelled: int | None,
        num_classes: int,
        largest: int,
        palette: Palette | None = None,
        is_partial: bool = False,
    ) -> None:
        self.kind, self.unlabelled, self.num_classes = kind, unlabelled, num_classes
        self.palette = palette
        self.dtype: np.dtype[np.unsignedinteger] = np.dtype(np.uint8)
        if kind == "instances":
            wide = max(largest, unlabelled or 0) >= 2**32
            self.dtype = np.dtype(np.uint64 if wide else np.uint32)
            has_last = is_partial if unlabelled is None else unlabelled < 0
            last = int(np.iinfo(self.dtype).max)
            self.stored_unlabelled = last if has_last else unlabelled
        else:
            is_partial |= unlabelled is not None
            is_partial |= palette is not None and palette.has_unlabelled
            self.stored_unlabelled = UNLABELLED if is_partial else None
        self.foreground: list[int] = []  # voxels of each section
        self.background = 0  # voxels in all sections
        self._ids = _IdSet()
        # By section, of all its boxes: its file, and its mistakes.
        self._where: dict[int, str] = {}
        self._smallest: dict[int, int] = {}
        self._beyond: dict[int, NDArray[Any]] = {}
        self._strange: dict[int, tuple[int, int, str, int]] = {}

    @property
    def num_ids(self) -> int:
        """Distinct ids, background and unlabelled apart."""
        return len(self._ids)

    def translate(
        self,
        section: NDArray[np.integer],
        where: str,
        origin: Zyx | None = None,
        inside: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Return one section as it is stored, or a box of one.

        Parameters
        ----------
        section : integer array, shape (y, x)
            As given; with a palette (c, y, x): grey values, or red, green, blue.
        where : str
            Its file, for messages.
        origin : (z, y, x), optional
            Of the box in the volume; None: the next section, as a whole.
        inside : bool array, shape (y, x), optional
            Where labels were given; None: everywhere.
        """
        origin = origin or (len(self.foreground), 0, 0)
        number = origin[0]
        self.foreground += [0] * (number + 1 - len(self.foreground))
        self._where[number] = where
        if self.palette is not None:
            section, known = self._look_up(self.palette, section, origin, inside)
        else:
            known = np.ones(section.shape, bool)
            if self.unlabelled is not None:
                known = section != self.unlabelled
            if inside is not None:
                known = known & inside
        cells = known & (section != 0)
        ids = section[cells]
        self.foreground[number] += int(ids.size)
        self.background += int(np.count_nonzero(known)) - int(ids.size)
        if ids.size and int(ids.min()) < 0:
            self._smallest[number] = min(self._smallest.get(number, 0), int(ids.min()))
            ids = ids[ids > 0]
        self._ids.add(ids)
        if self.kind == "instances":
            stored = section.astype(self.dtype)
            if self.stored_unlabelled is not None:
                stored[~known] = self.stored_unlabelled
            return stored
        if self.kind == "classes":
            if ids.size and int(ids.max()) >= self.num_classes:
                values = np.unique(ids[ids >= self.num_classes])
                values = np.union1d(self._beyond.get(number, values), values)
                self._beyond[number] = values[: LISTED + 1]
            stored = section.astype(self.dtype)
        else:
            stored = cells.astype(self.dtype)
        stored[~known] = UNLABELLED
        return stored

    def _look_up(
        self,
        palette: Palette,
        section: NDArray[np.integer],
        origin: Zyx,
        inside: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the classes of one section, and which voxels are annotated."""
        classes, strange = palette.translate(section)
        if self.unlabelled is not None and len(section) == 1:
            unknown = section[0] == self.unlabelled
            classes[unknown] = UNLABELLED
            strange &= ~unknown
        if inside is not None:
            classes[~inside] = UNLABELLED
            strange = strange & inside
        if strange.any():
            y, x = (int(i) for i in np.argwhere(strange)[0])
            colour, count = name_colour(section[:, y, x]), int(np.sum(strange))
            z, y, x = (a + b for a, b in zip(origin, (0, y, x), strict=True))
            found = self._strange.get(z, (y, x, colour, 0))
            first = min(found[:3], (y, x, colour))
            self._strange[z] = (*first, found[3] + count)
        return classes, classes != UNLABELLED

    def problems(self) -> list[str]:
        """Return what makes the annotation useless, with its remedy."""
        found = []
        if self._smallest:
            z = min(self._smallest)
            found.append(
                f"labels are negative in {self._where[z]} (smallest "
                f"{self._smallest[z]}){_and_more(self._smallest)}; ids are 0 for "
                "background and positive for cells; if a negative one says that nobody "
                "annotated a voxel, write it into the column unlabelled"
            )
        if self._strange:
            z = min(self._strange)
            y, x, colour, count = self._strange[z]
            found.append(
                f"labels.palette does not know {colour} in {self._where[z]} at "
                f"z, y, x = {z}, {y}, {x} ({count} voxel{'s' * (count > 1)} of the "
                f"section){_and_more(self._strange)}; give each colour its class "
                "there, or null where nobody annotated, and save labels without "
                "smoothing or JPEG"
            )
        if self._beyond:
            z = min(self._beyond)
            found.append(
                f"labels hold class ids beyond {self.num_classes - 1} in "
                f"{self._where[z]} ({_listing(self._beyond[z])})"
                f"{_and_more(self._beyond)}; set network.num_classes, or label_kind to "
                "instances or binary"
            )
        if self.kind == "binary" and self.num_ids > 1:
            values = self._ids.values(LISTED + 1)
            zero = "0, " if self.background else ""
            found.append(
                f"binary labels hold the values {zero}{_listing(values)}; use 0 for "
                "background and one other for cells, or label_kind instances or "
                "classes; of soft edges labels.threshold makes two values"
            )
        return found

    def warnings(self) -> list[str]:
        """Return what is allowed but seldom meant."""
        if self.kind == "instances" and self.num_ids == 1:
            return [
                "instance labels hold one single id: if they are a mask of many cells, "
                "write label_kind binary"
            ]
        if self.kind != "instances" and not self.background and any(self.foreground):
            return [f"{self.kind} labels hold no background"]
        return []


def check_label_dtype(dtype: np.dtype[Any], sample: NDArray[Any], where: str) -> None:
    """Refuse labels that are not integers.

    Parameters
    ----------
    dtype : dtype
        Of the file.
    sample : array
        Some of its values, to tell ids from probabilities.
    where : str
        Their file.

    Raises
    ------
    DataError
        With the first value that is no integer, or how to store them as integers.
    """
    if dtype.kind in "iub":
        return
    broken = sample[~(np.isfinite(sample) & (sample == np.rint(sample.real)))]
    if broken.size:
        raise DataError(
            f"labels are {dtype} and hold {broken.flat[0]} in {where}; label ids are "
            "integers: give annotations, not probabilities"
        )
    raise DataError(
        f"labels are {dtype} in {where}, though the values are whole numbers; save "
        "them as integers, for instance labels.astype('uint32')"
    )


class _IdSet:
    """A set of positive ids: memory grows with their number, not with their size."""

    def __init__(self) -> None:
        self._flags = np.zeros(256, bool)
        self._large: NDArray[np.uint64] = np.zeros(0, np.uint64)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._flags)) + self._large.size

    def add(self, ids: NDArray[np.integer]) -> None:
        if not ids.size:
            return
        largest = int(ids.max())
        if largest >= FLAGGED_IDS:
            large = np.unique(ids[ids >= FLAGGED_IDS]).astype(np.uint64)
            self._large = np.union1d(self._large, large)
            ids = ids[ids < FLAGGED_IDS]
            largest = int(ids.max()) if ids.size else 0
        if largest >= self._flags.size:
            self._flags = np.append(
                self._flags, np.zeros(2 * largest - self._flags.size, bool)
            )
        self._flags[ids] = True

    def values(self, count: int) -> NDArray[np.uint64]:
        """Return the smallest few."""
        small = np.flatnonzero(self._flags).astype(np.uint64)
        return np.concatenate([small, self._large])[:count]


def _and_more(sections: Sized) -> str:
    more = len(sections) - 1
    return f" and {more} more section{'s' * (more > 1)}" if more else ""


def _listing(values: NDArray[Any]) -> str:
    text = ", ".join(map(str, values[:LISTED].tolist()))
    return text + (", ..." if values.size > LISTED else "")
