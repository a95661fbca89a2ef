"""Whole sections through functions that take them in pieces."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.columns import Proposal, Truth
from unetpipe.metrics.curves import Scores
from unetpipe.metrics.labelling import Labels, label_truth
from unetpipe.metrics.scratch import Scratch
from unetpipe.metrics.simple_points import flip_simple_voxels
from unetpipe.metrics.thinning import check_pair, check_section, thin_columns
from unetpipe.metrics.warping import WARPING_THRESHOLDS, WarpingSection, warp_columns


def thin_borders(foreground: NDArray[np.bool_]) -> Labels:
    """Grow the cells of one section until lines of one voxel part them.

    Parameters
    ----------
    foreground : bool array, shape (y, x)
        True inside cells, False on membranes of any thickness.

    Returns
    -------
    int32 array, shape (y, x)
        Ids of the grown cells, from 1 on; 0 is the line between them. A section
        without cells becomes one cell, as in Fiji: everything merged.

    Examples
    --------
    >>> thin_borders(np.array([[True, False, False, False, True]]))
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    check_section(foreground)
    truth, scratch = Truth.of(foreground), Scratch()
    labels = label_truth(truth)
    thin_columns(truth.columns, labels, int(labels.max(initial=0)), scratch)
    return np.ascontiguousarray(labels[1:-1, 1:-1].T)


def warp_section(
    probability: NDArray[np.floating[Any]],
    cells: NDArray[np.integer[Any] | np.bool_],
    *,
    thresholds: Scores = WARPING_THRESHOLDS,
) -> WarpingSection:
    """Count the topological mistakes of one section at every threshold.

    Parameters
    ----------
    probability : float array, shape (y, x), range [0, 1]
        Probability of cell.
    cells : bool or integer array, shape (y, x)
        Not 0 inside cells, 0 on membranes.
    thresholds : float64 array, shape (thresholds,)

    Raises
    ------
    GeometryError
        If the arrays are not one section of one shape.
    DataError
        If probability leaves [0, 1], or if cells are instance ids.
    """
    proposal, truth = check_pair(probability, cells)
    return warp_columns(Proposal.of(proposal), Truth.of(truth), thresholds=thresholds)


def map_mistakes(
    proposal: NDArray[np.float32], truth: NDArray[np.bool_], threshold: np.float64
) -> NDArray[np.uint8]:
    """Return the :class:`Mistake` of each voxel of a section cut at one threshold."""
    warped = flip_simple_voxels(Truth.of(truth), Proposal.of(proposal), threshold)
    mistakes = np.zeros(warped.state.size, np.uint8)
    for places, kinds in warped.kinds():
        mistakes[places] = kinds
    framed = mistakes.reshape(warped.state.shape)
    return np.ascontiguousarray(framed[1:-1, 1:-1].T)
