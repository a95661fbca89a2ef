"""What kind of labels these are: ids of objects, a mask, classes, or colours."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

# More values than these are ids of objects, not classes.
MOST_CLASSES = 32
SCRIBBLED = 0.5  # share of 0, beyond which it may stand for what nobody annotated
LARGEST_GREY = 65_535  # that a palette knows
# A class lies in several pieces of a section, an object in one, seldom in a few.
PIECES_OF_CLASS = 2.0
# The same few values in so many separate images are classes: objects differ in number.
IMAGES_OF_CLASS, VALUES_OF_CLASS = 3, 8
# Smoothed edges have many values between the two, each on hardly any voxels.
SOFT_VALUES, SOFT_SHARE = 8, 0.005


@dataclass(frozen=True, slots=True)
class Counted:
    """How much was read, and the objects in it.

    Attributes
    ----------
    voxels, filled : int
        All, and those that are not 0.
    pieces, places : int
        As in ``Tally``.
    """

    voxels: int
    filled: int
    pieces: int
    places: int

    def __sub__(self, other: "Counted") -> "Counted":
        """Return what came between two moments."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Counted(*(a - b for a, b in pairs))


@dataclass(slots=True)
class Tally:
    """What was counted in sections of labels; small, whatever the labels' size.

    Attributes
    ----------
    voxels : dict
        Value (of colours ``0xrrggbb``) -> number of voxels.
    pieces : int
        Connected pieces of each value, section by section, without value 0.
    places : int
        Sections in which each value occurs, summed; the same.
    num_sections : int
        How many were read.
    images : list of frozenset
        The values in each volume, those of the first few hundred.
    has_colours : bool
        Whether voxels have three parts.
    volumes : dict of str to Counted
        What was read of each volume.
    """

    voxels: dict[int, int] = field(default_factory=dict)
    pieces: int = 0
    places: int = 0
    num_sections: int = 0
    images: list[frozenset[int]] = field(default_factory=list)
    has_colours: bool = False
    volumes: dict[str, Counted] = field(default_factory=dict)

    @property
    def counted(self) -> Counted:
        """All that was read until now."""
        voxels = sum(self.voxels.values())
        filled = voxels - self.voxels.get(0, 0)
        return Counted(voxels, filled, self.pieces, self.places)

    def add(self, section: NDArray[Any]) -> frozenset[int]:
        """Count one section, shape (c, y, x); return its values."""
        codes = section[0].astype(np.int64)
        if len(section) == 3:
            self.has_colours = True
            codes = codes << 16 | section[1].astype(np.int64) << 8 | section[2]
        values, inverse, counts = np.unique(
            codes, return_inverse=True, return_counts=True
        )
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.voxels[value] = self.voxels.get(value, 0) + count
        number = inverse.reshape(codes.shape).astype(np.uint32) + 1
        if values[0] == 0:
            number -= 1
        _, num_pieces = cc3d.connected_components(
            number[None], connectivity=6, return_N=True
        )
        self.pieces += int(num_pieces)
        self.places += values.size - int(values[0] == 0)
        self.num_sections += 1
        return frozenset(values.tolist())


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of all labels of a folder, and why.

    Attributes
    ----------
    label_kind : str
        For the sheet; empty where the labels cannot be used.
    why : str
        In words, with figures.
    palette : dict
        Key of ``labels.palette`` -> class; empty where values are classes.
    num_classes : int
        Of the network.
    """

    label_kind: str
    why: str
    palette: dict[str, int] = field(default_factory=dict)
    num_classes: int = 2


def judge(tally: Tally, *, is_independent: bool, wanted: str = "auto") -> Kind:
    """Return the kind of labels.

    Parameters
    ----------
    tally : Tally
        Of all labels that were read.
    is_independent : bool
        Whether they belong to images that have nothing to do with each other.
    wanted : str
        What the user says they are; ``auto``: nothing.
    """
    values = sorted(tally.voxels)
    total = sum(tally.voxels.values())
    if tally.has_colours:
        return _judge_colours(tally, values)
    if len(values) == 1:
        what = "0" if values == [0] else f"the one value {values[0]}"
        return Kind("", f"they hold nothing but {what}")
    if values[0] < 0:
        return Kind("", f"they hold negative values, such as {values[0]}")
    if wanted == "instances":
        return Kind("instances", f"as asked for; {len(values)} values")
    if wanted == "classes":
        return _as_classes(tally, values, "as asked for")
    if len(values) == 2 and values[0] == 0:
        share = 100 * tally.voxels[values[1]] / total
        return Kind(
            "binary",
            f"two values: {values[1]} is taken as the objects ({share:.0f} % of the "
            "voxels), 0 as what separates them",
        )
    if wanted == "binary":
        return Kind("", f"not binary as asked for: they hold {len(values)} values")
    if len(values) == 2:
        return _as_classes(tally, values, f"two values, {values[0]} and {values[1]}")
    if _are_soft(tally, values, total):
        return Kind(
            "",
            f"{len(values)} grey values between 0 and {values[-1]}, most of them rare: "
            "soft edges or JPEG; save them with two values",
        )
    return _judge_values(tally, values, is_independent=is_independent)


def _judge_values(tally: Tally, values: list[int], *, is_independent: bool) -> Kind:
    """Tell ids of objects from classes."""
    pieces = tally.pieces / max(1, tally.places)
    listed = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    figures = _describe_pieces(pieces)
    recurs = (
        is_independent
        and len(values) <= VALUES_OF_CLASS
        and len(tally.images) >= IMAGES_OF_CLASS
        and len(set(tally.images)) == 1
    )
    why = f"{len(values)} values ({listed})"
    if len(values) > MOST_CLASSES or values[-1] > LARGEST_GREY:
        return Kind("instances", f"{why}; {figures}")
    if pieces >= PIECES_OF_CLASS or recurs:
        more = f"{figures}, as classes do"
        if recurs:
            more = f"the same in all {len(tally.images)} images"
        hint = "if they are numbers of objects: --label-kind instances"
        return _as_classes(tally, values, f"{why}; {more}; {hint}")
    hint = "if they are classes: --label-kind classes"
    return Kind("instances", f"{why}; {figures}, as objects do; {hint}")


def _describe_pieces(pieces: float) -> str:
    """Return in how many pieces of a section a value lies, on average."""
    number = f"{pieces:.1f} pieces" if pieces < 10 else f"{pieces:.0f} pieces"
    return f"each lies in {'one piece' if pieces < 1.05 else number} in a section"


def _as_classes(tally: Tally, values: list[int], why: str) -> Kind:
    if len(values) > MOST_CLASSES or values[-1] > LARGEST_GREY:
        return Kind("", f"{why}: no classes, {len(values)} values up to {values[-1]}")
    if tally.voxels.get(0, 0) > SCRIBBLED * sum(tally.voxels.values()):
        why += (
            "; 0 is the class of most voxels: if it says that nobody annotated them, "
            "write 0 into a column unlabelled"
        )
    if values == list(range(len(values))):
        return Kind("classes", why, num_classes=len(values))
    return Kind("classes", why, _palette(tally, values, "{}"), len(values))


def _judge_colours(tally: Tally, values: list[int]) -> Kind:
    if not 2 <= len(values) <= MOST_CLASSES:
        return Kind(
            "",
            f"painted in {len(values)} colours, too many (or too few) for classes; "
            "save ids of objects as grey values, and classes without JPEG",
        )
    why = f"painted in {len(values)} colours: each becomes a class, the commonest 0"
    return Kind("classes", why, _palette(tally, values, "#{:06x}"), len(values))


def _palette(tally: Tally, values: Sequence[int], key: str) -> dict[str, int]:
    """Return a class for each value: 0 for the commonest, the others in order."""
    commonest = max(values, key=lambda value: tally.voxels[value])
    ordered = [commonest, *(value for value in values if value != commonest)]
    return {key.format(value): number for number, value in enumerate(ordered)}


def _are_soft(tally: Tally, values: list[int], total: int) -> bool:
    """Tell whether values between the two outer ones are many, and each is rare."""
    if len(values) < SOFT_VALUES or values[0] != 0 or values[-1] > 255:
        return False
    between = sum(tally.voxels[value] for value in values[1:-1])
    is_rare = between < SOFT_SHARE * total * (len(values) - 2)
    return is_rare and tally.voxels[values[-1]] > between
