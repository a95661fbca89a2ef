"""Sections as scores over thresholds need them: whole, however large.

They are read box by box and laid down column by column (``metrics/columns``), those of
large sections in nameless files beside the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.scored_volume import (
    MOST_SECTION_VOXELS,
    ScoredBox,
    ScoredVolume,
)
from unetpipe.metrics.columns import Columns, Proposal, Truth
from unetpipe.metrics.labelling import label_truth
from unetpipe.metrics.scratch import MOST_BYTES, Scratch
from unetpipe.tiling.quantised import as_probability

SHADES = 4.0  # standard deviations of grey value that a map from 0 to 1 spans
MOST_DISK_BYTES = 2**31  # of sections that are laid down together
BYTES_A_VOXEL = 4  # of a section that is laid down: two masks, probability, grey value


@dataclass(slots=True)
class WholeSection:
    """The field of interest of one section.

    Attributes
    ----------
    number : int
        Of the section.
    truth : Truth
    maps : dict
        Predictor -> its map.
    has_unknown : bool
        Whether there are voxels that nobody annotated.
    """

    number: int
    truth: Truth
    maps: dict[str, Proposal]
    has_unknown: bool = False


def whole_sections(
    volume: ScoredVolume,
    numbers: list[int],
    *,
    bright: bool | None,
    folder: Path | None,
) -> Iterator[WholeSection]:
    """Yield some sections; each is gone when the next one is asked for.

    Parameters
    ----------
    volume : ScoredVolume
    numbers : list of int
        Sections, rising.
    bright : bool or None
        Whether cells are brighter than the rest; None: without maps of baselines.
    folder : Path or None
        Where large sections may wait.
    """
    for together in _read_together(volume, numbers):
        yield from _lay_down(volume, together, bright, Scratch(folder))


def true_components(
    volume: ScoredVolume, numbers: list[int], folder: Path | None
) -> Iterator[dict[int, NDArray[np.int32]]]:
    """Yield the true components of some sections of a mask: section -> ids (x, y).

    Ids begin with 1, 0 is outside; arrays are gone when the next ones are asked for.
    """
    columns = Columns(*volume.shape[:0:-1])
    for together in _read_together(volume, numbers):
        scratch = Scratch(folder)
        truths = {z: Truth.empty(columns, scratch) for z in together}
        for box in volume.boxes(together):
            y, x = box.roi.slices[1:]
            for number in box.numbers:
                inside = box.instances[box.index(number)] > 0
                truths[number].cells[x, y] = inside.T
            scratch.forget()
        labels = {z: label_truth(truth) for z, truth in truths.items()}
        for of_section in labels.values():
            for piece in columns.pieces(scratch):
                inside = of_section[piece.start + 1 : piece.stop + 1]
                np.maximum(inside, 0, out=inside)
        yield {z: of_section[1:-1, 1:-1] for z, of_section in labels.items()}


def _read_together(volume: ScoredVolume, numbers: list[int]) -> Iterator[list[int]]:
    """Yield sections of one layer of chunks, as many as are laid down at once."""
    depth, step = volume.labels.chunks[0], sections_laid_down(volume)
    for _, layer in groupby(numbers, key=lambda z: z // depth):
        of_layer = list(layer)
        for first in range(0, len(of_layer), step):
            yield of_layer[first : first + step]


def sections_laid_down(volume: ScoredVolume) -> int:
    """Return how many sections are read at once."""
    size = volume.shape[1] * volume.shape[2]
    if size > MOST_BYTES:  # these lie in files
        most = MOST_DISK_BYTES // (BYTES_A_VOXEL * size)
    else:
        most = MOST_SECTION_VOXELS // size
    return max(1, most)


def bytes_of_whole_section(volume: ScoredVolume) -> int:
    """Return the memory of sections that are read at once; large ones take none."""
    size = volume.shape[1] * volume.shape[2]
    together = min(sections_laid_down(volume), volume.shape[0], volume.labels.chunks[0])
    return 0 if size > MOST_BYTES else BYTES_A_VOXEL * size * int(together)


def _lay_down(
    volume: ScoredVolume, numbers: list[int], bright: bool | None, scratch: Scratch
) -> Iterator[WholeSection]:
    border = volume.border_vox
    height, width = (n - 2 * border for n in volume.shape[1:])
    columns = Columns(width, height)
    sections = {z: _empty(volume, z, columns, bright, scratch) for z in numbers}
    for box in volume.boxes(numbers):
        near = [max(a, border) for a in box.roi.start[1:]]
        far = [
            min(b, n - border)
            for b, n in zip(box.roi.stop[1:], volume.shape[1:], strict=True)
        ]
        if near[0] >= far[0] or near[1] >= far[1]:
            continue
        inside = tuple(
            slice(a - o, b - o)
            for a, b, o in zip(near, far, box.roi.start[1:], strict=True)
        )
        place = tuple(
            slice(a - border, b - border) for a, b in zip(near, far, strict=True)
        )
        for number in box.numbers:
            _fill(sections[number], box, inside, place[::-1], bright)
        scratch.forget()
    for number in numbers:
        yield sections.pop(number)


def _empty(
    volume: ScoredVolume,
    number: int,
    columns: Columns,
    bright: bool | None,
    scratch: Scratch,
) -> WholeSection:
    """Make what a section is laid down into."""
    shape = columns.width, columns.height
    stored = scratch.zeros(shape, np.uint8)
    levels = as_probability(np.arange(256, dtype=np.uint8))
    maps = {"unet": Proposal(columns, stored, levels, scratch)}
    if bright is not None:
        dtype = volume.image.dtype
        is_short = dtype.kind == "u" and dtype.itemsize <= 2
        shades = None
        if is_short:
            every = np.arange(2 ** (8 * dtype.itemsize)).astype(dtype)
            shades = _shade(volume, every, bright)
        grey = scratch.zeros(shape, dtype if is_short else np.float32)
        maps["grey value"] = Proposal(columns, grey, shades, scratch)
        half = np.broadcast_to(np.uint8(0), shape)
        maps["constant"] = Proposal(columns, half, np.full(1, 0.5, np.float32))
    return WholeSection(number, Truth.empty(columns, scratch), maps)


def _fill(
    section: WholeSection,
    box: ScoredBox,
    inside: tuple[slice, ...],
    place: tuple[slice, ...],
    bright: bool | None,
) -> None:
    """Lay down what a box holds of a section."""
    z = box.index(section.number)
    section.has_unknown |= bool(box.unknown[z][inside].any())
    section.truth.cells[place] = (box.truth[z][inside] > 0).T
    section.truth.drawn[place] = (box.drawn[z][inside] > 0).T
    section.maps["unet"].levels[place] = box.apart[z][inside].T
    shades = section.maps.get("grey value")
    if shades is not None:
        grey = box.grey[z][inside].T
        if shades.values is None:
            grey = _shade(box.volume, grey, bool(bright))
        shades.levels[place] = grey


def _shade(
    volume: ScoredVolume, grey: NDArray[Any], bright: bool
) -> NDArray[np.float32]:
    """Return grey values as a map from 0 to 1."""
    intensity = volume.intensity
    shade = (grey.astype(np.float32) - intensity.mean) / (SHADES * intensity.std)
    shade = 0.5 + (shade if bright else -shade)
    clipped: NDArray[np.float32] = np.clip(shade, 0, 1).astype(np.float32)
    return clipped
