"""A trained network in a notebook: from its folder to the probabilities of an array.

The workflow's own tiles and arithmetic, without its stores and records.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import PredictionConfig
from unetpipe.errors import DataError, ResourceError
from unetpipe.network.devices import choose_device
from unetpipe.network.engine import Engine
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.openvino_network import (
    OpenVinoUNet,
    on_openvino,
    read_quantised,
    torch_precision,
)
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.network.weights import load_network
from unetpipe.records.calibration import calibrated_hashes
from unetpipe.records.model import Model
from unetpipe.records.volume import GreyPercentiles, Intensity
from unetpipe.runtime.machine import GIB
from unetpipe.tiling.assembly import BlockVoxels
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, whole_volume
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.intensity import (
    IntensityStatistics,
    Statistic,
    mean_and_std,
)
from unetpipe.tiling.orientations import check_stride, choose_orientations
from unetpipe.tiling.percentiles import stream_percentiles
from unetpipe.tiling.quantised import threshold_or_default
from unetpipe.tiling.tile_size import CPU_MEMORY_GB, rank_tiles


@dataclass(frozen=True, slots=True)
class ChunkPredictor:
    """Predicts boxes of one volume, each by the tiles of the volume's one grid."""

    predictor: TilePredictor
    grids: TileGrids
    mean: Statistic
    std: Statistic
    batch_tiles: int

    def __call__(
        self, box: Roi, origin: Zyx, source: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict a box of whole tiles from the voxels that they see.

        Parameters
        ----------
        box : Roi
            Clipped to the volume.
        origin : (z, y, x)
            Where ``source`` begins in the volume.
        source : array, shape (c, z, y, x)
            Grey values as they are.
        """
        engine = Engine(
            self.predictor,
            self.grids,
            mean=self.mean,
            std=self.std,
            batch_tiles=self.batch_tiles,
        )
        voxels = BlockVoxels(0, box, tuple(self.grids.tiles(box)), source, origin)
        [predicted] = engine.predict_blocks([voxels])
        return predicted.probability, predicted.classes


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network, or an ensemble, ready to predict arrays.

    Attributes
    ----------
    predictor : TilePredictor
        The weights on their device.
    description : Model
        Its ``model.json``: recipe, thresholds, scores on the validation sections.
    precision : str
        Of the arithmetic: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
    orientations : tuple of int
        Whose probabilities are averaged.
    """

    predictor: TilePredictor
    description: Model
    precision: str
    orientations: tuple[int, ...]

    @property
    def threshold(self) -> float:
        """Foreground probability that scored best on validation sections, or 0.5."""
        return threshold_or_default(self.description.chosen_threshold)

    def predict(
        self,
        image: NDArray[Any],
        *,
        statistics: Sequence[Any] | None = None,
        stride: Zyx | None = None,
        batch_tiles: int = 1,
        memory_gb: float = CPU_MEMORY_GB,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Predict an array by overlapping tiles, mirrored at its faces (paper: Fig. 2).

        With the volume's own ``stride`` and ``batch_tiles`` (of ``plan.json``), threads
        and device these are the bits that the workflow stores. Of a dask array nothing
        is computed but what is asked of the result, which then are dask arrays with a
        batch of tiles in each chunk; their statistics, if not given, are taken at once.

        Parameters
        ----------
        image : integer or float array, shape (z, y, x) or (c, z, y, x)
            Grey values as they are, without NaN; NumPy's or dask's.
        statistics : sequence, optional
            Of each channel, as ``ingest.json`` has them, where the array is cut out of
            a volume; else those of the array itself: ``mean`` and ``std``, or the
            percentiles that the network has learnt with.
        stride : (z, y, x), optional
            What a tile keeps, in voxels; else the fastest that fits the memory.
        batch_tiles : int
            Tiles of a forward pass; another number may change last bits.
        memory_gb : float
            What the activations of a tile may take.

        Returns
        -------
        probability : uint8 array, shape (k, z, y, x)
            round(255 p); k is 1, the foreground, for two classes; 2, foreground and
            core of a cell, where the network learns cores (``network.targets``); where
            it learns affinities the foreground and one a pair of voxels.
        classes : uint8 array, shape (z, y, x), or None
            The most probable class, taken before rounding; None for two classes.

        Raises
        ------
        DataError
            If the array has other axes or channels, or voxels that are not finite.
        ResourceError
            If no tile fits the memory.
        """
        image = image[None] if image.ndim == 3 else image
        self._check(image)
        shape, spec = as_zyx(image.shape[1:]), self.predictor.spec
        stride = stride or self._choose_stride(shape, memory_gb)
        check_stride(stride, spec.pooling_grid, self.orientations)
        chunk = ChunkPredictor(
            self.predictor,
            plan_grids(shape, stride, spec),
            *self._mean_and_std(image, statistics),
            batch_tiles,
        )
        if _is_lazy(image):
            from unetpipe.network.lazy import predict_lazily

            return predict_lazily(chunk, image)
        return chunk(whole_volume(shape), (0, 0, 0), image)

    def _mean_and_std(
        self, image: NDArray[Any], statistics: Sequence[Any] | None
    ) -> tuple[Statistic, Statistic]:
        """Return what the network expects grey values to be normalised by."""
        if statistics is not None:
            return mean_and_std(map(Intensity.of, statistics))
        if ranks := self.description.percentiles:
            return mean_and_std(_measure_robustly(image, ranks))
        return mean_and_std(_measure_all(image))

    def _check(self, image: NDArray[Any]) -> None:
        wanted = self.predictor.spec.in_channels
        if image.ndim != 4 or len(image) != wanted:
            raise DataError(
                f"the image has shape {image.shape}, the network wants {wanted} "
                "channel(s); give (z, y, x) or (c, z, y, x), a single section as "
                "section[None]"
            )

    def _choose_stride(self, shape: Zyx, memory_gb: float) -> Zyx:
        ranked = rank_tiles(
            shape,
            self.predictor.spec,
            precision=self.precision,
            device=self.predictor.device.type,
            orientations=self.orientations,
        )
        for candidate in ranked:
            if candidate.tile_bytes <= memory_gb * GIB:
                return candidate.stride
        smallest = min(candidate.tile_bytes for candidate in ranked)
        raise ResourceError(
            f"memory_gb is {memory_gb:g}, the smallest tile of {shape} voxels needs "
            f"{smallest / GIB:.3g}; give more"
        )


def load_trained(
    folder: Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    average: int | Sequence[int] = 1,
    backend: str = "auto",
) -> TrainedNetwork:
    """Load the network of a folder like ``results/mine/unet``.

    Parameters
    ----------
    folder : Path
        Holds ``model.safetensors`` and ``model.json``.
    device : "auto", "cpu" or "cuda"
        auto: a GPU where there is one.
    precision : "fp32", "bf16", "fp16" or "int8"
        Arithmetic of the convolutions; int8 where the workflow has predicted in it.
    average : int or sequence of int
        Orientations to average, as ``prediction.average`` of the configuration.
    backend : "auto", "torch" or "openvino"
        As ``prediction.backend``.

    Raises
    ------
    IntegrityError
        If the weights are not those that ``model.json`` describes.
    ResourceError
        If ``cuda`` is wanted and there is none.
    ConfigError
        If the extra ``openvino`` is wanted and not installed.
    DataError
        If the network was never calibrated for int8.
    ValueError
        If backend, precision and device do not go together.
    """
    wanted = PredictionConfig.model_validate(
        {"device": device, "precision": precision, "backend": backend}
    )
    description = Model.read(folder / "model.json")
    orientations = choose_orientations(average)
    loaded = load_network(folder / "model.safetensors", description)
    network: UNet | Ensemble | OpenVinoUNet = loaded
    if wanted.uses_openvino:
        contents = _read_quantised(folder, description) if precision == "int8" else []
        network = on_openvino(loaded, precision, contents)
    predictor = TilePredictor(
        network,
        precision=torch_precision(network, precision),
        device=choose_device(wanted.used_device, is_shared=True),
        orientations=orientations,
    )
    return TrainedNetwork(predictor, description, precision, orientations)


def _read_quantised(folder: Path, description: Model) -> list[bytes]:
    """Return the network in int8, or those of an ensemble's members beside it."""
    homes = [folder]
    if description.is_ensemble:
        homes = [folder.parent / member.name for member in description.members]
    records = [home / "calibration.json" for home in homes]
    for record in records:
        if not record.exists():
            raise DataError(
                f"{record.parent} holds no {record.name}, so nobody knows the scales "
                "of int8; predict once with prediction.precision int8 in the "
                "workflow, or use fp32 or bf16"
            )
    hashes = calibrated_hashes(records, description)
    return read_quantised([home / "int8.safetensors" for home in homes], hashes)


def _measure(channel: NDArray[Any]) -> IntensityStatistics:
    """Return the statistics of a channel (z, y, x), summed section by section."""
    return _check_finite(
        sum(map(IntensityStatistics.of, channel), IntensityStatistics())
    )


def _measure_all(image: Any) -> list[IntensityStatistics]:
    """Return the statistics of each channel (c, z, y, x), all of it finite."""
    if _is_lazy(image):
        from unetpipe.network.lazy import measure_lazily

        return list(map(_check_finite, measure_lazily(image)))
    return list(map(_measure, image))


def _measure_robustly(image: Any, ranks: tuple[float, float]) -> Iterator[Intensity]:
    """Yield what normalises each channel (c, z, y, x), as volumes are ingested."""

    def sections() -> Iterator[NDArray[Any]]:
        for z in range(image.shape[1]):
            yield np.asarray(image[:, z : z + 1])

    for channel, (low, high) in enumerate(stream_percentiles(sections, ranks)):
        if low < high:
            robust = GreyPercentiles.between(ranks, (low, high))
            yield Intensity.of({"percentiles": robust})
        else:
            yield Intensity.of(_measure_all(image[channel : channel + 1])[0])


def _is_lazy(image: Any) -> bool:
    return hasattr(image, "__dask_graph__")  # dask takes a while to import


def _check_finite(total: IntensityStatistics) -> IntensityStatistics:
    if total.num_nan:
        raise DataError(
            f"the image holds {total.num_nan} voxels that are not finite; replace them"
        )
    return total
