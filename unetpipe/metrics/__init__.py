"""Scores of segmentations: arrays in, numbers out.

Partitions are compared through a :class:`ContingencyTable`, masks through a confusion
matrix; both add up over chunks, so that volumes larger than memory score like small
ones. The scores of the ISBI 2012 challenge are taken section by section at several
thresholds and pooled into a :class:`ThresholdCurve`. Scores that are undefined are NaN
(None in JSON), never a number that looks good.
"""

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import (
    ThresholdCurve,
    ThresholdScore,
    accumulated_thresholds,
)
from unetpipe.metrics.isbi import (
    IsbiCurves,
    IsbiSection,
    collect_curves,
    score_section,
    score_stack,
)
from unetpipe.metrics.overlap import ClassScores, class_scores, confusion_matrix
from unetpipe.metrics.rand import (
    InformationScores,
    RandScores,
    adapted_rand_error,
    information_scores,
    rand_scores,
)
from unetpipe.metrics.thinning import label_components, thin_borders

__all__ = [
    "ClassScores",
    "ContingencyTable",
    "InformationScores",
    "IsbiCurves",
    "IsbiSection",
    "RandScores",
    "ThresholdCurve",
    "ThresholdScore",
    "accumulated_thresholds",
    "adapted_rand_error",
    "class_scores",
    "collect_curves",
    "confusion_matrix",
    "information_scores",
    "label_components",
    "rand_scores",
    "score_section",
    "score_stack",
    "thin_borders",
]
