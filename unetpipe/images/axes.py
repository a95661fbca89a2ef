"""What the axes of a file mean: any order of t, c, z, y, x becomes c, z, y, x.

Of a time series one time point is read, which the sheet's column `time` names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.tiling.boxes import Zyx

Index = tuple[slice, ...]
Czyx = tuple[int, int, int, int]

# Letters that tifffile gives to axes of which nothing is known.
UNKNOWN = "iq"


DIMENSIONS = {
    "t": ("t", "time", "timepoint", "frame", "frames"),
    "c": ("c", "ch", "channel", "channels", "band", "bands"),
    "z": ("z", "depth", "plane", "planes", "section", "sections", "slice", "slices"),
    "y": ("y", "row", "rows", "height"),
    "x": ("x", "col", "cols", "column", "columns", "width"),
    "s": ("s", "rgb", "rgba", "sample", "samples"),
}
LETTERS = {name: letter for letter, names in DIMENSIONS.items() for name in names}


def axis_letters(names: Sequence[Any]) -> str:
    """Return the letters of axes that a file names; of names that mean none, ``q``.

    Empty where they do not tell which axes are y and x.

    Examples
    --------
    >>> axis_letters(["channel", "Y", "x"]), axis_letters(["dim_0", "y", "x"])
    ('cyx', 'qyx')
    >>> axis_letters(["dim_0", "dim_1", "dim_2"])
    ''
    """
    letters = [LETTERS.get(str(name).strip().lower(), "q") for name in names]
    known = [letter for letter in letters if letter != "q"]
    is_clear = {"y", "x"} <= set(known) and len(set(known)) == len(known)
    return "".join(letters) if is_clear else ""


def split_names(said: Any) -> list[str]:
    """Return the names of axes that an attribute lists, or writes as one text.

    Examples
    --------
    >>> split_names("ZYX"), split_names("z, y, x"), split_names([b"Depth", "x"])
    (['Z', 'Y', 'X'], ['z', 'y', 'x'], ['Depth', 'x'])
    """
    if not isinstance(said, str | bytes):
        listed = np.ravel(np.asarray(said, dtype=object)).tolist()
        return [n.decode() if isinstance(n, bytes) else str(n) for n in listed]
    text = said.decode() if isinstance(said, bytes) else said
    names = [name for name in re.split(r"[^A-Za-z0-9_]+", text) if name]
    return list(names[0]) if len(names) == 1 else names


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """How to cut sections out of a file's array, and how to turn them to c, z, y, x.

    ``letters`` has one of t, c, z, y, x for each axis of the file, ``s`` for the
    samples (red, green, blue) of a colour image, ``1`` for an axis of length 1 that
    means nothing. ``time`` is the time point that is read, ``channels`` are those that
    are read, in this order; None: all.
    """

    letters: str
    file_shape: tuple[int, ...]
    time: int = 0
    channels: tuple[int, ...] | None = None

    @property
    def shape(self) -> Czyx:
        """Length along c, z, y, x; samples of colour count as channels."""
        length = dict(zip(self.letters, self.file_shape, strict=True))
        c, z, y, x = (length.get(axis, 1) for axis in "czyx")
        if self.channels is not None:
            c = len(self.channels)
        return c * length.get("s", 1), z, y, x

    @property
    def zyx(self) -> Zyx:
        """Length along z, y, x."""
        return self.shape[1:]

    @property
    def num_samples(self) -> int:
        """Samples of a colour image; 0 where the file has no such axis."""
        if "s" not in self.letters:
            return 0
        return self.file_shape[self.letters.index("s")]

    def index(
        self,
        start: int,
        stop: int,
        rows: slice | None = None,
        columns: slice | None = None,
    ) -> Index:
        """Return the box of the file that holds sections ``start`` to ``stop``.

        Without ``rows`` and ``columns``, whole slices, all of them.
        """
        chosen = {"z": slice(start, stop), "t": slice(self.time, self.time + 1)}
        chosen |= {"y": rows} if rows else {}
        chosen |= {"x": columns} if columns else {}
        if self.channels is not None:
            chosen["c"] = slice(min(self.channels), max(self.channels) + 1)
        return tuple(
            chosen.get(letter, slice(0, length))
            for letter, length in zip(self.letters, self.file_shape, strict=True)
        )

    def arrange(self, block: NDArray[Any]) -> NDArray[Any]:
        """Turn what the file holds in such a box into (c, z, y, x)."""
        wanted = [axis for axis in "csz" if axis in self.letters] + ["y", "x"]
        rest = [k for k, axis in enumerate(self.letters) if axis in "t1"]
        block = block.transpose([*map(self.letters.index, wanted), *rest])
        num_z = block.shape[wanted.index("z")] if "z" in wanted else 1
        block = block.reshape(-1, num_z, *block.shape[len(wanted) - 2 : len(wanted)])
        if self.channels is not None:
            block = block[[c - min(self.channels) for c in self.channels]]
        return block


def interpret_axes(
    shape: tuple[int, ...],
    metadata: str,
    explicit: str,
    name: str,
    time: int | None = None,
) -> AxisPlan:
    """Decide what each axis of a file means.

    Parameters
    ----------
    shape : tuple of int
        As the file has it.
    metadata : str
        One letter for each axis, as the file says: t, c, z, y, x; s for the samples of
        a colour image; i or q where nothing is known. Empty: the file says nothing.
    explicit : str
        What the sheet says; it wins. Empty: nothing.
    name : str
        Of the file, for the message.
    time : int, optional
        Time point to read, from 0. None: the only one.

    Raises
    ------
    DataError
        If the axes stay ambiguous, do not fit the file, or if there are several time
        points and none, or one that is not there, is named. The message says what to
        write into the sheet's columns ``axes`` and ``time``.

    Examples
    --------
    >>> interpret_axes((30, 512, 512), "", "", "a.tif").letters
    'zyx'
    >>> interpret_axes((2, 30, 512, 512), "czyx", "", "a.tif").shape
    (2, 30, 512, 512)
    """
    if explicit:
        plan = _fit_explicit(shape, explicit, name)
    else:
        plan = AxisPlan(_guess(shape, metadata.lower(), name), shape)
    return _at_time(plan, time, name)


def _at_time(plan: AxisPlan, time: int | None, name: str) -> AxisPlan:
    length = dict(zip(plan.letters, plan.file_shape, strict=True)).get("t", 1)
    about = f"(shape {plan.file_shape}, axes {plan.letters})"
    if time is None and length > 1:
        hint = ""
        if "z" not in plan.letters:
            sections = plan.letters.replace("t", "z").replace("s", "c")
            hint = (
                "; if they are the sections of a stack, or frames that make one "
                f"series, write axes {sections}"
            )
        raise DataError(
            f"{name} has {length} time points {about}; a volume is one: write its "
            f"number, 0 to {length - 1}, into the sheet's column `time`{hint}"
        )
    if time is not None and time >= length:
        there = f"0 to {length - 1}" if length > 1 else "nothing"
        raise DataError(
            f"{name} has {length} time point{'s' if length > 1 else ''} {about}, but "
            f"time is {time} in the sheet; write {there}"
        )
    return replace(plan, time=time or 0)


def _fit_explicit(shape: tuple[int, ...], explicit: str, name: str) -> AxisPlan:
    """Lay the sheet's letters over the file's axes.

    Axes of length 1 may lack a letter, and a letter its axis where the file left out
    an axis of length 1: one section of a stack, one time point.
    """
    if len(explicit) > len(shape):
        explicit = explicit.replace("t", "")
    if len(explicit) == 3 and len(shape) == 2:
        explicit = explicit.replace("z", "").replace("c", "")
    spare = len(shape) - len(explicit)
    letters: list[str] = []
    rest = list(explicit)
    for length in shape:
        if spare > 0 and length == 1:
            letters.append("1")
            spare -= 1
        elif rest:
            letters.append(rest.pop(0))
    if spare or rest or len(letters) != len(shape):
        raise DataError(
            f"{name} has {len(shape)} axes (shape {shape}), but axes is {explicit!r}; "
            f"write {len(shape)} letters, such as {_example(len(shape))}"
        )
    return AxisPlan("".join(letters), shape)


def _guess(shape: tuple[int, ...], metadata: str, name: str) -> str:
    """Return the letters by metadata, else by the number of axes."""
    if len(shape) < 2:
        raise DataError(f"{name} has the shape {shape}; an image has 2 to 5 axes")
    letters = metadata or "q" * (len(shape) - 2) + "yx"
    letters = "".join(
        "1" if axis in UNKNOWN and length == 1 else axis
        for axis, length in zip(letters, shape, strict=True)
    )
    unknown = [axis for axis in letters if axis in UNKNOWN]
    named = [axis for axis in letters if axis not in UNKNOWN + "1"]
    known = set(named)
    is_clear = {"y", "x"} <= known <= set("tczyxs") and len(known) == len(named)
    if not is_clear:
        raise _ambiguous(shape, letters, name)
    if letters.startswith("s") and len(shape) == 3:
        # Planar colour, or a stack of 3 or 4 sections that its writer took for one.
        raise _ambiguous(shape, letters, name)
    if unknown and (len(unknown) > 1 or "z" in letters):
        raise _ambiguous(shape, letters, name)
    if unknown and letters[-1] == "x" and shape[-1] in (3, 4):
        raise _ambiguous(shape, letters, name)
    return "".join("z" if axis in UNKNOWN else axis for axis in letters)


def _ambiguous(shape: tuple[int, ...], letters: str, name: str) -> DataError:
    meaning = {
        3: ("zyx for sections", "yxc for channels last", "cyx for channels first")
    }
    choices = meaning.get(len(shape), (_example(len(shape)),))
    said = letters if set(letters) - set(UNKNOWN + "yx") else "nothing"
    return DataError(
        f"{name} has the shape {shape} and says {said} about its axes; write into the "
        f"sheet's column `axes` what they are: {', or '.join(choices)}"
    )


def _example(num_axes: int) -> str:
    return {2: "yx", 3: "zyx or cyx", 4: "czyx or zcyx", 5: "tczyx or tzcyx"}.get(
        num_axes, "zyx (2 to 5 axes can be read)"
    )
