"""Which new objects are daughters: the other half of an object that was linked.

A mother is linked to one daughter already; the other is new and near. Together they are
about as large as she was and lie where she did, and they are alike::

    sqrt(a^2 + b^2 + c^2) <= 1

    a = log2(size of one daughter / size of the other)        1: twice as large
    b = log2(size of both / size of the mother)               1: twice as large
    c = distance of their common centroid from hers / reach   1: the reach
"""

import numpy as np

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.tracking.frames import Numbers, Objects
from unetpipe.tracking.links import Pairs, assign, find_neighbours_in_next_frame

WORST = 1.0


def find_divisions(
    before: Objects,
    after: Objects,
    linked: Pairs,
    overlaps: ContingencyTable,
    reach: float,
) -> Pairs:
    """Return mothers and their second daughters, each once.

    Parameters
    ----------
    before, after, overlaps, reach
        As of ``find_linked_pairs``.
    linked : Pairs
        What is linked one to one; first daughters are among it.
    """
    first = np.full(len(before), -1)
    first[linked.before] = linked.after
    is_new = np.ones(len(after), bool)
    is_new[linked.after] = False
    a, b, _ = find_neighbours_in_next_frame(before, after, overlaps, reach)
    may_be = (first[a] >= 0) & (before.ages[a] == 0) & is_new[b]
    a, b = a[may_be], b[may_be]
    costs = _costs(before.take(a), after.take(first[a]), after.take(b), reach)
    pairs = Pairs(a, b, costs).select(costs <= WORST)
    return assign(pairs, len(before), len(after))


def _costs(mother: Objects, one: Objects, other: Objects, reach: float) -> Numbers:
    """Return the cost of each division, shape (divisions,)."""
    both = one.voxels + other.voxels
    weighted = one.places * one.voxels[:, None] + other.places * other.voxels[:, None]
    moved = np.linalg.norm(weighted / both[:, None] - mother.places, axis=1)
    unlike = np.log2(one.voxels / other.voxels)
    growth = np.log2(both / mother.voxels)
    costs: Numbers = np.sqrt(unlike**2 + growth**2 + (moved / (reach or 1.0)) ** 2)
    return costs
