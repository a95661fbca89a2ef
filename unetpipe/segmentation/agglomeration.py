"""Fragments that belong together: those whose pairs of voxels are alike on average.

::

    fragments   a a|b b|c c     mean affinity of pairs between two: a-b 0.9, b-c 0.3
    joined      a a a a|c c     then the pairs of a-c and b-c are those of (ab)-c

The two fragments of the highest mean are joined first, and means are those of all
pairs between two objects, near and far, until none is above the threshold; only what
touches is joined. Sums are whole numbers and fragments are called by their first
voxels, so neither blocks nor their order matter.

Notes
-----
Average linkage with pairs that attract and repel: Bailoni et al. 2022, GASP, CVPR,
doi:10.1109/CVPR52688.2022.01136.
"""

import heapq
from collections.abc import Sequence

import numba
import numpy as np
from numba import types
from numba.typed import Dict
from numpy.typing import NDArray

# Two fragments, sum of stored affinities, pairs, and how many of these are neighbours.
Edges = NDArray[np.int64]
NO_EDGES: Edges = np.zeros((0, 5), np.int64)
ONE, TWO, SUM, PAIRS, NEAR = range(5)


def sum_edges(edges: Sequence[Edges]) -> Edges:
    """Return edges with the smaller fragment first, each once, in rising order."""
    table = np.concatenate([NO_EDGES, *edges])
    ends = np.sort(table[:, [ONE, TWO]], axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, sums = ends[order], table[order, SUM:]
    is_first = np.ones(len(ends), bool)
    is_first[1:] = (ends[1:] != ends[:-1]).any(axis=1)
    starts = np.flatnonzero(is_first)
    if not starts.size:
        return NO_EDGES
    return np.concatenate([ends[starts], np.add.reduceat(sums, starts)], axis=1)


def edges_between(
    one: NDArray[np.int64],
    two: NDArray[np.int64],
    affinity: NDArray[np.uint8],
    *,
    is_nearest: bool,
) -> Edges:
    """Return the edges that pairs of voxels make; 0 is no fragment.

    Parameters
    ----------
    one, two : int64 arrays of equal shape
        Fragment of each voxel, and of its partner.
    affinity : uint8 array, the same shape
        As stored.
    is_nearest : bool
        Whether partners are neighbours.
    """
    is_edge = (one != two) & (one != 0) & (two != 0)
    ends = np.stack([one[is_edge], two[is_edge]], axis=1)
    stored = affinity[is_edge].astype(np.int64)
    single = np.ones_like(stored)
    about = [stored, single, single * is_nearest]
    return sum_edges([np.concatenate([ends, np.stack(about, axis=1)], axis=1)])


def agglomerate(
    edges: Edges,
    voxels: NDArray[np.int64],
    *,
    threshold: float,
    smallest: int,
) -> NDArray[np.int64]:
    """Return the object of each fragment: the number of one of its fragments.

    Parameters
    ----------
    edges : Edges
        From ``sum_edges``; fragments count from 0, in the order of their first voxels.
    voxels : int64 array, shape (fragments,)
        Of each fragment.
    threshold : float
        Mean affinity, of 1, above which two are joined.
    smallest : int
        Objects of fewer voxels then join the most alike one that they touch.
    """
    order = np.lexsort((edges[:, TWO], edges[:, ONE]))
    ordered = np.ascontiguousarray(edges[order])
    objects: NDArray[np.int64] = _agglomerate(
        ordered, voxels.astype(np.int64), threshold * 255, smallest
    )
    return objects


@numba.njit(cache=True, nogil=True)
def _agglomerate(edges, voxels, threshold, smallest):  # type: ignore[no-untyped-def]
    table = edges.copy()
    count = len(voxels)
    parents, sizes = np.arange(count), voxels.copy()
    # Of each object a list of its edges: each edge is in two lists.
    first, last = np.full(count, -1), np.full(count, -1)
    lengths = np.zeros(count, np.int64)
    after = np.full(2 * len(table), -1)
    known = Dict.empty(types.int64, types.int64)
    version = np.zeros(len(table), np.int64)  # -1: joined, or added to another edge
    lists = (first, last, lengths, after)
    heap = [(0.0, 0, 0)]
    heap.pop()
    for edge in range(len(table)):
        _add(lists, table[edge, ONE], 2 * edge)
        _add(lists, table[edge, TWO], 2 * edge + 1)
        known[table[edge, ONE] * count + table[edge, TWO]] = edge
        _offer(heap, table, edge, version, threshold)
    graph = (table, parents, sizes, lists, known, version)
    while heap:
        _, edge, seen = heapq.heappop(heap)
        if version[edge] == seen:
            _join(graph, edge, heap, threshold)
    small = [(voxels[0], 0)] if count else [(np.int64(0), 0)]
    small.pop()
    for one in range(count):
        if parents[one] == one and sizes[one] < smallest:
            small.append((sizes[one], one))
    heapq.heapify(small)
    while small:
        size, one = heapq.heappop(small)
        if parents[one] != one or sizes[one] != size:
            continue
        edge = _best(graph, one)
        if edge < 0:
            continue
        kept = _join(graph, edge, heap, np.inf)
        if sizes[kept] < smallest:
            heapq.heappush(small, (sizes[kept], kept))
    for one in range(count):
        _find(parents, one)
        parents[one] = _find(parents, one)
    return parents


@numba.njit(cache=True, nogil=True)
def _find(parents, one):  # type: ignore[no-untyped-def]
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one


@numba.njit(cache=True, nogil=True)
def _add(lists, one, half):  # type: ignore[no-untyped-def]
    """Put an edge at the end of an object's list."""
    first, last, lengths, after = lists
    after[half] = -1
    if first[one] < 0:
        first[one] = half
    else:
        after[last[one]] = half
    last[one] = half
    lengths[one] += 1


@numba.njit(cache=True, nogil=True)
def _offer(heap, table, edge, version, threshold):  # type: ignore[no-untyped-def]
    """Let an edge be joined in its turn, if it is above the threshold."""
    mean = table[edge, SUM] / table[edge, PAIRS]
    if table[edge, NEAR] > 0 and mean > threshold:
        heapq.heappush(heap, (-mean, edge, version[edge]))


@numba.njit(cache=True, nogil=True)
def _best(graph, one):  # type: ignore[no-untyped-def]
    """Return the edge of the highest mean to an object that is touched, or -1."""
    table, _, _, lists, _, version = graph
    best, highest, half = -1, -1.0, lists[0][one]
    while half >= 0:
        edge = half // 2
        half = lists[3][half]
        if version[edge] < 0 or table[edge, NEAR] == 0:
            continue
        mean = table[edge, SUM] / table[edge, PAIRS]
        if mean > highest or (mean == highest and edge < best):
            best, highest = edge, mean
    return best


@numba.njit(cache=True, nogil=True)
def _join(graph, edge, heap, threshold):  # type: ignore[no-untyped-def]
    """Join the two objects of an edge; return what the object is called."""
    table, parents, sizes, lists, known, version = graph
    count = len(parents)
    kept, gone = table[edge, ONE], table[edge, TWO]
    if lists[2][kept] < lists[2][gone]:
        kept, gone = gone, kept
    parents[gone] = kept
    sizes[kept] += sizes[gone]
    version[edge] = -1
    half = lists[0][gone]
    while half >= 0:
        other_half, half = half, lists[3][half]
        moved = other_half // 2
        if version[moved] < 0:
            continue
        side = ONE if table[moved, ONE] == gone else TWO
        other = table[moved, TWO if side == ONE else ONE]
        key = min(kept, other) * count + max(kept, other)
        if key in known and version[known[key]] >= 0:
            into = known[key]
            for column in (SUM, PAIRS, NEAR):
                table[into, column] += table[moved, column]
            version[moved] = -1
            version[into] += 1
            _offer(heap, table, into, version, threshold)
        else:
            table[moved, side] = kept
            known[key] = moved
            _add(lists, kept, other_half)
    return kept
