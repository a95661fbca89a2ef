"""Where a section's objects were split or merged, and how large objects are.

Ids in, places out; sections only, shape (y, x), 0 is background.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Ids = NDArray[Any]

SMALLEST_FRAGMENT_VOX = 10  # smaller fragments are ragged rims rather than mistakes


@dataclass(frozen=True, slots=True)
class Mistake:
    """A true object in several fragments, or several true objects in one.

    Attributes
    ----------
    kind : "split" or "merge"
    y, x : int
        Between the two largest fragments, where they are closest.
    num_voxels : int
        Of the second largest fragment: what went to the wrong side.
    num_fragments : int
        Objects on the other side, rims left out.
    """

    kind: Literal["split", "merge"]
    y: int
    x: int
    num_voxels: int
    num_fragments: int


def find_mistakes(
    truth: Ids, result: Ids, unknown: NDArray[np.bool_], most: int = 3
) -> list[Mistake]:
    """Return the gravest splits and merges of a section, gravest first.

    Parameters
    ----------
    truth, result : integer arrays, shape (y, x)
        Ids of true and of found objects.
    unknown : bool array, shape (y, x)
        Voxels that nobody annotated: they count for nothing.
    most : int
        Of each kind.
    """
    both = (truth != 0) & (result != 0) & ~unknown
    if not both.any():
        return []
    pairs, sizes = np.unique(
        np.stack([truth[both], result[both]]), axis=1, return_counts=True
    )
    found: list[Mistake] = []
    kinds: tuple[tuple[Literal["split", "merge"], int], ...] = (
        ("split", 0),
        ("merge", 1),
    )
    for kind, whole in kinds:
        torn = _torn(pairs[whole], pairs[1 - whole], sizes)
        for owner, fragments in torn[:most]:
            own, other = (truth, result) if whole == 0 else (result, truth)
            inside = (own == owner) & both
            first, second = (
                inside & (other == fragment) for _, fragment in fragments[:2]
            )
            y, x = _closest(first, second)
            found.append(Mistake(kind, y, x, fragments[1][0], len(fragments)))
    return sorted(found, key=lambda m: (-m.num_voxels, m.kind, m.y, m.x))


def count_sizes(ids: Ids, unknown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many objects have 1, 2 to 3, 4 to 7, ... voxels.

    Parameters
    ----------
    ids : integer array, shape (y, x)
    unknown : bool array, shape (y, x)
        Voxels that do not count.

    Returns
    -------
    int64 array, shape (64,)
    """
    _, sizes = np.unique(ids[(ids != 0) & ~unknown], return_counts=True)
    octaves = np.floor(np.log2(sizes)).astype(np.int64)
    return np.bincount(octaves, minlength=64).astype(np.int64)


def _torn(
    owners: Ids, others: Ids, sizes: NDArray[np.int64]
) -> list[tuple[Any, list[tuple[int, Any]]]]:
    """Return owners with two fragments or more, the largest second fragment first."""
    fragments: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
    for owner, other, size in zip(
        owners.tolist(), others.tolist(), sizes.tolist(), strict=True
    ):
        if size >= SMALLEST_FRAGMENT_VOX:
            fragments[owner].append((size, other))
    torn = [
        (owner, sorted(found, key=lambda fragment: (-fragment[0], fragment[1])))
        for owner, found in fragments.items()
        if len(found) > 1
    ]
    return sorted(torn, key=lambda item: (-item[1][1][0], item[0]))


def _closest(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the voxel of the second fragment that is closest to the first."""
    places = np.argwhere(second)
    distances, _ = cKDTree(np.argwhere(first)).query(places)
    y, x = places[int(np.argmin(distances))]
    return int(y), int(x)
