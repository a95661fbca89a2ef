"""Where annotations would tell a network most: uncertain, unlike, and spread out.

::

    section   +-----+-----+---+     a lattice of crops; the mean of each is its score
              |     |     |   |     u = entropy / its largest + disagreement / its
              +-----+-----+---+         largest + novelty of the section
              |     |     |   |
              +-----+-----+---+     the best is taken; all near it, and all that look
                                    like it, lose, and so on
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    whole_volume,
)

Values = NDArray[np.float64]
Stored = NDArray[np.uint8]
Read = Callable[[Roi], list[Stored]]

NEAR_SECTIONS = 5.0  # sections so near show nearly the same
OF_VOLUME = 0.5  # exponent by which volumes that were taken already lose
OF_ALIKE = 0.5  # share that a crop loses to one that looks the same
NAME_OF_CROP = re.compile(r"(.+)_z([0-9]+)_y([0-9]+)_x([0-9]+)")


@dataclass(frozen=True, slots=True)
class Crops:
    """The crops of one volume, by section and place on the lattice.

    Attributes
    ----------
    volume : str
    starts : (y, x)
        Where crops begin, along each axis.
    side : (y, x)
        Of a crop.
    entropy, disagreement : float64 arrays, shape (z, rows, columns)
    novelty : float64 array, shape (z,)
    looks : float64 array, shape (z, rows, columns, features)
        What a crop looks like, in any units: only distances count, against their spread
        over all crops.
    is_free : bool array, shape (z,)
        Sections that nobody has annotated.
    """

    volume: str
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    side: tuple[int, int]
    entropy: Values
    disagreement: Values
    novelty: Values
    looks: Values
    is_free: NDArray[np.bool_]

    def name(self, place: Sequence[int]) -> str:
        """Return a name for a crop that no other has."""
        z, y, x = self.corner(place)
        return f"{self.volume}_z{z}_y{y}_x{x}"

    def corner(self, place: Sequence[int]) -> Zyx:
        """Return the first voxel of a crop."""
        z, row, column = place
        return z, self.starts[0][row], self.starts[1][column]

    def drop_overlapping(self, score: Values, corner: Zyx) -> None:
        """Leave no score to crops that share voxels with the one at a corner."""
        z = corner[0]
        rows, columns = (
            abs(np.array(starts) - at) < side
            for starts, at, side in zip(self.starts, corner[1:], self.side, strict=True)
        )
        score[z : z + 1, rows[:, None] & columns] = -np.inf


def entropy_of_levels(threshold: float) -> Values:
    """Return the entropy in bits of each stored probability, 1 at the threshold.

    Probabilities below and above the threshold are stretched to reach from 0 to a half,
    and from there to 1: what decides the mask is how near to it they are.

    Examples
    --------
    >>> entropy_of_levels(0.2)[[0, 51, 255]].round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    p = np.arange(256) / 255
    threshold = min(max(threshold, 1 / 255), 254 / 255)
    half = np.where(
        p <= threshold, p / (2 * threshold), 1 - (1 - p) / (2 * (1 - threshold))
    )
    return probability_entropy(np.stack([half, 1 - half]))


def probability_entropy(probabilities: Values) -> Values:
    """Return the entropy over the first axis, as a share of the largest."""
    p = np.clip(probabilities, 1e-12, 1)
    return np.asarray(-(p * np.log(p)).sum(axis=0) / np.log(len(p)), np.float64)


def proposal_lattice(length: int, side: int) -> tuple[int, ...]:
    """Return where crops begin along an axis, the last one moved inside.

    Examples
    --------
    >>> proposal_lattice(100, 40), proposal_lattice(30, 40)
    ((0, 40, 60), (0,))
    """
    return tuple(
        min(k * side, max(0, length - side)) for k in range(ceil(length / side))
    )


def measure_proposals(
    read: Read, shape: Zyx, block: Zyx, side: int, threshold: float
) -> tuple[Values, Values, Values]:
    """Return of each crop mean entropy, disagreement, and the mean of each channel.

    Arrays (z, rows, columns); of the means (z, rows, columns, channels).

    Parameters
    ----------
    read : callable
        Returns the stored probabilities (c, z, y, x) of a box, one array a network.
    shape, block : (z, y, x)
        Of the volume, and of what is read at once.
    side : int
        Of a crop.
    threshold : float
        Of the foreground, with two classes.

    Notes
    -----
    A voxel counts for the crop of the lattice that it lies in; of the last one along
    an axis, which begins earlier, that is what no crop before it has.
    """
    table = entropy_of_levels(threshold)
    lattice = (shape[0], ceil(shape[1] / side), ceil(shape[2] / side))
    sums = np.zeros((2, *lattice))
    counts = np.zeros(lattice)
    means: Values | None = None
    for index in iterate_grid(whole_volume(shape), block):
        roi = grid_cell(index, block, shape)
        networks = [_deciding(stored) for stored in read(roi)]
        unsure = np.mean([_unsure(stored, table) for stored in networks], axis=0)
        apart = np.zeros_like(unsure)
        if len(networks) > 1:
            spread = np.std(np.stack(networks, dtype=np.float32) / 255, axis=0)
            apart = 2 * spread.mean(axis=0)
        if means is None:
            means = np.zeros((*lattice, len(networks[0])))
        for cell, inside in _cells_in(roi, side):
            sums[0][cell] += unsure[inside].sum(axis=(1, 2))
            sums[1][cell] += apart[inside].sum(axis=(1, 2))
            counts[cell] += unsure[inside][0].size
            for channel, stored in enumerate(networks[0]):
                means[(*cell, channel)] += stored[inside].sum(axis=(1, 2)) / 255
    assert means is not None
    counts = np.maximum(counts, 1)
    return sums[0] / counts, sums[1] / counts, means / counts[..., None]


def _deciding(stored: Stored) -> Stored:
    """Return the channels that decide the mask: of foreground and core the first."""
    return stored[:1] if len(stored) == 2 else stored


def _unsure(stored: Stored, table: Values) -> Values:
    if len(stored) == 1:
        return np.asarray(table[stored[0]])
    return probability_entropy(stored / 255.0)


def _cells_in(
    roi: Roi, side: int
) -> Iterator[tuple[tuple[slice, int, int], tuple[slice, slice, slice]]]:
    """Yield the crops that a box meets: sections, row, column; and where in the box."""
    (z, y, x), (z1, y1, x1) = roi.start, roi.stop
    for row in range(y // side, ceil(y1 / side)):
        for column in range(x // side, ceil(x1 / side)):
            yield (
                (slice(z, z1), row, column),
                (
                    slice(None),
                    slice(max(row * side, y) - y, min((row + 1) * side, y1) - y),
                    slice(max(column * side, x) - x, min((column + 1) * side, x1) - x),
                ),
            )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A crop that is proposed: which of the volumes, (z, row, column), its score."""

    volume: int
    place: tuple[int, int, int]
    score: float


def score_crops(volumes: Sequence[Crops]) -> list[Values]:
    """Return the score of each crop of each volume; annotated ones have none: -inf."""
    most = [
        max((float(getattr(v, name).max(initial=0)) for v in volumes), default=0) or 1.0
        for name in ("entropy", "disagreement")
    ]
    return [
        np.where(
            v.is_free[:, None, None],
            v.entropy / most[0] + v.disagreement / most[1] + v.novelty[:, None, None],
            -np.inf,
        )
        for v in volumes
    ]


def choose_crops(
    volumes: Sequence[Crops],
    scores: Sequence[Values],
    number: int,
    taken: frozenset[str] = frozenset(),
) -> list[Chosen]:
    """Choose crops of high scores that do not lie in one place.

    Parameters
    ----------
    volumes, scores : sequences
        One each a volume.
    number : int
        How many, if there are so many.
    taken : frozenset of str
        Names of crops that were annotated before; none that overlaps one is chosen.

    Notes
    -----
    What is chosen takes from the scores around it, by 1 - exp(-d^2 / 2), where d
    counts in crops and in five sections; from its volume, by the square root of how
    many it has already; and half of that, by the same rule, from all that look like
    it, where d^2 is the mean over what is compared, in variances over all crops. What
    overlaps it is not chosen: the last crop along an
    axis is moved inside, and labels of boxes that share voxels contradict each other.
    """
    left = [score.copy() for score in scores]
    looks = _comparable([volume.looks for volume in volumes], left)
    counts = np.zeros(len(volumes))
    before = [found.groups() for found in map(NAME_OF_CROP.fullmatch, taken) if found]
    for volume, score in zip(volumes, left, strict=True):
        for name, *corner in before:
            if name == volume.volume:
                volume.drop_overlapping(score, as_zyx(map(int, corner)))
    chosen: list[Chosen] = []
    for _ in range(number):
        best = _best_volume(left, counts)
        if best is None:
            break
        z, row, column = np.unravel_index(int(np.argmax(left[best])), left[best].shape)
        place = (int(z), int(row), int(column))
        chosen.append(Chosen(best, place, float(scores[best][place])))
        counts[best] += 1
        left[best] = _lessen(left[best], np.exp(-_nearness(left[best], place) / 2))
        volumes[best].drop_overlapping(left[best], volumes[best].corner(place))
        for other, theirs in enumerate(looks):
            apart = ((theirs - looks[best][place]) ** 2).mean(axis=-1)
            left[other] = _lessen(left[other], OF_ALIKE * np.exp(-apart / 2))
    return chosen


def _best_volume(left: Sequence[Values], counts: Values) -> int | None:
    """Return which volume has the best crop, where volumes that have some lose."""
    worth = [
        score.max(initial=-np.inf) / (1 + count) ** OF_VOLUME
        for score, count in zip(left, counts, strict=True)
    ]
    best = int(np.argmax(worth)) if worth else 0
    return best if worth and np.isfinite(worth[best]) else None


def _lessen(score: Values, share: Values) -> Values:
    """Take a share of each score; what has none, -inf, keeps none."""
    return np.where(np.isfinite(score), score * (1 - share), -np.inf)


def _nearness(score: Values, place: tuple[int, int, int]) -> Values:
    """Return how far crops of a volume lie from one, squared."""
    grid = np.ogrid[tuple(map(slice, score.shape))]
    lengths = (NEAR_SECTIONS, 1.0, 1.0)
    parts = zip(grid, place, lengths, strict=True)
    return np.asarray(sum(((axis - at) / n) ** 2 for axis, at, n in parts), np.float64)


def _comparable(looks: Sequence[Values], scores: Sequence[Values]) -> list[Values]:
    """Return what crops look like, with a variance of 1 over those with a score.

    Zeros, so that all look alike, of what is the same everywhere.
    """
    having = [look[np.isfinite(s)] for look, s in zip(looks, scores, strict=True)]
    known = np.concatenate(having) if having else np.empty((0, 0))
    if not len(known):
        return [np.zeros_like(look) for look in looks]
    centre, spread = known.mean(axis=0), known.std(axis=0)
    is_told = spread > 1e-9 * np.maximum(np.abs(centre), 1)
    return [
        np.where(is_told, (look - centre) / np.where(is_told, spread, 1), 0)
        for look in looks
    ]
