"""The warping error: topological mistakes, forgiving where a border runs.

The truth is warped towards the proposal, voxel by voxel, flipping only *simple* ones:
those whose flip neither splits, merges, creates nor deletes an object or a hole. What
still differs at the end are the topological mistakes::

    truth     proposal   warped truth   difference
    ##.##     #.###      #.###          none: the border moved
    ##.##     #####      ##.## (row)    one voxel that joins two cells: merge

Sources: Jain et al. 2010, "Boundary Learning by Optimization with Topological
Constraints", CVPR; the challenge's scripts for order, classes and pooling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.metrics.curves import (
    Scores,
    ThresholdCurve,
    accumulated_thresholds,
    same_thresholds,
    share_of,
)
from unetpipe.metrics.isbi import check_cells, check_proposal
from unetpipe.metrics.simple_points import classify_mistakes, warp
from unetpipe.metrics.thinning import label_components

# DEPARTS: the challenge also tried 0.0 and 0.9999999999999999, where most maps are
# constant. An all-membrane map shrinks every cell to a point and would score 0.
WARPING_THRESHOLDS = accumulated_thresholds(0.9)[1:]


class Mistake(IntEnum):
    """Why a voxel of the warped truth differs from the proposal."""

    NONE = 0
    SPLIT = 1
    MERGE = 2
    OBJECT_ADDITION = 3
    OBJECT_DELETION = 4
    HOLE_ADDITION = 5
    HOLE_DELETION = 6
