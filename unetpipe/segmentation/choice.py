"""Choose how probabilities become objects, by scores on annotated sections.

::

    probability --threshold--> mask --components--> objects --smallest--> objects kept
                                      or watershed

Every threshold is tried with every smallest size, and where a watershed cuts with every
kind of seeds at every distance; what scores best together is chosen. Objects are those
of the units that the rule is applied to: sections, or with connectivity 3d all that
follow each other.
SEG of the Cell Tracking Challenge asks only about annotated cells, so it may be used
where not all cells are annotated; F1 needs known background too. Where some is known,
voxels that nobody annotated are neither right nor wrong: a cell that the rim of a field
of view cuts is compared as far as it is annotated. Where both are known
SEG chooses together with F1, half each: alone it would not see false objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.cell_tracking import keep_seg_results, match_seg_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.records.segmentation import Seeds
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.segmentation.mutex import MutexRule
from unetpipe.segmentation.mutex_blocks import make_objects
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.quantised import threshold_mask

ObjectScore = Literal["seg", "f1"]

# Of the foreground probability: those at which all scores are computed, so that one row
# of scores has one threshold.
THRESHOLDS = tuple(k / 10 for k in range(1, 10))
# Objects of fewer voxels are dropped; a size is at most half of small true objects.
SMALLEST_SIZES = (0, *(2**k for k in range(2, 17)))
LARGEST_SHARE = 0.5
FEW_TRUE_OBJECTS = 0.05  # of which a size may drop none: the smallest in twenty
SPECK_SHARE = 0.25  # of small true objects: what is smaller may go unless it is missed
SEED_DISTANCES: dict[Seeds, tuple[float, ...]] = {
    "cores": (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0),
    "depth": (2.0, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0),
    "probability": (2.0, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0),
}
SEED_KINDS: tuple[Seeds, ...] = (*SEED_DISTANCES, "learnt")  # places are remembered
MERGE_THRESHOLDS = tuple(k / 20 for k in range(4, 20))  # mean affinities
MIDDLE = 0.5  # probability of a core above which seeds lie, where none was chosen
LEAST_REACH = 16  # steps; where none was chosen


@dataclass(frozen=True, slots=True)
class Cut:
    """Which seeds a watershed has.

    Attributes
    ----------
    seeds : "cores", "depth", "probability" or "learnt"
    distance : float
        Depth of cores, or within what distance there is one seed; 0 of learnt ones.
    threshold : float
        Of learnt ones: the probability of a core above which they lie; 0 of others.
    """

    seeds: Seeds
    distance: float = 0.0
    threshold: float = 0.0

    @classmethod
    def of(cls, chosen: Mapping[str, float]) -> "Cut":
        """Return what ``ObjectChoice.remembered`` tells of it."""
        return cls(
            SEED_KINDS[int(chosen["seeds"])],
            chosen.get("seed_distance_vox", 0.0),
            chosen.get("core_threshold", 0.0),
        )

    def remembered(self) -> dict[str, float]:
        """Return it as networks remember it: numbers by name."""
        found = {"seeds": float(SEED_KINDS.index(self.seeds))}
        if self.seeds == "learnt":
            return found | {"core_threshold": self.threshold}
        return found | {"seed_distance_vox": self.distance}


def known_number(value: float | str | None) -> float:
    """Return a number that is given; 0 where it is to be chosen, or none is."""
    return value if isinstance(value, float | int) else 0.0


def cuts_beside(cut: Cut, cuts: Sequence[Cut]) -> list[Cut]:
    """Return a cut, and those with the same seeds at the distances next to it."""
    alike = [each for each in cuts if each.seeds == cut.seeds]
    place = alike.index(cut)
    return alike[max(0, place - 1) : place + 2]


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """How objects are made of the foreground, as far as that is fixed.

    Attributes
    ----------
    connectivity : "2d" or "3d"
        Within each section, or across sections.
    smallest_object_vox : int or None
        Objects of fewer voxels are dropped; None: to be chosen.
    method : "auto", "components", "watershed" or "mutex"
        What makes objects; auto: to be chosen, with affinities "mutex".
    seed_distance_vox : float or None
        With a watershed: how deep the cores of objects lie, or within what distance
        there is one seed; None: to be chosen.
    seed_reach_vox : int or None
        With a watershed: steps that objects grow from their seeds; None: to be chosen.
    flood_threshold : float or None
        With a watershed: probability above which they grow; None: the threshold.
    seed_threshold : float or None
        With a watershed: probability above which seeds are looked for; None, and
        below the threshold: the threshold.
    seeds : "auto", "cores", "depth", "probability" or "learnt"
        Of a watershed; auto: to be chosen, of a network with cores the learnt ones.
    core_threshold : float or None
        Of learnt seeds: the probability of a core above which they lie; None: to be
        chosen.
    has_cores : bool
        Whether the network predicts cores.
    offsets : tuple of (z, y, x)
        Of the affinities that it predicts.
    fragment_vox : (z, y, x)
        With "mutex": boxes in which it is followed.
    merge_threshold : float or None
        With "mutex": mean affinity above which fragments are joined; None: to be
        chosen.
    """

    connectivity: Connectivity = "2d"
    smallest_object_vox: int | None = 0
    method: Literal["auto", "components", "watershed", "mutex"] = "components"
    seed_distance_vox: float | None = 3.0
    seed_reach_vox: int | None = LEAST_REACH
    flood_threshold: float | None = None
    seeds: Seeds | Literal["auto"] = "cores"
    seed_threshold: float | Literal["auto"] | None = None
    core_threshold: float | None = None
    has_cores: bool = False
    offsets: tuple[Zyx, ...] = ()
    fragment_vox: Zyx = (64, 64, 64)
    merge_threshold: float | None = None

    @property
    def may_be_mutex(self) -> bool:
        """Whether a mutex watershed of affinities makes objects."""
        return bool(self.offsets) and self.method in ("auto", "mutex")

    def quick(self) -> "ObjectRule":
        """Return how objects are made to choose a checkpoint: quickly.

        By components, or of a network with cores, whose masks of touching cells are one
        piece, by a watershed from the likely ones.
        """
        if not self.has_cores or self.method == "components":
            return replace(self, method="components")
        given = self.core_threshold
        return replace(
            self,
            method="watershed",
            seeds="learnt",
            core_threshold=MIDDLE if given is None else given,
        )

    def cuts(self) -> list[Cut]:
        """Return what may be tried with a watershed."""
        wanted = self.seeds
        if wanted == "auto" and self.has_cores:
            wanted = "learnt"
        if wanted == "learnt":
            at = self.core_threshold
            tried = THRESHOLDS if at is None else (at,)
            return [Cut("learnt", threshold=threshold) for threshold in tried]
        given = self.seed_distance_vox
        return [
            Cut(seeds, distance)
            for seeds, distances in SEED_DISTANCES.items()
            if wanted in ("auto", seeds)
            for distance in (distances if given is None else (given,))
        ]

    def with_method(
        self, method: Literal["components", "watershed", "mutex"]
    ) -> "ObjectRule":
        """Return the same rule for one of the methods."""
        return replace(self, method=method)

    def to_json(self) -> dict[str, Any]:
        """Return what matters of it for its method."""
        values = asdict(self)
        del values["offsets"], values["fragment_vox"], values["merge_threshold"]
        if not self.has_cores:
            del values["core_threshold"], values["has_cores"]
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
    cut : Cut or None
        With a watershed: its seeds.
    num_found, num_true : int
        Objects that are made, and that are annotated.
    seed_reach_vox : int
        With a watershed: steps that objects grow.
    seed_threshold : float
        With a watershed: probability above which seeds were looked for.
    merge_threshold : float or None
        With affinities: mean above which fragments were joined.
    """

    threshold: float
    smallest_object_vox: int
    seg: float
    f1: float
    cut: Cut | None = None
    num_found: int = 0
    num_true: int = 0
    seed_reach_vox: int = LEAST_REACH
    seed_threshold: float = 0.0
    merge_threshold: float | None = None

    def remembered(self) -> dict[str, float]:
        """Return the choice as networks remember it: numbers by name."""
        chosen = {
            "segmentation": self.threshold,
            "smallest_object_vox": float(self.smallest_object_vox),
        }
        if self.merge_threshold is not None:
            chosen["merge_threshold"] = self.merge_threshold
        if self.cut is not None:
            chosen |= self.cut.remembered()
            chosen["seed_reach_vox"] = float(self.seed_reach_vox)
            chosen["seed_threshold"] = max(self.threshold, self.seed_threshold)
        return chosen

    @property
    def score(self) -> float:
        """What chooses where SEG is asked for: the mean of both, as far as known."""
        known = [value for value in (self.seg, self.f1) if isfinite(value)]
        return sum(known) / len(known) if known else nan


@dataclass(slots=True)
class Candidate:
    """One way to make objects, and how these compare with the true ones so far.

    Attributes
    ----------
    threshold, smallest_object_vox, cut, merge_threshold
        As ``ObjectChoice`` has them.
    jaccard, known_jaccard : float
        Sums over the true objects of all sections: with all voxels of the objects that
        were made, and with those where somebody annotated.
    hits, objects : int
        Objects that were found; true and found ones together.
    found : int
        Objects that were made.
    """

    threshold: float
    smallest_object_vox: int
    cut: Cut | None = None
    jaccard: float = 0.0
    known_jaccard: float = 0.0
    hits: int = 0
    objects: int = 0
    found: int = 0
    merge_threshold: float | None = None

    @property
    def f1(self) -> float:
        """F1 of all sections; 1 where there is no object, true or found."""
        return 2 * self.hits / self.objects if self.objects else 1.0


class ObjectSearch:
    """Scores objects of one section after the other, made in many ways.

    Parameters
    ----------
    rule : ObjectRule
        How objects are made, as far as that is not to be chosen.
    thresholds : sequence of float, optional
        To try; by default all.
    cuts : sequence of Cut, optional
        To try with a watershed; by default all that the rule leaves open.

    Attributes
    ----------
    ways : list of list of Candidate
        Candidates that differ only by which objects are too small stand together:
        their objects are made once.
    """

    def __init__(
        self,
        rule: ObjectRule,
        thresholds: Sequence[float] | None = None,
        cuts: Sequence[Cut] | None = None,
    ) -> None:
        self.rule = rule
        smallest = rule.smallest_object_vox
        sizes: Sequence[int] = SMALLEST_SIZES if smallest is None else (smallest,)
        tried: Sequence[Cut | None] = (None,)
        if rule.method == "watershed":
            tried = rule.cuts() if cuts is None else cuts
        self.thresholds = tuple(thresholds or THRESHOLDS)
        self.ways = [
            [Candidate(threshold, size, cut) for size in sizes]
            for threshold in self.thresholds
            for cut in tried
        ]
        if rule.method == "mutex":
            given = rule.merge_threshold
            means = MERGE_THRESHOLDS if given is None else (given,)
            self.ways = [
                [Candidate(threshold, smallest or 0, merge_threshold=mean)]
                for threshold in self.thresholds
                for mean in means
            ]
        self._truth_sizes: list[NDArray[np.int64]] = []
        self._has_f1 = True
        self._knows_background = False

    def add(
        self,
        stored: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        unknown: NDArray[np.bool_],
        *,
        voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
        core: NDArray[np.uint8] | None = None,
        affinities: NDArray[np.uint8] | None = None,
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
        core : uint8 array, optional
            Probability of a core, as stored, where the network predicts one.
        affinities : uint8 array, shape (offsets, z, y, x), optional
            As stored, where the network predicts them.
        """
        seen = np.stack([stored] if core is None else [stored, core])
        if affinities is not None:
            seen = np.concatenate([seen, affinities])
        if self.rule.connectivity == "2d":
            for section in zip(seen.swapaxes(0, 1), truth, unknown, strict=True):
                one, two, three = section
                self._add_image(one[:, None], two[None], three[None], voxel_size)
        else:
            self._add_image(seen, truth, unknown, voxel_size)

    def best(self, by: ObjectScore) -> ObjectChoice | None:
        """Return the best choice; None where the score is undefined.

        Of equal ones that with the better other score is taken, then the smaller
        distance, then the largest size up to a quarter of small true objects, for
        other sections may have specks; then the thresholds nearer to 0.5.
        """
        best: ObjectChoice | None = None
        speck = SPECK_SHARE * self._small_object()
        best_key = (-inf,) * 5
        for candidate in self._allowed():
            choice = ObjectChoice(
                candidate.threshold,
                candidate.smallest_object_vox,
                self._seg(candidate),
                self._f1(candidate),
                candidate.cut,
                candidate.found,
                sum(sizes.size for sizes in self._truth_sizes),
                self.rule.seed_reach_vox or LEAST_REACH,
                known_number(self.rule.seed_threshold),
                candidate.merge_threshold,
            )
            chooses, other = choice.f1, choice.seg
            size = candidate.smallest_object_vox
            if by == "seg":
                chooses = choice.score if isfinite(choice.seg) else nan
                other = choice.f1
            if not isfinite(chooses):
                continue
            key = (
                round(chooses, 12),
                round(other, 12) if isfinite(other) else 0.0,
                -_oddness(candidate.cut),
                float(size if size <= speck else -size),
                -abs(candidate.threshold - 0.5)
                - abs((candidate.merge_threshold or MIDDLE) - MIDDLE),
            )
            if key > best_key:
                best_key, best = key, choice
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
        self._knows_background |= has_f1
        true, sizes = ContingencyTable.from_arrays(truth, truth).truth_sizes()
        self._truth_sizes.append(sizes[true != 0])
        made: dict[float, dict[float, NDArray[np.int64]]] = {}
        for candidates in self.ways:
            ids = self._make(candidates[0], stored, voxel_size, made)
            whole = ContingencyTable.from_arrays(truth, ids)
            inside, void = whole, None
            if not is_complete:
                inside = ContingencyTable.from_arrays(truth, ids, where=known)
            if has_f1 and not is_complete:
                nothing = np.zeros_like(ids)
                void = ContingencyTable.from_arrays(nothing, ids, where=unknown)
            found, voxels = whole.result_sizes()
            # Where nobody annotated anything, nobody knows how many there are.
            seen = found if is_complete else np.unique(ids[known])
            for candidate in candidates:
                kept = found[voxels >= candidate.smallest_object_vox]
                candidate.found += int(np.count_nonzero(np.intersect1d(kept, seen)))
                of_all = _sum_of_jaccard(whole, kept)
                candidate.jaccard += of_all
                candidate.known_jaccard += (
                    of_all if is_complete else _sum_of_jaccard(inside, kept)
                )
                if has_f1:
                    matches = match_instances(
                        keep_seg_results(inside, kept),
                        void=None if void is None else keep_seg_results(void, kept),
                    )
                    candidate.hits += matches.num_hits()
                    candidate.objects += matches.num_truth + matches.num_result

    def _make(
        self,
        candidate: Candidate,
        stored: NDArray[np.uint8],
        voxel_size: tuple[float, float, float],
        made: dict[float, dict[float, NDArray[np.int64]]],
    ) -> NDArray[Any]:
        """Return the objects of a candidate, those that are too small included.

        ``made`` are those of affinities, by both thresholds: fragments are made once.
        """
        rule, threshold, cut = self.rule, candidate.threshold, candidate.cut
        if candidate.merge_threshold is not None:
            if threshold not in made:
                made.clear()
                made[threshold] = self._merge(candidate, stored)
            return made[threshold][candidate.merge_threshold]
        if cut is None:
            return label_components(threshold_mask(stored[0], threshold), "3d")[0]
        seeds = SeedRule(
            rule.connectivity,
            cut.distance,
            rule.seed_reach_vox or LEAST_REACH,
            voxel_size,
            cut.seeds,
            cut.threshold,
        )
        flood = rule.flood_threshold
        return seeds.objects(
            stored[0],
            max(threshold, known_number(rule.seed_threshold)),
            threshold if flood is None else min(threshold, flood),
            core=stored[1] if len(stored) > 1 else None,
        )

    def _merge(
        self, candidate: Candidate, stored: NDArray[np.uint8]
    ) -> dict[float, NDArray[np.int64]]:
        """Return the objects of affinities, by the mean above which they are joined."""
        rule, threshold = self.rule, candidate.threshold
        region = np.ones(stored.shape[1:], bool)
        if rule.flood_threshold != 0:
            grown = known_number(rule.flood_threshold) or threshold
            region = threshold_mask(stored[0], min(threshold, grown))
        means = [way[0].merge_threshold for way in self.ways]
        return make_objects(
            stored,
            region,
            MutexRule(rule.connectivity, rule.offsets, rule.fragment_vox),
            [mean for mean in dict.fromkeys(means) if mean is not None],
            candidate.smallest_object_vox,
        )

    def _seg(self, candidate: Candidate) -> float:
        num_truth = sum(sizes.size for sizes in self._truth_sizes)
        known = candidate.known_jaccard if self._knows_background else candidate.jaccard
        return known / num_truth if num_truth else nan

    def _f1(self, candidate: Candidate) -> float:
        return candidate.f1 if self._has_f1 and self._truth_sizes else nan

    def _allowed(self) -> Iterator[Candidate]:
        """Yield what may be chosen: no size that threatens true objects."""
        largest = inf
        if len(self.ways[0]) > 1 and self._truth_sizes:
            largest = LARGEST_SHARE * self._small_object()
        for candidates in self.ways:
            for candidate in candidates:
                if candidate.smallest_object_vox <= largest:
                    yield candidate

    def _small_object(self) -> float:
        """Return the voxels of a small true object; 0 where there is none."""
        true = np.concatenate([*self._truth_sizes, np.empty(0, np.int64)])
        if not true.size:
            return 0.0
        return float(np.quantile(true, FEW_TRUE_OBJECTS, method="lower"))


def _sum_of_jaccard(table: ContingencyTable, kept: NDArray[np.uint64]) -> float:
    return float(match_seg_references(keep_seg_results(table, kept)).jaccard.sum())


def _oddness(cut: Cut | None) -> float:
    """Return by what the least odd of equal cuts is taken."""
    if cut is None:
        return 0.0
    return abs(cut.threshold - MIDDLE) if cut.seeds == "learnt" else cut.distance
