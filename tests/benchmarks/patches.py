"""What a step of training teaches: supervised voxels a second, by patch and scale.

A section of 512 x 512 voxels, whose objects are so large that they show at half the
resolution too. Voxels that a step supervises are counted on the section's own grid and
inside it: a patch that reaches beyond it is mirrored there, and teaches nothing more.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.benchmarks.figures import Figure
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.loop import layout_of_maps

SECTION = 512


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch's side in voxels of the grid it is drawn on, and that grid's factor."""

    name: str
    side: int
    factor: float = 1.0

    def supervised(self, spec: UNetSpec) -> float:
        """Return the voxels of the section's own grid that one step teaches."""
        kept = spec.output_shape((1, self.side, self.side))[1]
        kept = min(kept, round(SECTION * self.factor))
        return (kept / self.factor) ** 2


PATCHES = (
    Patch("412", 412),
    Patch("572", 572),
    Patch("whole section, mirrored", 700),
    Patch("whole section at half the resolution", 444, 0.5),
)


def measure(settings: Settings) -> list[Figure]:
    """Time a step of each patch in turn; compare with the first."""
    torch.set_num_threads(settings.threads)
    depth = settings.choose(quick=2, cpu=4)
    spec = UNetSpec(base_channels=settings.choose(quick=2, cpu=32), depth=depth)
    steps = {patch: _step(spec, patch, settings) for patch in PATCHES}
    seconds: dict[Patch, list[float]] = {patch: [] for patch in PATCHES}
    for _ in range(settings.rounds):
        for patch, step in steps.items():
            seconds[patch].append(time_once(step))
    rates = {
        patch: patch.supervised(spec) / statistics.median(found)
        for patch, found in seconds.items()
    }
    return [
        Figure(
            f"{patch.name}: supervised voxels a second, over those of 412",
            rates[patch] / rates[PATCHES[0]],
            basis=f"{settings.precision}, width {spec.base_channels}: "
            f"{rates[patch] / 1e6:.3g} million a second, "
            f"{statistics.median(seconds[patch]):.3g} s a step",
            details={"seconds a step": seconds[patch]},
        )
        for patch in PATCHES
    ]


def _step(spec: UNetSpec, patch: Patch, settings: Settings) -> Callable[[], None]:
    """Return a step of training on data in memory, which has run once."""
    device = settings.device
    layout = layout_of_maps(spec, device, settings.precision)
    side = patch.side
    image = torch.randn(1, 1, side, side, device=device)
    network = UNet(spec).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6)
    reduced = settings.precision == "bf16"

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            logits = network(image)
        target = torch.zeros(logits.shape[:1] + logits.shape[2:], device=device).long()
        loss = torch.nn.functional.cross_entropy(logits.float(), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        settings.synchronise()

    step()
    return step
