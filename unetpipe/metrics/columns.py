"""A section as the scores read it: column after column, a few at a time.

The published scores break ties in the order x outer, y inner, so arrays have shape
(x, y) here. Working arrays have a frame of one voxel, (x + 2, y + 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.scratch import Scratch
from unetpipe.runtime.machine import num_processors

Bool = NDArray[np.bool_]
Job = TypeVar("Job")
Result = TypeVar("Result")

PIECE_VOXELS = 1 << 19
MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class Columns:
    """The sides of a section, and how it is cut into pieces.

    Attributes
    ----------
    width, height : int
        Voxels along x and y.
    """

    width: int
    height: int

    @property
    def size(self) -> int:
        """Voxels of the section."""
        return self.width * self.height

    @property
    def framed(self) -> tuple[int, int]:
        """Shape of a working array, with a frame of one voxel."""
        return self.width + 2, self.height + 2

    def pieces(self, *scratches: Scratch) -> Iterator[slice]:
        """Yield ranges of x; after each, scratches forget what was looked at.

        Examples
        --------
        >>> list(Columns(3, 4).pieces())
        [slice(0, 3, None)]
        """
        step = max(1, PIECE_VOXELS // max(1, self.height))
        for start in range(0, self.width, step):
            yield slice(start, min(start + step, self.width))
            for scratch in scratches:
                scratch.forget()


@dataclass(slots=True)
class Truth:
    """What was annotated of one section.

    Attributes
    ----------
    columns : Columns
    cells, drawn : bool arrays, shape (x, y)
        Cells apart from each other, and as they were drawn: pixels are counted against
        the latter.
    scratch : Scratch
        Where they lie.
    """

    columns: Columns
    cells: Bool
    drawn: Bool
    scratch: Scratch = field(default_factory=Scratch)

    @classmethod
    def empty(cls, columns: Columns, scratch: Scratch) -> Truth:
        """Make a truth to be filled box by box."""
        shape = columns.width, columns.height
        return cls(
            columns, scratch.zeros(shape, bool), scratch.zeros(shape, bool), scratch
        )

    @classmethod
    def of(cls, cells: Bool, drawn: Bool | None = None) -> Truth:
        """Take a section that lies in memory, shape (y, x)."""
        turned = np.ascontiguousarray(cells.T)
        same = drawn is None
        return cls(
            Columns(*turned.shape),
            turned,
            turned if same else np.ascontiguousarray(drawn.T),  # type: ignore[union-attr]
        )


@dataclass
class Proposal:
    """A map of probability, cut at many thresholds.

    Attributes
    ----------
    columns : Columns
    levels : array, shape (x, y)
        Probabilities, float32; or small unsigned integers that ``values`` explains.
    values : float32 array, shape (levels,), or None
        Probability of each level.
    scratch : Scratch
        Where it lies.
    """

    columns: Columns
    levels: NDArray[Any]
    values: NDArray[np.float32] | None
    scratch: Scratch = field(default_factory=Scratch)

    @classmethod
    def of(cls, probability: NDArray[np.float32]) -> Proposal:
        """Take a section that lies in memory, shape (y, x)."""
        turned = np.ascontiguousarray(probability.T)
        return cls(Columns(*turned.shape), turned, None)

    def above(self, piece: slice, threshold: np.float64) -> Bool:
        """Return which voxels of some columns exceed a threshold."""
        levels = self.levels[piece]
        if self.values is None:
            return np.asarray(levels > threshold)
        return np.take(self.values > threshold, levels)

    def cut(self, threshold: np.float64) -> bytes | float:
        """Return what is alike for thresholds that cut the map into the same mask."""
        if self.values is None:
            return float(threshold)
        return (self.values > threshold)[self._occupied].tobytes()

    def order(self, threshold: np.float64) -> bytes | float:
        """Return what is alike where voxels are warped in the same order, too."""
        if self.values is None:
            return float(threshold)
        _, ranks = np.unique(
            self.urgency(threshold)[self._occupied], return_inverse=True
        )
        return self.cut(threshold) + ranks.tobytes()  # type: ignore[operator]

    def urgency(self, threshold: np.float64) -> NDArray[np.uint16]:
        """Rank levels by distance to a threshold, the farthest first: (levels,)."""
        assert self.values is not None
        _, ranks = np.unique(-np.abs(self.values - threshold), return_inverse=True)
        return ranks.astype(np.uint16)

    @cached_property
    def _occupied(self) -> Bool:
        assert self.values is not None
        found = np.zeros(self.values.size, bool)
        for piece in self.columns.pieces(self.scratch):
            found[self.levels[piece].ravel()] = True
        return found


def num_scoring_threads() -> int:
    """Return how many thresholds are scored at once."""
    return min(num_processors(), MOST_THREADS)


def score_at_once(
    function: Callable[[Job], Result], jobs: Iterable[Job]
) -> list[Result]:
    """Return what a function gives for each job, computed by all processors."""
    todo = list(jobs)
    if min(num_scoring_threads(), len(todo)) < 2:
        return [function(job) for job in todo]
    with ThreadPoolExecutor(num_scoring_threads(), "score") as threads:
        return list(threads.map(function, todo))
