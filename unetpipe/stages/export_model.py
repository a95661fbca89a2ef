"""Rule export_model: a trained network as a bioimage.io package."""

import inspect
import io
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.config import ExportConfig
from unetpipe.errors import ConfigError
from unetpipe.network import same_size
from unetpipe.network.bioimageio import Files, ModelCard, as_npy, describe_model, pack
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.formats import (
    OPSET,
    has_onnx,
    script,
    tile_rule,
    to_onnx,
    wrap,
    wrapper_arguments,
)
from unetpipe.network.unet import UNet
from unetpipe.network.weights import load_network
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import ModelPackage, TileRule
from unetpipe.records.model import Model
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import (
    hash_file,
    write_bytes_atomic,
)
from unetpipe.storage.volumes import open_volume, read_roi
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.mirroring import (
    mirror_source,
    mirror_take,
)
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)

TEST_SIDE = 256  # voxels of the test image, rounded up to a legal size
EPSILON = 1e-6  # that zero_mean_unit_variance adds to the standard deviation


def export_model(
    *,
    model: Path,
    model_json: Path,
    ingest: Path,
    section: int,
    name: str,
    export: ExportConfig,
    package: Path,
    record: Path,
) -> None:
    """Pack a network so that ilastik, deepImageJ, QuPath and others can run it.

    The package holds a same-size wrapper as weights, as TorchScript and, with the extra
    ``export`` installed, as ONNX, and a test image with the network's answer.

    Parameters
    ----------
    model, model_json : Path
        The network.
    ingest : Path
        ``ingest.json`` of a volume to take the test image from.
    section : int
        Of that volume.
    name : str
        Of the model.
    export : ExportConfig
        Authors, licence.
    package : Path
        The zip to write.
    record : Path
        ``export.json``, written last.

    Raises
    ------
    ConfigError
        If the network is volumetric, or an ensemble.
    IntegrityError
        If the traced network computes something else.
    """
    began = time.monotonic()
    description = Model.read(model_json)
    network = load_network(model, description)
    if isinstance(network, Ensemble):
        raise ConfigError(
            f"{model} is an ensemble of {len(network.members)} networks, which other "
            "programs cannot open as one; export one of its members"
        )
    spec = network.spec
    rule = tile_rule(spec)
    image = _test_image(IngestedVolume.read(ingest), section, rule)
    files = _pack_files(network, image, rule["step"], _documentation(name, description))
    now = datetime.now(UTC)
    content = pack(
        files,
        describe_model(
            files,
            ModelCard(
                name=name,
                authors=export.authors,
                licence=export.licence or "",
                class_names=_class_names(spec),
                num_channels=spec.in_channels,
                timestamp=now.isoformat(timespec="seconds"),
            ),
            tile_rule=rule,
            architecture={
                "callable": same_size.SameSizeUNet.__name__,
                "kwargs": wrapper_arguments(spec),
            },
            versions={"torch": torch.__version__.split("+")[0], "opset": OPSET},
        ),
    )
    write_bytes_atomic(package, content)
    ModelPackage(
        package=package,
        package_sha256=hash_file(package),
        weights_sha256=description.weights_sha256,
        files={key: len(value) for key, value in files.items()},
        tile_rule=TileRule(**rule),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info("%s holds %.1f MB", package, len(content) / 1e6)


def _pack_files(
    network: UNet, image: NDArray[np.float32], step: int, documentation: str
) -> Files:
    """Return the package's files: weights, test image and answer, documentation."""
    wrapper, normalised = wrap(network), torch.from_numpy(_normalise(image))
    with torch.no_grad():
        probability = wrapper(normalised).numpy()
    state = io.BytesIO()
    torch.save(wrapper.state_dict(), state)
    files: Files = {
        "weights.pt": state.getvalue(),
        "weights.torchscript.pt": script(wrapper, normalised, step),
        "same_size.py": inspect.getsource(same_size).encode(),
        "test_input.npy": as_npy(image),
        "test_output.npy": as_npy(probability),
        "README.md": documentation.encode(),
        "cover.png": _cover(image, probability),
    }
    if has_onnx():
        files["weights.onnx"] = to_onnx(wrapper, normalised, step)
    else:
        log.warning(
            "the package has no ONNX file: install the extra with "
            "`pip install -e .[export]` and repeat"
        )
    return files


def _test_image(
    volume: IngestedVolume, section: int, rule: dict[str, int]
) -> NDArray[np.float32]:
    """Return the middle of a section, (1, c, y, x), mirrored where it is too small."""
    step = rule["step"]
    side = max(rule["min"], -(-TEST_SIDE // step) * step)
    depth, height, width = volume.shape
    y, x = ((n - side) // 2 for n in (height, width))
    roi = Roi((section, y, x), (section + 1, y + side, x + side))
    source = mirror_source(roi, (depth, height, width))
    real = read_roi(open_volume(volume.image.store), source)
    cut = mirror_take(real, source.start, roi, (depth, height, width))
    image: NDArray[np.float32] = np.ascontiguousarray(cut[:, 0], np.float32)[None]
    return image


def _normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring each channel to mean 0 and standard deviation 1, as the package says."""
    mean = image.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    std = image.std(axis=(2, 3), keepdims=True, dtype=np.float64)
    normal: NDArray[np.float32] = ((image - mean) / (std + EPSILON)).astype(np.float32)
    return normal


def _class_names(spec: UNetSpec) -> list[str]:
    if spec.head == "sigmoid":
        return ["foreground"]
    return [f"class{k}" for k in range(spec.num_classes)]


def _documentation(name: str, description: Model) -> str:
    scores = "".join(
        f"- {metric}: {score:.4f}\n"
        for metric, score in sorted(description.validation.items())
    )
    thresholds = "".join(
        f"- {metric}: {value:g}\n"
        for metric, value in sorted(description.thresholds.items())
    )
    return (
        f"# {name}\n\nA U-Net (Ronneberger, Fischer, Brox 2015), trained by unetpipe. "
        "The image is brought to mean 0 and standard deviation 1; the output are "
        "probabilities, as large as the image.\n\n# Validation\n\n"
        "On sections that chose the checkpoint and thresholds, not on test sections:"
        f"\n\n{scores or '- no section was held out for validation'}\n\n"
        f"Thresholds chosen there:\n\n{thresholds or '- none'}\n"
    )


def _cover(image: NDArray[np.float32], probability: NDArray[np.float32]) -> bytes:
    """Return a picture of image and last class side by side, as PNG."""
    grey = image[0, 0] - image[0, 0].min()
    grey = grey * (255 / max(1.0, float(grey.max())))
    both = np.concatenate([grey, 255 * probability[0, -1]], axis=1)
    return bytes(imagecodecs.png_encode(both.round().astype(np.uint8)))
