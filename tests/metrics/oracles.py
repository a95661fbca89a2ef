"""What scores must equal: plain readings of their definitions, for small arrays."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetpipe.metrics.cell_tracking import check_seg_field
from unetpipe.metrics.columns import Proposal, Truth
from unetpipe.metrics.curves import mean_of_defined
from unetpipe.metrics.instances import InstanceMatches, score_terms
from unetpipe.metrics.isbi import IsbiCurves, collect_isbi_curves, score_isbi_section


def score_stack(probability: NDArray[Any], cells: NDArray[Any]) -> IsbiCurves:
    """Score a stack in memory, shape (z, y, x): the sections, then the curves."""
    return collect_isbi_curves(map(score_isbi_section, probability, cells))


def as_columns(
    probability: NDArray[Any], cells: NDArray[Any]
) -> tuple[Proposal, Truth]:
    """Return a section (y, x) as scores take it."""
    return Proposal.of(probability.astype(np.float32)), Truth.of(cells)


def mean_average_precision(images: Iterable[InstanceMatches]) -> float:
    """Average precision image by image, then the mean; NaN without images."""
    scores = [image.average_precision for image in images]
    return math.fsum(scores) / len(scores) if scores else math.nan


def panoptic_quality(matches: InstanceMatches) -> float:
    """Panoptic quality of one image."""
    return float(score_terms(matches.terms())["panoptic_quality"][0])


def keep_objects_in_field(labels: NDArray[Any], border_vox: int) -> NDArray[Any]:
    """Remove objects with no voxel inside the field of interest; crop nothing."""
    height, width = labels.shape[-2:]
    check_seg_field((height, width), border_vox)
    inside = slice(border_vox, height - border_vox)
    field = labels[..., inside, border_vox : width - border_vox]
    return np.where(np.isin(labels, np.unique(field)), labels, 0).astype(labels.dtype)


def bootstrap_slowly(
    units: ArrayLike, score: Callable[[NDArray[Any]], Any] = mean_of_defined
) -> tuple[float, float]:
    """Draw units with replacement, score each draw, and take percentiles.

    Returns
    -------
    low, high : float
        Ends of the 95 % interval.
    """
    rows = np.asarray(units, np.float64)
    generator = np.random.default_rng(0)
    draws = [
        score(rows[generator.integers(len(rows), size=len(rows))]) for _ in range(2000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
