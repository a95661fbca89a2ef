"""The files of a packed network: weights, a test image and its answer, their text."""

import inspect
import io
import logging

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.network import same_size
from unetpipe.network.bioimageio import EPSILON, Files, npy_bytes
from unetpipe.network.formats import as_torchscript, has_onnx, to_onnx, wrap_network
from unetpipe.network.unet import UNet
from unetpipe.records.model import Model
from unetpipe.records.volume import deviations_between
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)


def files_of_model_package(
    network: UNet,
    image: NDArray[np.float32],
    step: int,
    documentation: str,
    percentiles: tuple[float, float] | None = None,
) -> Files:
    """Return the package's files: weights, test image and answer, documentation."""
    wrapper = wrap_network(network)
    normalised = torch.from_numpy(_normalise(image, percentiles))
    with torch.no_grad():
        probability = wrapper(normalised).numpy()
    state = io.BytesIO()
    torch.save(wrapper.state_dict(), state)
    files: Files = {
        "weights.pt": state.getvalue(),
        "weights.torchscript.pt": as_torchscript(wrapper, normalised, step),
        "same_size.py": inspect.getsource(same_size).encode(),
        "test_input.npy": npy_bytes(image),
        "test_output.npy": npy_bytes(probability),
        "README.md": documentation.encode(),
        "cover.png": _cover(image, probability),
    }
    if has_onnx():
        files["weights.onnx"] = to_onnx(wrapper, normalised, step)
    else:
        log.warning(
            "the package has no ONNX file: install the extra with "
            "`pip install unetpipe[export]` and repeat"
        )
    return files


def _normalise(
    image: NDArray[np.float32], percentiles: tuple[float, float] | None
) -> NDArray[np.float32]:
    """Normalise each channel as the package says."""
    if percentiles:
        low, high = np.percentile(image, percentiles, axis=(2, 3), keepdims=True)
        half = deviations_between(percentiles)
        scaled = (image - low) / (high - low + EPSILON) * (2 * half) - half
        return np.asarray(scaled, np.float32)
    mean = image.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    std = image.std(axis=(2, 3), keepdims=True, dtype=np.float64)
    normal: NDArray[np.float32] = ((image - mean) / (std + EPSILON)).astype(np.float32)
    return normal


def _cover(image: NDArray[np.float32], probability: NDArray[np.float32]) -> bytes:
    """Return a picture of image and last class side by side, as PNG."""
    grey = image[0, 0] - image[0, 0].min()
    grey = grey * (255 / max(1.0, float(grey.max())))
    both = np.concatenate([grey, 255 * probability[0, -1]], axis=1)
    return bytes(imagecodecs.png_encode(both.round().astype(np.uint8)))


def model_channel_names(spec: UNetSpec) -> list[str]:
    """Return what the output's channels are called."""
    if spec.head == "sigmoid":
        return ["foreground"]
    if spec.has_cores:
        return ["background", "core", "rim"]
    return [f"class{k}" for k in range(spec.num_classes)]


def document_network(name: str, description: Model) -> str:
    """Return the text that goes with a network: how it was scored, its thresholds."""
    scores = "".join(
        f"- {metric}: {score:.4f}\n"
        for metric, score in sorted(description.validation.items())
    )
    thresholds = "".join(
        f"- {metric}: {value:g}\n"
        for metric, value in sorted(description.thresholds.items())
    )
    size = description.voxel_size_nm
    scale = f"It learnt at {size[1]:g} x {size[2]:g} nm a pixel. " if size else ""
    normal = "brought to mean 0 and standard deviation 1"
    if ranks := description.percentiles:
        normal = f"normalised between its percentiles {ranks[0]:g} and {ranks[1]:g}"
    return (
        f"# {name}\n\nA U-Net (Ronneberger, Fischer, Brox 2015), trained by unetpipe. "
        f"{scale}The image is {normal}; the output are probabilities, as large as the "
        "image.\n\n# Validation\n\n"
        "On sections that chose the checkpoint and thresholds, not on test sections:"
        f"\n\n{scores or '- no section was held out for validation'}\n\n"
        f"Thresholds chosen there:\n\n{thresholds or '- none'}\n"
    )
