"""A network in whole numbers: post-training quantisation, and its file.

Weights are quantised by output channel, feature maps as a whole, by the ranges that
they take on calibration patches; biases are corrected for what rounding adds on
average. The first layer and the last stay in floating point.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from unetpipe.network.openvino_graph import (
    FIRST_LAYER,
    LAST_LAYER,
    import_openvino,
    make_openvino_graph,
)
from unetpipe.network.unet import UNet


def quantise(network: UNet, patches: Sequence[NDArray[np.float32]]) -> bytes:
    """Return a network with weights and feature maps of eight bits.

    Parameters
    ----------
    network : UNet
        With its weights.
    patches : sequence of float32 arrays, shape (1, c, y, x) or (1, c, z, y, x)
        What the network sees of images like those to predict.

    Returns
    -------
    bytes
        A safetensors file with the graph, its weights and scales. The same network and
        patches give the same bytes.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is not installed.

    Notes
    -----
    Weights take seven bits of the eight: without instructions for products of eight
    bits (VNNI) processors add pairs of them in sixteen, which saturates. So the
    integers are the same on all of them.
    """
    nncf = import_openvino("nncf")
    ranges = import_openvino("nncf.quantization.range_estimator")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        graph = nncf.quantize(
            make_openvino_graph(network),
            nncf.Dataset(list(patches)),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(patches),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=[FIRST_LAYER, LAST_LAYER]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,
                # Of all patches: a mean of ranges would cut off the brightest volumes.
                activations_range_estimator_params=(
                    ranges.RangeEstimatorParametersSet.MINMAX
                ),
            ),
        )
    return pack_quantised_network(graph)


def pack_quantised_network(graph: Any) -> bytes:
    """Return an ``openvino.Model`` as the bytes of a safetensors file."""
    for number, layer in enumerate(graph.get_ordered_ops()):
        # Names count what a process has made before.
        layer.set_friendly_name(f"{number}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.xml")
        import_openvino("openvino").serialize(graph, path, path.with_suffix(".bin"))
        parts = {
            name: np.frombuffer(path.with_suffix(f".{name}").read_bytes(), np.uint8)
            for name in ("xml", "bin")
        }
    packed: bytes = save_safetensors(parts)
    return packed


def unpack_quantised_network(content: bytes) -> Any:
    """Return the ``openvino.Model`` in the bytes of ``pack_quantised_network``."""
    openvino, parts = import_openvino("openvino"), load_safetensors(content)
    return openvino.Core().read_model(
        parts["xml"].tobytes(), openvino.Tensor(parts["bin"])
    )
