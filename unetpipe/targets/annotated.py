"""Annotated volumes, and the stacks of them that a network may see at once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError, DataError
from unetpipe.records import Value
from unetpipe.records.sections import LearntSections
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    parts_in,
    whole_volume,
    windows_around,
)
from unetpipe.tiling.intensity import (
    Statistic,
    normalise,
)
from unetpipe.tiling.mirroring import (
    mirror_source,
    mirror_take,
)

# What is predicted is judged with so many voxels around boxes of labels, so that
# objects that leave a box have their size; what nobody annotated counts for no score.
AROUND_BOXES: Zyx = (0, 64, 64)


class AnnotatedRow(Value):
    """A row of the sheet to learn from, or to choose by."""

    ingest: Path
    weight_map: Path
    """Records of its volume."""
    sections: tuple[int, ...] | None
    """Numbers; None: all."""
    role: str


class ArrayLike(Protocol):
    """What is read of an array: its shape, and boxes of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return a box."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedVolume:
    """An image, its training target, and the sections that may be used.

    Attributes
    ----------
    name : str
        For messages.
    image : array-like, shape (c, z, y, x)
        Grey values as stored.
    target : array-like of uint8, shape (z, y, x)
        Class of each voxel, 255 = unlabelled: what scores compare with.
    border : array-like of float32, shape (z, y, x), or None
        The border term of the weight map.
    mean, std : float arrays, shape (c,)
        What the grey values of the whole volume are normalised by.
    sections : tuple of int
        Section numbers, ascending.
    num_known : tuple of int
        Known voxels of each of these sections.
    num_foreground : tuple of int
        Those of other classes than 0; none where nobody asks.
    instances : array-like, shape (z, y, x), or None
        Ids of the cells as annotated, where labels have ids.
    unlabelled : int or None
        Id, among them, of what nobody annotated.
    voxel_size_nm : (z, y, x)
        Edges of a voxel; a watershed measures depths in them.
    is_size_known : bool
        Whether somebody said so: file or sheet.
    percentiles : (low, high) or None
        Ranks, in percent, of what ``mean`` and ``std`` follow from; None: all voxels.
    boxes : tuple of Roi, or None
        What was annotated; None: perhaps anything.
    learnt : array-like of uint8, shape (z, y, x), or None
        What the loss compares with: background, core and rim, 255 = unlabelled. None:
        the target.
    """

    name: str
    image: ArrayLike
    target: ArrayLike
    border: ArrayLike | None
    mean: Statistic
    std: Statistic
    sections: tuple[int, ...]
    num_known: tuple[int, ...]
    num_foreground: tuple[int, ...] = ()
    instances: ArrayLike | None = None
    unlabelled: int | None = None
    voxel_size_nm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_size_known: bool = False
    percentiles: tuple[float, float] | None = None
    boxes: tuple[Roi, ...] | None = None
    learnt: ArrayLike | None = None

    @property
    def lesson(self) -> ArrayLike:
        """What the loss compares with."""
        return self.target if self.learnt is None else self.learnt

    def stacks(self, ndim: int) -> list["Stack"]:
        """Return the runs of sections that the network may see at once.

        In two dimensions each section is its own stack; in three, sections that
        follow each other are one. A stack is mirrored at its faces, so nothing of a
        section in another role is ever used.
        """
        stacks: list[Stack] = []
        foreground = self.num_foreground or (0,) * len(self.sections)
        counts = zip(self.sections, self.num_known, foreground, strict=True)
        for z, known, of_cells in counts:
            start = z
            if ndim == 3 and stacks and stacks[-1].stop == z:
                last = stacks.pop()
                start, known = last.start, known + last.num_known
                of_cells += last.num_foreground
            stacks.append(Stack(self, start, z + 1, known, of_cells))
        return stacks

    def judged(self, ndim: int) -> list["Stack"]:
        """Return the stacks that a network is judged by.

        Of a volume that was annotated in boxes: what lies around these, section by
        section or as a whole, one after another.
        """
        stacks = self.stacks(ndim)
        if self.boxes is None:
            return stacks
        windows = []
        shape = as_zyx(self.target.shape)
        for around in windows_around(self.boxes, AROUND_BOXES, shape):
            for stack in stacks:
                local = around.relative_to((stack.start, 0, 0))
                window = local.intersect(whole_volume(stack.shape))
                if window.num_voxels:
                    windows.append(replace(stack, window=window))
        return windows


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Sections ``start`` to ``stop`` of a volume.

    ``window`` is the box of it that a network is judged by, None: all of it.
    """

    volume: AnnotatedVolume
    start: int
    stop: int
    num_known: int
    num_foreground: int = 0
    window: Roi | None = None

    @property
    def shape(self) -> Zyx:
        """Voxels along z, y, x."""
        return as_zyx((self.stop - self.start, *self.volume.target.shape[1:]))

    @property
    def whole(self) -> Roi:
        """The box of all its voxels."""
        return whole_volume(self.shape)

    @property
    def seen(self) -> Roi:
        """The box that a network is judged by."""
        return self.window or self.whole

    @property
    def boxes(self) -> list[Roi]:
        """Where anything may be annotated."""
        if self.volume.boxes is None:
            return [self.whole]
        origin: Zyx = (self.start, 0, 0)
        boxes = [box.relative_to(origin) for box in self.volume.boxes]
        return parts_in(boxes, self.whole)

    def read(self, array: ArrayLike, roi: Roi) -> NDArray[Any]:
        """Read a box of the stack, mirrored beyond its faces: (..., z, y, x)."""
        source = mirror_source(roi, self.shape)
        z, y, x = source.slices
        z = slice(z.start + self.start, z.stop + self.start)
        real = np.asarray(array[(..., z, y, x)])
        return mirror_take(real, source.start, roi, self.shape)

    def read_image(self, roi: Roi) -> NDArray[np.float32]:
        """Read and normalise a box of the image, mirrored: (c, z, y, x)."""
        seen = self.read(self.volume.image, roi)
        return normalise(seen, mean=self.volume.mean, std=self.volume.std)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one role.

    Attributes
    ----------
    volumes : list of AnnotatedVolume
        One a row.
    class_counts : int64 array, shape (k,)
        Known voxels of each class in all of them.
    identity : list of dict
        Hashes and sections: what the trained bits depend on.
    empty_sections : list of str
        Sections that hold background only.
    lost : list of str
        Volumes with cells that are too thin to be learnt.
    has_ids : bool
        Whether labels tell cells apart.
    cells_per_section : float
        Ids, or components of the foreground, in a section that has any.
    learnt : LearntSections or None
        What the sections are like; None: a volume's record does not tell.
    """

    volumes: list[AnnotatedVolume]
    class_counts: NDArray[np.int64]
    identity: list[dict[str, Any]]
    empty_sections: list[str]
    lost: list[str] = field(default_factory=list)
    has_ids: bool = False
    cells_per_section: float = 0.0
    learnt: LearntSections | None = None

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Ranks that their grey values are normalised by; None: mean and deviation."""
        found = (volume.percentiles for volume in self.volumes)
        return next((ranks for ranks in found if ranks), None)


def check_annotated_rows(train: Rows, validate: Rows) -> None:
    """Raise ConfigError or DataError where no network can be learned from the rows."""
    if not train.volumes:
        raise ConfigError(
            "no row of the sheet has the role train; give it to annotated sections"
        )
    channels = {v.name: v.image.shape[0] for v in train.volumes + validate.volumes}
    if len(set(channels.values())) > 1:
        raise DataError(
            f"volumes differ in their number of channels: {channels}; one network "
            "takes one number, so train on volumes that have it"
        )
    present = np.flatnonzero(train.class_counts)
    if len(present) < 2:
        names = ", ".join(dict.fromkeys(v.name for v in train.volumes))
        raise DataError(
            f"the training sections of {names} hold known voxels of "
            f"{len(present)} classes ({present.tolist()}) only; a network needs at "
            "least two: check the labels, label_kind and unlabelled"
        )


def warnings_about_annotation(train: Rows, validate: Rows) -> list[str]:
    """Say what may be a mistake in the rows."""
    warnings = []
    absent = np.flatnonzero(train.class_counts == 0).tolist()
    if absent:
        warnings.append(f"no training voxel is of class {absent}; it weighs 1")
    if train.empty_sections:
        warnings.append(
            f"{len(train.empty_sections)} training sections hold background only: "
            + ", ".join(train.empty_sections[:10])
        )
    warnings += list(dict.fromkeys(train.lost + validate.lost))
    if not validate.volumes:
        warnings.append(
            "no row has the role validate: the last weights are taken, and thresholds "
            "are 0.5"
        )
    return warnings
