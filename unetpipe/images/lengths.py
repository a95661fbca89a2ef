"""Lengths as files write them, in nanometres, and only those that can be true."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

VoxelSize = tuple[float, float, float]

PREFIXES = {
    "": ("", 1e9),
    **{"deca": ("da", 1e10), "hecto": ("h", 1e11), "kilo": ("k", 1e12)},
    **{"mega": ("M", 1e15), "giga": ("G", 1e18), "tera": ("T", 1e21)},
    **{"deci": ("d", 1e8), "centi": ("c", 1e7), "milli": ("m", 1e6)},
    **{"micro": ("µ", 1e3), "nano": ("n", 1.0), "pico": ("p", 1e-3)},
    **{"femto": ("f", 1e-6), "atto": ("a", 1e-9)},
}
"""Prefix of the metre -> its symbol, and the nanometres of such a metre."""

LEAST_NM, MOST_NM = 1e-3, 1e15
"""Shorter than a hundredth of an atom, longer than a continent: no voxel is so."""
MOST_UNEQUAL = 10
"""Of y and x: sides of pixels that differ by more have the wrong unit."""

SYMBOLS = {f"{symbol}m": nm for symbol, nm in PREFIXES.values()}
NAMES = {
    f"{prefix}{metre}": nm
    for prefix, (_, nm) in PREFIXES.items()
    for metre in ("meter", "metre", "meters", "metres")
} | {
    **dict.fromkeys(("μm", "um", "\\u00b5m", "micron", "microns"), 1e3),
    **dict.fromkeys(("å", "angstrom", "angstroms", "ångström"), 0.1),
    **dict.fromkeys(("in", "inch", "inches", '"'), 2.54e7),
    **dict.fromkeys(("thou", "mil"), 2.54e4),
    **dict.fromkeys(("ft", "foot", "feet"), 3.048e8),
}
"""What is not told apart by capital letters: names, and letters that look alike."""


def nm_per_unit(unit: Any) -> float | None:
    """Return how many nanometres a unit is, None if it is no known length.

    Examples
    --------
    >>> nm_per_unit("Micrometer"), nm_per_unit("dm"), nm_per_unit("pixel")
    (1000.0, 100000000.0, None)
    """
    wanted = str(unit).strip()
    lower = wanted.lower()
    # `Mm` is a megametre, but `UM` and `MM` are what a keyboard makes of µm and mm.
    return SYMBOLS.get(wanted) or NAMES.get(lower) or SYMBOLS.get(lower)


@dataclass(frozen=True, slots=True)
class FoundSize:
    """The size of a voxel as far as a file tells it.

    Attributes
    ----------
    zyx_nm : tuple
        Along z, y, x; None where the file says nothing that can be true.
    found_in : str
        Where the file says so, such as ``OME-XML``.
    doubts : tuple of str
        What it says and cannot be true.
    """

    zyx_nm: tuple[float | None, float | None, float | None] = (None, None, None)
    found_in: str = ""
    doubts: tuple[str, ...] = ()

    def complete(self, num_sections: int) -> tuple[VoxelSize | None, tuple[str, ...]]:
        """Return the size of a voxel with what is missing filled in, and what to say.

        Pixels are square, and voxels cubes, until the file says otherwise; of a single
        section nobody asks how thick it is.

        Examples
        --------
        >>> FoundSize((None, 4.0, 4.0), "OME-XML").complete(1)
        ((4.0, 4.0, 4.0), ())
        >>> FoundSize((None, None, 4.0), "OME-XML").complete(9)[1]
        ('OME-XML tells the voxel size along x alone: y is taken as 4 nm too, how far \
sections are apart is not known; if you do, write voxel_size_nm into the sheet',)
        """
        z, y, x = self.zyx_nm
        known = [n for n, size in zip("zyx", self.zyx_nm, strict=True) if size]
        side = x or y
        if side is None:
            alone = (
                (f"{self.found_in} tells the voxel size along z alone, not y and x",)
                if z
                else ()
            )
            return None, (*self.doubts, *alone)
        doubts = (*self.doubts, *self._doubt_plane())
        lacking = [f"{n} is taken as {side:g} nm too" for n in "yx" if n not in known]
        if not z and num_sections > 1:
            lacking.append(
                "how far sections are apart is not known; if you do, write "
                "voxel_size_nm into the sheet"
            )
        told = f"{self.found_in} tells the voxel size along {' and '.join(known)} alone"
        taken = (f"{told}: {', '.join(lacking)}",) if lacking else ()
        return (z or side, y or side, x or side), (*doubts, *taken)

    def _doubt_plane(self) -> tuple[str, ...]:
        """Tell of pixels that are far from square."""
        _, y, x = self.zyx_nm
        if not (x and y) or max(x, y) <= MOST_UNEQUAL * min(x, y):
            return ()
        return (
            f"{self.found_in} says that voxels are {y:g} nm along y and {x:g} nm along "
            "x: see whether both have the unit that it says, and write voxel_size_nm "
            "in the sheet",
        )

    def times(self, factors: Sequence[float]) -> "FoundSize":
        """Return the size of larger voxels: so many times along z, y, x."""
        z, y, x = (
            size * factor if size else None
            for size, factor in zip(self.zyx_nm, factors, strict=True)
        )
        return FoundSize((z, y, x), self.found_in, self.doubts)

    @property
    def is_whole(self) -> bool:
        """Whether all three sizes are known."""
        return None not in self.zyx_nm


class Lengths:
    """Reads the lengths of one file, and remembers what cannot be true.

    Parameters
    ----------
    found_in : str
        Where they stand, for messages.
    """

    def __init__(self, found_in: str) -> None:
        self.found_in = found_in
        self.doubts: list[str] = []

    def read(self, name: str, value: Any, unit: Any) -> float | None:
        """Return a length in nm; None if there is none, or none that can be true.

        Parameters
        ----------
        name : str
            What the file calls it.
        value : Any
            As the file has it; None: it has none.
        unit : Any
            Of this value, of no other.
        """
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        nm = nm_per_unit(unit)
        if nm is None:
            return None  # pixels, or a unit of something else: nothing is claimed
        try:
            length = float(value) * nm
        except (TypeError, ValueError):
            length = 0.0
        if not (isfinite(length) and LEAST_NM <= length <= MOST_NM):
            self.doubts.append(
                f"{self.found_in} says {name} = {value} {unit}, which cannot be true "
                "and is not believed"
            )
            return None
        return length

    def found(self, zyx: Sequence[float | None]) -> FoundSize:
        """Return what was found along z, y, x."""
        z, y, x = zyx
        return FoundSize((z, y, x), self.found_in, tuple(self.doubts))
