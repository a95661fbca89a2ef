"""Choose what makes objects of a finished network's probabilities.

::

    components   at the best threshold                                        1 way
    watershed    at that threshold: seeds of all kinds, at all distances     26 ways
                 at thresholds beside it: the best, at distances beside it   12 ways
                 of these seeds, grown into less probable foreground          4 ways
    with cores   the same with the network's own seeds, at their thresholds  21 ways
    affinities   fragments joined above all means                            16 ways

Each way makes the objects of a sample of the validation rows once, for all smallest
sizes; the sample is bounded, so the choice takes seconds to minutes whatever the rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from unetpipe.segmentation.choice import (
    LEAST_REACH,
    MIDDLE,
    Cut,
    ObjectRule,
    ObjectScore,
    cuts_beside,
)
from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.tiling.boxes import Roi, as_zyx
from unetpipe.training.judges import ObjectJudge, Verdict

Stored = NDArray[np.uint8]

LARGEST_SAMPLE = 4_000_000  # voxels
LARGEST_SECTION = 512 * 512  # voxels of one, before sections are left out
BESIDE = (-0.2, -0.1, 0.1, 0.2)  # thresholds of a watershed
GROWN = (0.5, 0.4, 0.3, 0.2)  # thresholds of what seeds grow into
LEAST_GAIN = 0.01  # by which a watershed must be better than components
LARGEST_REACH = 128


@dataclass(frozen=True, slots=True)
class Seen:
    """A stack, and what the network says of it: uint8 (c, z, y, x)."""

    stack: Stack
    stored: Stored


def sample_stacks(stacks: Sequence[Stack], *, across_sections: bool) -> list[Stack]:
    """Return stacks to try rules on: a few of many, unless objects span them."""
    if across_sections or not stacks:
        return list(stacks)
    voxels = sum(min(p.seen.num_voxels, LARGEST_SECTION) for p in stacks)
    return list(stacks[:: max(1, ceil(voxels / LARGEST_SAMPLE))])


def crop_stack(seen: Seen, largest: int) -> Seen:
    """Return the middle of a stack, in y and x, of at most so many voxels."""
    depth, height, width = seen.stack.seen.shape
    share = sqrt(largest / (depth * height * width))
    if share >= 1:
        return seen
    y, x = (max(1, int(n * share)) for n in (height, width))
    start = (0, (height - y) // 2, (width - x) // 2)
    part = Roi(start, (depth, start[1] + y, start[2] + x))
    roi = part.relative_to(as_zyx(-n for n in seen.stack.seen.start))
    stack, volume = seen.stack, seen.stack.volume
    target = stack.read(volume.target, roi)
    instances = volume.instances
    small = replace(
        volume,
        target=target,
        instances=None if instances is None else stack.read(instances, roi),
        sections=tuple(range(depth)),
        boxes=None,
    )
    inside = np.ascontiguousarray(seen.stored[(slice(None), *part.slices)])
    return Seen(Stack(small, 0, depth, stack.num_known), inside)


def choose_cut_on_validation(
    sample: Sequence[Seen],
    rule: ObjectRule,
    by: ObjectScore,
    thresholds: Sequence[float],
) -> tuple[ObjectRule, float] | None:
    """Return the watershed that beats components, and its threshold.

    Parameters
    ----------
    sample : sequence of Seen
        To try rules on.
    rule : ObjectRule
        With what is fixed; method "auto" compares, "watershed" takes the best one.
    by : "seg" or "f1"
        What is better.
    thresholds : sequence of float
        The best one of components, first; then those beside it.
    """
    fixed = replace(rule, method="watershed", seed_reach_vox=_reach(sample, rule))

    def judged(rule: ObjectRule, at: Sequence[float], cuts: Sequence[Cut]) -> Verdict:
        judge = ObjectJudge(by, rule, at, cuts)
        for seen in sample:
            judge.add(seen.stack, seen.stored, None)
        return judge.verdict()

    first = judged(fixed, thresholds[:1], fixed.cuts())
    if not isfinite(first.rank):
        return None
    tried = [first]
    if len(thresholds) > 1:
        near = cuts_beside(Cut.of(first.chosen), fixed.cuts())
        tried.append(judged(fixed, thresholds[1:], near))
    best = max(tried, key=lambda verdict: verdict.rank)  # of equal ones the first
    if rule.method == "auto":
        plain = judged(rule.with_method("components"), thresholds[:1], ())
        if isfinite(plain.rank) and best.rank <= plain.rank + LEAST_GAIN:
            return None
    cut, threshold = Cut.of(best.chosen), best.chosen["segmentation"]
    chosen = replace(fixed, seeds=cut.seeds, seed_distance_vox=cut.distance)
    if cut.seeds == "learnt":
        chosen = replace(chosen, core_threshold=cut.threshold)
    if rule.seed_threshold != "auto" or len(thresholds) == 1:
        return chosen, threshold
    # What seeds are apart at is higher than what their objects fill: borders between
    # touching objects are learnt as background, and F1 hardly sees what they lack.
    chosen = replace(chosen, seed_threshold=threshold)
    grown = {threshold: best}
    for lower in (each for each in GROWN if each < threshold):
        grown[lower] = judged(chosen, [lower], [cut])
    fullest = max(grown, key=lambda t: _extent(grown[t]))  # of equal ones the first
    return chosen, fullest


def choose_merging_on_validation(
    sample: Sequence[Seen], rule: ObjectRule, by: ObjectScore, threshold: float
) -> ObjectRule:
    """Return the rule that joins fragments of affinities best, at a threshold."""
    fixed = rule.with_method("mutex")
    judge = ObjectJudge(by, fixed, [threshold])
    for seen in sample:
        judge.add(seen.stack, seen.stored, None)
    chosen = judge.verdict().chosen
    mean = chosen.get("merge_threshold", MIDDLE)
    return replace(fixed, merge_threshold=mean)


def _extent(verdict: Verdict) -> float:
    """Return the mean of SEG, which sees how much of each object is found, and F1."""
    known = [value for value in verdict.scores.values() if isfinite(value)]
    return sum(known) / len(known) if known else 0.0


def thresholds_beside(threshold: float) -> tuple[float, ...]:
    """Return a threshold, and those beside it.

    Examples
    --------
    >>> thresholds_beside(0.8)
    (0.8, 0.6, 0.7, 0.9)
    """
    beside = {round(min(0.9, max(0.1, threshold + d)), 2) for d in BESIDE}
    return threshold, *sorted(beside - {threshold})


def _reach(sample: Iterable[Seen], rule: ObjectRule) -> int:
    """Return the steps from a seed to the end of nearly every true object."""
    if rule.seed_reach_vox is not None:
        return rule.seed_reach_vox
    if rule.connectivity == "3d":
        return LEAST_REACH
    sides = list(_longest_sides(seen.stack for seen in sample))
    longest = float(np.quantile(sides, 0.95)) if sides else 0.0
    return min(LARGEST_REACH, max(LEAST_REACH, 2 * ceil(longest)))


def _longest_sides(stacks: Iterable[Stack]) -> Iterator[int]:
    for stack in stacks:
        volume: AnnotatedVolume = stack.volume
        if volume.instances is None:
            continue
        ids = stack.read(volume.instances, stack.seen)
        for section in np.where(ids == volume.unlabelled, 0, ids):
            _, numbers = np.unique(section, return_inverse=True)
            boxes = find_objects(numbers.reshape(section.shape))
            sides = [max(s.stop - s.start for s in box) for box in boxes if box]
            yield from sides
