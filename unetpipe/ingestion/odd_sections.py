"""Name the sections that differ from those around them, and say how."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.outliers import is_outlier, running_medians
from unetpipe.records.sections import GreySections, OddSections, Sections
from unetpipe.runtime.text import count_noun, format_sections

LEAST_SECTIONS = 5  # before they are compared with each other
BLANK = 0.05  # of the contrast of those around
CLIPPED = 0.05  # of the voxels, or of those more than around
GROUND = 0.5  # of the voxels: where so many are white, that is the ground
SHIFT = 0.5  # of the contrast around: darker or brighter
TWICE = 1.0  # as a logarithm to base 2: contrast, sharpness
GAIN = 0.15  # of a correlation, by displacing a section
LOST = 4.0  # deviations: what moving a section gains is never below 0
LEAST_LIKENESS = 0.15  # of displaced sections, where they lie best
LEAST_SPREAD = 2.5  # deviations, between percentiles 5 and 95: 3.3 of a Gaussian
SAME = 0.1  # of the usual difference to the section before
MOST_SAME = 0.25  # of the sections; more are no single ones
TINY = 1e-9

REASONS = {
    "blank": "showing next to nothing",
    "duplicated": "showing what an earlier section shows",
    "saturated": "many voxels hold the greatest value, or far more than around one of "
    "the extremes",
    "darker": "than those around",
    "brighter": "than those around",
    "of other contrast": "than those around",
    "blurred": "against those around",
    "noisier": "than those around",
    "displaced": "against the sections before",
}
"""Kinds of odd sections, the first that holds is told."""

Marks = NDArray[np.bool_]


def find_odd_sections(sections: Sections) -> tuple[OddSections, ...]:
    """Return the sections that differ from those around, by kind.

    Parameters
    ----------
    sections : Sections
        Of a volume, in order. Of fewer than five that show anything only blank,
        saturated and duplicated ones are found: there is nothing to compare the others
        with.

    Notes
    -----
    A value is odd if it lies six robust deviations (of the volume's own sections) from
    the median of the 21 sections around it, and by what an eye would see. Sections of
    one grey value are blank, and no others are compared with them. A section is
    saturated by itself where more than a twentieth of it holds the greatest value, and
    less than half, which a white ground may be.
    """
    num = len(sections.likeness)
    found = {what: np.zeros(num, bool) for what in REASONS}
    shows = np.any([channel.std for channel in sections.channels], axis=0)
    shown = np.flatnonzero(shows)
    found["blank"] |= ~shows & shows.any()
    for channel in sections.channels if shown.size else ():
        found["blank"][shown] |= _find_blank(np.take(channel.std, shown))
        share = np.take(channel.saturated_share, shown)
        found["saturated"][shown] |= (share > CLIPPED) & (share < GROUND)
    if shown.size >= LEAST_SECTIONS:
        for channel in sections.channels:
            for what, marks in _compare_grey(_take(channel, shown)):
                found[what][shown] |= marks
        found["displaced"] = _find_displaced(sections)
    found["duplicated"] = _find_same(sections, shows)
    taken = np.zeros(num, bool)
    odd: list[OddSections] = []
    for what in REASONS:
        numbers = np.flatnonzero(found[what] & ~taken).tolist()
        taken |= found[what]
        if numbers:
            odd.append(OddSections.model_validate({"what": what, "sections": numbers}))
    return tuple(odd)


def describe_odd(odd: Sequence[OddSections], num_sections: int) -> Iterator[str]:
    """Yield a sentence for each kind of odd sections."""
    for one in odd:
        named = count_noun(len(one.sections), "section")
        look, them = ("looks", "it") if len(one.sections) == 1 else ("look", "them")
        yield (
            f"{named} of {num_sections} {look} {one.what} ({REASONS[one.what]}): "
            f"{format_sections(one.sections)}; look at {them} before you trust what is "
            f"found there, or leave {them} out by the sheet's column sections"
        )


def _take(grey: GreySections, numbers: NDArray[np.intp]) -> GreySections:
    """Return the columns of some sections."""
    told = {name: np.take(column, numbers).tolist() for name, column in grey}
    return GreySections.model_validate(told)


def _find_blank(contrast: NDArray[np.float64]) -> Marks:
    """Return the sections of no contrast, where others have some."""
    around = running_medians(contrast)
    if len(contrast) < LEAST_SECTIONS:
        around = np.full_like(contrast, contrast.max(initial=0.0))
    return np.asarray((contrast <= BLANK * around) & (around > 0))


def _compare_grey(grey: GreySections) -> Iterator[tuple[str, Marks]]:
    """Yield the sections whose grey values are unlike those around, by kind."""
    around = float(np.median(grey.std)) or TINY
    for share in (grey.least_share, grey.greatest_share):
        yield "saturated", is_outlier(share, CLIPPED) > 0
    shifted = is_outlier(np.array(grey.mean) / around, SHIFT)
    yield "darker", shifted < 0
    yield "brighter", shifted > 0
    yield "of other contrast", is_outlier(np.log2(np.add(grey.std, TINY)), TWICE) != 0
    sharpness = is_outlier(np.log2(np.add(grey.sharpness, TINY)), TWICE)
    yield "blurred", sharpness < 0
    yield "noisier", sharpness > 0


def _find_displaced(sections: Sections) -> Marks:
    """Return the sections that lie elsewhere than the one before, and show the same.

    A section that is displaced alone is unlike the one before and the one after; only
    it is marked, not the one after, which lies back. A few bright spots fit upon any
    others somewhere, so of sections that show nothing else, or have nothing in common
    with their neighbours, nothing is said.
    """
    if np.median(sections.likeness) < LEAST_LIKENESS:
        return np.zeros(len(sections.likeness), bool)
    there = np.array(sections.displaced_likeness)
    is_off = is_outlier(there - sections.likeness, GAIN, LOST) > 0
    is_off &= there >= max(LEAST_LIKENESS, float(np.median(there)) / 2)
    is_dense = np.all([_is_dense(grey) for grey in sections.channels], axis=0)
    is_off[1:] &= is_dense[1:] & is_dense[:-1]
    moved = np.array(sections.displacement)
    is_back = np.zeros_like(is_off)
    for z in np.flatnonzero(is_off):
        if z and is_off[z - 1] and not is_back[z - 1]:
            left = np.abs(moved[z] + moved[z - 1]).max()
            is_back[z] = left <= np.abs(moved[z]).max() / 2
    is_off[0] = False
    return np.asarray(is_off & ~is_back)


def _is_dense(grey: GreySections) -> Marks:
    """Tell which sections are more than a ground with a few spots."""
    return np.subtract(grey.high, grey.low) >= LEAST_SPREAD * np.array(grey.std)


def _find_same(sections: Sections, shows: Marks) -> Marks:
    """Return the sections that repeat an earlier one, unless many do."""
    is_same = np.zeros(len(sections.likeness), bool)
    is_same[[z for z, _ in sections.same]] = True
    # Of a section behind a blank one nobody knows what it is like.
    compared = 1 + np.flatnonzero(shows[1:] & shows[:-1])
    if compared.size >= LEAST_SECTIONS:
        unlike = 1 - np.take(sections.likeness, compared)
        is_same[compared] |= unlike < SAME * running_medians(unlike)
    are_few = is_same.sum() <= max(1, MOST_SAME * np.count_nonzero(shows))
    return is_same if are_few else np.zeros_like(is_same)
