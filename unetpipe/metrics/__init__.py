"""Scores of segmentations: arrays in, numbers out.

Partitions are compared through a :class:`ContingencyTable`, masks through a confusion
matrix; both add up over boxes of a volume, so that volumes larger than memory score
like small ones. The scores of the ISBI 2012 challenge, warping error included, are
taken section by section at several thresholds and pooled into a ``ThresholdCurve``.
Intervals come from resampling sections or objects. A score that is undefined is NaN
(None in JSON), never a number that looks good.

Handed out here is what notebooks are promised; other rooms import the modules.
"""

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.metrics.rand import rand_scores

__all__ = ["ContingencyTable", "match_instances", "rand_scores"]
