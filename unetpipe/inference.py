"""Tiles in, quantised probabilities out: the forward pass of overlap-tile prediction.

Shape suffixes: N tiles, C channels, K classes, Z Y X voxels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from unetpipe.errors import DataError, IntegrityError, ResourceError
from unetpipe.geometry import Roi, Zyx, as_zyx, whole_volume
from unetpipe.intensity import mirror_take, normalise
from unetpipe.model import UNet, activate
from unetpipe.records import hash_file
from unetpipe.tiling import PredictionGeometry
from unetpipe.unet_spec import UNetSpec

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_network(weights: Path, description: dict[str, Any]) -> UNet:
    """Build the network of a ``model.json`` and load its weights.

    Raises
    ------
    IntegrityError
        If the weights file is not the one that the description was written for.
    """
    found = hash_file(weights)
    if found != description["weights_sha256"]:
        raise IntegrityError(
            f"{weights} has sha256 {found}, its model.json says "
            f"{description['weights_sha256']}; the file is damaged or replaced: "
            "restore it or train again"
        )
    network = UNet(UNetSpec.from_json(description["spec"]))
    network.load_state_dict(load_file(weights))
    return network.eval()


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ResourceError
        If ``cuda`` is wanted and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ResourceError(
            "device is cuda, but torch sees no CUDA device; use auto or cpu, or "
            "install a CUDA build of torch"
        )
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


class TilePredictor:
    """A network ready to turn tiles into quantised probabilities.

    Parameters
    ----------
    network : UNet
        In evaluation mode; moved to the device.
    precision : "fp32", "bf16" or "fp16"
        Arithmetic of the convolutions; the softmax is always fp32.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self,
        network: UNet,
        *,
        precision: str = "fp32",
        device: torch.device | None = None,
    ) -> None:
        self.spec = network.spec
        self.device = device or torch.device("cpu")
        self.dtype = DTYPES[precision]
        self.num_tiles = 0
        layout = torch.channels_last if self.spec.ndim == 2 else torch.channels_last_3d
        self.network = network.eval().to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self._layout = layout

    @property
    def num_channels(self) -> int:
        """Stored probability channels: the foreground alone for two classes."""
        return 1 if self.spec.num_classes == 2 else self.spec.num_classes

    def probabilities(self, tiles_NCZYX: NDArray[np.float32]) -> Tensor:
        """Return what the network makes of whole tiles: float32 (n, k, z, y, x).

        ``k`` is 1 (the foreground) for two classes. Not cropped to the kept region.
        """
        flat = self.spec.ndim == 2
        tiles = torch.from_numpy(np.ascontiguousarray(tiles_NCZYX))
        tiles = tiles.to(self.device, non_blocking=True)
        tiles = tiles.squeeze(2) if flat else tiles
        with (
            torch.inference_mode(),
            torch.autocast(
                self.device.type, self.dtype, enabled=self.dtype != torch.float32
            ),
        ):
            logits = self.network(tiles.contiguous(memory_format=self._layout))
        self.num_tiles += len(tiles_NCZYX)
        with torch.inference_mode():
            probability = activate(logits, self.spec)
            if self.spec.num_classes == 2 and self.spec.head == "softmax":
                probability = probability[:, 1:]
        return probability.unsqueeze(2) if flat else probability

    def predict_tiles(
        self, tiles_NCZYX: NDArray[np.float32], stride: Zyx
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict the kept region of tiles.

        Parameters
        ----------
        tiles_NCZYX : float32 array, shape (n, c, z, y, x)
            Normalised grey values of ``spec.input_shape_for(stride)``.
        stride : (z, y, x)
            What is kept of each tile.

        Returns
        -------
        probability : uint8 array, shape (n, k, *stride)
            round(255 p).
        classes : uint8 array, shape (n, *stride), or None
            The most probable class, taken before quantising; None for two classes.

        Raises
        ------
        DataError
            If a probability is not finite.
        """
        probability = self.probabilities(tiles_NCZYX)
        for axis, (start, length) in enumerate(
            zip(self.spec.output_offset, stride, strict=True), start=2
        ):
            probability = probability.narrow(axis, start, length)
        if not bool(torch.isfinite(probability).all()):
            raise DataError(
                "the network's output is not finite; look for NaN in the image, or "
                "predict with precision fp32"
            )
        classes = None
        if self.spec.num_classes > 2:
            classes = probability.argmax(dim=1).to(torch.uint8).cpu().numpy()
        quantised = (probability * 255).round().to(torch.uint8)
        return quantised.cpu().numpy(), classes

    def predict_block(
        self,
        source: NDArray[Any],
        origin: Zyx,
        block: Roi,
        geometry: PredictionGeometry,
        *,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict one block tile by tile.

        Parameters
        ----------
        source : array, shape (c, z, y, x)
            The real voxels that the block's tiles see, as stored.
        origin : (z, y, x)
            Where ``source`` begins in the volume.
        block : Roi
            The block's write ROI, clipped to the volume.
        geometry : PredictionGeometry
            The volume's one tile grid.
        mean, std : float32 arrays, shape (c,)
            Intensity statistics of the whole volume.

        Returns
        -------
        As ``predict_tiles``, without the leading axis: (k, *block.shape), and
        (*block.shape) or None.
        """
        probability = np.empty((self.num_channels, *block.shape), np.uint8)
        classes = np.empty(block.shape, np.uint8) if self.spec.num_classes > 2 else None
        for tile in geometry.tiles(block):
            seen = mirror_take(
                source, origin, tile.grow(self.spec.halo), geometry.volume_shape
            )
            grey = normalise(seen, mean=mean, std=std)
            try:
                kept, kept_classes = self.predict_tiles(grey[None], geometry.stride)
            except DataError as error:
                raise DataError(f"tile at z, y, x = {tile.start}: {error}") from error
            target = tile.intersect(block)
            inside = target.relative_to(tile.start).slices
            outside = target.relative_to(block.start).slices
            probability[(slice(None), *outside)] = kept[(0, slice(None), *inside)]
            if classes is not None and kept_classes is not None:
                classes[outside] = kept_classes[(0, *inside)]
        return probability, classes

    def predict_volume(
        self, image: NDArray[np.float32], geometry: PredictionGeometry
    ) -> NDArray[np.uint8]:
        """Predict a normalised volume in memory: uint8 (k, z, y, x)."""
        channels = image.shape[0]
        probability, _ = self.predict_block(
            image,
            (0, 0, 0),
            whole_volume(as_zyx(image.shape[1:])),
            geometry,
            mean=np.zeros(channels, np.float32),
            std=np.ones(channels, np.float32),
        )
        return probability
