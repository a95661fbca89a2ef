"""Several networks that predict as one: the mean of their probabilities.

Shape suffixes: N batch, C channels, K classes, Y x X (Z Y x X in three dimensions).
"""

import torch
from torch import Tensor, nn

from unetpipe.network.unet import UNet, activate
from unetpipe.tiling.unet_spec import UNetSpec


class Ensemble(nn.Module):
    """Networks of one architecture; they have one halo, so they tile as one does.

    Parameters
    ----------
    spec : UNetSpec
        The architecture of all members.
    num_members : int
        How many; their weights are named ``members.0.``, ``members.1.`` ...
    """

    def __init__(self, spec: UNetSpec, num_members: int) -> None:
        super().__init__()
        self.spec = spec
        self.members = nn.ModuleList(UNet(spec) for _ in range(num_members))

    def forward(self, image_NCYX: Tensor) -> Tensor:
        """Return probabilities, not logits: float32 (n, k, y, x).

        Summed in float32 and in the order of the members, one after another: maps are
        in memory for one of them at a time.
        """
        total: Tensor | None = None
        for member in self.members:
            logits = member(image_NCYX)
            with torch.autocast(logits.device.type, enabled=False):
                probability = activate(logits, self.spec)
            total = probability if total is None else total + probability
        assert total is not None
        return total / len(self.members)
