"""What the U-Net replaced: a network that is asked for every single pixel.

The paper's argument against Ciresan et al. (2012), Sect. 1, as a number: the
contracting path of the same network, on the field of view of each pixel, and one
decision at its end.
"""

from collections.abc import Callable
from contextlib import suppress
from statistics import median

import torch
from torch import Tensor, nn

from tests.benchmarks.figures import Figure
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave
from unetpipe.errors import GeometryError
from unetpipe.network.predictor import DTYPES
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec


class PatchClassifier(nn.Module):
    """Classify the central pixel of patches (n, c, y, x): logits (n, k)."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        spec = network.spec
        self.down = network.down
        self.decide = nn.Linear(spec.channels(spec.depth), spec.num_classes)

    def forward(self, patches_NCYX: Tensor) -> Tensor:
        """Return the logits of the central pixels."""
        maps = patches_NCYX
        for level in self.down[:-1]:
            maps = nn.functional.max_pool2d(level(maps), 2)
        maps = self.down[-1](maps)
        logits: Tensor = self.decide(maps.mean(dim=(2, 3)))
        return logits


def measure(settings: Settings) -> list[Figure]:
    """Time a crop pixel by pixel and the same network's tiles, each for its pixels."""
    spec = UNetSpec(base_channels=settings.choose(quick=2, cpu=64))
    kept = (1, *settings.choose(quick=(16, 16), cpu=(384, 384)))
    side = _smallest_tile(spec)
    num_pixels = settings.choose(quick=4, cpu=144, cuda=4096)
    batch = settings.choose(quick=2, cpu=16, cuda=256)
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    network = UNet(spec).eval().to(settings.device, memory_format=torch.channels_last)
    classifier = PatchClassifier(network).eval().to(settings.device)
    tile = torch.randn(1, 1, *spec.input_shape_for(kept)[1:])
    patches = torch.randn(batch, 1, side, side)
    actions = {
        "classifier": _action(classifier, patches, -(-num_pixels // batch), settings),
        "network": _action(network, tile, settings.choose(quick=1, cpu=4), settings),
    }
    for action in actions.values():
        action()
    seconds = interleave(actions, settings.rounds)
    per_pixel = [s / (-(-num_pixels // batch) * batch) for s in seconds["classifier"]]
    num_kept = kept[1] * kept[2] * settings.choose(quick=1, cpu=4)
    per_tile_pixel = [s / num_kept for s in seconds["network"]]
    ratio = median(a / b for a, b in zip(per_pixel, per_tile_pixel, strict=True))
    hours = 512 * 512 * median(per_pixel) / 3600
    return [
        Figure(
            "network over patch classifier",
            ratio,
            "x",
            basis=f"pixels/s; one forward of {side} x {side} a pixel, {num_pixels} "
            f"pixels measured, 512 x 512 would take {hours:.2g} h",
            details={"seconds": seconds, "batch": batch, "kept": list(kept)},
        )
    ]


def _smallest_tile(spec: UNetSpec) -> int:
    """Return the side of the smallest legal tile: what a pixel's label depends on."""
    for side in range(1, spec.input_shape_for((1, 1, 1))[1]):
        with suppress(GeometryError):
            spec.check_input_shape((1, side, side))
            return side
    return spec.input_shape_for((1, 1, 1))[1]


def _action(
    network: nn.Module, images: Tensor, repeats: int, settings: Settings
) -> Callable[[], None]:
    images = images.to(settings.device, memory_format=torch.channels_last)
    dtype = DTYPES[settings.precision]

    def forward() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(settings.device.type, dtype, enabled=dtype != torch.float32),
        ):
            for _ in range(repeats):
                network(images)
        settings.synchronise()

    return forward
