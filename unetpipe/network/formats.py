"""A trained network in the formats of other programs: TorchScript, ONNX, plain weights.

All are the same-size wrapper (``same_size``), float32, with softmax or sigmoid inside.
"""

import importlib.util
import io
import logging
import warnings
from typing import Any

import torch
from torch import Tensor

from unetpipe.errors import ConfigError, IntegrityError
from unetpipe.network.same_size import SameSizeUNet
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Zyx, as_zyx
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)

OPSET = 18
# Files are compared with the network at sizes that they were not traced with.
LARGEST_DIFFERENCE = 1e-5


def export_wrapper_arguments(spec: UNetSpec) -> dict[str, Any]:
    """Return the arguments of ``SameSizeUNet`` for an architecture, as plain values.

    Raises
    ------
    ConfigError
        If the network is volumetric, or learnt affinities.
    """
    if spec.ndim != 2:
        raise ConfigError(
            "network.ndim is 3; only networks of single sections (ndim 2) can be "
            "exported yet: set export_model.enabled to false"
        )
    if spec.has_affinities:
        raise ConfigError(
            "network.targets is affinities, which other programs have no use for; only "
            "networks that tell classes apart are exported: set export_model.enabled "
            "to false"
        )
    grid, halo = spec.pooling_grid, spec.halo
    shape = as_zyx(n + t for n, t in zip(grid, halo.total, strict=True))
    output, start = spec.output_shape(shape), spec.output_offset
    return {
        "channels": [spec.in_channels, spec.out_channels],
        "widths": [spec.channels(level) for level in range(spec.depth + 1)],
        "pooling": [list(p[1:]) for p in spec.pooling],
        "crops": _crops(spec, shape),
        "margins": [[halo.before[k], halo.after[k]] for k in (1, 2)],
        "cuts": [[start[k], output[k] - grid[k] - start[k]] for k in (1, 2)],
        "padding": int(spec.padding == "same"),
        "has_norm": spec.normalization == "batch",
    }


def export_tile_rule(spec: UNetSpec) -> dict[str, int]:
    """Return which sizes the wrapper accepts, and how others should cut tiles.

    Returns
    -------
    dict
        ``step``: sides are multiples of it; ``halo``: what to drop at the edges of a
        tile, also a multiple; ``min``: the smallest side.
    """
    step = max(spec.pooling_grid[1:])
    reach = max(*spec.halo.before[1:], *spec.halo.after[1:])
    halo = -(-reach // step) * step
    return {"step": step, "halo": halo, "min": 2 * halo + step}


def wrap_network(network: UNet) -> SameSizeUNet:
    """Return the same-size wrapper with the network's weights, ready to predict."""
    wrapper = SameSizeUNet(**export_wrapper_arguments(network.spec))
    wrapper.load_state_dict(network.state_dict())
    return wrapper.eval()


def as_torchscript(wrapper: SameSizeUNet, example: Tensor, step: int) -> bytes:
    """Return the wrapper as TorchScript, and check it at two other sizes.

    Raises
    ------
    IntegrityError
        If the file computes something else than the network.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is called deprecated
        buffer = io.BytesIO()
        jit: Any = torch.jit  # untyped
        jit.save(jit.trace(wrapper, example), buffer)
        loaded = jit.load(io.BytesIO(buffer.getvalue()))
    for more_y, more_x in ((step, 0), (2 * step, 3 * step)):
        other = torch.nn.functional.pad(example, [0, more_x, 0, more_y], mode="reflect")
        with torch.no_grad():
            expected, found = wrapper(other), loaded(other)
        if expected.shape != found.shape or not torch.allclose(
            expected, found, atol=LARGEST_DIFFERENCE, rtol=0
        ):
            raise IntegrityError(
                f"the traced network differs from the network at the size "
                f"{tuple(other.shape[2:])} (y, x); export with another torch than "
                f"{torch.__version__}"
            )
    return buffer.getvalue()


def has_onnx() -> bool:
    """Return whether the extra ``export`` is installed."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript"))


def to_onnx(wrapper: SameSizeUNet, example: Tensor, step: int) -> bytes:
    """Return the wrapper as ONNX with free height, width and batch size."""
    height, width = (step * torch.export.Dim(name) for name in ("rows", "columns"))
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts
        program = torch.onnx.export(
            wrapper,
            (torch.cat([example, example]),),  # a batch of one would become a constant
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["probability"],
            dynamic_shapes=({0: batch, 2: height, 3: width},),
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _crops(spec: UNetSpec, shape: Zyx) -> list[list[int]]:
    """Return what the skip connection of each level loses on either side, (y, x)."""
    skips = [layer.out_shape for layer in spec.layers(shape) if layer.saved]
    ups = [layer.out_shape for layer in spec.layers(shape) if layer.kind == "up"]
    return [
        [(skip[k] - up[k]) // 2 for k in (1, 2)]
        for skip, up in zip(skips, reversed(ups), strict=True)
    ]
