"""Scores of segmentations: arrays in, numbers out.

Partitions are compared through a :class:`ContingencyTable`, masks through a confusion
matrix; both add up over chunks, so that volumes larger than memory score like small
ones. The scores of the ISBI 2012 challenge, warping error included, are taken section
by section at several thresholds and pooled into a :class:`ThresholdCurve`. Intervals
come from resampling sections or objects. A score that is undefined is NaN (None in
JSON), never a number that looks good.
"""

from unetpipe.metrics.bootstrap import (
    Interval,
    bootstrap_best,
    bootstrap_curve,
    bootstrap_interval,
    bootstrap_sums,
)
from unetpipe.metrics.cell_tracking import (
    ReferenceMatches,
    check_field,
    field_border_vox,
    keep_objects_in_field,
    keep_results,
    match_references,
)
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import (
    ThresholdCurve,
    ThresholdScore,
    accumulated_thresholds,
)
from unetpipe.metrics.instances import (
    InstanceMatches,
    match_instances,
    mean_average_precision,
    score_terms,
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
from unetpipe.metrics.simple_points import Mistake
from unetpipe.metrics.table_sum import TableSum
from unetpipe.metrics.thinning import label_components, thin_borders
from unetpipe.metrics.value_counts import (
    Calibration,
    calibrate,
    confusion_above,
    count_values,
    otsu_level,
)
from unetpipe.metrics.warping import (
    WarpingCurves,
    WarpingSection,
    collect_warping,
    map_mistakes,
    warp_section,
)

__all__ = [
    "Calibration",
    "ClassScores",
    "ContingencyTable",
    "InformationScores",
    "InstanceMatches",
    "Interval",
    "IsbiCurves",
    "IsbiSection",
    "Mistake",
    "RandScores",
    "ReferenceMatches",
    "TableSum",
    "ThresholdCurve",
    "ThresholdScore",
    "WarpingCurves",
    "WarpingSection",
    "accumulated_thresholds",
    "adapted_rand_error",
    "bootstrap_best",
    "bootstrap_curve",
    "bootstrap_interval",
    "bootstrap_sums",
    "calibrate",
    "check_field",
    "class_scores",
    "collect_curves",
    "collect_warping",
    "confusion_above",
    "confusion_matrix",
    "count_values",
    "field_border_vox",
    "information_scores",
    "keep_objects_in_field",
    "keep_results",
    "label_components",
    "map_mistakes",
    "match_instances",
    "match_references",
    "mean_average_precision",
    "otsu_level",
    "rand_scores",
    "score_section",
    "score_stack",
    "score_terms",
    "thin_borders",
    "warp_section",
]
