"""From the colours of a painted label image to the classes they stand for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNLABELLED = 255


class Palette:
    """Knows the class of each colour, or of each grey value.

    A grey value of 8 bits is the colour with three equal parts, whichever way the
    palette or the image writes it.

    Parameters
    ----------
    classes : mapping
        ``"#rrggbb"``, a grey value in digits or a range of them (``"128-255"``) ->
        class, or None where nobody annotated.

    Attributes
    ----------
    has_colours : bool
        Whether a key is written as a colour.
    has_unlabelled : bool
        Whether a key stands for what nobody annotated.
    """

    def __init__(self, classes: Mapping[str, int | None]) -> None:
        self.has_colours = any(key.startswith("#") for key in classes)
        self.has_unlabelled = None in classes.values()
        greys: dict[int, int] = {}
        colours: dict[int, int] = {}
        for key, given in classes.items():
            value = UNLABELLED if given is None else given
            if not key.startswith("#"):
                first, _, last = key.partition("-")
                for grey in range(int(first), int(last or first) + 1):
                    greys[grey] = value
                    if grey < 256:
                        colours[grey * 0x010101] = value
                continue
            code = int(key[1:], 16)
            colours[code] = value
            if code == (code & 255) * 0x010101:
                greys[code & 255] = value
        self._greys, self._colours = _table(greys), _table(colours)

    def translate(
        self, section: NDArray[np.integer]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the class of each voxel, and which voxels have a strange colour.

        Parameters
        ----------
        section : integer array, shape (c, y, x)
            Grey values (c = 1) or red, green and blue of 8 bits (c = 3).

        Returns
        -------
        uint8 array, shape (y, x)
            Classes, 255 where nobody annotated; strange voxels hold any value.
        bool array, shape (y, x)
            Voxels whose colour the palette does not know.

        Examples
        --------
        >>> Palette({"0": 0, "#ff0000": 1}).translate(
        ...     np.array([[[0, 255, 7]], [[0, 0, 7]], [[0, 0, 7]]])
        ... )
        (array([[0, 1, 0]], dtype=uint8), array([[False, False,  True]]))
        """
        codes, classes = self._colours if len(section) == 3 else self._greys
        if not codes.size:
            strange = np.ones(section.shape[1:], bool)
            return np.zeros(strange.shape, np.uint8), strange
        values = section[0].astype(np.int64)
        if len(section) == 3:
            values = values << 16 | section[1].astype(np.int64) << 8 | section[2]
        place = np.searchsorted(codes, values).clip(max=codes.size - 1)
        strange = codes[place] != values
        found = classes[place]
        found[strange] = 0
        return found, strange


def choose_palette(
    classes: Mapping[str, int | None] | None, label_kind: str
) -> Palette | None:
    """Return the palette that labels of a kind are read with, or None.

    Parameters
    ----------
    classes : mapping or None
        As a palette takes it; None: values are classes.
    label_kind : str
        ``classes``; of ``binary`` labels a palette of the classes 0 and 1 alone;
        others have ids.
    """
    if not classes:
        return None
    is_mask = label_kind == "binary" and set(classes.values()) <= {0, 1, None}
    return Palette(classes) if is_mask or label_kind == "classes" else None


def name_colour(voxel: NDArray[Any]) -> str:
    """Return how a palette writes the colour of a voxel, shape (c,).

    Examples
    --------
    >>> name_colour(np.array([255, 16, 0]))
    '#ff1000'
    >>> name_colour(np.array([7]))
    '7'
    """
    if voxel.size == 1:
        return str(int(voxel[0]))
    return "#" + "".join(f"{int(part):02x}" for part in voxel)


def _table(classes: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return codes, rising, and the class of each."""
    codes = sorted(classes)
    return (
        np.array(codes, np.int64),
        np.array([classes[code] for code in codes], np.uint8),
    )
