"""What tiling must equal: one pass over a whole volume."""

import numpy as np

from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, round_up, whole_volume
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.mirroring import mirror_take
from unetpipe.tiling.unet_spec import UNetSpec


def whole_section_input(shape: Zyx, spec: UNetSpec) -> Roi:
    """Return the box that one pass over a whole volume or section would see.

    Mirror-padded by the halo and rounded up to a legal size.
    """
    stop = as_zyx(map(round_up, shape, spec.pooling_grid))
    return whole_volume(stop).grow(spec.halo)


def predict_volume(
    predictor: TilePredictor, image: np.ndarray, geometry: TileGrids
) -> np.ndarray:
    """Predict a normalised volume in memory: uint8 (k, z, y, x)."""
    channels = image.shape[0]
    probability, _ = predictor.predict_block(
        image,
        (0, 0, 0),
        whole_volume(as_zyx(image.shape[1:])),
        geometry,
        mean=np.zeros(channels, np.float32),
        std=np.ones(channels, np.float32),
    )
    return probability


def one_pass(network: UNet, image: np.ndarray) -> np.ndarray:
    """Mirror-pad the whole volume, one forward, crop: float32 (k, z, y, x)."""
    shape = as_zyx(image.shape[1:])
    seen = mirror_take(
        image, (0, 0, 0), whole_section_input(shape, network.spec), shape
    )
    predictor = TilePredictor(network)
    if network.spec.ndim == 2:  # sections are independent: they are the batch
        seen = np.moveaxis(seen, 1, 0)[:, :, None]
        result = predictor.probabilities(seen).numpy()
        result = np.moveaxis(result[:, :, 0], 0, 1)
    else:
        result = predictor.probabilities(seen[None]).numpy()[0]
    for axis, (start, length) in enumerate(
        zip(network.spec.output_offset, shape, strict=True), start=1
    ):
        start = 0 if axis == 1 and network.spec.ndim == 2 else start
        result = np.take(result, np.arange(start, start + length), axis=axis)
    return result


def assert_agree(stored: np.ndarray, expected: np.ndarray) -> None:
    """Quantised equals one pass: 1e-5 beside the rounding, and no label flipped."""
    assert np.abs(stored / 255 - expected).max() <= 0.5 / 255 + 1e-5
    threshold = 127.5 / 255
    clear = np.abs(expected - threshold) > 1e-5
    assert np.array_equal((stored > 127)[clear], (expected > threshold)[clear])
