"""Affinities of made-up cells, as a prediction stores them."""

import numpy as np

OFFSETS = (
    *((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    *((-2, 0, 0), (0, -3, 0), (0, 2, -3)),
)


def draw_affinities(shape, seed=0):
    """Affinities of cells in a lattice, so noisy that order and ties matter."""
    rng = np.random.default_rng(seed)
    cells = np.zeros(shape, np.int64)
    for axis, length in enumerate(shape):
        along = [1] * len(shape)
        along[axis] = length
        cells = cells * 100 + (np.arange(length) // 5).reshape(along)
    stored = np.zeros((1 + len(OFFSETS), *shape), np.uint8)
    for k, offset in enumerate(OFFSETS, start=1):
        other = np.roll(cells, [-n for n in offset], axis=(0, 1, 2))
        noise = rng.integers(-110, 110, shape)
        stored[k] = np.clip(np.where(cells == other, 200, 60) + noise, 0, 255)
    stored[0] = stored[1:4].mean(axis=0)
    region = rng.random(shape) < 0.93
    return stored, region
