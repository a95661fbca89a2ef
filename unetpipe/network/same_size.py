"""A U-Net whose output is as large as its input: what other programs can run.

This file is part of every exported package, so it needs nothing but torch. It accepts
images (n, c, y, x) whose sides are multiples of the pooling grid and longer than the
margin, mirrors what lies beyond their edges, and returns probabilities of the same
size. All crops are constants: a traced network would freeze those read from shapes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SameSizeUNet(nn.Module):
    """Mirror, contract, expand, crop, activate.

    Parameters
    ----------
    channels : (of the image, of the last layer)
        With one of the last layer a sigmoid makes probabilities, else a softmax.
    widths : sequence of int
        Feature channels of each level.
    pooling : sequence of (y, x)
        Pooling factor of each level.
    crops : sequence of (y, x)
        What the skip connection of each level loses on either side.
    margins : (before, after) of y and of x
        Mirrored voxels.
    cuts : (before, after) of y and of x
        What the network's output has beyond the image.
    padding : int
        Of the 3x3 convolutions: 0 or 1.
    has_norm : bool
        Batch normalisation after each convolution.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        pooling: Sequence[Sequence[int]],
        crops: Sequence[Sequence[int]],
        margins: Sequence[Sequence[int]],
        cuts: Sequence[Sequence[int]],
        padding: int,
        has_norm: bool,
    ) -> None:
        super().__init__()
        self.depth = len(pooling)
        self.pooling = [(int(p[0]), int(p[1])) for p in pooling]
        self.crops = [(int(c[0]), int(c[1])) for c in crops]
        (top, bottom), (left, right) = margins
        self.sides = [int(n) for n in (left, right, top, bottom)]
        (top, bottom), (left, right) = cuts
        self.cuts = [-int(n) for n in (left, right, top, bottom)]
        self.is_sigmoid = int(channels[1]) == 1
        inputs = [int(channels[0]), *widths[:-1]]

        def block(a: int, b: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (a, b):
                layers.append(nn.Conv2d(channels, b, 3, padding=padding))
                if has_norm:
                    layers.append(nn.BatchNorm2d(b))
                layers.append(nn.ReLU())
            return nn.Sequential(*layers)

        levels = list(reversed(range(self.depth)))
        self.down = nn.ModuleList(
            block(a, b) for a, b in zip(inputs, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(
                widths[i + 1], widths[i], self.pooling[i], stride=self.pooling[i]
            )
            for i in levels
        )
        self.merge = nn.ModuleList(block(2 * widths[i], widths[i]) for i in levels)
        self.out = nn.Conv2d(widths[0], int(channels[1]), 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (n, k, y, x) of normalised grey values (n, c, y, x)."""
        maps = functional.pad(image, self.sides, mode="reflect")
        skips = []
        for level in range(self.depth):
            maps = self.down[level](maps)
            skips.append(maps)
            maps = functional.max_pool2d(maps, self.pooling[level])
        maps = self.down[self.depth](maps)
        for step, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            level = self.depth - 1 - step
            y, x = self.crops[level]
            skip = functional.pad(skips[level], [-x, -x, -y, -y])
            maps = merge(torch.cat([skip, up(maps)], dim=1))
        logits = functional.pad(self.out(maps), self.cuts)
        if self.is_sigmoid:
            return torch.sigmoid(logits)
        return torch.softmax(logits, dim=1)
