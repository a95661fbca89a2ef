"""Choose how probabilities become objects, by scores on annotated sections.

::

    probability --threshold--> mask --components--> objects --smallest--> objects kept

Every threshold is tried with every smallest size; the pair that scores best is chosen.
SEG of the Cell Tracking Challenge asks only about annotated cells, so it may be used
where not all cells are annotated; F1 needs known background too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.cell_tracking import keep_results, match_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.segmentation import Connectivity, label_components, threshold_mask

ObjectScore = Literal["seg", "f1"]

# Of the foreground probability; stored values are 1/255 apart.
THRESHOLDS = tuple(k / 20 for k in range(1, 20))
# Objects of fewer voxels are dropped; none that is larger than half of what is usual.
SMALLEST_SIZES = (0, *(2**k for k in range(2, 17)))
LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ObjectChoice:
    """How to make objects, and what that scored.

    Attributes
    ----------
    threshold : float
        Foreground probability above which a voxel is foreground.
    smallest_object_vox : int
        Objects of fewer voxels are dropped.
    seg, f1 : float
        Scores over all sections; NaN where undefined.
    """

    threshold: float
    smallest_object_vox: int
    seg: float
    f1: float


class ObjectSearch:
    """Scores objects of one section after the other, made in many ways.

    Parameters
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across those given at once.
    smallest : int or None
        The size below which objects are dropped; None: to be chosen too.
    """

    def __init__(self, connectivity: Connectivity, smallest: int | None) -> None:
        self.connectivity = connectivity
        self.sizes = SMALLEST_SIZES if smallest is None else (smallest,)
        shape = len(THRESHOLDS), len(self.sizes)
        self._jaccard, self._hits, self._objects = (np.zeros(shape) for _ in range(3))
        self._truth_sizes: list[NDArray[np.int64]] = []
        self._has_f1 = True

    def add(
        self,
        stored: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        unknown: NDArray[np.bool_],
    ) -> None:
        """Add sections, all arrays of shape (z, y, x).

        Parameters
        ----------
        stored : uint8 array
            Foreground probability, round(255 p).
        truth : integer array
            Ids of the true objects; 0 is background.
        unknown : bool array
            Voxels that nobody annotated; what ``truth`` holds there does not matter.
        """
        if self.connectivity == "2d":
            for section in zip(stored, truth, unknown, strict=True):
                self._add_image(*(part[None] for part in section))
        else:
            self._add_image(stored, truth, unknown)

    def best(self, by: ObjectScore) -> ObjectChoice | None:
        """Return the best choice; None where the score is undefined.

        Of equal ones that with the better other score is taken, then the smaller size,
        then the threshold nearer to 0.5.
        """
        scores = {"seg": self._seg(), "f1": self._f1()}
        other = scores["f1" if by == "seg" else "seg"]
        best: ObjectChoice | None = None
        best_key = (-inf,) * 4
        for t, threshold in enumerate(THRESHOLDS):
            for s in self._allowed():
                if not isfinite(scores[by][t, s]):
                    continue
                second = other[t, s] if isfinite(other[t, s]) else 0.0
                size, far = self.sizes[s], abs(threshold - 0.5)
                key = (round(scores[by][t, s], 12), round(second, 12), -size, -far)
                if key > best_key:
                    best_key = key
                    best = ObjectChoice(
                        threshold,
                        size,
                        float(scores["seg"][t, s]),
                        float(scores["f1"][t, s]),
                    )
        return best

    def _add_image(
        self,
        stored: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        unknown: NDArray[np.bool_],
    ) -> None:
        if unknown.all():
            return
        known = ~unknown
        truth = np.where(known, truth, 0)
        is_complete = bool(known.all())
        # Without background that is known to be, no object can be known to be false.
        has_f1 = is_complete or bool((truth[known] == 0).any())
        self._has_f1 &= has_f1
        true, sizes = ContingencyTable.from_arrays(truth, truth).truth_sizes()
        self._truth_sizes.append(sizes[true != 0])
        for t, threshold in enumerate(THRESHOLDS):
            ids, _ = label_components(threshold_mask(stored, threshold), "3d")
            whole = ContingencyTable.from_arrays(truth, ids)
            inside, void = whole, None
            if has_f1 and not is_complete:
                inside = ContingencyTable.from_arrays(truth, ids, where=known)
                nothing = np.zeros_like(ids)
                void = ContingencyTable.from_arrays(nothing, ids, where=unknown)
            found, voxels = whole.result_sizes()
            for s, smallest in enumerate(self.sizes):
                kept = found[voxels >= smallest]
                references = match_references(keep_results(whole, kept))
                self._jaccard[t, s] += references.jaccard.sum()
                if has_f1:
                    matches = match_instances(
                        keep_results(inside, kept),
                        void=None if void is None else keep_results(void, kept),
                    )
                    self._hits[t, s] += matches.num_hits()
                    self._objects[t, s] += matches.num_truth + matches.num_result

    def _seg(self) -> NDArray[np.float64]:
        num_truth = sum(sizes.size for sizes in self._truth_sizes)
        return self._jaccard / num_truth if num_truth else np.full_like(self._hits, nan)

    def _f1(self) -> NDArray[np.float64]:
        f1 = np.full_like(self._hits, nan)
        if self._has_f1 and self._truth_sizes:
            f1[:] = 1.0
            np.divide(2 * self._hits, self._objects, out=f1, where=self._objects > 0)
        return f1

    def _allowed(self) -> Sequence[int]:
        """Return which sizes may be chosen: none that threatens true objects."""
        if len(self.sizes) == 1 or not self._truth_sizes:
            return [0]
        true = np.concatenate(self._truth_sizes)
        usual = float(np.median(true)) if true.size else 0.0
        return [s for s, n in enumerate(self.sizes) if n <= LARGEST_SHARE * usual]
