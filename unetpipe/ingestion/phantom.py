"""A seeded phantom of cell membranes, as in an electron micrograph, of our own making.

Cells are the regions of a power diagram whose seeds and weights drift smoothly from
section to section; membranes between them are dark, but so are the organelles inside
them, so that no threshold on grey values tells one from the other.

Only sums, products, quotients, square roots and integers are used: they are rounded
alike on every machine, so a seed draws the same bytes everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from unetpipe.tiling.boxes import Zyx

Floats = NDArray[np.float64]

# Grey values of 0 to 255.
CYTOPLASM, MEMBRANE, ORGANELLE = 176.0, 88.0, 96.0
# Sections after which a drifting cell has forgotten where it was.
DRIFT_SECTIONS = 6


@dataclass(frozen=True, slots=True)
class _Organelles:
    """Ellipsoids: centre and radii along z, y, x in voxels."""

    centre: Floats  # (n, 3)
    radius: Floats  # (n, 3)


def draw_phantom_sections(
    *, shape: Zyx, num_cells: int, noise: float, seed: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """Yield image and labels of one section after the other.

    Parameters
    ----------
    shape : (z, y, x)
        Voxels of the volume.
    num_cells : int
        Cells, 1 to 65535; some may end before the last section.
    noise : float
        Standard deviation of the noise, in grey values of 0 to 255.
    seed : int
        Another seed draws another phantom.

    Yields
    ------
    image : uint8 array, shape (y, x)
    labels : uint16 array, shape (y, x)
        0 on membranes, which are two voxels wide.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    spacing = sqrt(shape[1] * shape[2] / num_cells)
    seeds = _spread_seeds(rng, num_cells, shape)
    tone = 16.0 * (2.0 * rng.random(num_cells + 1) - 1.0)
    drift = [_Drift(rng, shape[0], num_cells) for _ in range(3)]  # y, x and weight
    warp = [_Field(rng, shape, 0.7 * spacing) for _ in range(2)]
    strength = _Field(rng, shape, 0.8 * spacing)
    light = _Field(rng, shape, max(shape[1:]) / 2)
    organelles = _place_organelles(rng, shape, num_cells, spacing)
    grid = np.indices(shape[1:], np.float64)
    for z in range(shape[0]):
        moved = seeds + 0.35 * spacing * np.stack([d.at(z) for d in drift[:2]], axis=1)
        weight = (0.45 * spacing) ** 2 * (1.0 + drift[2].at(z))
        bent = np.stack([grid[k] + 0.22 * spacing * warp[k].at(z) for k in (0, 1)])
        ids = _cut_membranes(_nearest_cell(bent, moved, weight))
        depth = distance_transform_edt(ids > 0) if (ids == 0).any() else np.inf
        depth = np.broadcast_to(np.asarray(depth, np.float64), ids.shape)
        section_rng = np.random.Generator(np.random.PCG64([seed, 1, z]))
        texture = _Field(section_rng, (1, *shape[1:]), 5.0).at(0)
        grey = CYTOPLASM + tone[ids] + 16.0 * texture + 14.0 * light.at(z)
        inside = np.minimum(np.maximum((depth - 2.0) / 2.0, 0.0), 1.0)
        grey -= ORGANELLE * inside * _shade_organelles(organelles, z, shape[1:])
        profile = 1.0 + (depth / 2.0) * (depth / 2.0)
        grey -= MEMBRANE * (0.8 + 0.4 * strength.at(z)) / (profile * profile)
        grey = _blur(grey) + noise * _draw_noise(section_rng, shape[1:])
        yield np.clip(np.rint(grey), 0, 255).astype(np.uint8), ids.astype(np.uint16)


class _Field:
    """A smooth random field with values in [-1, 1] and features of ``scale`` voxels.

    Random numbers on a coarse grid, interpolated by smoothstep polynomials.
    """

    def __init__(self, rng: np.random.Generator, shape: Zyx, scale: float) -> None:
        scale = max(scale, 2.0)
        self._y, self._x = (np.arange(n) / scale for n in shape[1:])
        knots = (
            ceil(shape[0] / DRIFT_SECTIONS) + 1,
            *(ceil(n / scale) + 1 for n in shape[1:]),
        )
        self._values = 2.0 * rng.random(knots) - 1.0

    def at(self, z: int) -> Floats:
        """Return section z, shape (y, x)."""
        section = _mix(self._values, np.array([z / DRIFT_SECTIONS]))[0]
        rows = _mix(section, self._y)
        return np.ascontiguousarray(_mix(rows.T, self._x).T)


class _Drift:
    """One smooth random course over z for each cell, with values in [-1, 1]."""

    def __init__(self, rng: np.random.Generator, depth: int, num_cells: int) -> None:
        knots = ceil(depth / DRIFT_SECTIONS) + 1
        self._values = 2.0 * rng.random((knots, num_cells)) - 1.0

    def at(self, z: int) -> Floats:
        """Return the values of all cells in section z, shape (num_cells,)."""
        values: Floats = _mix(self._values, np.array([z / DRIFT_SECTIONS]))[0]
        return values


def _mix(values: Floats, position: Floats) -> Floats:
    """Interpolate along the first axis at fractional positions, with smoothstep."""
    below = np.floor(position).astype(np.intp)
    share = position - below
    share = share * share * (3.0 - 2.0 * share)
    share = share.reshape(-1, *(1,) * (values.ndim - 1))
    return values[below] * (1.0 - share) + values[below + 1] * share


def _spread_seeds(rng: np.random.Generator, num_cells: int, shape: Zyx) -> Floats:
    """Return (y, x) of seeds on jittered rows: evenly spread, never aligned."""
    height, width = shape[1:]
    num_rows = min(num_cells, max(1, round(sqrt(num_cells * height / width))))
    counts = np.diff(np.arange(num_rows + 1) * num_cells // num_rows)
    row = np.repeat(np.arange(num_rows), counts)
    column = np.concatenate([np.arange(n) for n in counts])
    y = (row + 0.5 + 0.7 * (rng.random(num_cells) - 0.5)) * height / num_rows
    x = (column + 0.5 + 0.7 * (rng.random(num_cells) - 0.5)) * width / counts[row]
    return np.stack([y, x], axis=1)


def _nearest_cell(points: Floats, seeds: Floats, weight: Floats) -> NDArray[np.intp]:
    """Return, for each voxel, 1 + the cell of smallest power |p - s|^2 - w.

    A third coordinate sqrt(max w - w) turns the power into a plain distance.
    """
    lift = np.sqrt(weight.max() - weight)
    tree = cKDTree(np.column_stack([seeds, lift]))
    flat = points.reshape(2, -1).T
    _, cell = tree.query(np.column_stack([flat, np.zeros(len(flat))]))
    return np.asarray(cell, np.intp).reshape(points.shape[1:]) + 1


def _cut_membranes(ids: NDArray[np.intp]) -> NDArray[np.intp]:
    """Set the voxels on both sides of a border between two cells to 0."""
    border = np.zeros(ids.shape, bool)
    for one, two in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        differs = ids[one] != ids[two]
        border[one] |= differs
        border[two] |= differs
    return np.where(border, 0, ids)


def _place_organelles(
    rng: np.random.Generator, shape: Zyx, num_cells: int, spacing: float
) -> _Organelles:
    """Draw two or three dark ellipsoids for each cell, large and small."""
    count = 3 * num_cells * max(1, round(shape[0] / 8))
    size = spacing * (0.07 + 0.16 * rng.random(count) * rng.random(count))
    stretch = 0.7 + 0.6 * rng.random(count)
    centre = rng.random((count, 3)) * np.asarray(shape, np.float64)
    radius = np.column_stack([2.0 + size / 4.0, size * stretch, size / stretch])
    return _Organelles(centre, radius)


def _shade_organelles(
    organelles: _Organelles, z: int, shape: tuple[int, int]
) -> Floats:
    """Return how dark organelles make a section, 0 to 1, with a darker rim."""
    shade = np.zeros(shape)
    for centre, radius in zip(organelles.centre, organelles.radius, strict=True):
        if abs(z - centre[0]) > radius[0]:
            continue
        start = np.maximum(np.floor(centre[1:] - radius[1:] - 1).astype(int), 0)
        stop = np.ceil(centre[1:] + radius[1:] + 2).astype(int)
        y, x = (slice(a, min(b, n)) for a, b, n in zip(start, stop, shape, strict=True))
        dy = (np.arange(y.start, y.stop) - centre[1]) / radius[1]
        dx = (np.arange(x.start, x.stop) - centre[2]) / radius[2]
        dz = (z - centre[0]) / radius[0]
        reach = (dy * dy)[:, None] + (dx * dx)[None, :] + dz * dz
        mark = np.where(reach < 1.0, 0.6 + 0.4 * reach * reach, 0.0)
        shade[y, x] = np.maximum(shade[y, x], mark)
    return shade


def _blur(section: Floats) -> Floats:
    """Blur with the binomial kernel 1 2 1 along y and x, edges repeated."""
    padded = np.pad(section, 1, mode="edge")
    rows = (padded[:-2] + 2.0 * padded[1:-1] + padded[2:]) / 4.0
    return (rows[:, :-2] + 2.0 * rows[:, 1:-1] + rows[:, 2:]) / 4.0


def _draw_noise(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Return bell-shaped noise of standard deviation 1: the sum of 12 dice.

    The sum of 12 bytes has variance 12 (256^2 - 1) / 12.
    """
    dice = rng.integers(0, 256, (12, *shape), np.uint8).astype(np.int64)
    noise: Floats = (dice.sum(axis=0) - 12 * 127.5) / sqrt(256.0**2 - 1.0)
    return noise
