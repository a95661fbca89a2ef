"""Drawn cells of a time series, with ids as a segmentation gives them."""

import numpy as np

SIDE = 64


def draw(*frames):
    """Return frames of cells and the id of each cell in each frame.

    Parameters
    ----------
    frames : dict
        Name of a cell -> (y, x, height, width).

    Returns
    -------
    int64 array, shape (frames, SIDE, SIDE)
        Ids in the order of first voxels, from frame to frame.
    dict
        (frame, name) -> id.
    """
    drawn = np.zeros((len(frames), SIDE, SIDE), np.int64)
    ids = {}
    for t, cells in enumerate(frames):
        for name in sorted(cells, key=lambda name: cells[name][:2]):
            y, x, height, width = cells[name]
            ids[t, name] = len(ids) + 1
            drawn[t, y : y + height, x : x + width] = ids[t, name]
    return drawn, ids
