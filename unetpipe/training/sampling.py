"""Patches drawn on the fly: which voxels, from where, and how deformed.

Each patch belongs to one (seed, step, index) and depends on nothing else, so that any
number of workers draws the same sequence. Volumes may be NumPy or Zarr arrays; only
the box that a patch needs is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.targets.annotated import AnnotatedVolume, Piece
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import (
    Augmentation,
    are_whole,
    bounding_box,
    draw_coordinates,
    draw_grey,
    resample_image,
    resample_labels,
    seeded_generator,
)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A patch before resampling: source boxes, and where to take voxels from.

    ``image`` is (c, z, y, x), ``target`` and ``border`` are (z, y, x) of a smaller box:
    the network's output window. ``grey`` is (2, c): contrast and brightness; ``seed``
    is that of dropout. ``is_copied``: no voxel of the image lies between others.
    """

    image: Tensor
    image_coordinates: Tensor
    is_copied: bool
    target: Tensor
    border: Tensor | None
    target_coordinates: Tensor
    grey: Tensor
    seed: int

    def pinned(self) -> "Patch":
        """Return the patch in pinned memory: a GPU copies it beside its computing."""
        return replace(
            self,
            image=self.image.pin_memory(),
            image_coordinates=self.image_coordinates.pin_memory(),
            target=self.target.pin_memory(),
            border=None if self.border is None else self.border.pin_memory(),
            target_coordinates=self.target_coordinates.pin_memory(),
            grey=self.grey.pin_memory(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one training step sees.

    ``image`` is float32 (n, c, y, x), ``target`` uint8 (n, y, x) and ``border`` float32
    (n, y, x) or None; with a z axis in three dimensions. ``seeds`` are of dropout.
    """

    image: Tensor
    target: Tensor
    border: Tensor | None
    seeds: tuple[int, ...]


class PatchSampler:
    """Draws patches: sections by their known voxels, any place in a section alike.

    Parameters
    ----------
    volumes : list of AnnotatedVolume
        The training rows.
    spec : UNetSpec
        Gives the output window of a patch.
    input_shape : (z, y, x)
        What the network sees of a patch; a legal size.
    augmentation : Augmentation
        How patches vary.
    seed : int
        Another seed draws another sequence.
    """

    def __init__(
        self,
        volumes: list[AnnotatedVolume],
        spec: UNetSpec,
        input_shape: Zyx,
        augmentation: Augmentation,
        *,
        seed: int,
    ) -> None:
        self._pieces = [piece for v in volumes for piece in v.pieces(spec.ndim)]
        self._until = np.cumsum([piece.num_known for piece in self._pieces])
        self._ndim = spec.ndim
        self._channels = spec.in_channels
        self._input = input_shape
        self._output = spec.output_shape(input_shape)
        # Valid convolutions take off the same on both sides.
        self._offset = as_zyx(
            (i - o) // 2 for i, o in zip(input_shape, self._output, strict=True)
        )
        self._augmentation = augmentation
        self._seed = seed

    def patch(self, step: int, index: int) -> Patch:
        """Draw patch ``index`` of step ``step`` and read its voxels."""
        generator = seeded_generator(self._seed, step, index)
        piece, window = self._draw_window(generator)
        y, x = self._input[1:]
        inside = draw_coordinates((y, x), self._augmentation, generator)
        grey = draw_grey(self._channels, self._augmentation, generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        _, top, left = self._offset
        _, height, width = self._output
        target_inside = inside[:, top : top + height, left : left + width]
        seen = window.start[0] - self._offset[0]
        image_box, image_at = self._place(inside, window, (seen, seen + self._input[0]))
        target_box, target_at = self._place(
            target_inside, window, (window.start[0], window.stop[0])
        )
        border = piece.volume.border
        return Patch(
            image=torch.from_numpy(piece.read_image(image_box)),
            image_coordinates=image_at,
            is_copied=are_whole(image_at),
            target=_as_tensor(piece.read(piece.volume.target, target_box)),
            border=None
            if border is None
            else _as_tensor(piece.read(border, target_box)),
            target_coordinates=target_at,
            grey=grey,
            seed=seed,
        )

    def batch(self, step: int, indices: Iterable[int]) -> list[Patch]:
        """Draw some or all patches of a step."""
        return [self.patch(step, index) for index in indices]

    def render(self, patches: list[Patch], device: torch.device) -> Batch:
        """Resample patches on the training device and stack them.

        For a GPU they should be ``pinned``; then nothing here waits for it.
        """
        rendered = [_render(patch, device) for patch in patches]
        image, target = (
            torch.stack([getattr(r, name) for r in rendered])
            for name in ("image", "target")
        )
        borders = [r.border for r in rendered if r.border is not None]
        border = torch.stack(borders) if len(borders) == len(rendered) else None
        if self._ndim == 2:
            image, target = image.squeeze(2), target.squeeze(1)
            border = None if border is None else border.squeeze(1)
        return Batch(image, target, border, tuple(patch.seed for patch in patches))

    def _draw_window(self, generator: torch.Generator) -> tuple[Piece, Roi]:
        """Draw an output window, its centre anywhere in a piece.

        Windows may reach over the faces, where they see mirrored voxels: windows that
        had to lie inside would hardly ever show the network a face, and prediction
        has to get those right too.
        """
        voxel = int(torch.randint(int(self._until[-1]), (1,), generator=generator))
        piece = self._pieces[int(np.searchsorted(self._until, voxel, side="right"))]
        start = as_zyx(
            int(torch.randint(n, (1,), generator=generator)) - o // 2
            for n, o in zip(piece.shape, self._output, strict=True)
        )
        stop = as_zyx(a + o for a, o in zip(start, self._output, strict=True))
        return piece, Roi(start, stop)

    def _place(
        self, inside: Tensor, window: Roi, z: tuple[int, int]
    ) -> tuple[Roi, Tensor]:
        """Return the box of a piece to read, and the coordinates within it."""
        corner = torch.tensor(
            [window.start[a] - self._offset[a] for a in (1, 2)], dtype=torch.int64
        )
        (y0, y1), (x0, x1) = bounding_box(inside)
        y, x = corner.tolist()
        box = Roi((z[0], y0 + y, x0 + x), (z[1], y1 + y, x1 + x))
        return box, inside - torch.tensor([y0, x0]).reshape(2, 1, 1)


def _as_tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _render(patch: Patch, device: torch.device) -> Batch:
    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    image = resample_image(
        to_device(patch.image),
        to_device(patch.image_coordinates),
        is_copied=patch.is_copied,
    )
    scale, shift = to_device(patch.grey)[:, :, None, None, None]
    at = to_device(patch.target_coordinates)
    border = patch.border
    return Batch(
        image=image * scale + shift,
        target=resample_labels(to_device(patch.target), at),
        border=None if border is None else resample_labels(to_device(border), at),
        seeds=(patch.seed,),
    )
