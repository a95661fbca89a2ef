"""A small annotated image that a small network can learn."""

import numpy as np

from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.targets.weight_map import (
    cells_to_instances,
    compute_border_term,
    restore_thin,
    separate_touching,
)


def annotate(shape=(2, 48, 56), *, seed=0, channels=1, num_classes=2, **more):
    """Draw bright cells on a dark ground, 0 between them: an ``AnnotatedVolume``.

    With more classes, class k of a cell is its brightness; with more channels, the
    first is noise.
    """
    rng = np.random.default_rng(seed)
    target = np.zeros(shape, np.uint8)
    y, x = np.ogrid[: shape[1], : shape[2]]
    for z in range(shape[0]):
        for row in range(8, shape[1], 14):
            for column in range(8, shape[2], 14):
                dy, dx = rng.integers(-2, 3, 2)
                disc = (y - row - dy) ** 2 + (x - column - dx) ** 2 < 25
                target[z][disc] = rng.integers(1, num_classes)
    image = target * (200.0 / (num_classes - 1)) + rng.normal(0, 12, shape)
    images = [rng.normal(100, 50, shape) for _ in range(channels - 1)] + [image]
    grey = np.stack(images).astype(np.float32)
    values = {
        "name": "cells",
        "image": grey,
        "target": target,
        "border": np.stack(
            [compute_border_term(cells_to_instances(s, "binary")) for s in target]
        ),
        "mean": grey.mean(axis=(1, 2, 3)),
        "std": grey.std(axis=(1, 2, 3)),
        "sections": tuple(range(shape[0])),
        "num_known": (shape[1] * shape[2],) * shape[0],
    }
    return AnnotatedVolume(**(values | more))


def separate_cells(instances):
    """Return the cells of a whole section or volume apart, thin ones kept."""
    separated = separate_touching(instances)
    is_thin = np.isin(instances, np.setdiff1d(instances, separated))
    return restore_thin(separated, instances, is_thin, (0,) * instances.ndim)
