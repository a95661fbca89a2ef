"""The phantom as two whole arrays."""

import numpy as np
from numpy.typing import NDArray

from unetpipe.ingestion.phantom import draw_phantom_sections
from unetpipe.tiling.boxes import Zyx


def draw_phantom(
    *, shape: Zyx, num_cells: int, noise: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return the whole phantom; see ``draw_phantom_sections`` for a large one.

    Returns
    -------
    image : uint8 array, shape (z, y, x)
    labels : uint16 array, shape (z, y, x)
        Ids 1 to ``num_cells``; 0 is membrane.
    """
    image = np.empty(shape, np.uint8)
    labels = np.empty(shape, np.uint16)
    sections = draw_phantom_sections(
        shape=shape, num_cells=num_cells, noise=noise, seed=seed
    )
    for z, (grey, ids) in enumerate(sections):
        image[z], labels[z] = grey, ids
    return image, labels
