"""What tests of the backend `openvino` need, and small networks in int8."""

import importlib.util
from functools import lru_cache

import numpy as np
import pytest

from tests.network.test_exact_tiling import SPECS, he_ensemble, he_network
from unetpipe.network.openvino_network import on_openvino
from unetpipe.network.quantisation import quantise

needs_openvino = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("openvino", "nncf"))),
    reason="NOT TESTED: the backend openvino; install the extra `openvino`",
)


def smallest_tile(spec, count=1):
    """Return the shape of the network's input that keeps so many pooling grids."""
    sides = zip(spec.pooling_grid, spec.halo.total, strict=True)
    return tuple(g * count + h for g, h in sides)[3 - spec.ndim :]


def patches_of(spec, seed=0):
    """Return two patches of noise, as calibration wants them."""
    shape = (2, 1, spec.in_channels, *smallest_tile(spec, 2))
    return list(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@lru_cache
def quantised(name, seed=0):
    """Return a He-initialised network of ``SPECS`` in int8, as its file holds it."""
    return quantise(he_network(SPECS[name], seed), patches_of(SPECS[name]))


def served(name, precision, *, is_ensemble=False):
    """Return a He-initialised network, or two of them, as OpenVINO computes them."""
    spec = SPECS[name]
    network = he_ensemble(spec) if is_ensemble else he_network(spec)
    contents = []
    if precision == "int8":
        contents = [quantised(name, seed) for seed in range(1 + is_ensemble)]
    return on_openvino(network, precision, contents)
