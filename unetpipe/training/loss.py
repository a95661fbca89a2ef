"""Weighted cross-entropy (Ronneberger et al. 2015, eq. 1) and the weight of a voxel.

Shape suffixes: N patches, K classes, Z Y X voxels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.targets.weight_map import UNLABELLED
from unetpipe.tiling.unet_spec import UNetSpec


def voxel_weights(
    target_NZYX: Tensor, border_NZYX: Tensor | None, class_weights: Tensor
) -> Tensor:
    """Return w(x) = w_c(x) + border term (eq. 2), and 0 where nobody knows the class.

    Parameters
    ----------
    target_NZYX : uint8 tensor
        Class of each voxel, 255 = unlabelled.
    border_NZYX : float32 tensor or None
        The border term; None counts as 0.
    class_weights : float32 tensor, shape (k,)
        w_c of each class.
    """
    is_known = target_NZYX != UNLABELLED
    known = torch.where(is_known, target_NZYX, 0).long()
    weights = class_weights[known]
    if border_NZYX is not None:
        weights = weights + border_NZYX
    return weights * is_known


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, spec: UNetSpec
) -> tuple[Tensor, Tensor]:
    """Return the energy of eq. (1) and the weight it sums over.

    ::

        energy = sum over voxels of w(x) * -log p_target(x)(x)
        weight = sum over voxels of w(x)

    The loss is energy / weight *of an average step*: see ``mean_loss``. They are
    returned apart because over several processes sums add up, quotients do not.

    Parameters
    ----------
    logits : tensor, shape (n, k, ...)
        Output of the network; k = 1 with a sigmoid. Computed in float32 whatever it is.
    target : uint8 tensor, shape (n, ...)
        Class of each voxel, 255 = unlabelled.
    weights : float32 tensor, shape (n, ...)
        See ``voxel_weights``; unlabelled voxels weigh 0.
    spec : UNetSpec
        Its ``head`` chooses softmax or sigmoid.
    """
    logits = logits.float()
    is_known = target != UNLABELLED
    if spec.head == "sigmoid":
        per_voxel = functional.binary_cross_entropy_with_logits(
            logits[:, 0], (target == 1).float(), reduction="none"
        )
    else:
        known = torch.where(is_known, target, 0).long()
        per_voxel = functional.cross_entropy(logits, known, reduction="none")
    weights = weights * is_known
    return (per_voxel * weights).sum(), weights.sum()


def mean_loss(energy: Tensor, weight: Tensor) -> Tensor:
    """Return energy / weight, and 0 where nothing weighs.

    Training divides by the weight of an average step, the same for all steps: the
    weight of each step's own patches would give rare classes less than their share,
    as a patch without them would count as much as one with them.

    Notes
    -----
    # DEPARTS: the paper's energy is the sum itself; dividing all steps by one number
    changes the learning rate only.
    """
    weighs = weight > 0
    return torch.where(weighs, energy / torch.where(weighs, weight, 1), 0 * energy)
