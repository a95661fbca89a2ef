"""Cells, the background between them, and how much each voxel weighs in the loss.

::

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

Source: Ronneberger et al. 2015, eq. (2). d1 and d2 are the distances, in voxels, to the
nearest and the second nearest cell. This module computes the second term, the *border
term*; the class weight w_c is added when training, because it depends on all volumes.

All functions take one section (y, x) or one volume (z, y, x) and treat all axes of the
array alike: whoever wants sections apart passes them one by one.
"""

from math import ceil
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError, DataError
from unetpipe.targets.nearest_cells import sum_two_distances

LabelKind = Literal["instances", "binary", "classes"]
Labels = NDArray[np.integer[Any]]

W0 = 10.0  # paper, Sect. 3
SIGMA_VOX = 5.0  # paper, Sect. 3
# Beyond d1 + d2 = 6 sigma the term is below 1.6e-8 w0 and set to 0: what a voxel weighs
# depends on nothing farther away, so volumes may be cut into blocks with this halo.
REACH_SIGMAS = 6.0

UNLABELLED = 255


def border_reach(sigma_vox: float) -> int:
    """Return how many voxels away a cell can still change the border term."""
    return ceil(REACH_SIGMAS * sigma_vox)


def cells_to_instances(
    labels: Labels,
    kind: LabelKind,
    *,
    border_class: int | None = None,
    unlabelled: int | None = None,
) -> Labels:
    """Return the cells that labels describe, one id a cell, 0 between them.

    Parameters
    ----------
    labels : integer array, shape (y, x) or (z, y, x)
        As stored: ids, 0 and 1, or classes.
    kind : "instances", "binary" or "classes"
        Ids are taken as they are. Of a binary mask each component of 1 is a cell, of
        classes each component of what is not ``border_class``. Voxels connect by faces.
    border_class : int, optional
        With classes: the one that separates cells; without it there are no cells.
    unlabelled : int, optional
        Value of the voxels that nobody annotated; they belong to no cell.

    Examples
    --------
    >>> cells_to_instances(np.array([[1, 0, 1]], np.uint8), "binary")
    array([[1, 0, 2]], dtype=uint32)
    """
    is_cell = find_cells(labels, kind, border_class=border_class, unlabelled=unlabelled)
    if kind == "instances":
        return np.where(is_cell, labels, np.zeros((), labels.dtype))
    components: Labels = cc3d.connected_components(
        np.ascontiguousarray(is_cell),
        connectivity=4 if labels.ndim == 2 else 6,
        out_dtype=np.uint32,
    )
    return components


def find_cells(
    labels: Labels,
    kind: LabelKind,
    *,
    border_class: int | None = None,
    unlabelled: int | None = None,
) -> NDArray[np.bool_]:
    """Return which voxels belong to cells; see ``cells_to_instances``."""
    if kind == "classes" and border_class is None:
        return np.zeros(labels.shape, bool)
    is_cell: NDArray[np.bool_] = labels != (border_class if kind == "classes" else 0)
    if unlabelled is not None:
        is_cell &= labels != unlabelled
    return is_cell


def separate_touching(instances: Labels) -> Labels:
    """Put background between cells that share a face, one voxel taken from each.

    ::

        1 1 1 2 2 2   ->   1 1 0 0 2 2

    Symmetric, so that ids do not matter. Cells that touch at a corner only are apart
    already: everything here connects by faces.

    Notes
    -----
    Source: Ronneberger et al. 2015, Sect. 3: "the separation border is computed using
    morphological operations".

    Examples
    --------
    >>> separate_touching(np.array([[1, 1, 2, 2]]))
    array([[1, 0, 0, 2]])
    """
    is_border = np.zeros(instances.shape, bool)
    for axis in range(instances.ndim):
        lower = [slice(None)] * instances.ndim
        upper = [slice(None)] * instances.ndim
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        a, b = instances[tuple(lower)], instances[tuple(upper)]
        touch = (a != b) & (a != 0) & (b != 0)
        is_border[tuple(lower)] |= touch
        is_border[tuple(upper)] |= touch
    return np.where(is_border, np.zeros((), instances.dtype), instances)


def restore_thin(
    separated: Labels,
    instances: Labels,
    is_thin: NDArray[np.bool_],
    origin: tuple[int, ...],
) -> Labels:
    """Give cells back that the borders swallow whole, apart from each other.

    ::

        1 1 2 2 3 3   ->   1 0 2 0 3 3      where separate_touching leaves 1 0 0 0 0 3

    Their neighbours have given way already. Where two of them share a face, only the
    voxel of an odd place along that axis becomes background, so that all cells of two
    voxels and more keep one, and every other of a row of single voxels.

    Parameters
    ----------
    separated, instances : integer arrays of one shape
        ``separate_touching`` of the cells, and the cells.
    is_thin : bool array
        Voxels of the cells to give back.
    origin : tuple of int
        Place of the first voxel in the whole section or volume.
    """
    thin = np.where(is_thin, instances, np.zeros((), instances.dtype))
    is_cut = np.zeros(instances.shape, bool)
    for axis, first in enumerate(origin):
        cells, cut = (np.moveaxis(a, axis, 0) for a in (thin, is_cut))
        lower, upper = cells[:-1], cells[1:]
        touch = (lower != upper) & (lower != 0) & (upper != 0)
        is_odd = (first + np.arange(len(lower))) % 2 == 1
        cut[:-1][is_odd] |= touch[is_odd]
        cut[1:][~is_odd] |= touch[~is_odd]
    return np.where(is_thin & ~is_cut, instances, separated)


def describe_lost_cells(num_lost: int, num_cells: int) -> str:
    """Say that borders between touching cells leave nothing of thin ones."""
    return (
        f"{num_lost} of {num_cells} cells are so thin that the borders put between "
        "touching cells leave nothing of them to learn; enlarge the images, or draw "
        "gaps between thin cells"
    )


def compute_target(
    labels: Labels,
    separated: Labels,
    kind: LabelKind,
    *,
    num_classes: int,
    unlabelled: int | None = None,
) -> NDArray[np.uint8]:
    """Return the class that the network should predict, 255 where nobody knows.

    Parameters
    ----------
    labels, separated : integer arrays of one shape
        Labels as stored, and ``separate_touching`` of their cells.
    num_classes : int
        Classes of the network; cells are class 1 of instances and binary masks.

    Raises
    ------
    DataError
        If classes hold a value that the network does not have.
    ConfigError
        If cells are to be told apart from more than one background class.
    """
    if kind != "classes":
        if num_classes != 2:
            raise ConfigError(
                f"network.num_classes is {num_classes} but label_kind is {kind}, which "
                "knows cells and background; use 2, or label_kind classes"
            )
        target: NDArray[np.uint8] = (separated != 0).astype(np.uint8)
    else:
        allowed = labels < num_classes
        if unlabelled is not None:
            allowed |= labels == unlabelled
        if not allowed.all():
            worst = int(labels[~allowed].max())
            raise DataError(
                f"labels hold class {worst}, the network has classes 0 to "
                f"{num_classes - 1}; raise network.num_classes or correct the labels"
            )
        target = labels.astype(np.uint8)
    if unlabelled is not None:
        target[labels == unlabelled] = UNLABELLED
    return target


def compute_border_term(
    instances: Labels,
    *,
    w0: float = W0,
    sigma_vox: float = SIGMA_VOX,
    inside: tuple[slice, ...] = (),
    voxel_size: tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """Weigh background voxels so that thin borders between cells cost most.

    ::

        w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma_vox**2))

    Parameters
    ----------
    instances : integer array, shape (y, x) or (z, y, x)
        One id a cell, in one piece or several; 0 is background.
    w0 : float
        Weight where two cells touch.
    sigma_vox : float
        Width of the border, in lengths of the shortest voxel edge.
    inside : tuple of slices
        Where to know the term; what is outside counts as cells only. Empty: everywhere.
    voxel_size : tuple of float, optional
        Edges of a voxel along the axes of the array, of any unit: distances are as
        long as they are in space. None: all alike.

    Returns
    -------
    float32 array, shape of ``instances[inside]``, range [0, w0]
        0 inside cells, where d1 + d2 > 6 sigma, and with fewer than two cells.

    Raises
    ------
    DataError
        If ``instances`` is not integer or negative: pass ids, not probabilities.

    Notes
    -----
    # DEPARTS: eq. (2) adds the term everywhere; inside cells it is 0 here, where d1 is.

    Source: Ronneberger et al. 2015, Sect. 3, second term of eq. (2). No voxel farther
    than ``border_reach`` counts, so a volume may be cut into blocks with that halo.

    Examples
    --------
    >>> compute_border_term(np.array([[1, 0, 2]])).round(2)
    array([[0.  , 9.23, 0.  ]], dtype=float32)
    """
    if instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise DataError(
            f"instances has dtype {instances.dtype} and minimum {instances.min()}; "
            "pass integer ids from 0, one a cell"
        )
    cells = small_ids(instances)
    is_wanted = np.zeros(instances.shape, bool)
    is_wanted[inside] = cells[inside] == 0
    shape = (-1, *instances.shape[-2:])
    sums = sum_two_distances(
        cells.reshape(shape),
        is_wanted.reshape(shape),
        border_reach(sigma_vox),
        relative_voxel_size(voxel_size, instances.ndim),
    ).reshape(instances.shape)[inside]
    term = np.zeros(sums.shape, np.float32)
    near = sums <= REACH_SIGMAS * sigma_vox
    term[near] = w0 * np.exp(-np.square(sums[near]) / (2 * sigma_vox**2))
    return term


def relative_voxel_size(
    voxel_size: tuple[float, ...] | None, ndim: int
) -> tuple[float, float, float]:
    """Return the edges along z, y, x in lengths of the shortest that counts."""
    used = tuple(voxel_size or (1.0,) * ndim)[-ndim:]
    relative = [edge / min(used) for edge in used]
    z, y, x = [1.0] * (3 - len(relative)) + relative
    return z, y, x


def count_classes(target: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return how many known voxels each class has, shape (k,)."""
    return np.array([np.count_nonzero(target == k) for k in range(num_classes)])


def balance_classes(
    counts: NDArray[np.integer[Any]], power: float = 1.0
) -> NDArray[np.float32]:
    """Weigh classes by inverse frequency: w_c(k) = n / (K n_k), an absent class 1.

    With another power p: in proportion to (1 / n_k)^p, of mean 1 over the voxels.

    Parameters
    ----------
    counts : integer array, shape (k,)
        Known voxels of each class, over all training rows.
    power : float
        1/2 is the middle between balanced classes and equal weights.

    Examples
    --------
    >>> balance_classes(np.array([25, 75, 0])).round(3)
    array([1.333, 0.444, 1.   ], dtype=float32)
    >>> balance_classes(np.array([1, 81, 0]), 0.5).round(3)
    array([8.2  , 0.911, 1.   ], dtype=float32)
    """
    if power == 1:
        share = counts.sum() / (len(counts) * np.maximum(counts, 1))
    else:
        share = np.maximum(counts, 1.0) ** -power
        share *= counts.sum() / (counts * share).sum()
    weights: NDArray[np.float32] = np.where(counts > 0, share, 1.0).astype(np.float32)
    return weights


def small_ids(instances: Labels) -> NDArray[np.int32]:
    """Return ids that fit into 32 bits, the same for the same cell."""
    if instances.max(initial=0) <= np.iinfo(np.int32).max:
        return instances.astype(np.int32)
    values, numbers = np.unique(instances, return_inverse=True)
    first = 0 if values[0] == 0 else 1
    return (numbers.reshape(instances.shape) + first).astype(np.int32)
