"""What the headers of files say, and what they leave open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.cells import open_cell
from unetpipe.images.lengths import VoxelSize
from unetpipe.ingestion.agreement import check_image_dtype
from unetpipe.survey.cells import write_cell

COLOURS = (2, 3, 4)  # so many may be channels, or sections
FEWEST_COMPARED = 4
THUMB = 48  # voxels a side of what is compared
COMPARED = 16  # pairs of files
# Sections of one volume look more like their neighbours than like others: correlations
# differ by so much, and by so many standard errors. The test on real stacks, in their
# true order and shuffled, needs both.
NEARER, CERTAINTY = 0.1, 4.0


@dataclass(frozen=True, slots=True)
class Header:
    """One image as the pipeline would read it.

    Attributes
    ----------
    shape : (c, z, y, x)
        Its lengths.
    letters : str
        Axes in the order of the file, those of length 1 left out.
    dtype : str
        Of the voxels.
    voxel_size_nm : (z, y, x) or None
        If the file says so.
    axes : str
        What the sheet must say of the axes; empty: nothing, the file says it.
    num_times : int
        Time points, each a volume of its own.
    note : str
        What is not certain.
    others : tuple of str
        Further files, below the root, that its voxels lie in.
    are_times : bool
        Sections are time points.
    """

    shape: tuple[int, int, int, int]
    letters: str
    dtype: str
    voxel_size_nm: VoxelSize | None
    axes: str = ""
    num_times: int = 1
    note: str = ""
    others: tuple[str, ...] = ()
    are_times: bool = False


def read_image_header(cell: str, root: Path, labels: str = "") -> Header:
    """Return what a cell of the sheet holds; where axes are unclear, say what is taken.

    Parameters
    ----------
    cell : str
        Of the image.
    root : Path
        Folder of the originals.
    labels : str
        Cell of its labels, which may tell sections from channels; or nothing.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        return _read(cell, root, "", None)
    except DataError as error:
        source = open_cell(cell, root)
        shape, said = source.shape, source.axes.lower()
        source.close()
        if "t" in said and len(said) == len(shape):
            return _read_times(cell, root, shape, said)
        axes, why = _guess(shape, _shape_of(labels, root))
        if not axes:
            raise
        try:
            header = _read(cell, root, axes, None)
        except DataError:
            raise error from None
        said = said if set(said) - set("qiyx") else "nothing"
        note = (
            f"shape {shape}, the file says {said} of its axes: {axes} is taken, {why}"
        )
        return replace(header, note="; ".join(filter(None, (note, header.note))))


def read_all_colours(cell: str, root: Path) -> Header | None:
    """Return the header of a colour image that keeps its colours, though all are equal.

    None if its file holds no colours.
    """
    source = open_cell(cell, root)
    said = source.axes.lower()
    source.close()
    return _read(cell, root, said.replace("s", "c"), None) if "s" in said else None


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike neighbouring files are, and files far apart: mean correlations."""

    near: float
    far: float
    is_series: bool


def compare_neighbours(paths: Sequence[str], root: Path) -> Likeness | None:
    """Tell whether files are the sections of one volume: like their neighbours.

    None where there are too few files to tell.
    """
    num = len(paths)
    if num < FEWEST_COMPARED:
        return None
    starts = np.unique(np.linspace(0, num - 2, COMPARED).astype(int)).tolist()
    wanted = {k for s in starts for k in (s, s + 1, (s + num // 2) % num)}
    thumbs = {k: _thumb(paths[k], root) for k in wanted}
    near = [_correlate(thumbs[s], thumbs[s + 1]) for s in starts]
    far = [_correlate(thumbs[s], thumbs[(s + num // 2) % num]) for s in starts]
    nearer = np.subtract(near, far)
    error = nearer.std(ddof=1) / np.sqrt(nearer.size)
    is_series = nearer.mean() > max(NEARER, CERTAINTY * error)
    return Likeness(float(np.mean(near)), float(np.mean(far)), bool(is_series))


def correlate_sections(
    cell: str, root: Path, sections: Sequence[int], *, axes: str = ""
) -> float | None:
    """Return how alike neighbours among some sections of an image are, on average.

    Parameters
    ----------
    cell : str
        Of the image.
    root : Path
        Folder of the originals.
    sections : sequence of int
        Rising; a few pairs of those that follow each other are compared.
    axes : str
        What the sheet must say of the axes.

    Returns
    -------
    float or None
        Mean correlation; None where no two sections are neighbours.
    """
    pairs = [a for a, b in pairwise(sections) if b == a + 1]
    if not pairs:
        return None
    chosen = np.unique(np.linspace(0, len(pairs) - 1, COMPARED // 2).astype(int))
    found = []
    with open_image(cell, root, Reading(axes=axes)) as image:
        for k in chosen.tolist():
            one, two = image.read_sections(pairs[k], pairs[k] + 2)[0]
            found.append(_correlate(_shrink(one), _shrink(two)))
    return float(np.mean(found))


def _read(
    cell: str, root: Path, axes: str, time: int | None, *, are_times: bool = False
) -> Header:
    with open_image(cell, root, Reading(axes=axes, time=time)) as image:
        check_image_dtype(image)
        length = dict(zip("czyx", image.shape, strict=True))
        letters = "".join(
            letter
            for letter in image.plan.letters.replace("s", "c")
            if letter in "yx" or length.get(letter, 1) > 1
        )
        is_known = image.is_size_known or are_times  # of frames it is told in the plane
        size = image.voxel_size_nm if is_known else None
        return Header(
            *(image.shape, letters, str(image.dtype), size, axes),
            note="; ".join(image.source.remarks if are_times else image.remarks),
            others=tuple(
                path.relative_to(root).as_posix()
                for path in image.source.files[1:]
                if path.is_relative_to(root)
            ),
            are_times=are_times,
        )


def _read_times(cell: str, root: Path, shape: tuple[int, ...], said: str) -> Header:
    """Take the time points of a flat image as sections, of a stack each by itself."""
    length = dict(zip(said, shape, strict=True))
    if length.get("z", 1) > 1:
        note = f"{length['t']} time points: each becomes a volume"
        return replace(_read(cell, root, "", 0), num_times=length["t"], note=note)
    axes = said.replace("z", "").replace("t", "z").replace("s", "c")
    note = (
        f"the {length['t']} time points are taken as sections ({axes}); "
        "track.enabled: true links their objects"
    )
    return replace(_read(cell, root, axes, None, are_times=True), note=note)


def _guess(shape: tuple[int, ...], labels: tuple[int, ...]) -> tuple[str, str]:
    """Return the likely axes of a file that says nothing, and why."""
    if len(shape) == 3 and labels == shape:
        return "zyx", "because the labels have this shape too"
    if len(shape) == 3 and shape[-1] in COLOURS:
        return "yxc", f"because {shape[-1]} channels are likelier than a width"
    if len(shape) == 3 and labels == shape[1:]:
        return "cyx", "because the labels have one section"
    if len(shape) == 3:
        return "zyx", "though they may be channels (cyx)"
    if len(shape) == 4 and shape[-1] in COLOURS:
        return "zyxc", f"because {shape[-1]} channels are likelier than a width"
    if len(shape) == 4:
        axes = "czyx" if shape[0] <= shape[1] else "zcyx"
        return axes, "because there are fewer channels than sections"
    return "", ""


def _shape_of(labels: str, root: Path) -> tuple[int, ...]:
    if not labels:
        return ()
    try:
        source = open_cell(labels, root)
    except DataError:
        return ()
    source.close()
    return source.shape


def _thumb(path: str, root: Path) -> NDArray[np.float64]:
    """Return a small copy of the first section of a file."""
    with open_image(write_cell(path), root) as image:
        return _shrink(image.read_sections(0, 1)[0, 0])


def _shrink(given: NDArray[Any]) -> NDArray[np.float64]:
    """Return a small copy of a section, its mean 0 and deviation 1."""
    section = given.astype(np.float64)
    steps = [max(1, n // THUMB) for n in section.shape]
    small = section[: steps[0] * THUMB, : steps[1] * THUMB]
    rows, columns = (n // s for n, s in zip(small.shape, steps, strict=True))
    small = small[: rows * steps[0], : columns * steps[1]]
    small = small.reshape(rows, steps[0], columns, steps[1]).mean(axis=(1, 3))
    small -= small.mean()
    deviation = small.std()
    flat: NDArray[np.float64] = small / deviation if deviation else small
    return flat


def _correlate(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    return float((one * two).mean())
