"""Statistics of each section, from a sample that is taken while its voxels pass by.

::

    section   o . o . o .      o   sampled: a lattice of at most 256 x 256 voxels, which
              . . . . . .          the shape of the section alone decides
              o > o > o >      >   and the voxels beside and below, for sharpness
              v   v   v

However the section is cut into boxes, the sample is the same, and so is all that
follows: sums are taken once it is whole.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.ingestion.slabs import Box
from unetpipe.records.sections import GreySections, Sections

SIDE = 256  # sampled voxels along an axis, at most
DIGITS = 6  # that are written
# Values are clipped where those of the tenth of the contrast below them are at least so
# many: grey values thin out towards a camera's end, masks and padding stand alone.
BELOW, LEAST_BELOW = 0.1, 0.01
LEAST_SIDE = 16  # sampled voxels, before a displacement is looked for
LEAST_OVERLAP = 0.5  # of each axis, at a displacement
# A voxel itself, the one beside it, the one below it: along y, x.
AT, BESIDE, UNDER = (0, 0), (0, 1), (1, 0)

Voxels = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Section:
    """A section as it was sampled, and what was found in it.

    Attributes
    ----------
    grey : dict
        A column of ``GreySections`` -> a value for each channel.
    seen : float32 array, shape (y, x)
        Mean of the channels' normalised samples.
    spectrum : complex array or None
        Of what is seen; None where sections are too small.
    digest : bytes
        Of the samples; empty where they hold one value.
    """

    grey: dict[str, list[float]]
    seen: NDArray[np.float32]
    spectrum: NDArray[np.complexfloating[Any, Any]] | None
    digest: bytes


class SectionWatch:
    """Sees the boxes of an image in order, and tells what each section is like.

    Parameters
    ----------
    shape : (c, z, y, x)
        Of the image.
    threads : ThreadPoolExecutor
        That measure sections.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], threads: ThreadPoolExecutor
    ) -> None:
        self._shape, self._threads = shape, threads
        self._steps = tuple(-(-n // SIDE) for n in shape[2:])
        self._samples: dict[tuple[int, int], Voxels] = {}
        self._last: Section | None = None
        self._grey: list[dict[str, list[float]]] = []
        self._pairs: list[tuple[float, tuple[int, int], float]] = []
        self._known: dict[bytes, int] = {}
        self._same: list[tuple[int, int]] = []

    def add(self, box: Box) -> None:
        """See one box; the last one of a slab makes its sections whole."""
        num_channels, num_sections = box.voxels.shape[:2]
        for beyond in (AT, BESIDE, UNDER):
            if beyond not in self._samples:
                counts = self._counts(beyond)
                shape = (num_channels, num_sections, *counts)
                self._samples[beyond] = np.zeros(shape, box.voxels.dtype)
            inside, there = self._cut(box, beyond)
            self._samples[beyond][:, :, *there] = box.voxels[:, :, *inside]
        if box.is_last:
            self._finish(num_sections)
            self._samples = {}

    def told(self) -> Sections:
        """Return what is known of all sections that were seen."""
        columns = GreySections.model_fields
        return Sections(
            channels=tuple(
                GreySections(
                    **{name: tuple(z[name][c] for z in self._grey) for name in columns}
                )
                for c in range(self._shape[0])
            ),
            likeness=tuple(pair[0] for pair in self._pairs),
            displacement=tuple(pair[1] for pair in self._pairs),
            displaced_likeness=tuple(pair[2] for pair in self._pairs),
            same=tuple(self._same),
        )

    def _counts(self, beyond: tuple[int, int]) -> tuple[int, ...]:
        """Return how many voxels are sampled, so far beyond those of the lattice."""
        return tuple(
            max(0, -(-(n - far) // step))
            for n, far, step in zip(self._shape[2:], beyond, self._steps, strict=True)
        )

    def _cut(
        self, box: Box, beyond: tuple[int, int]
    ) -> tuple[list[slice], list[slice]]:
        """Return where sampled voxels lie in a box, and where in the sample."""
        inside, there = [], []
        axes = (self._steps, beyond, box.origin[1:], box.voxels.shape[2:])
        for step, far, start, length in zip(*axes, strict=True):
            first = max(0, -(-(start - far) // step))
            local = first * step + far - start
            num = max(0, -(-(length - local) // step))
            inside.append(slice(local, length, step) if num else slice(0, 0))
            there.append(slice(first, first + num))
        return inside, there

    def _finish(self, num_sections: int) -> None:
        samples = [self._samples[beyond] for beyond in (AT, BESIDE, UNDER)]
        cut = [[part[:, z] for part in samples] for z in range(num_sections)]
        found = list(self._threads.map(measure_section, cut))
        before = [self._last, *found[:-1]]
        pairs = self._threads.map(self._compare, before, found)
        for section, pair in zip(found, pairs, strict=True):
            z = len(self._grey)
            self._grey.append(section.grey)
            self._pairs.append(pair)
            if section.digest:
                first = self._known.setdefault(section.digest, z)
                if first != z:
                    self._same.append((z, first))
        self._last = found[-1]

    def _compare(
        self, before: Section | None, section: Section
    ) -> tuple[float, tuple[int, int], float]:
        """Return likeness, displacement in voxels, and likeness there."""
        if before is None:
            return 0.0, (0, 0), 0.0
        likeness = _round(correlation(before.seen, section.seen))
        if before.spectrum is None or section.spectrum is None:
            return likeness, (0, 0), likeness
        moved = find_displacement(before.spectrum, section.spectrum, section.seen.shape)
        there = _round(correlation(*_overlap(before.seen, section.seen, moved)))
        if there <= likeness:
            return likeness, (0, 0), likeness
        dy, dx = (n * step for n, step in zip(moved, self._steps, strict=True))
        return likeness, (dy, dx), there


def measure_section(samples: list[Voxels]) -> Section:
    """Measure a section, from its samples: each (c, y, x), that beside and below."""
    # What is not finite is refused, or replaced, by whoever copies the image.
    at, beside, below = (
        np.nan_to_num(part.astype(np.float64), posinf=0, neginf=0) for part in samples
    )
    grey: dict[str, list[float]] = {name: [] for name in GreySections.model_fields}
    seen = np.zeros(at.shape[1:])
    for own, right, under in zip(at, beside, below, strict=True):
        mean, variance = own.mean(), own.var()
        for name, value in _grey_values(own, right, under).items():
            grey[name].append(_round(value))
        if variance > 0:
            seen += (own - mean) / np.sqrt(variance)
    digest = b""
    if seen.any():
        content = np.ascontiguousarray(samples[0])
        digest = hashlib.blake2b(content.data, digest_size=16).digest()
    spectrum = None
    if min(seen.shape) >= LEAST_SIDE:
        spectrum = np.fft.rfft2(seen * _window(seen.shape))
    return Section(grey, seen.astype(np.float32), spectrum, digest)


def _grey_values(own: Floats, right: Floats, under: Floats) -> dict[str, float]:
    """Return the columns of ``GreySections`` of one channel of a section."""
    variance = float(own.var())
    low, high = np.percentile(own, (5, 95))
    steps = [right - own[:, : right.shape[1]], under - own[: under.shape[0]]]
    num = sum(step.size for step in steps)
    squares = sum(float(np.einsum("ij,ij->", step, step)) for step in steps)
    return {
        "mean": float(own.mean()),
        "std": float(np.sqrt(variance)),
        "low": float(low),
        "high": float(high),
        "least_share": float(np.mean(own == own.min())),
        "greatest_share": float(np.mean(own == own.max())),
        "saturated_share": _saturated_share(own, float(low)),
        "sharpness": squares / num / (2 * variance) if num and variance > 0 else 0.0,
    }


def _saturated_share(own: Floats, low: float) -> float:
    """Return the share of the greatest value, 0 where hardly any follow below it."""
    greatest = own.max()
    clipped = float(np.mean(own == greatest))
    near = (own < greatest) & (own >= greatest - BELOW * (greatest - low))
    return clipped if near.mean() >= LEAST_BELOW * clipped else 0.0


def find_displacement(
    first: Any, second: Any, shape: tuple[int, ...]
) -> tuple[int, int]:
    """Return by how many samples the second section lies beyond the first.

    Parameters
    ----------
    first, second : complex arrays
        Their spectra.
    shape : (y, x)
        Of the samples.

    Notes
    -----
    Phase correlation: Kuglin and Hines 1975.
    """
    cross = second * np.conj(first)
    strength = np.abs(cross)
    cross = np.divide(cross, strength, out=np.zeros_like(cross), where=strength > 0)
    peaks = np.fft.irfft2(cross, s=shape)
    for axis, length in enumerate(shape):  # only what overlaps enough
        far = int(length * (1 - LEAST_OVERLAP))
        index = np.arange(length)
        is_beyond = (index > far) & (index < length - far)
        peaks[(slice(None),) * axis + (is_beyond,)] = -np.inf
    best = np.unravel_index(int(np.argmax(peaks)), shape)
    y, x = (
        int(i) - length if i > length // 2 else int(i)
        for i, length in zip(best, shape, strict=True)
    )
    return y, x


def _overlap(
    first: Voxels, second: Voxels, moved: tuple[int, int]
) -> tuple[Voxels, Voxels]:
    """Return what both sections show, where the second is displaced."""

    def cut(is_second: bool) -> tuple[slice, ...]:
        return tuple(
            slice(max(n, 0), length + min(n, 0))
            for n, length in zip(
                moved if is_second else (-n for n in moved), first.shape, strict=True
            )
        )

    return first[cut(False)], second[cut(True)]


def correlation(first: Voxels, second: Voxels) -> float:
    """Return Pearson's correlation of two arrays; 0 where one of them is flat."""
    a, b = (
        part.astype(np.float64) - part.mean(dtype=np.float64)
        for part in (first, second)
    )
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def _window(shape: tuple[int, ...]) -> Floats:
    return np.outer(*(np.hanning(length) for length in shape))


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
