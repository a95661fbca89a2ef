"""The network (Ronneberger et al. 2015, Fig. 1), built from its ``UNetSpec``.

Shape suffixes: N batch, C channels, K classes, Y x X (Z Y x X in three dimensions).
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unetpipe.tiling.unet_spec import UNetSpec


class UNet(nn.Module):
    """Contracting path, expansive path, 1x1 convolution to the classes.

    Parameters
    ----------
    spec : UNetSpec
        The architecture.
    initialization : "he" or "default"
        ``he`` draws weights from N(0, sqrt(2 / N)), N the incoming nodes of a neuron,
        and zero biases (paper Sect. 3); ``default`` leaves the library's.

    Notes
    -----
    Input is (n, c, y, x) with ``ndim=2`` and (n, c, z, y, x) with ``ndim=3``; the
    output are logits (n, k, ...) of ``spec.output_shape``.
    """

    def __init__(
        self, spec: UNetSpec, *, initialization: Literal["he", "default"] = "he"
    ) -> None:
        super().__init__()
        self.spec = spec
        widths = [spec.channels(level) for level in range(spec.depth + 1)]
        inputs = [spec.in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _two_convolutions(spec, a, b) for a, b in zip(inputs, widths, strict=True)
        )
        up = nn.ConvTranspose2d if spec.ndim == 2 else nn.ConvTranspose3d
        self.up = nn.ModuleList(
            up(widths[i + 1], widths[i], self._pool(i), stride=self._pool(i))
            for i in reversed(range(spec.depth))
        )
        self.merge = nn.ModuleList(
            _two_convolutions(spec, 2 * widths[i], widths[i])
            for i in reversed(range(spec.depth))
        )
        convolution = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
        self.out = convolution(widths[0], spec.out_channels, 1)
        # Element-wise dropout, at the end of the contracting path (Sect. 3.1).
        self.dropout = SeededDropout(spec.dropout)
        if initialization == "he":
            self.apply(_initialize_he)

    def forward(self, image_NCYX: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Return logits (n, k, y, x) of legal tiles; ``seeds`` are those of dropout."""
        # Layer by layer, so that in inference each map is freed once it is read.
        maps, skips = image_NCYX, []
        for level in range(self.spec.depth):
            for layer in self.down[level].children():
                maps = layer(maps)
            skips.append(maps)
            pool = nn.functional.max_pool2d
            if self.spec.ndim == 3:
                pool = nn.functional.max_pool3d
            maps = pool(maps, self._pool(level))
        for layer in self.down[-1].children():
            maps = layer(maps)
        maps = self.dropout(maps, seeds)
        for up, merge in zip(self.up, self.merge, strict=True):
            maps = up(maps)
            maps = torch.cat([self._crop(skips.pop(), maps), maps], dim=1)
            for layer in merge.children():
                maps = layer(maps)
        logits: Tensor = self.out(maps)
        return logits

    def freeze_contracting(self) -> None:
        """Let the contracting path learn no more, running statistics included."""
        self.down.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> "UNet":
        """Go to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        if not any(weights.requires_grad for weights in self.down.parameters()):
            self.down.eval()
        return self

    def _crop(self, skip: Tensor, like: Tensor) -> Tensor:
        if not self.training:
            return _centre_crop(skip, like)
        cropped: Tensor = _CentreCrop.apply(skip, like)  # type: ignore[no-untyped-call]
        return cropped

    def _pool(self, level: int) -> Any:  # torch types pairs and triples apart
        return self.spec.pooling[level][3 - self.spec.ndim :]


class SeededDropout(nn.Dropout):
    """Element-wise dropout; the seed of a patch alone decides what of it is dropped.

    So neither the patch's place in a batch nor the process that trains on it matters.
    Without seeds the masks come from the global generator.
    """

    def forward(self, maps_NCYX: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Drop in training; in evaluation return the maps as they are."""
        if seeds is None or not self.training or not self.p:
            return super().forward(maps_NCYX)
        generator = torch.Generator(maps_NCYX.device)
        kept_NCYX = torch.empty(
            maps_NCYX.shape, dtype=torch.float32, device=maps_NCYX.device
        )
        for kept_CYX, seed in zip(kept_NCYX, seeds, strict=True):
            kept_CYX.uniform_(generator=generator.manual_seed(seed))
        scaled = (kept_NCYX >= self.p).to(maps_NCYX.dtype) / (1 - self.p)
        return maps_NCYX * scaled


def activate(logits: Tensor, spec: UNetSpec) -> Tensor:
    """Return probabilities in float32: (n, k, ...), or (n, 1, ...) with a sigmoid."""
    if spec.head == "sigmoid":
        return torch.sigmoid(logits.float())
    return torch.softmax(logits.float(), dim=1)


def _two_convolutions(spec: UNetSpec, inputs: int, outputs: int) -> nn.Sequential:
    convolution, norm = nn.Conv2d, nn.BatchNorm2d
    if spec.ndim == 3:
        convolution, norm = nn.Conv3d, nn.BatchNorm3d  # type: ignore[assignment]
    padding = 1 if spec.padding == "same" else 0
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(convolution(channels, outputs, 3, padding=padding))
        if spec.normalization == "batch":
            layers.append(norm(outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _centre_crop(skip: Tensor, like: Tensor) -> Tensor:
    for axis in range(2, skip.ndim):
        surplus = skip.shape[axis] - like.shape[axis]
        skip = skip.narrow(axis, surplus // 2, like.shape[axis])
    return skip


class _CentreCrop(torch.autograd.Function):
    """``_centre_crop`` with a gradient that lies in memory as the maps do.

    That of ``narrow`` lies channel by channel, so all that follows it in a backward
    pass would be reordered: a tenth of a step on a processor. The values are the same.
    """

    @staticmethod
    def forward(ctx: Any, skip: Tensor, like: Tensor) -> Tensor:
        ctx.like = skip.shape, skip.stride()
        return _centre_crop(skip, like)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inner,) = gradients
        whole = inner.new_empty_strided(*ctx.like).zero_()
        _centre_crop(whole, inner).copy_(inner)
        return whole, None


def _initialize_he(module: nn.Module) -> None:
    """Draw N(0, sqrt(2/N)); N counts the inputs that feed one neuron (Sect. 3)."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_in = module.weight[0].numel()
    elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        fan_in = module.in_channels  # kernel = stride: one tap reaches each output
    else:
        return
    nn.init.normal_(module.weight, 0.0, sqrt(2.0 / fan_in))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
