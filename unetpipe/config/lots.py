"""Which small volumes share jobs: lots, fixed by names and configuration alone.

A lot is split by the next bit of a hash of its volumes' names while it has too many, so
that a row more or less changes one lot, and splits or joins at most that one::

    names --divide--> {"": all}, or {"0": some, "1": others}, or {"0": .., "10": .., ...
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LOT_PATTERN = "[0-9a-f]{6}(?:-[01]+)?"
# With `lots: auto`: from so many small volumes on, at most so many a job.
LEAST_VOLUMES, MOST_VOLUMES = 16, 128
# A larger original has jobs of its own: it computes longer than Python takes to start.
SMALL_BYTES = 4 * 2**20
# Of a source that is not here yet no size is known: so many rows are no huge volumes.
MANY_VOLUMES = 64

Uses = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lots:
    """The lots of a run.

    Attributes
    ----------
    volumes : dict
        Names of the volumes of each lot, sorted, by the name of the lot.
    lot_of : dict
        The lot of each volume that is in one.
    """

    volumes: dict[str, tuple[str, ...]]
    lot_of: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        found = {volume: lot for lot, of in self.volumes.items() for volume in of}
        object.__setattr__(self, "lot_of", found)


def divide(names: Iterable[str], most: int, bits: str = "") -> dict[str, list[str]]:
    """Return names in groups of at most so many, by the first bits of their hash.

    Parameters
    ----------
    names : iterable of str
    most : int
        In a group, at least 1.
    bits : str
        That all of them begin with.

    Examples
    --------
    >>> divide("abc", 2)
    {'0': ['b', 'c'], '1': ['a']}
    >>> divide("abcd", 2)
    {'000': ['d'], '001': ['b', 'c'], '1': ['a']}
    """
    found = sorted(names)
    if len(found) <= most:
        return {bits: found} if found else {}
    zeros = [name for name in found if _bit(name, len(bits)) == "0"]
    ones = [name for name in found if _bit(name, len(bits)) == "1"]
    return divide(zeros, most, f"{bits}0") | divide(ones, most, f"{bits}1")


def make_lots(uses: Mapping[str, Uses], most: int) -> Lots:
    """Return lots of volumes that the same networks learn from and predict.

    So a volume more or less concerns no network that has nothing to do with it.

    Parameters
    ----------
    uses : mapping
        Of each volume: what it is used for.
    most : int
        Volumes of a lot.
    """
    groups: dict[Uses, list[str]] = {}
    for volume, use in uses.items():
        groups.setdefault(use, []).append(volume)
    lots = {}
    for use, volumes in groups.items():
        key = hashlib.sha256("\n".join(use).encode()).hexdigest()[:6]
        for bits, names in divide(volumes, most).items():
            lots[f"{key}-{bits}" if bits else key] = tuple(names)
    return Lots(lots)


def is_small(num_bytes: int | None, num_volumes: int, *, is_auto: bool) -> bool:
    """Tell whether a volume goes into a lot, by the size of its original.

    Parameters
    ----------
    num_bytes : int or None
        Of its files; None: they are not here.
    num_volumes : int
        Of the sheet.
    is_auto : bool
        Nobody has asked for lots.
    """
    if num_bytes is None:
        return not is_auto or num_volumes >= MANY_VOLUMES
    return num_bytes <= SMALL_BYTES


def _bit(name: str, place: int) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    return str(digest[place // 8] >> (7 - place % 8) & 1)
