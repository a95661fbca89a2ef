"""Compare two partitions: Rand, V_Rand, V_Info and variation of information.

All are functions of a :class:`ContingencyTable`, restricted to the foreground of the
truth; each voxel there that the result calls background is a cluster of its own.
With n voxels in the truth's foreground, n_ij in truth object i and result object j > 0,
and n_i0 in truth object i but no result object::

    together in truth    A  = sum_i (n_i0 + sum_j n_ij)^2
    together in result   B  = sum_j (sum_i n_ij)^2   + sum_i n_i0
    together in both     AB = sum_ij n_ij^2          + sum_i n_i0

    precision = AB / B    recall = AB / A    F = 2 AB / (A + B)

Sources: Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, "Rand scoring" and
"Information theoretic scoring"; scores of the ISBI 2012 challenge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.contingency import ContingencyTable


@dataclass(frozen=True, slots=True)
class RandScores:
    """Pairs of voxels put together by both, by the truth, by the result.

    The three sums add up over sections (micro average) before they are divided.

    Attributes
    ----------
    both, truth, result : float
        AB, A and B of the module's formula, in pairs of voxels (n^2 pairs in all).

    Examples
    --------
    >>> RandScores(both=6, truth=8, result=12).f_score
    0.6
    """

    both: float
    truth: float
    result: float

    def __add__(self, other: RandScores) -> RandScores:
        return RandScores(
            self.both + other.both, self.truth + other.truth, self.result + other.result
        )

    @property
    def precision(self) -> float:
        """AB / B, in (0, 1]: falls with mergers. NaN without foreground."""
        return _ratio(self.both, self.result)

    @property
    def recall(self) -> float:
        """AB / A, in (0, 1]: falls with splits. NaN without foreground."""
        return _ratio(self.both, self.truth)

    @property
    def f_score(self) -> float:
        """Harmonic mean of both, in (0, 1]: V_Rand. NaN without foreground."""
        return _ratio(2 * self.both, self.truth + self.result)

    @property
    def error(self) -> float:
        """1 - F, in [0, 1): the Rand error. NaN without foreground."""
        return 1 - self.f_score


def rand_scores(table: ContingencyTable) -> RandScores:
    """Count the pairs of voxels that truth and result put together.

    Their ``error`` on a whole volume is the adapted Rand error of SNEMI3D and CREMI.
    ``skimage.metrics.adapted_rand_error`` differs: it holds predicted background for
    one cluster, leaves out pairs of a voxel with itself, and exchanges precision and
    recall (scikit-image issue 6485).

    Examples
    --------
    Two cells of four voxels, everything predicted background:

    >>> truth = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    >>> table = ContingencyTable.from_arrays(truth, np.zeros_like(truth))
    >>> round(rand_scores(table).error, 12)
    0.6
    """
    joint, truth, result, num_lone = _foreground_sizes(table)
    return RandScores(
        both=float(joint @ joint) + num_lone,
        truth=float(truth @ truth),
        result=float(result @ result) + num_lone,
    )


@dataclass(frozen=True, slots=True)
class InformationScores:
    """Entropies of two partitions and what they share, in nats.

    Attributes
    ----------
    truth, result, joint : float
        H(T), H(S) and H(S, T). NaN if no voxel was counted.
    """

    truth: float
    result: float
    joint: float

    @property
    def mutual(self) -> float:
        """I(S; T), nats."""
        return _not_negative(self.truth + self.result - self.joint)

    @property
    def is_defined(self) -> bool:
        """Whether V_Info has its usual meaning: both partitions have entropy."""
        return self.truth > 0 and self.result > 0

    @property
    def f_score(self) -> float:
        """V_Info = 2 I / (H(S) + H(T)), in [0, 1].

        If a partition is a single object (H = 0) the score is 1 when both are, else 0;
        ``is_defined`` tells. NaN without foreground.
        """
        if math.isnan(self.joint):
            return math.nan
        if self.truth == 0 or self.result == 0:
            return float(self.truth == self.result)
        return min(1.0, 2 * self.mutual / (self.truth + self.result))

    @property
    def split(self) -> float:
        """H(S | T), nats: what the result cuts that the truth holds together."""
        return _not_negative(self.joint - self.truth)

    @property
    def merge(self) -> float:
        """H(T | S), nats: what the result joins that the truth keeps apart."""
        return _not_negative(self.joint - self.result)

    @property
    def variation(self) -> float:
        """Variation of information, split + merge, nats."""
        return self.split + self.merge

    @property
    def split_bits(self) -> float:
        """H(S | T), bits."""
        return self.split / math.log(2)

    @property
    def merge_bits(self) -> float:
        """H(T | S), bits."""
        return self.merge / math.log(2)


def information_scores(
    table: ContingencyTable, *, foreground_only: bool = True
) -> InformationScores:
    """Measure the entropies of truth and result: V_Info, VI split and VI merge.

    Parameters
    ----------
    table : ContingencyTable
    foreground_only : bool
        Look inside truth objects only, predicted background being single voxels, as
        V_Info does. Otherwise 0 is a segment like any other, in both.

    Examples
    --------
    One object cut in halves loses ln 2 nats, one bit:

    >>> table = ContingencyTable.from_pairs([1, 1], [1, 2], [8, 8])
    >>> information_scores(table).split_bits
    1.0
    """
    if foreground_only:
        joint, truth, result, num_lone = _foreground_sizes(table)
    else:
        joint, num_lone = table.counts.astype(np.float64), 0.0
        truth = table.truth_sizes()[1].astype(np.float64)
        result = table.result_sizes()[1].astype(np.float64)
    total = float(truth.sum())
    return InformationScores(
        truth=_entropy(truth, 0.0, total),
        result=_entropy(result, num_lone, total),
        joint=_entropy(joint, num_lone, total),
    )


_Sizes = NDArray[np.float64]


def _foreground_sizes(
    table: ContingencyTable,
) -> tuple[_Sizes, _Sizes, _Sizes, float]:
    """Return the sizes n_ij, n_i, n_j (j > 0) and the number of lone voxels."""
    foreground = table.foreground_of_truth()
    inside = foreground.select(foreground.result_ids != 0)
    return (
        inside.counts.astype(np.float64),
        foreground.truth_sizes()[1].astype(np.float64),
        inside.result_sizes()[1].astype(np.float64),
        float(foreground.num_voxels - inside.num_voxels),
    )


def _entropy(sizes: _Sizes, num_lone: float, total: float) -> float:
    """Entropy in nats of clusters of these sizes and ``num_lone`` single voxels."""
    if total == 0:
        return math.nan
    shares = sizes / total
    lone = num_lone / total * math.log(total)
    return max(0.0, lone - float(np.sum(shares * np.log(shares))))


def _not_negative(entropy: float) -> float:
    """Cut what rounding left below 0; NaN stays."""
    return entropy if math.isnan(entropy) else max(0.0, entropy)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
