"""The network as a graph of OpenVINO: the same layers, weights and crops.

Drawn from the architecture, not traced: crops are constants, so that one graph takes
tiles of any legal size, and layers have names that do not depend on a library.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import ConfigError
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.unet_spec import UNetSpec

FIRST_LAYER, LAST_LAYER = "down.0.0", "out"
TELEMETRY = "openvino_telemetry"
# Of torch's batch normalisation, which is folded into the convolution before it.
BATCH_NORM_EPSILON = 1e-5

Weights = Mapping[str, Tensor]


def import_openvino(name: str) -> Any:
    """Return ``openvino`` or a module of it, or ``nncf``, which report nothing home.

    Both send events of their use to their makers, without asking, where the package
    for it is found; so it is hidden while they are imported.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is not installed.
    """
    hidden = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"prediction.backend openvino and prediction.precision int8 need "
            f"{error.name}, which is not installed; install the extra: pip install "
            "'unetpipe[openvino]', or use backend torch with fp32 or bf16"
        ) from None
    finally:
        del sys.modules[TELEMETRY]
        if hidden is not None:
            sys.modules[TELEMETRY] = hidden


def make_openvino_graph(network: UNet) -> Any:
    """Return the network as an ``openvino.Model``, from tiles to logits.

    Parameters
    ----------
    network : UNet
        With its weights; batch normalisation as in evaluation.

    Returns
    -------
    openvino.Model
        Takes float32 (n, c, y, x), or (n, c, z, y, x), of any legal size.
    """
    return _Drawing(network.spec, network.state_dict()).draw()


class _Drawing:
    def __init__(self, spec: UNetSpec, weights: Weights) -> None:
        self._spec, self._weights = spec, weights
        self._ov = import_openvino("openvino")
        self._op = import_openvino("openvino.opset8")
        # MaxPool with one output: later ones also return where the maximum was.
        self._pool = import_openvino("openvino.opset1").max_pool

    def draw(self) -> Any:
        spec, op = self._spec, self._op
        free = [-1] * spec.ndim
        image = op.parameter([-1, spec.in_channels, *free], np.float32, name="image")
        maps, skips = image, []
        for level in range(spec.depth):
            maps = self._two_convolutions(maps, f"down.{level}")
            skips.append(maps)
            sides = self._sides(level)
            none = [0] * spec.ndim
            maps = self._pool(maps, sides, none, none, sides)
        maps = self._two_convolutions(maps, f"down.{spec.depth}")
        for number, level in enumerate(reversed(range(spec.depth))):
            maps = self._up(maps, f"up.{number}", self._sides(level))
            skip = self._crop(skips.pop(), level)
            maps = op.concat([skip, maps], axis=1)
            maps = self._two_convolutions(maps, f"merge.{number}")
        logits = self._convolution(maps, "out", padding=0)
        graph = self._ov.Model([logits], [image], "unet")
        # By itself it would be named after a number that counts on.
        graph.output(0).get_tensor().set_names({"logits"})
        return graph

    def _two_convolutions(self, maps: Any, name: str) -> Any:
        has_norm = self._spec.normalization == "batch"
        padding = int(self._spec.padding == "same")
        for number in (0, 3) if has_norm else (0, 2):
            layer = f"{name}.{number}"
            norm = f"{name}.{number + 1}" if has_norm else None
            maps = self._convolution(maps, layer, padding=padding, norm=norm)
            maps = self._op.relu(maps, name=f"{layer}/relu")
        return maps

    def _convolution(
        self, maps: Any, name: str, *, padding: int, norm: str | None = None
    ) -> Any:
        weight, bias = (self._read(f"{name}.{part}") for part in ("weight", "bias"))
        if norm is not None:
            weight, bias = self._fold(norm, weight, bias)
        ones, pads = [1] * self._spec.ndim, [padding] * self._spec.ndim
        maps = self._op.convolution(
            maps, weight.astype(np.float32), ones, pads, pads, ones, name=name
        )
        return self._add_bias(maps, bias, name)

    def _up(self, maps: Any, name: str, sides: list[int]) -> Any:
        weight, bias = (self._read(f"{name}.{part}") for part in ("weight", "bias"))
        maps = self._op.convolution_backprop_data(
            maps, weight.astype(np.float32), sides, name=name
        )
        return self._add_bias(maps, bias, name)

    def _add_bias(self, maps: Any, bias: NDArray[np.float64], name: str) -> Any:
        shape = (1, -1, *[1] * self._spec.ndim)
        values = bias.reshape(shape).astype(np.float32)
        return self._op.add(maps, values, name=f"{name}/bias")

    def _fold(
        self, norm: str, weight: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights and bias of a convolution and its normalisation in one."""
        gain, shift, mean, variance = (
            self._read(f"{norm}.{part}")
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
        by_output = scale.reshape(-1, *[1] * (weight.ndim - 1))
        return weight * by_output, (bias - mean) * scale + shift

    def _crop(self, skip: Any, level: int) -> Any:
        """Cut a skip connection to the size of what it is joined with."""
        before, after = _surplus(self._spec, level)
        if not any(before) and not any(after):
            return skip
        # Samples and channels are not cut: 1 in a mask is the whole axis.
        begin, end = [0, 0, *before], [0, 0, *(-n for n in after)]
        whole = [[1, 1, *(int(n == 0) for n in cut)] for cut in (before, after)]
        return self._op.strided_slice(skip, begin, end, [1] * len(begin), *whole)

    def _sides(self, level: int) -> list[int]:
        return list(self._spec.pooling[level][3 - self._spec.ndim :])

    def _read(self, name: str) -> NDArray[np.float64]:
        return self._weights[name].detach().cpu().double().numpy()


def _surplus(spec: UNetSpec, level: int) -> tuple[list[int], list[int]]:
    """Return what a level's skip connection loses before and after, axis by axis."""
    smallest = as_zyx(
        n + t for n, t in zip(spec.pooling_grid, spec.halo.total, strict=True)
    )
    layers = [one for one in spec.layers(smallest) if one.level == level]
    [skip] = [one.out_shape for one in layers if one.saved]
    [up] = [one.out_shape for one in layers if one.kind == "up"]
    surplus = [a - b for a, b in zip(skip, up, strict=True)][3 - spec.ndim :]
    before = [n // 2 for n in surplus]
    return before, [n - b for n, b in zip(surplus, before, strict=True)]
