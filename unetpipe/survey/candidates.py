"""What may become a volume: its image, its labels, and what the layout says of both."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image with its labels, known from paths alone.

    Attributes
    ----------
    images : tuple of str
        Files of sections in order, or one file, store or ``file.h5:dataset``.
    labels : tuple of str
        The same, of its labels; empty where there are none.
    split : str
        The role that its folder or name gives it: train, validate, test, or nothing.
    kind : str
        Kind of its labels where the layout tells, or nothing.
    is_sequence : bool
        Whether the files are the sections of one volume for certain.
    labels_cell : str
        How the sheet names the labels, where their files alone do not tell.
    is_held : bool
        Whether one of these sequences is tested on while others train.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...] = ()
    split: str = ""
    kind: str = ""
    is_sequence: bool = False
    labels_cell: str = ""
    is_held: bool = False


def list_briefly(paths: Iterable[str], most: int = 4) -> str:
    """Return the first few of some texts, and how many more there are.

    Examples
    --------
    >>> list_briefly(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    given = list(paths)
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return f"{', '.join(given[:most])}{more}"
