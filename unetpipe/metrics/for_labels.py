"""The metric that suits annotations: one rule, for the survey and for training.

::

    several classes                                  dice
    ids, no known background                         seg
    ids, cells that fill the sections                v_rand   membranes lie between
    ids, cells that lie in a background              f1       separate objects
    mask, most of each section, in several pieces    v_rand   membranes lie between
    any other mask                                   dice     sparse foreground
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unetpipe.runtime.text import format_percent

Metric = Literal["v_rand", "seg", "f1", "dice", "loss"]

MOSTLY_CELLS = 0.5  # of the known voxels; above it what separates cells is thin
SEVERAL_CELLS = 4  # in a section, on average


@dataclass(frozen=True, slots=True)
class SuitedMetric:
    """A metric, and in a sentence's half why it suits the annotations."""

    metric: Metric
    why: str


def metric_for_labels(
    class_counts: Sequence[int], *, has_ids: bool, cells_per_section: float
) -> SuitedMetric:
    """Return the metric that should choose checkpoint, threshold and objects.

    Parameters
    ----------
    class_counts : sequence of int
        Known voxels of each class; class 0 is background.
    has_ids : bool
        Whether labels tell cells apart by ids (or by one mask each).
    cells_per_section : float
        Ids, or components of the foreground, in a section that has any.

    Examples
    --------
    >>> metric_for_labels([91, 9], has_ids=False, cells_per_section=30).metric
    'dice'
    >>> metric_for_labels([20, 80], has_ids=False, cells_per_section=30).metric
    'v_rand'
    """
    total = sum(class_counts)
    share = 1 - class_counts[0] / total if total else 0.0
    if len(class_counts) > 2:
        return SuitedMetric("dice", f"there are {len(class_counts)} classes")
    if has_ids and not class_counts[0]:
        why = "cells are annotated, but no background, so false cells are not known"
        return SuitedMetric("seg", why)
    is_filled = share > MOSTLY_CELLS and cells_per_section >= SEVERAL_CELLS
    if is_filled:
        why = (
            f"cells fill {format_percent(share, 1)} of what is annotated, about "
            f"{cells_per_section:.0f} a section, so what lies between them is thin"
        )
        return SuitedMetric("v_rand", why)
    if has_ids:
        filled = format_percent(share, 1)
        why = f"objects that are told apart fill {filled} of what is annotated"
        return SuitedMetric("f1", why)
    why = f"a mask without ids fills {format_percent(share, 1)} of what is annotated"
    return SuitedMetric("dice", why)
