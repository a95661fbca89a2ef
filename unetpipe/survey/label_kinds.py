"""What kind of labels these are: ids of objects, a mask, classes, or colours."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import product
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from unetpipe.config import LabelsConfig
from unetpipe.runtime.text import format_percent

# More values than these are ids of objects, not classes.
MOST_CLASSES = 32
# 8 or 16 bits have no room for -1: their largest value stands for what nobody annotated
# where all others are small. Stray voxels of a mask of 255 are no annotation.
SET_APART, MOST_BESIDE, STRAY = (255, 65_535), 32, 0.05
MOST_MASKS = 4  # values of masks that were saved in several ways, 0 among them
SCRIBBLED = 0.5  # share of 0, beyond which it may stand for what nobody annotated
LARGEST_GREY = 65_535  # that a palette knows
# A class lies in several pieces of a section, an object in one, seldom in a few.
COMPONENTS_OF_CLASS = 2.0
# The same few values in so many separate images are classes: objects differ in number.
IMAGES_OF_CLASS, VALUES_OF_CLASS = 3, 8
# Smoothed edges and JPEG have many values, each in many pieces without an inside, that
# lie beside other such values: an object has an inside, or lies alone.
SOFT_VALUES, SOFT_INSIDE, SOFT_BESIDE = 8, 0.15, 0.5
# More values than these, each in so many pieces, are no ids either.
COMPONENTS_OF_IDS = 8.0


@dataclass(frozen=True, slots=True)
class Counted:
    """How much was read, and the objects in it.

    Attributes
    ----------
    voxels, filled : int
        All, and those that are not 0.
    components, places : int
        As in ``Tally``.
    """

    voxels: int
    filled: int
    components: int
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
    voxels : Counter
        Value (of colours ``0xrrggbb``) -> number of voxels.
    inside, beside : Counter
        The same of voxels whose four neighbours have their value, and of those beside
        another value that is not 0.
    components : int
        Connected components of each value, section by section, without value 0.
    places : int
        Sections in which each value occurs, summed; the same.
    touching : int
        Of the places, those in which the value lies within two voxels of another one
        that is not 0.
    together : set of int
        Values that lie in a section with another one, both other than 0.
    num_sections : int
        How many were read.
    images : list of frozenset
        The values in each volume, those of the first few hundred.
    has_colours : bool
        Whether voxels have three parts.
    unlabelled : int or None
        The value that by custom says that nobody annotated a voxel: -1, the largest
        of 32 or 64 bits, or ``marker``. Its voxels are counted apart.
    unknown : int
        How many those are.
    volumes : dict of str to Counted
        What was read of each volume.
    by_custom : bool
        Whether there may be such a value.
    marker : int or None
        What an earlier count found set apart from all other values.
    """

    voxels: Counter[int] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    beside: Counter[int] = field(default_factory=Counter)
    components: int = 0
    places: int = 0
    touching: int = 0
    together: set[int] = field(default_factory=set)
    num_sections: int = 0
    images: list[frozenset[int]] = field(default_factory=list)
    has_colours: bool = False
    unlabelled: int | None = None
    unknown: int = 0
    volumes: dict[str, Counted] = field(default_factory=dict)
    by_custom: bool = True
    marker: int | None = None

    @property
    def set_apart(self) -> int | None:
        """The largest value of 8 or 16 bits beside few small ones, as in Pascal VOC."""
        values = sorted(self.voxels)
        if self.has_colours or self.unlabelled is not None or len(values) < 3:
            return None
        *_, others, last = values
        if last not in SET_APART or others > MOST_BESIDE or values[0] < 0:
            return None
        if last not in self.together:  # masks of 1 beside masks of 255
            return None
        filled = sum(self.voxels[value] for value in values[:-1] if value)
        is_stray = filled < STRAY * min(self.voxels[0], self.voxels[last])
        return None if is_stray else last

    @property
    def is_mask_of_unlabelled(self) -> bool:
        """Whether what was taken for unlabelled is the one value of a mask."""
        return self.unlabelled is not None and not set(self.voxels) - {0}

    @property
    def counted(self) -> Counted:
        """All that was read until now."""
        voxels = self.voxels.total()
        filled = voxels - self.voxels[0]
        return Counted(voxels, filled, self.components, self.places)

    def add(self, section: NDArray[Any]) -> frozenset[int]:
        """Count one section, shape (c, y, x); return its values."""
        codes = section[0]
        if len(section) == 3:
            self.has_colours = True
            codes = codes.astype(np.int64)
            codes = codes << 16 | section[1].astype(np.int64) << 8 | section[2]
        elif codes.dtype.kind == "f":
            codes = codes.astype(np.int64)
        found, inverse = np.unique(codes, return_inverse=True)
        values: list[int] = found.tolist()
        inverse = inverse.reshape(codes.shape)
        number = inverse.astype(np.uint32) + 1
        marker = self.marker
        if marker is None and self.by_custom:
            marker = _name_unlabelled(codes.dtype)
        empty = [k for k, v in enumerate(values) if v == 0 or v == marker]
        for k in empty:
            number[inverse == k] = 0
        self._count_neighbours(number, values)
        for value, count in zip(values, np.bincount(inverse.ravel()), strict=True):
            self.voxels[value] += int(count)
        if marker in values:
            self.unlabelled, self.unknown = marker, self.unknown + self.voxels[marker]
            del self.voxels[marker]
        _, num_components = cc3d.connected_components(
            number[None], connectivity=6, return_N=True
        )
        used = [v for k, v in enumerate(values) if k not in empty]
        self.together.update(used if len(used) > 1 else ())
        self.components += int(num_components)
        self.places += len(used)
        self.num_sections += 1
        return frozenset(v for v in values if v != marker)

    def _count_neighbours(self, number: NDArray[np.uint32], values: list[int]) -> None:
        """Count voxels by what lies beside them; ``number - 1`` is a value's place."""
        inside = number > 0
        beside = np.zeros(number.shape, bool)
        for axis in (0, 1):
            first = (slice(None),) * axis + (slice(None, -1),)
            second = (slice(None),) * axis + (slice(1, None),)
            one, two = number[first], number[second]
            differ = one != two
            inside[first] &= ~differ
            inside[second] &= ~differ
            meet = differ & (one > 0) & (two > 0)
            beside[first] |= meet
            beside[second] |= meet
        self.touching += _count_touching(number)
        for counter, chosen in ((self.inside, inside), (self.beside, beside)):
            counts = np.bincount(number[chosen], minlength=len(values) + 1)[1:]
            for k in np.flatnonzero(counts).tolist():
                counter[values[k]] += int(counts[k])


def _count_touching(number: NDArray[np.uint32]) -> int:
    """Return how many values other than 0 lie within two voxels of another one."""
    touching = np.zeros(int(number.max()) + 1, bool)
    for axis, step in product((0, 1), (1, 2)):
        one = np.take(number, np.arange(number.shape[axis] - step), axis)
        two = np.take(number, np.arange(step, number.shape[axis]), axis)
        meet = (one != two) & (one > 0) & (two > 0)
        touching[one[meet]] = True
        touching[two[meet]] = True
    return int(np.count_nonzero(touching))


def _name_unlabelled(dtype: np.dtype[Any]) -> int | None:
    """Return the value that by custom stands for what nobody annotated, or None."""
    if dtype.kind == "i":
        return -1
    is_large = dtype.kind == "u" and dtype.itemsize >= 4
    return int(np.iinfo(dtype).max) if is_large else None


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
    threshold : int or None
        ``labels.threshold`` of a mask of many values.
    unlabelled : int or None
        Of the sheet: the value of what nobody annotated.
    class_names : tuple of str
        Of the classes, as far as they are known.
    """

    label_kind: str
    why: str
    palette: dict[str, int] = field(default_factory=dict)
    num_classes: int = 2
    threshold: int | None = None
    unlabelled: int | None = None
    class_names: tuple[str, ...] = ()

    @property
    def classes(self) -> dict[str, int | None] | None:
        """What values stand for, as the configuration says it."""
        return LabelsConfig(
            palette=self.palette or None, threshold=self.threshold
        ).classes


def judge_label_kind(
    tally: Tally, *, is_independent: bool, wanted: str = "auto"
) -> Kind:
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
    if not values:
        return Kind("", "they hold nothing but what nobody annotated")
    kind = _judge(tally, values, is_independent=is_independent, wanted=wanted)
    if tally.unlabelled is None or not kind.label_kind:
        return kind
    share = format_percent(tally.unknown, tally.unknown + tally.voxels.total())
    why = (
        f"{kind.why}; {tally.unlabelled}, on {share} of the voxels, is taken to "
        "say that nobody annotated them (column unlabelled)"
    )
    if not tally.voxels[0]:
        why += ", which leaves no background: if it is the background, save it as 0"
    return replace(kind, why=why, unlabelled=tally.unlabelled)


def _judge(
    tally: Tally, values: list[int], *, is_independent: bool, wanted: str
) -> Kind:
    """Judge by the values that somebody annotated."""
    if len(values) == 1:
        what = "0" if values == [0] else f"the one value {values[0]}"
        return Kind("", f"they hold nothing but {what}")
    if tally.has_colours:
        return _judge_colours(tally, values, wanted)
    if values[0] < 0:
        listed = ", ".join(str(value) for value in values if value < 0)
        return Kind(
            "",
            f"they hold the negative values {listed}; save ids from 0 on, and -1 where "
            "nobody annotated",
        )
    if wanted == "instances":
        return Kind("instances", f"as asked for; {len(values)} values")
    if wanted == "classes":
        return _as_classes(tally, values, "as asked for")
    if len(values) == 2 and values[0] == 0:
        share = format_percent(tally.voxels[values[1]], tally.voxels.total())
        return Kind(
            "binary",
            f"two values: {values[1]} is taken as the objects ({share} of the "
            "voxels), 0 as what separates them",
        )
    if wanted == "auto" and _are_masks(tally, values):
        listed = ", ".join(map(str, values[1:]))
        why = f"each section holds 0 and one of {listed}, which are taken as objects"
        return Kind("binary", why, threshold=1)
    is_soft = are_soft_labels(tally)
    if wanted == "binary":
        return _as_mask(values, is_soft=is_soft)
    if len(values) == 2:
        return _as_classes(tally, values, f"two values, {values[0]} and {values[1]}")
    if is_soft:
        half = (values[-1] + 1) // 2
        return Kind(
            "",
            f"{len(values)} grey values between {values[0]} and {values[-1]} that "
            "change from voxel to voxel: a mask with soft edges, or saved as JPEG; "
            "save them with two values (PNG or TIFF), or take what is brighter than "
            f"half as objects: --label-kind binary (sets labels.threshold: {half})",
        )
    return _judge_values(tally, values, is_independent=is_independent)


def _are_masks(tally: Tally, values: list[int]) -> bool:
    """Tell whether labels are masks, of 1 in some sections, of 255 in others."""
    is_few = 2 < len(values) <= MOST_MASKS
    return is_few and values[0] == 0 and values[-1] in SET_APART and not tally.together


def are_soft_labels(tally: Tally) -> bool:
    """Tell whether values are those of a mask with smoothed edges or of a JPEG.

    There are many, each lies in several pieces of a section, and, but for the two
    commonest, hardly any of their voxels has neighbours of its own value: most have
    others that are not 0 either.
    """
    if len(tally.voxels) < SOFT_VALUES or max(tally.voxels) > LARGEST_GREY:
        return False
    common = {value for value, _ in tally.voxels.most_common(2)}
    rest = tally.voxels.total() - sum(tally.voxels[value] for value in common)
    inside, beside = (
        sum(count for value, count in counter.items() if value not in common)
        for counter in (tally.inside, tally.beside)
    )
    return (
        tally.components >= COMPONENTS_OF_CLASS * tally.places
        and inside < SOFT_INSIDE * rest
        and beside > SOFT_BESIDE * rest
    )


def _as_mask(values: list[int], *, is_soft: bool) -> Kind:
    """Take labels of many values as a mask, as the user says."""
    if values[-1] > LARGEST_GREY:
        return Kind(
            "", f"not binary as asked for: {len(values)} values up to {values[-1]}"
        )
    threshold = (values[-1] + 1) // 2 if is_soft else max(values[0] + 1, 1)
    return Kind(
        "binary",
        f"as asked for; of {len(values)} values those from {threshold} on are taken as "
        "the objects, what lies below as what separates them",
        threshold=threshold,
    )


def _judge_values(tally: Tally, values: list[int], *, is_independent: bool) -> Kind:
    """Tell ids of objects from classes."""
    components = tally.components / max(1, tally.places)
    listed = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    figures = _describe_components(components)
    recurs = (
        is_independent
        and len(values) <= VALUES_OF_CLASS
        and len(tally.images) >= IMAGES_OF_CLASS
        and len(set(tally.images)) == 1
    )
    why = f"{len(values)} values ({listed})"
    commonest, most = tally.voxels.most_common(1)[0]
    if values[0] > 0 and most > SCRIBBLED * tally.voxels.total():
        share = format_percent(most, tally.voxels.total())
        why += (
            f", of which none is 0: if {commonest}, on {share} of the voxels, is the "
            "background, save it as 0"
        )
    if len(values) > MOST_CLASSES or values[-1] > LARGEST_GREY:
        if components >= COMPONENTS_OF_IDS:
            return Kind(
                "",
                f"{why}; {figures}, too many for ids of objects, and the values are "
                "too many for classes; if they are ids: --label-kind instances; of a "
                "mask: --label-kind binary",
            )
        return Kind("instances", f"{why}; {figures}")
    if components >= COMPONENTS_OF_CLASS or recurs:
        more = f"{figures}, as classes do"
        if recurs:
            more = f"the same in all {len(tally.images)} images"
        hint = "if they are numbers of objects: --label-kind instances"
        return _as_classes(tally, values, f"{why}; {more}; {hint}")
    hint = "if they are classes: --label-kind classes"
    return Kind("instances", f"{why}; {figures}, as objects do; {hint}")


def _describe_components(components: float) -> str:
    """Return in how many pieces of a section a value lies, on average."""
    number = (
        f"{components:.1f} pieces" if components < 10 else f"{components:.0f} pieces"
    )
    return f"each lies in {'one piece' if components < 1.05 else number} in a section"


def _as_classes(tally: Tally, values: list[int], why: str) -> Kind:
    if len(values) > MOST_CLASSES or values[-1] > LARGEST_GREY:
        return Kind("", f"{why}: no classes, {len(values)} values up to {values[-1]}")
    is_mostly_0 = tally.voxels.get(0, 0) > SCRIBBLED * sum(tally.voxels.values())
    if is_mostly_0 and tally.unlabelled is None:
        why += (
            "; 0 is the class of most voxels: if it says that nobody annotated them, "
            "write 0 into a column unlabelled"
        )
    if values == list(range(len(values))):
        return Kind("classes", why, num_classes=len(values))
    return Kind("classes", why, _palette(tally, values, "{}"), len(values))


def _judge_colours(tally: Tally, values: list[int], wanted: str) -> Kind:
    if wanted == "instances":
        return Kind(
            "",
            f"not instances as asked for: painted in {len(values)} colours; save ids "
            "of objects as grey values, or as the entries of a palette",
        )
    if not 2 <= len(values) <= MOST_CLASSES:
        return Kind(
            "",
            f"painted in {len(values)} colours, too many (or too few) for classes; "
            "save ids of objects as grey values, and classes without JPEG",
        )
    figures = tally.components / max(1, tally.places)
    if (
        wanted == "auto"
        and len(values) > VALUES_OF_CLASS
        and (figures < COMPONENTS_OF_CLASS)
    ):
        return Kind(
            "",
            f"painted in {len(values)} colours; {_describe_components(figures)}, as "
            "objects do; save ids of objects as grey values, or as the entries of a "
            "palette; if they are classes: --label-kind classes",
        )
    palette = _palette(tally, values, "#{:06x}")
    if wanted == "binary" or (wanted == "auto" and len(values) == 2):
        said = "as asked for; " if wanted == "binary" else ""
        why = (
            f"{said}painted in {len(values)} colours: the commonest is taken as what "
            "separates the objects"
        )
        return Kind("binary", why, {key: min(1, k) for key, k in palette.items()})
    why = f"painted in {len(values)} colours: each becomes a class, the commonest 0"
    return Kind("classes", why, palette, len(values))


def _palette(tally: Tally, values: Sequence[int], key: str) -> dict[str, int]:
    """Return a class for each value: 0 for the commonest, the others in order."""
    commonest = max(values, key=lambda value: tally.voxels[value])
    ordered = [commonest, *(value for value in values if value != commonest)]
    return {key.format(value): number for number, value in enumerate(ordered)}
