"""Random changes of a training patch, composed into one resampling.

Ronneberger et al. 2015, Sect. 3.1: shift, rotation, grey values, and elastic
deformation by random displacements on a coarse grid, smoothed bicubically.

DEPARTS: flips, and if asked for another size, which the paper does not have.

Everything is drawn on the CPU from a generator that belongs to one patch, so the same
patch comes out whoever draws it; the resampling itself runs where the tensors are.
Deformation is in the section plane: the sections of a patch move together.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from math import cos, radians, sin

import torch
from torch import Tensor
from torch.nn import functional

# Voxels around the coordinates that bicubic interpolation reads.
MARGIN = 2


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much patches vary; all zero and no flip changes nothing.

    Parameters
    ----------
    shift_vox : float
        Largest shift along y and x, uniform.
    rotation_degrees : float
        Largest rotation, uniform to both sides.
    flip : bool
        Mirror along y, along x, each with probability 1/2.
    zoom : float
        Objects grow or shrink by up to the factor ``1 + zoom``, uniform in its
        logarithm.
    elastic_sigma_vox : float
        Standard deviation of the displacements of the coarse grid.
    elastic_grid : int
        Points of the coarse grid along y and along x.
    grey_scale, grey_shift : float
        Grey values become ``a * v + b``, a uniform in 1 +- grey_scale, b uniform in
        +- grey_shift standard deviations, drawn for each channel.
    """

    shift_vox: float = 0.0
    rotation_degrees: float = 0.0
    flip: bool = False
    zoom: float = 0.0
    elastic_sigma_vox: float = 0.0
    elastic_grid: int = 3
    grey_scale: float = 0.0
    grey_shift: float = 0.0


def seeded_generator(*numbers: int) -> torch.Generator:
    """Return the generator that belongs to (seed, step, index), and to nobody else."""
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def draw_coordinates(
    shape: tuple[int, int], augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """Draw where each voxel of a patch is taken from.

    ::

        source(q) = R F (q - centre) / s + centre + shift + u(q)

    R rotates, F flips, s enlarges, u is the elastic displacement.

    Parameters
    ----------
    shape : (y, x)
        Voxels of the patch.
    augmentation : Augmentation
        How much it varies.
    generator : torch.Generator
        On the CPU; how many numbers are drawn depends on ``elastic_grid``, and on
        whether ``zoom`` is 0, alone.

    Returns
    -------
    float32 tensor, shape (2, y, x)
        y and x in voxels of the patch; outside it where context is needed.
    """
    uniform = torch.rand(5, generator=generator) * 2 - 1
    grid = augmentation.elastic_grid
    coarse = torch.randn(2, grid, grid, generator=generator)
    angle = radians(augmentation.rotation_degrees) * float(uniform[0])
    flips = torch.where(uniform[3:] < 0, -1.0, 1.0) if augmentation.flip else (1.0, 1.0)
    (y, x), centre = _centred_grid(shape), [(n - 1) / 2 for n in shape]
    if augmentation.zoom:
        drawn = float(torch.rand(1, generator=generator)) * 2 - 1
        step = (1 + augmentation.zoom) ** -drawn
        y, x = y * step, x * step
    y, x = y * float(flips[0]), x * float(flips[1])
    if angle:
        y, x = cos(angle) * y - sin(angle) * x, sin(angle) * y + cos(angle) * x
    shift = augmentation.shift_vox * uniform[1:3]
    source = torch.stack([y.expand(shape), x.expand(shape)])
    source += (torch.tensor(centre) + shift).reshape(2, 1, 1)
    if augmentation.elastic_sigma_vox:
        rows, columns = (_bicubic_weights(grid, n) for n in shape)
        source += augmentation.elastic_sigma_vox * (rows @ coarse @ columns.T)
    return source


def draw_grey_change(
    channels: int, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """Draw contrast and brightness: float32 tensor, shape (2, c)."""
    uniform = torch.rand(2, channels, generator=generator) * 2 - 1
    spread = torch.tensor([[augmentation.grey_scale], [augmentation.grey_shift]])
    return torch.tensor([[1.0], [0.0]]) + spread * uniform


def bounding_box(coordinates: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (start, stop) along y and x of all that a resampling reads."""
    low = coordinates.amin(dim=(1, 2)).floor().int().tolist()
    high = coordinates.amax(dim=(1, 2)).ceil().int().tolist()
    (y0, x0), (y1, x1) = low, high
    return (y0 - MARGIN, y1 + MARGIN + 1), (x0 - MARGIN, x1 + MARGIN + 1)


def are_whole(coordinates: Tensor) -> bool:
    """Tell whether coordinates name voxels: then these are copied.

    Asked where the coordinates are drawn; on a GPU the answer would have to be waited
    for.
    """
    return torch.equal(coordinates, coordinates.round())


def augment_image(
    source_CZYX: Tensor, coordinates: Tensor, *, is_copied: bool
) -> Tensor:
    """Take an image at coordinates, bicubically: (c, z, *coordinates.shape[1:]).

    Bicubic rather than bilinear, because averaging neighbours would train the network
    on images less noisy than those it will see. Nothing here waits for the device.

    Parameters
    ----------
    source_CZYX : float32 tensor
        Voxels that cover ``bounding_box`` of the coordinates.
    coordinates : float32 tensor, shape (2, y, x)
        In voxels of the source.
    is_copied : bool
        What ``are_whole`` says of the coordinates: then voxels are copied, bit for bit.
    """
    if is_copied:
        return augment_labels(source_CZYX, coordinates)
    height, width = source_CZYX.shape[-2:]
    y, x = coordinates
    # Numbers, not a tensor, which would have to be brought to the device.
    scaled = torch.stack([x / ((width - 1) / 2) - 1, y / ((height - 1) / 2) - 1])
    grid = scaled.permute(1, 2, 0)
    flat = source_CZYX.reshape(1, -1, height, width)
    taken = functional.grid_sample(
        flat, grid[None], mode="bicubic", padding_mode="border", align_corners=True
    )
    return taken.reshape(*source_CZYX.shape[:2], *coordinates.shape[1:])


def augment_labels(source: Tensor, coordinates: Tensor) -> Tensor:
    """Take the nearest voxels of labels or weights, shape (..., y, x), any dtype."""
    y, x = coordinates.round().long()
    return source[..., y, x]


def _centred_grid(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape)
    return y[:, None], x[None, :]


@lru_cache(maxsize=8)
def _bicubic_weights(points: int, length: int) -> Tensor:
    """Return the matrix (length, points) that interpolates a coarse axis."""
    identity = torch.eye(points).reshape(points, 1, points, 1)
    dense = functional.interpolate(
        identity, size=(length, 1), mode="bicubic", align_corners=True
    )
    return dense.reshape(points, length).T.contiguous()
