"""Which small volumes share jobs: lots, fixed by names and configuration alone.

A lot is split by the next bit of a hash of its volumes' names while it has too many, so
that a row more or less changes one lot, and splits or joins at most that one::

    names --divide--> {"": all}, or {"0": some, "1": others}, or {"0": .., "10": .., ...
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from unetpipe.config.lookups import Lookups
from unetpipe.config.sheet import Sheet
from unetpipe.errors import DataError, UnetpipeError
from unetpipe.records.lots import FinishedLot

LOT_PATTERN = "[0-9a-f]{6}(?:-[01]+)?"
# With `lots: auto`: from so many small volumes on, at most so many a job.
LEAST_VOLUMES, MOST_VOLUMES = 16, 256
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


def find_lots(lookups: Lookups) -> Lots:
    """Return the lots of a run: none where each volume has jobs of its own."""
    config, sheet = lookups.config, lookups.sheet
    if not config.has_lots:
        return Lots({})
    is_auto, count = config.lots == "auto", len(sheet.volumes)
    sizes = {volume: _num_bytes(lookups, volume) for volume in sheet.volumes}
    shared = _shared_before(lookups.layout.lots) if None in sizes.values() else set()
    small = {
        volume: use
        for volume, use in _uses(sheet).items()
        if belongs_in_lot(sizes[volume], count, is_auto=is_auto)
        or (sizes[volume] is None and volume in shared)
    }
    if is_auto and len(small) < LEAST_VOLUMES:
        return Lots({})
    return make_lots(small, MOST_VOLUMES if is_auto else int(config.lots))


def divide_into_lots(
    names: Iterable[str], most: int, bits: str = ""
) -> dict[str, list[str]]:
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
    >>> divide_into_lots("abc", 2)
    {'0': ['b', 'c'], '1': ['a']}
    >>> divide_into_lots("abcd", 2)
    {'000': ['d'], '001': ['b', 'c'], '1': ['a']}
    """
    found = sorted(names)
    if len(found) <= most:
        return {bits: found} if found else {}
    zeros = [name for name in found if _bit(name, len(bits)) == "0"]
    ones = [name for name in found if _bit(name, len(bits)) == "1"]
    return divide_into_lots(zeros, most, f"{bits}0") | divide_into_lots(
        ones, most, f"{bits}1"
    )


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
        for bits, names in divide_into_lots(volumes, most).items():
            lots[f"{key}-{bits}" if bits else key] = tuple(names)
    return Lots(lots)


def belongs_in_lot(num_bytes: int | None, num_volumes: int, *, is_auto: bool) -> bool:
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


def _uses(sheet: Sheet) -> dict[str, Uses]:
    """Return of each volume in which roles of which folds it is.

    That decides which networks learn from it and which predict it, and a network more
    or less leaves it as it is.
    """
    found: dict[str, set[str]] = {volume: set() for volume in sheet.volumes}
    for row in sheet.rows:
        role = "predict" if row.role == "test" else row.role
        found[row.volume].add(f"{role} {row.fold}")
    return {volume: tuple(sorted(use)) for volume, use in found.items()}


def _num_bytes(lookups: Lookups, volume: str) -> int | None:
    """Return the size of a volume's files; None where they are not here."""
    try:
        files = lookups.local_originals(volume)
    except UnetpipeError:  # who reads it says more
        return None
    return sum(size for size, _ in files.values()) if files else None


def _shared_before(folder: str) -> set[str]:
    """Return the volumes of lots that were done: they stay so as originals go."""
    found: set[str] = set()
    for record in Path(folder).glob("*.json"):
        with suppress(DataError):  # a damaged one is made again
            found.update(FinishedLot.read(record).volumes)
    return found


def _bit(name: str, place: int) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    return str(digest[place // 8] >> (7 - place % 8) & 1)
