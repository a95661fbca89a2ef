"""Weighted cross-entropy (Ronneberger et al. 2015, eq. 1) and the weight of a voxel.

Shape suffixes: N patches, K classes or offsets of pairs, Z Y X voxels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.targets.affinities import UNKNOWN, pair_slices
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


def affinity_energy(
    logits: Tensor, ids: Tensor, pair_weights: Tensor, spec: UNetSpec
) -> tuple[Tensor, Tensor]:
    """Return the same sums over pairs of voxels: of one cell, or not.

    Pairs that reach out of the patch, or to what nobody annotated, weigh nothing. The
    border term of eq. (2) does not apply: nothing is left out between cells.

    Parameters
    ----------
    logits : tensor, shape (n, k, ...)
        One channel an offset.
    ids : int64 tensor, shape (n, ...)
        Of cells, 0 background, ``UNKNOWN`` unlabelled.
    pair_weights : float32 tensor, shape (2 k,)
        Of pairs that are not of one cell, and that are, offset by offset.
    spec : UNetSpec
        Its offsets.
    """
    energy = weight = pair_weights.new_zeros(())
    offsets = [offset[3 - spec.ndim :] for offset in spec.affinity_offsets]
    for k, offset in enumerate(offsets):
        here, there = pair_slices(offset)
        where: tuple[slice | int, ...] = (slice(None), k, *here)
        one, other = ids[(slice(None), *here)], ids[(slice(None), *there)]
        is_known = (one != UNKNOWN) & (other != UNKNOWN)
        is_alike = (one == other) & (one != 0)
        weights = pair_weights[2 * k : 2 * k + 2][is_alike.long()] * is_known
        per_pair = functional.binary_cross_entropy_with_logits(
            logits[where].float(), is_alike.float(), reduction="none"
        )
        energy = energy + (per_pair * weights).sum()
        weight = weight + weights.sum()
    return energy, weight


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
