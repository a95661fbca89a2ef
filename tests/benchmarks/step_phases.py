"""A step of training, phase by phase: seconds of each, and of which rate they are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.engine import matrix_product
from tests.benchmarks.figures import Figure
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import time_once
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.loop import layout_of_maps
from unetpipe.training.loss import mean_loss, voxel_weights, weighted_cross_entropy
from unetpipe.training.optimiser import Optimisation, make_optimizer
from unetpipe.training.sampling import PatchSampler

# A gradient of weights and one of maps for each product of the forward pass.
BACKWARD_OVER_FORWARD = 2


@dataclass
class Step:
    """The phases of ``training.loop``, one function each, on the same patch."""

    settings: Settings
    spec: UNetSpec
    sampler: PatchSampler
    patch: Zyx

    def __post_init__(self) -> None:
        device = self.settings.device
        self.layout = layout_of_maps(self.spec, device, self.settings.precision)
        self.network = UNet(self.spec).to(device, memory_format=self.layout).train()  # type: ignore[call-overload]
        usual = Optimisation(steps=1, learning_rate=1e-6)
        self.optimizer = make_optimizer(self.network.parameters(), usual)
        self.number = 0
        self.draw()
        self.render()

    def draw(self) -> None:
        """Read patches and deform them, as the sampler's thread does beside a step."""
        self.patches = self.sampler.batch(self.number, [self.number])
        self.number += 1

    def render(self) -> None:
        """Turn patches into what the network sees."""
        self.batch = self.sampler.render(self.patches, self.settings.device)
        self.image = self.batch.image.contiguous(memory_format=self.layout)

    def forward(self) -> None:
        """Compute logits."""
        reduced = self.settings.precision == "bf16"
        with torch.autocast(self.image.device.type, torch.bfloat16, enabled=reduced):
            self.logits = self.network(self.image, self.batch.seeds)

    def loss(self) -> None:
        """Weigh the voxels, sum the energy."""
        ones = torch.ones(self.spec.num_learnt, device=self.image.device)
        weights = voxel_weights(self.batch.target, self.batch.border, ones)
        energy, weight = weighted_cross_entropy(
            self.logits, self.batch.target, weights, self.spec
        )
        self.energy: Tensor = mean_loss(energy, weight)

    def backward(self) -> None:
        """Compute gradients."""
        self.network.zero_grad(set_to_none=True)
        self.energy.backward()  # type: ignore[no-untyped-call]

    def descend(self) -> None:
        """Move the weights."""
        self.optimizer.step()

    @property
    def phases(self) -> dict[str, Callable[[], None]]:
        """Phases by name, in their order."""
        return {
            "draw": self.draw,
            "render": self.render,
            "forward": self.forward,
            "loss": self.loss,
            "backward": self.backward,
            "optimiser": self.descend,
        }


def measure_phases(step: Step, width: int, rounds: int) -> Iterator[Figure]:
    """Time each phase, and a product of matrices in turn with them."""
    multiply, multiply_flop = matrix_product(step.settings)
    multiply()
    seconds: dict[str, list[float]] = {name: [] for name in ("matrix", *step.phases)}
    for number in range(rounds + 1):
        for name, phase in {**step.phases, "matrix": multiply}.items():
            took = time_once(partial(_whole, phase, step.settings))
            if number:  # the first is slower
                seconds[name].append(took)
    rate = multiply_flop / median(seconds.pop("matrix"))
    each = {name: median(took) for name, took in seconds.items()}
    total = sum(each[name] for name in each if name != "draw")
    flop = sum(layer.flop for layer in step.spec.layers(step.patch))
    done = {"forward": flop, "backward": BACKWARD_OVER_FORWARD * flop}
    basis = f"{step.settings.precision}, patch {step.patch[1]}"
    details: dict[str, Any] = {"seconds": seconds, "matrix FLOP/s": rate}
    for name, took in each.items():
        if name not in done:
            continue
        told = f"{took:.3g} s, {100 * took / total:.0f} % of a step; {basis}"
        yield Figure(
            f"width {width}: {name} over the matrix rate",
            done[name] / took / rate,
            basis=f"{told}; {done[name] / took / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s",
            details=details,
        )
    others = [f"{name} {1000 * each[name]:.0f} ms" for name in each if name not in done]
    computing = each["forward"] + each["backward"]
    yield Figure(
        f"width {width}: forward and backward of a step",
        computing / total,
        basis=f"{', '.join(others)} (draw: beside the step before); {basis}",
    )


def _whole(phase: Callable[[], None], settings: Settings) -> None:
    phase()
    settings.synchronise()
