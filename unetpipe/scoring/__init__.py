"""Score a predictor on the sections of one role: counts in, rows of tables out.

===============  =============================================  =====================
collected by     what it sees                                   rows
===============  =============================================  =====================
PixelCounts      chunks: stored values and the truth            IoU, Dice, ... a class
ObjectCounts     chunks: ids of result and truth                AP, PQ, VI, SEG, ...
ThresholdScores  whole sections: probability and the truth      the ISBI 2012 scores
===============  =============================================  =====================

A row says who predicted, by which metric, how sure the score is and from how many
sections or objects it comes: see :func:`unetpipe.scoring.rows.make_row`.
"""

from unetpipe.scoring.contributions import Contribution, pool, split_scores
from unetpipe.scoring.folds import (
    FoldTerms,
    describe_terms,
    pool_means,
    pool_terms,
    read_terms,
    spread_over_networks,
    spread_over_seeds,
)
from unetpipe.scoring.objects import ObjectCounts
from unetpipe.scoring.pixels import PixelCounts, class_rows
from unetpipe.scoring.rows import Row, definitions_of
from unetpipe.scoring.thresholds import (
    ThresholdScores,
    describe_curve,
    threshold_rows,
)

__all__ = [
    "Contribution",
    "FoldTerms",
    "ObjectCounts",
    "PixelCounts",
    "Row",
    "ThresholdScores",
    "class_rows",
    "definitions_of",
    "describe_curve",
    "describe_terms",
    "pool",
    "pool_means",
    "pool_terms",
    "read_terms",
    "split_scores",
    "spread_over_networks",
    "spread_over_seeds",
    "threshold_rows",
]
