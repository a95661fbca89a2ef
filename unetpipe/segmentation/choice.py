"""Choose how probabilities become objects, by scores on annotated sections.

::

    probability --threshold--> mask --components--> objects --smallest--> objects kept

Every threshold is tried with every smallest size, or with every depth at which a
watershed cuts; the pair that scores best is chosen.
SEG of the Cell Tracking Challenge asks only about annotated cells, so it may be used
where not all cells are annotated; F1 needs known background too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.cell_tracking import keep_results, match_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.tiling.quantised import threshold_mask

ObjectScore = Literal["seg", "f1"]

# Of the foreground probability; stored values are 1/255 apart.
THRESHOLDS = tuple(k / 20 for k in range(1, 20))
# Objects of fewer voxels are dropped; none that is larger than half of what is usual.
SMALLEST_SIZES = (0, *(2**k for k in range(2, 17)))
LARGEST_SHARE = 0.5
# For a watershed, which takes longer.
FEWER_THRESHOLDS = tuple(k / 10 for k in range(1, 10))
SEED_DISTANCES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """How objects are made of the foreground, as far as that is fixed.

    Attributes
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across sections.
    smallest_object_vox : int or None
        Objects of fewer voxels are dropped; None: to be chosen, of components.
    method : "components" or "watershed"
        What makes objects.
    seed_distance_vox : float or None
        With a watershed: how deep the cores of objects lie; None: to be chosen.
    seed_reach_vox : int
        With a watershed: steps that objects grow from their cores.
    flood_threshold : float or None
        With a watershed: probability above which they grow; None: the threshold.
    """

    connectivity: Connectivity = "2d"
    smallest_object_vox: int | None = 0
    method: Literal["components", "watershed"] = "components"
    seed_distance_vox: float | None = 3.0
    seed_reach_vox: int = 16
    flood_threshold: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what matters of it for its method."""
        values = asdict(self)
        if self.method == "watershed":
            return values
        return {k: values[k] for k in ("connectivity", "smallest_object_vox")}


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
    seed_distance_vox : float or None
        With a watershed: how deep the cores of objects lie.
    """

    threshold: float
    smallest_object_vox: int
    seg: float
    f1: float
    seed_distance_vox: float | None = None


class ObjectSearch:
    """Scores objects of one section after the other, made in many ways.

    Parameters
    ----------
    rule : ObjectRule
        How objects are made, as far as that is not to be chosen.
    """

    def __init__(self, rule: ObjectRule) -> None:
        self.rule = rule
        smallest, distance = rule.smallest_object_vox, rule.seed_distance_vox
        self.thresholds = THRESHOLDS
        self.sizes = SMALLEST_SIZES if smallest is None else (smallest,)
        self.distances: tuple[float | None, ...] = (None,)
        if rule.method == "watershed":
            self.thresholds = FEWER_THRESHOLDS
            self.sizes = (smallest or 0,)
            self.distances = SEED_DISTANCES if distance is None else (distance,)
        shape = len(self.thresholds), len(self.sizes) * len(self.distances)
        self._jaccard, self._hits, self._objects = (np.zeros(shape) for _ in range(3))
        self._truth_sizes: list[NDArray[np.int64]] = []
        self._has_f1 = True

    def add(
        self,
        stored: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        unknown: NDArray[np.bool_],
        *,
        voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
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
        voxel_size : (z, y, x)
            Of any unit; a watershed measures depths in it.
        """
        if self.rule.connectivity == "2d":
            for section in zip(stored, truth, unknown, strict=True):
                one, two, three = (part[None] for part in section)
                self._add_image(one, two, three, voxel_size)
        else:
            self._add_image(stored, truth, unknown, voxel_size)

    def best(self, by: ObjectScore) -> ObjectChoice | None:
        """Return the best choice; None where the score is undefined.

        Of equal ones that with the better other score is taken, then the smaller size
        or depth, then the threshold nearer to 0.5.
        """
        scores = {"seg": self._seg(), "f1": self._f1()}
        other = scores["f1" if by == "seg" else "seg"]
        best: ObjectChoice | None = None
        best_key = (-inf,) * 4
        for t, threshold in enumerate(self.thresholds):
            for s in self._allowed():
                if not isfinite(scores[by][t, s]):
                    continue
                second = other[t, s] if isfinite(other[t, s]) else 0.0
                far = abs(threshold - 0.5)
                key = (round(scores[by][t, s], 12), round(second, 12), -s, -far)
                if key > best_key:
                    best_key = key
                    best = ObjectChoice(
                        threshold,
                        self.sizes[s % len(self.sizes)],
                        float(scores["seg"][t, s]),
                        float(scores["f1"][t, s]),
                        self.distances[s // len(self.sizes)],
                    )
        return best

    def _add_image(
        self,
        stored: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        unknown: NDArray[np.bool_],
        voxel_size: tuple[float, float, float],
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
        for t, s, ids in self._tried(stored, voxel_size):
            whole = ContingencyTable.from_arrays(truth, ids)
            inside, void = whole, None
            if has_f1 and not is_complete:
                inside = ContingencyTable.from_arrays(truth, ids, where=known)
                nothing = np.zeros_like(ids)
                void = ContingencyTable.from_arrays(nothing, ids, where=unknown)
            found, voxels = whole.result_sizes()
            is_cut = self.rule.method == "watershed"  # sizes are of its seeds
            for k, smallest in enumerate((0,) if is_cut else self.sizes, s):
                kept = found[voxels >= smallest]
                references = match_references(keep_results(whole, kept))
                self._jaccard[t, k] += references.jaccard.sum()
                if has_f1:
                    matches = match_instances(
                        keep_results(inside, kept),
                        void=None if void is None else keep_results(void, kept),
                    )
                    self._hits[t, k] += matches.num_hits()
                    self._objects[t, k] += matches.num_truth + matches.num_result

    def _tried(
        self, stored: NDArray[np.uint8], voxel_size: tuple[float, float, float]
    ) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield objects made in all ways: threshold, first column of scores, ids."""
        rule = self.rule
        for t, threshold in enumerate(self.thresholds):
            for d, distance in enumerate(self.distances):
                if distance is None:
                    ids, _ = label_components(threshold_mask(stored, threshold), "3d")
                    yield t, d, ids
                    continue
                seeds = SeedRule(
                    rule.connectivity, distance, rule.seed_reach_vox, voxel_size
                )
                flood = rule.flood_threshold
                yield (
                    t,
                    d,
                    seeds.objects(
                        stored,
                        threshold,
                        threshold if flood is None else min(threshold, flood),
                        self.sizes[0],
                    ),
                )

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
            return range(len(self.distances))
        true = np.concatenate(self._truth_sizes)
        usual = float(np.median(true)) if true.size else 0.0
        return [s for s, n in enumerate(self.sizes) if n <= LARGEST_SHARE * usual]
