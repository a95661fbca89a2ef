"""How large a training patch is, and what a step on it keeps in memory."""

from math import prod
from typing import Literal

from unetpipe.errors import ConfigError
from unetpipe.tiling.boxes import AXES, Zyx, as_zyx, round_up
from unetpipe.tiling.unet_spec import UNetSpec

# The paper's tile, and that of its volumetric variant (Cicek et al. 2016, Fig. 2).
LARGEST_DEFAULT_PATCH = {2: (1, 572, 572), 3: (116, 132, 132)}
LARGEST_STEP = 4 * 2**30  # bytes of a step on the largest patch
Patch = Zyx | Literal["largest"] | None

BYTES_PER_FEATURE = 12  # float32: feature maps, gradients, workspace of convolutions
BYTES_PER_PARAMETER = 16  # weights, gradients, momentum, and a copy to validate
BYTES_OF_SQUARES = 4  # of a parameter, where the optimiser is adamw
BYTES_OF_AVERAGE = 8  # of a parameter: the mean, and the network it is validated in
BYTES_IN_BUCKETS = 4  # of a parameter: gradients on their way to other processes


def choose_patch(wanted: Patch, spec: UNetSpec, sections: list[Zyx]) -> Zyx:
    """Return the network's input: a legal size, no larger than the sections need.

    Parameters
    ----------
    wanted : (z, y, x), "largest" or None
        Rounded up to a legal size. None: 572 in the plane (132 with z), or less where
        the sections are smaller. largest: what whole sections need, or less where a
        step on it would take more than 4 GiB: of a large patch the network's output
        is a larger share, so that the same arithmetic sees more annotated voxels.
    spec : UNetSpec
        Knows the legal sizes.
    sections : list of (z, y, x)
        Shapes of what patches are drawn from.

    Raises
    ------
    ConfigError
        If the wanted patch would see every voxel several times by mirroring.

    Examples
    --------
    >>> choose_patch(None, UNetSpec(), [(1, 512, 512)])
    (1, 572, 572)
    >>> choose_patch(None, UNetSpec(), [(1, 256, 256)])
    (1, 444, 444)
    >>> choose_patch("largest", UNetSpec(base_channels=32), [(1, 512, 512)])
    (1, 700, 700)
    """
    largest = as_zyx(map(max, *sections) if len(sections) > 1 else sections[0])
    needed = _round_up(largest, spec, holds_output=True)
    if wanted is None:
        return as_zyx(
            map(min, _round_up(LARGEST_DEFAULT_PATCH[spec.ndim], spec), needed)
        )
    if wanted == "largest":
        return _fitting(needed, spec)
    patch = _round_up(wanted, spec)
    output = spec.output_shape(patch)
    for axis, (n, limit) in enumerate(zip(output, largest, strict=True)):
        if patch[axis] > needed[axis] and n >= 2 * limit:
            raise ConfigError(
                f"training.patch is {wanted[axis]} voxels along {AXES[axis]}: the "
                f"network's output would be {n}, but the training sections have "
                f"{limit}; use at most {needed[axis]}"
            )
    return patch


def _fitting(needed: Zyx, spec: UNetSpec) -> Zyx:
    """Return a legal input, shortened along its longest axis until a step fits."""
    patch = list(needed)
    while project_memory(spec, as_zyx(patch), 1) > LARGEST_STEP:
        axis = max((2, 1, 0)[: spec.ndim], key=lambda a: patch[a])
        shorter = patch[axis] - spec.pooling_grid[axis]
        if shorter < spec.input_shape_for((1, 1, 1))[axis]:
            break
        patch[axis] = shorter
    return as_zyx(patch)


def check_normalised(spec: UNetSpec, patch: Zyx, batch_size: int) -> None:
    """Raise ConfigError where batch normalisation has one value a channel.

    Its deviation would be 0, and what it makes of it is no function of the image.
    """
    if spec.normalization != "batch":
        return
    layers = [layer for layer in spec.layers(patch) if layer.kind == "conv"]
    fewest = min(prod(layer.out_shape) for layer in layers)
    if fewest * batch_size > 1:
        return
    axis = max(range(3), key=lambda a: patch[a])
    larger = list(patch)
    larger[axis] += spec.pooling_grid[axis]
    raise ConfigError(
        f"training.patch {list(patch)} with training.batch_size 1 leaves one voxel a "
        f"channel at the deepest of {spec.depth} levels, of which network."
        f"normalization: batch has no statistics; use training.batch_size 2, a smaller "
        f"network.depth, or, of larger sections, training.patch {larger}"
    )


def check_pairs(spec: UNetSpec, patch: Zyx, sections: list[Zyx]) -> None:
    """Raise ConfigError where an affinity would never be learnt, but used all the same.

    Parameters
    ----------
    spec, patch
        The network, and its input.
    sections : list of (z, y, x)
        Shapes of what patches are drawn from.

    Examples
    --------
    >>> spec = UNetSpec(targets="affinities", head="sigmoid")
    >>> check_pairs(spec, (1, 204, 204), [(1, 512, 512)])
    >>> check_pairs(spec, (1, 188, 188), [(1, 512, 512)])
    Traceback (most recent call last):
    unetpipe.errors.ConfigError: training.patch [1, 188, 188] leaves an output of ...
    """
    output = spec.output_shape(patch)
    unseen = [o for o in spec.affinity_offsets if not _has_pair(o, [output])]
    missing = [o for o in spec.affinity_offsets if not _has_pair(o, sections)]
    if not unseen and not missing:
        return
    left = [list(o) for o in spec.affinity_offsets if o not in {*unseen, *missing}]
    advice = f"leave them out (network.affinity_offsets: {left})"
    if missing:
        raise ConfigError(
            f"no annotated voxels of the training rows lie {_listed(missing)} apart: "
            "these affinities would never be learnt; annotate more sections that "
            f"follow each other, or {advice}"
        )
    reach = [max(abs(o[axis]) for o in spec.affinity_offsets) for axis in range(3)]
    larger = spec.input_shape_for(as_zyx(map(max, output, (2 * n for n in reach))))
    raise ConfigError(
        f"training.patch {list(patch)} leaves an output of {list(output)} voxels, of "
        f"which none lie {_listed(unseen)} apart, so these affinities would never be "
        f"learnt; use training.patch {list(larger)} or more, or {advice}"
    )


def _has_pair(offset: Zyx, shapes: list[Zyx]) -> bool:
    """Return whether two voxels of one of some boxes lie an offset apart."""
    return any(
        all(abs(n) < side for n, side in zip(offset, shape, strict=True))
        for shape in shapes
    )


def _listed(offsets: list[Zyx]) -> str:
    return " or ".join(str(list(offset)) for offset in offsets)


def project_memory(
    spec: UNetSpec,
    patch: Zyx,
    batch_size: int,
    *,
    is_adaptive: bool = False,
    is_averaged: bool = False,
    is_team: bool = False,
) -> int:
    """Return how many bytes a training step keeps at most, beside the libraries.

    Parameters
    ----------
    spec, patch, batch_size
        The network, its input, and how many of them one process computes at once.
    is_adaptive : bool
        Whether the optimiser remembers squares of the gradients, as ``adamw`` does.
    is_averaged : bool
        Whether a mean of the weights is kept.
    is_team : bool
        Whether several processes share their gradients.
    """
    values = sum(layer.num_values for layer in spec.layers(patch))
    features = values * BYTES_PER_FEATURE * batch_size
    each = BYTES_PER_PARAMETER
    each += BYTES_OF_SQUARES * is_adaptive
    each += BYTES_OF_AVERAGE * is_averaged + BYTES_IN_BUCKETS * is_team
    return features + each * spec.num_parameters


def _round_up(shape: Zyx, spec: UNetSpec, *, holds_output: bool = False) -> Zyx:
    """Return the smallest legal input of this size, or whose output has this size."""
    if spec.padding == "same":
        return as_zyx(map(round_up, shape, spec.pooling_grid))
    if holds_output:
        return spec.input_shape_for(shape)
    kept = (max(1, n - t) for n, t in zip(shape, spec.halo.total, strict=True))
    return spec.input_shape_for(as_zyx(kept))
