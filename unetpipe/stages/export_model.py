"""Rule export_model: a trained network as a bioimage.io package."""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.config import ExportConfig
from unetpipe.errors import ConfigError
from unetpipe.network import same_size
from unetpipe.network.bioimageio import ModelCard, describe_model, pack_bioimage_model
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.formats import OPSET, export_tile_rule, export_wrapper_arguments
from unetpipe.network.package_files import (
    document_network,
    files_of_model_package,
    model_channel_names,
)
from unetpipe.network.weights import load_network
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import ModelPackage, TileRule
from unetpipe.records.model import Model
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import (
    hash_file,
    write_bytes_atomic,
)
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.mirroring import (
    mirror_source,
    mirror_take,
)

log = logging.getLogger(__name__)

TEST_SIDE = 256  # voxels of the test image, rounded up to a legal size


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
    rule = export_tile_rule(spec)
    image = _test_image(IngestedVolume.read(ingest), section, rule)
    ranks, text = description.percentiles, document_network(name, description)
    files = files_of_model_package(network, image, rule["step"], text, ranks)
    now = datetime.now(UTC)
    content = pack_bioimage_model(
        files,
        describe_model(
            files,
            ModelCard(
                name=name,
                authors=export.authors,
                licence=export.licence or "",
                class_names=model_channel_names(spec),
                num_channels=spec.in_channels,
                timestamp=now.isoformat(timespec="seconds"),
                pixel_size_nm=description.voxel_size_nm
                and description.voxel_size_nm[1:],
                percentiles=ranks,
            ),
            tile_rule=rule,
            architecture={
                "callable": same_size.SameSizeUNet.__name__,
                "kwargs": export_wrapper_arguments(spec),
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
    real = read_stored_roi(open_volume(volume.image.store), source)
    cut = mirror_take(real, source.start, roi, (depth, height, width))
    image: NDArray[np.float32] = np.ascontiguousarray(cut[:, 0], np.float32)[None]
    return image
