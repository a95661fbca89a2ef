"""What needs no network: grey values, a threshold, and perhaps a watershed.

::

    smooth -> Otsu's threshold, or one by the surroundings -> components, or a watershed

How much to smooth, and what is above or below, is chosen on training and validation
sections by the metric that chose the network, and then scored as the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    gaussian_filter,
    label,
    maximum_filter,
    minimum_filter,
    uniform_filter,
)
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from unetpipe.evaluation.domes import find_domes
from unetpipe.metrics.cell_tracking import ReferenceMatches, match_seg_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances, score_terms
from unetpipe.metrics.isbi import IsbiSection, collect_isbi_curves, score_isbi_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.segmentation.components import Connectivity, label_components
from unetpipe.targets.weight_map import separate_touching

Bool = NDArray[np.bool_]

HALF_VOXELS_DEEP = 2  # two seeds are apart where the valley between is so deep
Kind = Literal["Otsu", "local threshold"]
LOCAL, CUT = "local threshold", " + watershed"
SIGMAS_VOX = (0.0, 1.0, 2.0, 4.0)
BLOCKS_VOX = (25, 75)  # of the surroundings; odd
OFFSETS = (0.0, 0.5)  # above the surroundings' mean, in standard deviations
MOST_CUT = 2  # masks of a kind, by each of two scores, of which a watershed is tried
HOT = 20.0  # standard deviations from the mean, where anybody would despeckle
BY_OBJECTS = ("v_rand", "seg", "f1")  # metrics that see what a watershed cuts
MASK_THRESHOLD = np.array([0.5])  # of masks, which hold 0 and 1


@dataclass(frozen=True, slots=True)
class GreySection:
    """A section, or its middle, whose truth is known: arrays of shape (y, x).

    Attributes
    ----------
    grey : array of numbers
    truth : integer array
        Ids of cells, or 1; 0 is background.
    unknown : bool array
        Voxels that nobody annotated.
    """

    grey: NDArray[Any]
    truth: NDArray[Any]
    unknown: Bool


@dataclass(frozen=True, slots=True)
class GreyRule:
    """How grey values alone are made into a mask, and that into objects.

    Attributes
    ----------
    kind : "Otsu" or "local threshold"
    is_bright : bool
        Cells are brighter than the rest.
    sigma_vox : float
        Of the Gaussian that smooths before.
    block_vox : int
        Side of the surroundings whose mean is the local threshold.
    offset : float
        How far beyond that mean cells lie, in standard deviations of the section.
    is_cut : bool
        Objects are cut by a watershed of the distance; else they are components.
    """

    kind: Kind
    is_bright: bool = True
    sigma_vox: float = 1.0
    block_vox: int = BLOCKS_VOX[-1]
    offset: float = OFFSETS[-1]
    is_cut: bool = False

    @property
    def name(self) -> str:
        """As score tables have it."""
        return self.kind + CUT * self.is_cut

    def mask(self, grey: NDArray[Any]) -> Bool:
        """Return the cells of one section, shape (y, x).

        Examples
        --------
        >>> grey = np.zeros((9, 9))
        >>> grey[3:6, 3:6] = 10
        >>> int(GreyRule("Otsu", sigma_vox=0).mask(grey).sum())
        9
        """
        smooth = _without_hot_voxels(np.nan_to_num(grey.astype(np.float32)))
        if self.sigma_vox:
            smooth = gaussian_filter(smooth, self.sigma_vox)
        if smooth.min() == smooth.max():
            return np.zeros(grey.shape, bool)
        if self.kind == "Otsu":
            above = smooth > threshold_otsu(smooth)
            return np.asarray(above if self.is_bright else ~above)
        beyond = smooth - uniform_filter(smooth, self.block_vox)
        least = self.offset * float(smooth.std())
        return np.asarray(beyond > least if self.is_bright else beyond < -least)

    def objects(self, mask: Bool, connectivity: Connectivity) -> NDArray[Any]:
        """Return the objects of a mask, shape (z, y, x): ids from 1, 0 outside."""
        if not self.is_cut:
            return np.asarray(label_components(mask, connectivity)[0])
        if connectivity == "3d":
            return baseline_objects(mask)
        return np.stack([baseline_objects(section) for section in mask])


def choose_baselines(
    train: Sequence[GreySection],
    validate: Sequence[GreySection],
    *,
    has_ids: bool,
    by: str,
) -> tuple[GreyRule, ...]:
    """Return what a user without a network would do, chosen as a network is.

    Parameters
    ----------
    train : sequence of GreySection
        Whether cells are bright is judged by these, without any by ``validate``.
    validate : sequence of GreySection
        What chooses the rest; without any it stays at the defaults.
    has_ids : bool
        The truth tells cells apart, so that a watershed may cut them.
    by : str
        What chose the network chooses here too: ``v_rand`` (with Dice, half each),
        ``seg`` (with F1), ``f1``; any other: Dice.
    """
    bright = _are_cells_bright(train or validate)

    def ranked(rules: Sequence[GreyRule], by: str = by) -> list[GreyRule]:
        return sorted(rules, key=lambda rule: -_score(rule, validate, by))

    chosen = []
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        plain = [GreyRule(kind, bright)]
        if validate:
            plain = ranked(_candidates(kind, bright))
        chosen.append(plain[0])
        if has_ids:
            # Of a good mask whose objects touch, the cut objects alone score well.
            masks = plain[:MOST_CUT]
            if by in BY_OBJECTS and validate:
                masks += ranked(plain, "dice")[:MOST_CUT]
            cut = [replace(rule, is_cut=True) for rule in dict.fromkeys(masks)]
            # A watershed leaves the mask, and Dice, as they are.
            chosen.append(ranked(cut)[0] if by in BY_OBJECTS else cut[0])
    return tuple(chosen)


def baseline_objects(mask: Bool) -> NDArray[np.int32]:
    """Cut a mask into objects at its narrow places.

    Each object grows from a place that is deepest inside the mask, downhill along the
    distance to the outside.

    Parameters
    ----------
    mask : bool array, shape (y, x) or (z, y, x)

    Returns
    -------
    int32 array of the same shape
        Ids from 1; 0 outside the mask.

    Examples
    --------
    Two discs that overlap a little:

    >>> y, x = np.mgrid[:21, :37]
    >>> discs = (np.hypot(y - 10, x - 10) < 9) | (np.hypot(y - 10, x - 26) < 9)
    >>> objects = baseline_objects(discs)
    >>> int(objects.max()), bool(objects[10, 10] != objects[10, 26])
    (2, True)
    """
    if mask.all() or not mask.any():
        return mask.astype(np.int32)  # without an outside there is no distance to it
    depth = edt.edt(np.ascontiguousarray(mask), black_border=False)
    half_voxels = np.minimum(np.rint(2 * depth), 2**16 - 1).astype(np.uint16)
    seeds, _ = label(find_domes(half_voxels, HALF_VOXELS_DEEP))
    objects: NDArray[np.int32] = watershed(-depth, seeds, mask=mask)
    return objects


def _without_hot_voxels(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring single voxels that take the contrast back to the range of those around."""
    if float(np.abs(grey - grey.mean()).max()) <= HOT * float(grey.std()):
        return grey
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    low, high = (
        of_those(grey, footprint=around)
        for of_those in (minimum_filter, maximum_filter)
    )
    return np.clip(grey, low, high)


def _candidates(kind: Kind, bright: bool) -> list[GreyRule]:
    if kind == "Otsu":
        return [GreyRule(kind, bright, sigma) for sigma in SIGMAS_VOX]
    return [
        GreyRule(kind, bright, sigma, block, offset)
        for sigma in SIGMAS_VOX[:-1]
        for block in BLOCKS_VOX
        for offset in OFFSETS
    ]


def baseline_channel(channels: Sequence[Sequence[GreySection]]) -> int:
    """Return the channel in which cells stand out most.

    Parameters
    ----------
    channels : sequence of sequences of GreySection
        The same sections in each channel.

    Examples
    --------
    >>> truth, known = np.eye(3, dtype=int), np.zeros((3, 3), bool)
    >>> shown = [GreySection(grey, truth, known) for grey in (truth.T * 0, truth * -9)]
    >>> baseline_channel([[one] for one in shown])
    1
    """
    contrasts = [0.0] * len(channels)
    for channel, sections in enumerate(channels):
        known = [s.grey[~s.unknown].astype(np.float64) for s in sections]
        cells = [s.truth[~s.unknown] != 0 for s in sections]
        grey = np.nan_to_num(np.concatenate(known)) if known else np.empty(0)
        inside = np.concatenate(cells) if cells else np.empty(0, bool)
        if 0 < inside.sum() < inside.size and grey.std():
            apart = abs(grey[inside].mean() - grey[~inside].mean())
            contrasts[channel] = float(apart / grey.std())
    return int(np.argmax(contrasts))


def _are_cells_bright(sections: Sequence[GreySection]) -> bool:
    """Say whether cells are brighter than what is known to be none, on average."""
    sums = np.zeros((2, 2))
    for section in sections:
        for k, of_kind in enumerate((section.truth == 0, section.truth != 0)):
            where = of_kind & ~section.unknown
            sums[k] += section.grey[where].sum(dtype=np.float64), where.sum()
    (outside, num_outside), (inside, num_inside) = sums
    return bool(inside * num_outside >= outside * num_inside)


def _score(rule: GreyRule, sections: Sequence[GreySection], by: str) -> float:
    """Return what chooses; a score that is undefined is 0."""
    masks = [rule.mask(section.grey) for section in sections]
    confusion = np.zeros((2, 2), np.int64)
    for section, mask in zip(sections, masks, strict=True):
        confusion += confusion_matrix(
            section.truth != 0, mask, 2, unlabelled=section.unknown
        )
    score = class_scores(confusion).dice[1]
    if by in BY_OBJECTS and sections:
        found = [rule.objects(mask[None], "2d")[0] for mask in masks]
        if by == "v_rand":
            pairs = zip(sections, found, strict=True)
            curves = collect_isbi_curves(
                [_isbi(section, ids) for section, ids in pairs]
            )
            score = (curves.v_rand.pooled[0] + score) / 2
        else:
            score = _score_objects(sections, found, by)
    return float(np.nan_to_num(score))


def _isbi(section: GreySection, found: NDArray[Any]) -> IsbiSection:
    """Score objects as a mask in which those that touch are apart, as the truth is."""
    cells, truth = (
        (separate_touching(ids) > 0) & ~section.unknown
        for ids in (found, section.truth)
    )
    return score_isbi_section(
        cells.astype(np.float32), truth, thresholds=MASK_THRESHOLD
    )


def _score_objects(
    sections: Sequence[GreySection], found: Sequence[NDArray[Any]], by: str
) -> float:
    tables = [
        ContingencyTable.from_arrays(section.truth, ids, where=~section.unknown)
        for section, ids in zip(sections, found, strict=True)
    ]
    terms = [match_instances(table).terms().sum(axis=0) for table in tables]
    f1 = float(score_terms(np.sum(terms, axis=0))["f1"])
    if by == "f1":
        return f1
    seg = ReferenceMatches.pooled(match_seg_references(table) for table in tables).seg
    return float(np.nan_to_num(seg) + np.nan_to_num(f1)) / 2
