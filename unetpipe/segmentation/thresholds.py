"""Probability to masks and objects, block by block, the same for any blocks.

Pure arrays: components of one block, pairs across faces, union-find, relabelling.
"""

from collections.abc import Mapping
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetpipe.tiling.quantised import DEFAULT_THRESHOLD, as_probability

Connectivity = Literal["2d", "3d"]

DEFAULT_SEED_DISTANCE = 3.0  # voxels; where none was chosen in validation


def fill_choices(
    settings: Mapping[str, Any], thresholds: Mapping[str, float]
) -> tuple[dict[str, Any], str]:
    """Return how objects are made, with what was chosen on the validation rows.

    Parameters
    ----------
    settings : mapping
        Of the configuration: ``threshold`` None, ``smallest_object_vox`` "auto" and
        ``seed_distance_vox`` "auto" are to be filled in.
    thresholds : mapping
        Of the model: ``segmentation``, ``smallest_object_vox``,
        ``seed_distance_vox``, ``class_1`` ... as far as they were chosen.

    Returns
    -------
    dict
        The settings, and ``class_thresholds``: class -> threshold, or None.
    str
        Where the threshold comes from.

    Examples
    --------
    >>> settings = {"threshold": None, "smallest_object_vox": "auto"}
    >>> fill_choices(settings, {"segmentation": 0.4, "smallest_object_vox": 32.0})[0]
    {'threshold': 0.4, 'smallest_object_vox': 32, 'class_thresholds': None}
    """
    chosen, source = settings["threshold"], "configuration"
    if chosen is None and "segmentation" in thresholds:
        chosen, source = float(thresholds["segmentation"]), "validation rows"
    elif chosen is None:
        chosen, source = DEFAULT_THRESHOLD, "default: none was chosen in validation"
    smallest = settings["smallest_object_vox"]
    if smallest == "auto":
        smallest = int(thresholds.get("smallest_object_vox", 0))
    distance = settings.get("seed_distance_vox")
    if distance == "auto":
        distance = float(thresholds.get("seed_distance_vox", DEFAULT_SEED_DISTANCE))
    of_classes = {
        int(name.removeprefix("class_")): float(value)
        for name, value in thresholds.items()
        if name.startswith("class_")
    }
    filled = {
        **settings,
        "threshold": chosen,
        "smallest_object_vox": smallest,
        **({} if distance is None else {"seed_distance_vox": distance}),
        "class_thresholds": of_classes or None,
    }
    return filled, source


def choose_classes(
    probability: NDArray[np.uint8], thresholds: Mapping[int, float]
) -> NDArray[np.uint8]:
    """Return the class of each voxel by thresholds of classes.

    A voxel is of the class whose probability exceeds its threshold by most, and of
    class 0 where none does.

    Parameters
    ----------
    probability : uint8 array, shape (k, z, y, x)
        round(255 p) of each class, as stored.
    thresholds : mapping
        Class, from 1 -> threshold in [0, 1]; classes without one are never chosen.
    """
    classes = np.zeros(probability.shape[1:], np.uint8)
    most = np.zeros(classes.shape, np.float32)
    for class_, threshold in sorted(thresholds.items()):
        excess = as_probability(probability[class_]) - np.float32(threshold)
        is_more = excess > most
        classes[is_more], most[is_more] = class_, excess[is_more]
    return classes


def label_components(
    mask: NDArray[Any], connectivity: Connectivity
) -> tuple[NDArray[np.uint32], int]:
    """Label the components of a block: ids from 1, faces connect.

    Parameters
    ----------
    mask : bool or uint8 array, shape (z, y, x)
        Foreground of the block, or classes: voxels of different classes stay apart.
    connectivity : "2d" or "3d"
        Within each section, or across sections too.

    Returns
    -------
    labels : uint32 array, shape (z, y, x)
    count : int
        Number of components; ids are 1 to count.
    """
    if connectivity == "3d":
        return _components(mask, 6)
    labels = np.zeros(mask.shape, np.uint32)
    count = 0
    for z, section in enumerate(mask):
        found, number = _components(section, 4)
        labels[z] = np.where(found > 0, found + np.uint32(count), 0)
        count += number
    return labels, count


def _components(
    mask: NDArray[Any], connectivity: Literal[4, 6]
) -> tuple[NDArray[np.uint32], int]:
    labels: Any
    labels, count = cc3d.connected_components(
        mask, connectivity=connectivity, return_N=True, out_dtype=np.uint32
    )
    return labels, int(count)


def face_pairs(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the pairs of ids that touch across the face between two blocks.

    Parameters
    ----------
    before, after : integer arrays of equal shape
        Ids of the last plane of one block and the first plane of the next.

    Returns
    -------
    uint64 array, shape (n, 2)
        Unique pairs; background does not count.
    """
    touching = (before > 0) & (after > 0)
    one, two = (ids[touching].astype(np.uint64) for ids in (before, after))
    if max(one.max(initial=0), two.max(initial=0)) < 2**32:  # sorts much faster
        both = np.unique((one << np.uint64(32)) | two)
        return np.stack([both >> np.uint64(32), both & np.uint64(2**32 - 1)], axis=1)
    return np.unique(np.stack([one, two], axis=1), axis=0)


def merge_ids(
    num_ids: int, pairs: NDArray[np.uint64], voxels: NDArray[np.int64], smallest: int
) -> NDArray[np.uint64]:
    """Return the final id of each block-wise id: consecutive, in order of first use.

    Parameters
    ----------
    num_ids : int
        Block-wise ids are 1 to num_ids.
    pairs : uint64 array, shape (n, 2)
        Ids that are one object.
    voxels : int64 array, shape (num_ids + 1,)
        Size of each block-wise component.
    smallest : int
        Objects of fewer voxels become background.

    Returns
    -------
    uint64 array, shape (num_ids + 1,)
        Lookup table; entry 0 is 0.
    """
    size = num_ids + 1
    links = coo_array(
        (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size)
    )
    _, roots = connected_components(links, directed=False)
    totals = np.bincount(roots, weights=voxels, minlength=int(roots.max()) + 1)
    keep = totals[roots] >= max(smallest, 1)
    keep[0] = False
    table = np.zeros(size, np.uint64)
    kept_roots = roots[keep]
    _, first, inverse = np.unique(kept_roots, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.uint64)
    order[np.argsort(first)] = np.arange(1, len(first) + 1, dtype=np.uint64)
    table[keep] = order[inverse]
    return table
