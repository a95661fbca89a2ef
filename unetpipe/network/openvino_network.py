"""A network that OpenVINO computes on a processor, in torch's clothes.

Only the convolutions are OpenVINO's: normalising, softmax, averages and rounding are
those of every other prediction.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unetpipe.errors import IntegrityError
from unetpipe.network.devices import describe_device
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.openvino_graph import import_openvino, make_openvino_graph
from unetpipe.network.quantisation import (
    pack_quantised_network,
    unpack_quantised_network,
)
from unetpipe.network.unet import UNet
from unetpipe.records.prediction import Identity
from unetpipe.runtime.files import hash_file
from unetpipe.tiling.unet_spec import UNetSpec

# int8 is in the graph; what stays in floating point must not become bf16 by itself.
FLOATING = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# Orientations lay a tile in two shapes; validation sections have some more.
SHAPES_KEPT = 4


class OpenVinoUNet(nn.Module):
    """One U-Net as a graph of OpenVINO, compiled for each shape of tiles that it meets.

    Parameters
    ----------
    spec : UNetSpec
        The architecture.
    graph : openvino.Model
        From ``make_openvino_graph`` or ``unpack_quantised_network``.
    precision : "fp32", "bf16" or "int8"
        Arithmetic of the convolutions.
    """

    def __init__(self, spec: UNetSpec, graph: Any, precision: str) -> None:
        super().__init__()
        self.spec = spec
        self._graph, self._precision = graph, precision
        self._core = import_openvino("openvino").Core()
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the network itself: it has no state that anybody could change."""
        return self

    def __reduce__(self) -> Any:
        """Return how another process makes it; compiled graphs do not travel."""
        return _unpacked, (
            self.spec,
            pack_quantised_network(self._graph),
            self._precision,
        )

    def forward(self, image_NCYX: Tensor) -> Tensor:
        """Return logits: float32 (n, k, y, x), in as many threads as torch has."""
        tiles: NDArray[np.float32] = np.ascontiguousarray(image_NCYX.float().numpy())
        return torch.from_numpy(self._compile(tiles.shape)(tiles)[0])

    def _compile(self, shape: tuple[int, ...]) -> Any:
        """Return the graph for one shape of tiles, ready to run."""
        threads = torch.get_num_threads()
        key = (threads, *shape)
        if key not in self._compiled:
            graph = self._graph.clone()
            graph.reshape(list(shape))
            wanted = {
                "INFERENCE_PRECISION_HINT": FLOATING[self._precision],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                # Others compute on this machine too.
                "ENABLE_CPU_PINNING": False,
            }
            while len(self._compiled) >= SHAPES_KEPT:
                self._compiled.popitem(last=False)
            self._compiled[key] = self._core.compile_model(graph, "CPU", wanted)
        self._compiled.move_to_end(key)
        return self._compiled[key]


def _unpacked(spec: UNetSpec, content: bytes, precision: str) -> OpenVinoUNet:
    return OpenVinoUNet(spec, unpack_quantised_network(content), precision)


def on_openvino(
    network: UNet | Ensemble, precision: str, quantised: Sequence[bytes] = ()
) -> OpenVinoUNet | Ensemble:
    """Return a network as OpenVINO computes it.

    Parameters
    ----------
    network : UNet or Ensemble
        With its weights; it stays as it is.
    precision : "fp32", "bf16" or "int8"
        Arithmetic of the convolutions.
    quantised : sequence of bytes
        With int8: what ``quantise`` made, of each member.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is not installed.
    """
    if isinstance(network, Ensemble):
        joined = Ensemble(network.spec, 0)
        parts: Sequence[bytes | None] = quantised or [None] * len(network.members)
        joined.members = nn.ModuleList(
            _one(member, precision, content)
            for member, content in zip(network.members, parts, strict=True)
        )
        return joined
    return _one(network, precision, quantised[0] if quantised else None)


def on_backend(
    network: UNet | Ensemble, identity: Identity, quantised: Sequence[Path]
) -> UNet | Ensemble | OpenVinoUNet:
    """Return a network as the backend of a prediction computes it.

    Parameters
    ----------
    network : UNet or Ensemble
        With its weights.
    identity : Identity
        Of the prediction.
    quantised : sequence of Path
        With int8: the files of ``calibrate_network``, of each member.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is wanted and not installed.
    IntegrityError
        If a file is not the one that was planned with.
    """
    if identity.backend != "openvino":
        return network
    contents = read_quantised(quantised, identity.calibration_sha256)
    return on_openvino(network, identity.precision, contents)


def read_quantised(files: Sequence[Path], wanted: Sequence[str]) -> list[bytes]:
    """Return the contents of files that ``calibrate_network`` wrote.

    Raises
    ------
    IntegrityError
        If a file has another hash than it should.
    """
    for path, expected in zip(files, wanted, strict=True):
        if hash_file(path) != expected:
            raise IntegrityError(
                f"{path} is not the network in int8 that was calibrated and planned "
                "with; delete it and repeat the same command"
            )
    return [path.read_bytes() for path in files]


def _one(network: Any, precision: str, content: bytes | None) -> OpenVinoUNet:
    graph = (
        make_openvino_graph(network)
        if content is None
        else unpack_quantised_network(content)
    )
    return OpenVinoUNet(network.spec, graph, precision)


def torch_precision(network: nn.Module, precision: str) -> str:
    """Return the precision of torch's share: fp32 where OpenVINO has the rest."""
    is_served = any(isinstance(part, OpenVinoUNet) for part in network.modules())
    return "fp32" if is_served else precision


def describe_backend(device: torch.device, backend: str, precision: str) -> str:
    """Return the kind of a device: results of one kind and backend agree."""
    if backend != "openvino":
        return describe_device(device, precision)
    cpu: Any = torch.cpu
    more = {"VNNI": cpu._is_vnni_supported(), "AMX": cpu._is_amx_tile_supported()}
    names = [torch.backends.cpu.get_cpu_capability(), *(n for n in more if more[n])]
    return f"cpu (openvino, {' '.join(names)})"


def openvino_precisions() -> set[str]:
    """Return the precisions that this processor has arithmetic for.

    Raises
    ------
    ConfigError
        If the extra ``openvino`` is not installed.
    """
    core = import_openvino("openvino").Core()
    can: list[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"fp32", "int8"} | ({"bf16"} if "BF16" in can else set())
