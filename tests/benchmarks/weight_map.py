"""Eq. (2) against what it says literally: one distance transform for each cell."""

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tests.benchmarks.figures import Figure
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import median_ratio, time_once
from tests.phantoms import draw_phantom
from unetpipe.targets.weight_map import (
    SIGMA_VOX,
    W0,
    compute_border_term,
    separate_touching,
)

Cells = NDArray[np.integer]


def measure(settings: Settings) -> list[Figure]:
    """Time all cells our way and a sample of them literally, in turn."""
    side = settings.choose(quick=128, cpu=2048)
    cells = draw_cells(side)
    ids = np.unique(cells)
    ids = ids[ids > 0]
    sample = ids[:: max(1, len(ids) // settings.choose(quick=2, cpu=8))]
    crop = cells[: side // 4, : side // 4]
    compute_border_term(crop)
    ours, literal, slow = [], [], []
    for _ in range(settings.rounds):
        ours.append(time_once(lambda: compute_border_term(cells)))
        share = len(ids) / len(sample)
        literal.append(share * time_once(lambda: [_edt(cells, i) for i in sample]))
        slow.append(share * time_once(lambda: [_scipy(cells, i) for i in sample]))
    basis = f"{side} x {side}, {len(ids)} cells; the literal way timed on {len(sample)}"
    difference = np.abs(compute_border_term(crop) - literal_border_term(crop)).max()
    num_compared = np.count_nonzero(np.unique(crop))
    return [
        Figure(
            "ours over one transform a cell (edt)",
            median_ratio(literal, ours),
            "x",
            basis=f"{basis} cells and scaled",
            at_least=200,
            details={"seconds": {"ours": ours, "edt": literal, "scipy": slow}},
        ),
        Figure(
            "ours over one transform a cell (scipy)",
            median_ratio(slow, ours),
            "x",
            basis=f"{basis} cells and scaled",
        ),
        Figure(
            "largest difference",
            float(difference),
            basis=f"to the literal way; {' x '.join(map(str, crop.shape))}, all "
            f"{num_compared} cells",
            at_most=1e-6,
        ),
    ]


def draw_cells(side: int) -> Cells:
    """Return a section of touching and separate cells, about 2,000 in 2048 x 2048."""
    _, ids = draw_phantom(
        shape=(1, side, side), num_cells=max(4, side**2 // 2100), noise=0, seed=3
    )
    return separate_touching(ids[0])


def literal_border_term(cells: Cells) -> NDArray[np.float64]:
    """Return eq. (2), one distance transform of the whole image for each cell."""
    nearest = np.full(cells.shape, np.inf)
    second = nearest.copy()
    for cell in np.unique(cells[cells > 0]):
        distance = _scipy(cells, cell)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    term = W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA_VOX**2))
    return np.where(cells == 0, term, 0)


def _edt(cells: Cells, cell: int) -> NDArray[np.float32]:
    return np.asarray(edt.edt(cells != cell, black_border=False, parallel=1))


def _scipy(cells: Cells, cell: int) -> NDArray[np.float64]:
    return np.asarray(distance_transform_edt(cells != cell))
