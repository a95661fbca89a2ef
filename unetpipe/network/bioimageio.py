"""A bioimage.io package (model description 0.5): files, their description, one zip.

Written by our own code, from the specification; ``make test-export`` lets the
reference library test a package in an environment of its own.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from unetpipe.records.volume import deviations_between

FORMAT_VERSION = "0.5.4"
EPSILON = 1e-6  # that normalising adds to what it divides by
EPOCH = (1980, 1, 1, 0, 0, 0)  # of all members: the same content, the same zip
PAPER = {
    "text": "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical "
    "Image Segmentation. MICCAI 2015.",
    "doi": "10.1007/978-3-319-24574-4_28",
}

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a package says of its model.

    Attributes
    ----------
    name, authors, licence : str, tuple of str, str
        Of the model; the licence as an SPDX identifier.
    class_names : list of str
        Of the output's channels.
    num_channels : int
        Of the image.
    timestamp : str
        When it was written, ISO 8601.
    pixel_size_nm : (y, x) or None
        That it has learnt at; None: nobody knows.
    percentiles : (low, high) or None
        In percent, that images are normalised by; None: by mean and deviation.
    """

    name: str
    authors: tuple[str, ...]
    licence: str
    class_names: list[str]
    num_channels: int
    timestamp: str
    pixel_size_nm: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None


def describe_model(
    files: Files,
    card: ModelCard,
    *,
    tile_rule: dict[str, int],
    architecture: dict[str, Any],
    versions: dict[str, Any],
) -> dict[str, Any]:
    """Return the content of ``rdf.yaml``.

    Parameters
    ----------
    files : dict
        Name -> content: ``weights.pt``, ``weights.torchscript.pt``, perhaps
        ``weights.onnx``, ``same_size.py``, ``test_input.npy``, ``test_output.npy``,
        ``README.md``, ``cover.png``.
    card : ModelCard
        Name, authors, channels.
    tile_rule : dict
        ``min``, ``step``, ``halo``: see ``formats.export_tile_rule``.
    architecture : dict
        ``callable`` and ``kwargs`` of the network in ``same_size.py``.
    versions : dict
        ``torch``, and ``opset`` of the ONNX file.
    """
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": card.name,
        "description": "A U-Net, trained by unetpipe; its output is as large as its "
        "input.",
        "authors": [{"name": author} for author in card.authors],
        "cite": [PAPER],
        "license": card.licence,
        "tags": ["unet", "segmentation", "2d", "pytorch"],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "timestamp": card.timestamp,
        "inputs": [_describe_image(files, card, tile_rule)],
        "outputs": [_describe_probability(files, card, tile_rule["halo"])],
        "weights": _describe_weights(files, architecture, versions),
    }


def _describe_weights(
    files: Files, architecture: dict[str, Any], versions: dict[str, Any]
) -> dict[str, Any]:
    weights: dict[str, Any] = {
        "pytorch_state_dict": {
            **_file(files, "weights.pt"),
            "architecture": {**_file(files, "same_size.py"), **architecture},
            "pytorch_version": versions["torch"],
        },
        "torchscript": {
            **_file(files, "weights.torchscript.pt"),
            "pytorch_version": versions["torch"],
            "parent": "pytorch_state_dict",
        },
    }
    if "weights.onnx" in files:
        weights["onnx"] = {
            **_file(files, "weights.onnx"),
            "opset_version": versions["opset"],
            "parent": "pytorch_state_dict",
        }
    return weights


def _describe_image(
    files: Files, card: ModelCard, tile_rule: dict[str, int]
) -> dict[str, Any]:
    size = {"min": tile_rule["min"], "step": tile_rule["step"]}
    inside = {"type": "space", "size": size, "concatenable": True}
    channels = [f"channel{c}" for c in range(card.num_channels)]
    return {
        "id": "image",
        "description": "Grey values as the microscope gave them.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": channels},
            *({**inside, "id": axis, **_scale(card, axis)} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file(files, "test_input.npy"),
        "preprocessing": _describe_normalisation(card.percentiles),
    }


def _describe_normalisation(
    percentiles: tuple[float, float] | None,
) -> list[dict[str, Any]]:
    """Return the steps that bring grey values to what the network has learnt from."""
    axes = {"axes": ["y", "x"]}
    if percentiles is None:
        return [{"id": "zero_mean_unit_variance", "kwargs": axes}]
    low, high = percentiles
    between = {"min_percentile": low, "max_percentile": high}
    half = deviations_between(percentiles)
    return [
        {"id": "scale_range", "kwargs": {**axes, **between, "eps": EPSILON}},
        {"id": "scale_linear", "kwargs": {"gain": 2 * half, "offset": -half}},
    ]


def _describe_probability(files: Files, card: ModelCard, halo: int) -> dict[str, Any]:
    return {
        "id": "probability",
        "description": "Probability of each class, or of the foreground.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": card.class_names},
            *(
                {
                    "type": "space",
                    "id": axis,
                    "size": {"tensor_id": "image", "axis_id": axis},
                    "halo": halo,
                    **_scale(card, axis),
                }
                for axis in "yx"
            ),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": _file(files, "test_output.npy"),
    }


def _scale(card: ModelCard, axis: str) -> dict[str, Any]:
    """Return the length of a pixel along an axis, if it is known."""
    if card.pixel_size_nm is None:
        return {}
    return {"unit": "nanometer", "scale": card.pixel_size_nm["yx".index(axis)]}


def pack_bioimage_model(files: Files, description: dict[str, Any]) -> bytes:
    """Return the zip of all files and of ``rdf.yaml``."""
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"rdf.yaml": text.encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
    return buffer.getvalue()


def npy_bytes(array: NDArray[np.float32]) -> bytes:
    """Return an array as the content of an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _file(files: Files, name: str) -> dict[str, str]:
    """Return how a description names a file."""
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}
