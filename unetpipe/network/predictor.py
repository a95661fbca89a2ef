"""Tiles in, quantised probabilities out: the forward pass of overlap-tile prediction.

Shape suffixes: N tiles, C channels, K classes, Z Y X voxels.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import ConfigError, DataError
from unetpipe.network.determinism import repeatable_convolutions
from unetpipe.network.devices import has_arithmetic
from unetpipe.network.emulation import RoundedConvolutions
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.openvino_network import OpenVinoUNet
from unetpipe.network.unet import UNet, activate
from unetpipe.tiling.assembly import BlockVoxels, Canvas, assemble_tile
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import (
    Statistic,
    normalise,
)
from unetpipe.tiling.orientations import ORIENTATIONS, Orientation, widest_halo
from unetpipe.tiling.unet_spec import UNetSpec, is_nearest_offset

NO_AVERAGE = (
    "prediction.average asks for several orientations, but network.targets is "
    "affinities, whose pairs another orientation would lay elsewhere; use average 1"
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TilePredictor:
    """A network ready to turn tiles into quantised probabilities.

    Parameters
    ----------
    network : UNet, Ensemble or OpenVinoUNet
        In evaluation mode; moved to the device.
    precision : "fp32", "bf16" or "fp16"
        Arithmetic of the convolutions; the softmax is always fp32.
    device : torch.device
        Where to compute.
    orientations : sequence of int
        Of ``ORIENTATIONS``, in rising order: their probabilities are averaged.
    is_compiled : bool
        Run the network through ``torch.compile``.
    autotune : bool
        Let cuDNN time its algorithms on the one tile shape; see ``PredictionConfig``.
    """

    def __init__(
        self,
        network: UNet | Ensemble | OpenVinoUNet,
        *,
        precision: str = "fp32",
        device: torch.device | None = None,
        orientations: Sequence[int] = (0,),
        is_compiled: bool = False,
        autotune: bool = False,
    ) -> None:
        self.spec = network.spec
        if self.spec.has_affinities and tuple(orientations) != (0,):
            raise ConfigError(NO_AVERAGE)
        self.device = device or torch.device("cpu")
        self.precision, self.dtype = precision, DTYPES[precision]
        self.orientations = tuple(ORIENTATIONS[number] for number in orientations)
        self.halo = widest_halo(orientations, self.spec.halo)
        self.num_tiles = 0
        layout = torch.channels_last if self.spec.ndim == 2 else torch.channels_last_3d
        self.network = network.eval().to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self._layout = layout
        self.is_compiled = is_compiled
        self._autotune = autotune
        self._run = self.network
        if is_compiled:
            # CUDA graphs on a GPU; no autotuning, which may round otherwise each time.
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._run = torch.compile(self.network, mode=mode, dynamic=False)

    @property
    def num_channels(self) -> int:
        """Stored probability channels: for two classes the foreground, and a core.

        Of affinities: the foreground, and each of them.
        """
        return self.spec.num_probabilities

    @property
    def has_classes(self) -> bool:
        """Whether the most probable class is stored beside the probabilities."""
        return self.spec.num_classes > 2

    def tile_shape(self, stride: Zyx) -> Zyx:
        """Return what is read for a tile: the stride and the halo of all frames."""
        return as_zyx(s + h for s, h in zip(stride, self.halo.total, strict=True))

    def probabilities(self, tiles_NCZYX: NDArray[np.float32]) -> Tensor:
        """Return what the network makes of whole tiles: float32 (n, k, z, y, x).

        ``k`` is 1 (the foreground) for two classes, 2 (and the core of a cell) where
        the network learns cores, and the foreground with each affinity where it learns
        those. One pass, as the tiles lie; not cropped to the kept region.
        """
        tiles = torch.from_numpy(np.ascontiguousarray(tiles_NCZYX))
        return self._forward(tiles.to(self.device))

    def predict_tiles(
        self, tiles_NCZYX: NDArray[np.float32], stride: Zyx
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict the kept region of tiles.

        Parameters
        ----------
        tiles_NCZYX : float32 array, shape (n, c, z, y, x)
            Normalised grey values of ``tile_shape(stride)``.
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
        tiles = torch.from_numpy(np.ascontiguousarray(tiles_NCZYX)).to(self.device)
        stored, is_finite = self.quantised(tiles, stride)
        check_finite(is_finite.cpu().numpy())
        return self.split(stored.cpu().numpy())

    def quantised(
        self,
        tiles_NCZYX: Tensor,
        stride: Zyx,
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict the kept region of tiles that lie on the device; waits for nothing.

        Parameters
        ----------
        tiles_NCZYX : tensor, shape (n, c, z, y, x)
            Grey values of ``tile_shape(stride)``: as stored with ``mean`` and ``std``
            (float32, shape (c,)), else normalised float32.

        Returns
        -------
        stored : uint8 tensor, shape (n, k, *stride)
            round(255 p); for more than two classes the class is one channel more.
        is_finite : bool tensor, shape (n,)
            Whether all of a tile's probabilities are numbers.
        """
        with torch.inference_mode():
            tiles = tiles_NCZYX.to(torch.float32)
            if mean is not None and std is not None:
                # The same two roundings as intensity.normalise, on the device.
                scale = (1 / std).view(-1, 1, 1, 1)
                tiles = (tiles - mean.view(-1, 1, 1, 1)).mul_(scale)
            probability = self._average(tiles, stride)
            is_finite = torch.isfinite(probability).flatten(1).all(dim=1)
            stored = (probability * 255).round_().to(torch.uint8)
            if self.has_classes:
                chosen = probability.argmax(dim=1, keepdim=True).to(torch.uint8)
                stored = torch.cat([stored, chosen], dim=1)
        self.num_tiles += len(tiles_NCZYX)
        return stored, is_finite

    def split(
        self, stored_NKZYX: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return probabilities and classes of what ``quantised`` made."""
        if not self.has_classes:
            return stored_NKZYX, None
        return stored_NKZYX[:, :-1], stored_NKZYX[:, -1]

    def predict_block(
        self,
        source: NDArray[Any],
        origin: Zyx,
        block: Roi,
        grids: TileGrids,
        *,
        mean: Statistic,
        std: Statistic,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict one block tile by tile, in this thread alone.

        Parameters
        ----------
        source : array, shape (c, z, y, x)
            The real voxels that the block's tiles see, as stored.
        origin : (z, y, x)
            Where ``source`` begins in the volume.
        block : Roi
            The block's write ROI, clipped to the volume.
        grids : TileGrids
            The volume's one tile grid.
        mean, std : float arrays, shape (c,)
            Intensity statistics of the whole volume.

        Returns
        -------
        As ``predict_tiles``, without the leading axis: (k, *block.shape), and
        (*block.shape) or None.
        """
        voxels = BlockVoxels(0, block, tuple(grids.tiles(block)), source, origin)
        canvas = Canvas(voxels, self.num_channels, has_classes=self.has_classes)
        shape = (1, len(source), *self.tile_shape(grids.stride))
        for tile in voxels.tiles:
            seen = np.empty(shape, source.dtype)
            assemble_tile(voxels, tile, self.halo, grids, seen[0])
            grey = normalise(seen[0], mean=mean, std=std)
            try:
                kept, classes = self.predict_tiles(grey[None], grids.stride)
            except DataError as error:
                raise DataError(f"tile at z, y, x = {tile.start}: {error}") from error
            canvas.paste(tile, kept[0], None if classes is None else classes[0])
        finished = canvas.finish()
        return finished.probability, finished.classes

    def _average(self, tiles: Tensor, stride: Zyx) -> Tensor:
        """Return the mean probability over the orientations: (n, k, *stride).

        Summed in float32 and always in the same order, so that the bits do not depend
        on the order in which somebody listed them.
        """
        total: Tensor | None = None
        for orientation in self.orientations:
            seen = self._lay(tiles, stride, orientation)
            probability = self._forward(seen)
            kept = orientation.lay(stride)
            for axis, (start, length) in enumerate(
                zip(self.spec.output_offset, kept, strict=True), start=2
            ):
                probability = probability.narrow(axis, start, length)
            probability = _lay_back(probability, orientation)
            if self.is_compiled and len(self.orientations) > 1:
                # What a graph returns is its own buffer, and its next replay's too.
                probability = probability.clone()
            total = probability if total is None else total + probability
        assert total is not None
        return total / len(self.orientations) if len(self.orientations) > 1 else total

    def _lay(self, tiles: Tensor, stride: Zyx, orientation: Orientation) -> Tensor:
        """Cut out what an orientation sees, and lay it before the network."""
        halo = orientation.halo(self.spec.halo)
        for axis in range(3):
            start = self.halo.before[axis] - halo.before[axis]
            tiles = tiles.narrow(axis + 2, start, stride[axis] + halo.total[axis])
        flipped = [-2] * orientation.flips_y + [-1] * orientation.flips_x
        tiles = tiles.flip(flipped) if flipped else tiles
        return tiles.transpose(-1, -2) if orientation.is_turned else tiles

    def _convolutions(self) -> AbstractContextManager[None]:
        if self.device.type == "cpu":
            is_native = has_arithmetic(self.device, self.precision)
            return nullcontext() if is_native else RoundedConvolutions(self.dtype)
        return repeatable_convolutions(autotune=self._autotune)

    def _forward(self, tiles: Tensor) -> Tensor:
        flat = self.spec.ndim == 2
        tiles = tiles.squeeze(2) if flat else tiles
        reduced = self.dtype != torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, self.dtype, enabled=reduced),
            self._convolutions(),
        ):
            output = self._run(tiles.contiguous(memory_format=self._layout))
        with torch.inference_mode():
            is_ensemble = isinstance(self.network, Ensemble)
            probability = output if is_ensemble else activate(output, self.spec)
            if self.spec.has_affinities:
                probability = _with_foreground(probability, self.spec)
            elif self.spec.has_cores:
                background, core = probability[:, :1], probability[:, 1:2]
                probability = torch.cat([1 - background, core], dim=1)
            elif self.spec.num_classes == 2 and self.spec.head == "softmax":
                probability = probability[:, 1:]
        return probability.unsqueeze(2) if flat else probability


def _with_foreground(affinities: Tensor, spec: UNetSpec) -> Tensor:
    """Return the mean of a voxel's nearest pairs, then all: (n, 1 + k, ...).

    Always in the same order: a network's bits do not depend on tiles.
    """
    places = [k for k, o in enumerate(spec.affinity_offsets) if is_nearest_offset(o)]
    total = affinities[:, places[0]]
    for k in places[1:]:
        total = total + affinities[:, k]
    return torch.cat([(total / len(places)).unsqueeze(1), affinities], dim=1)


def check_finite(is_finite: NDArray[np.bool_]) -> None:
    """Raise DataError unless all probabilities were numbers."""
    if not is_finite.all():
        raise DataError(
            "the network's output is not finite; look for NaN in the image, or "
            "predict with precision fp32"
        )


def _lay_back(maps: Tensor, orientation: Orientation) -> Tensor:
    maps = maps.transpose(-1, -2) if orientation.is_turned else maps
    flipped = [-2] * orientation.flips_y + [-1] * orientation.flips_x
    return maps.flip(flipped) if flipped else maps
