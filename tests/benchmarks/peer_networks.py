"""The padded network that most re-implementations use, trained for a minute.

Not to be good, only to be no random function: its labels then flip where those of a
trained network would.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.benchmarks.inputs import PATCH, draw_sections
from tests.benchmarks.settings import Settings
from tests.phantoms import draw_phantom
from unetpipe.config import check_config
from unetpipe.network.predictor import DTYPES
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec

LEARNING_RATE, MOMENTUM = 0.02, 0.9


def padded_spec(settings: Settings) -> UNetSpec:
    """Return the architecture of the preset ``same_padding``."""
    network = check_config({"preset": "same_padding"}).network
    width = settings.choose(quick=2, cpu=network.base_channels)
    return network.model_copy(update={"base_channels": width}).spec()


def trained_network(settings: Settings) -> UNet:
    """Train the padded network for a few steps on membranes of the phantom."""
    num_steps = settings.choose(quick=2, cpu=60, cuda=200)
    size = settings.choose(quick=64, cpu=192)
    shape = (PATCH[0], *settings.choose(quick=(64, 64), cpu=PATCH[1:]))
    images = np.stack(list(draw_sections(shape, seed=2))).astype(np.float32)
    images = (images - images.mean()) / images.std()
    _, ids = draw_phantom(
        shape=shape, num_cells=max(1, shape[1] * shape[2] // 1024), noise=0, seed=2
    )
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = UNet(padded_spec(settings), initialization="he").train()
    network = network.to(settings.device, memory_format=torch.channels_last)
    velocities = [torch.zeros_like(weights) for weights in network.parameters()]
    dtype = DTYPES[settings.precision]
    for _ in range(num_steps):
        z = rng.integers(shape[0])
        y, x = (rng.integers(n - size + 1) for n in shape[1:])
        crop = np.s_[z, y : y + size, x : x + size]
        image = torch.from_numpy(images[crop])[None, None].to(settings.device)
        target = torch.from_numpy((ids[crop] > 0).astype(np.float32))[None, None]
        with torch.autocast(
            settings.device.type, dtype, enabled=dtype != torch.float32
        ):
            logits = network(image.contiguous(memory_format=torch.channels_last))
        loss = binary_cross_entropy_with_logits(
            logits.float(), target.to(settings.device)
        )
        _descend(network, loss, velocities)
    return network.cpu().eval()


def _descend(network: UNet, loss: Tensor, velocities: list[Tensor]) -> None:
    """Take a step of gradient descent; importing torch.optim would take longer."""
    weights = list(network.parameters())
    gradients = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for weight, velocity, gradient in zip(
            weights, velocities, gradients, strict=True
        ):
            velocity.mul_(MOMENTUM).add_(gradient)
            weight.sub_(LEARNING_RATE * velocity)
