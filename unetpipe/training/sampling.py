"""Patches drawn on the fly: which voxels, from where, and how deformed.

::

    a section known everywhere    the centre of a patch is any voxel
    known in places               the centre is any known voxel
    foreground_fraction of all    the centre is any voxel of the foreground

Each patch belongs to one (seed, step, index) and depends on nothing else, so that any
number of workers draws the same sequence. Volumes may be NumPy or Zarr arrays; only
the box that a patch needs is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.targets.affinities import learn_affinities, read_affinity_ids
from unetpipe.targets.annotated import AnnotatedVolume, Stack
from unetpipe.targets.weight_map import UNLABELLED
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    cells_of_boxes,
    grid_cell,
)
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import (
    Augmentation,
    are_whole,
    augment_image,
    augment_labels,
    bounding_box,
    draw_coordinates,
    draw_grey_change,
    seeded_generator,
)

PLACE: Zyx = (1, 64, 64)  # where voxels are counted together, to draw one of them
STACKS_REMEMBERED = 256
PATCHES_WEIGHED = 200


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
    Where affinities are learnt ``target`` are ids, int64, of ``read_affinity_ids``.
    """

    image: Tensor
    target: Tensor
    border: Tensor | None
    seeds: tuple[int, ...]


class PatchSampler:
    """Draws patches: any known voxel is as likely as any other to be a centre.

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
    foreground_fraction : float
        Of patches whose centre is drawn from the foreground alone.
    """

    def __init__(
        self,
        volumes: list[AnnotatedVolume],
        spec: UNetSpec,
        input_shape: Zyx,
        augmentation: Augmentation,
        *,
        seed: int,
        foreground_fraction: float = 0.0,
    ) -> None:
        self._stacks = [stack for v in volumes for stack in v.stacks(spec.ndim)]
        self._until = np.cumsum([stack.num_known for stack in self._stacks])
        self._foreground_until = np.cumsum([p.num_foreground for p in self._stacks])
        self._foreground_fraction = foreground_fraction
        # Places in a stack are counted when it is first drawn; a few are remembered.
        self._places = lru_cache(maxsize=STACKS_REMEMBERED)(self._count_places)
        self._ndim = spec.ndim
        self._offsets = spec.affinity_offsets
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
        stack, window = self._draw_window(generator)
        y, x = self._input[1:]
        inside = draw_coordinates((y, x), self._augmentation, generator)
        grey = draw_grey_change(self._channels, self._augmentation, generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        _, top, left = self._offset
        _, height, width = self._output
        target_inside = inside[:, top : top + height, left : left + width]
        seen = window.start[0] - self._offset[0]
        image_box, image_at = self._place(inside, window, (seen, seen + self._input[0]))
        target_box, target_at = self._place(
            target_inside, window, (window.start[0], window.stop[0])
        )
        border, target = stack.volume.border, self._read_target(stack, target_box)
        return Patch(
            image=torch.from_numpy(stack.read_image(image_box)),
            image_coordinates=image_at,
            is_copied=are_whole(image_at),
            target=_as_tensor(target),
            border=None
            if border is None
            else _as_tensor(stack.read(border, target_box)),
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

    def average_weight(self, class_weights: NDArray[np.float32]) -> float:
        """Return the weight of an average patch: what the loss of one is divided by.

        Measured on patches as they are drawn, before they are deformed. A function of
        the seed alone.

        Parameters
        ----------
        class_weights : float32 array, shape (k,)
            w_c of each class; of affinities two for each offset.
        """
        total = 0.0
        for step in range(PATCHES_WEIGHED):
            stack, window = self._draw_window(seeded_generator(self._seed, step, 0))
            total += self._weight(stack, window, class_weights)
        return total / PATCHES_WEIGHED

    def _weight(
        self, stack: Stack, window: Roi, class_weights: NDArray[np.float32]
    ) -> float:
        """Return the weight of all that a window knows."""
        target = self._read_target(stack, window)
        if self._offsets:
            pairs = zip(
                learn_affinities(target, self._offsets),
                class_weights.reshape(-1, 2),
                strict=True,
            )
            return sum(
                float(np.count_nonzero(affinity == alike) * weight)
                for affinity, weights in pairs
                for alike, weight in enumerate(weights)
            )
        known = target != UNLABELLED
        weights = class_weights[np.where(known, target, 0)].astype(np.float64)
        if stack.volume.border is not None:
            weights += stack.read(stack.volume.border, window)
        return float(weights[known].sum())

    def _read_target(self, stack: Stack, roi: Roi) -> NDArray[Any]:
        """Return what the loss compares with: classes, for affinities ids."""
        if self._offsets:
            return read_affinity_ids(stack, roi)
        return stack.read(stack.volume.lesson, roi)

    def _draw_window(self, generator: torch.Generator) -> tuple[Stack, Roi]:
        """Draw an output window, its centre a known voxel of a stack.

        Windows may reach over the faces, where they see mirrored voxels: windows that
        had to lie inside would hardly ever show the network a face, and prediction
        has to get those right too.
        """
        until, wants_foreground = self._until, False
        if self._foreground_fraction and self._foreground_until[-1]:
            drawn = float(torch.rand((), generator=generator))
            wants_foreground = drawn < self._foreground_fraction
            until = self._foreground_until if wants_foreground else until
        voxel = _draw_below(int(until[-1]), generator)
        number = int(np.searchsorted(until, voxel, side="right"))
        stack = self._stacks[number]
        if wants_foreground or stack.num_known < prod(stack.shape):
            centre = self._draw_voxel(number, wants_foreground, generator)
        else:
            centre = as_zyx(_draw_below(n, generator) for n in stack.shape)
        start = as_zyx(c - o // 2 for c, o in zip(centre, self._output, strict=True))
        stop = as_zyx(a + o for a, o in zip(start, self._output, strict=True))
        return stack, Roi(start, stop)

    def _draw_voxel(
        self, number: int, is_foreground: bool, generator: torch.Generator
    ) -> Zyx:
        """Draw any known voxel of a stack, or any of its foreground."""
        stack = self._stacks[number]
        places, until = self._places(number, is_foreground)
        place = _draw_below(int(until[-1]), generator)
        index = places[int(np.searchsorted(until, place, side="right"))]
        roi = grid_cell(index, PLACE, stack.shape)
        voxels = np.argwhere(
            _is_wanted(stack.read(stack.volume.lesson, roi), is_foreground)
        )
        inside = voxels[_draw_below(len(voxels), generator)].tolist()
        return as_zyx(a + b for a, b in zip(roi.start, inside, strict=True))

    def _count_places(
        self, number: int, is_foreground: bool
    ) -> tuple[list[Zyx], NDArray[np.int64]]:
        """Return places of a stack, and how many voxels may be drawn up to each."""
        stack = self._stacks[number]
        places = cells_of_boxes(stack.boxes, PLACE)
        counts = [
            np.count_nonzero(
                _is_wanted(
                    stack.read(
                        stack.volume.lesson, grid_cell(index, PLACE, stack.shape)
                    ),
                    is_foreground,
                )
            )
            for index in places
        ]
        return places, np.cumsum(counts)

    def _place(
        self, inside: Tensor, window: Roi, z: tuple[int, int]
    ) -> tuple[Roi, Tensor]:
        """Return the box of a stack to read, and the coordinates within it."""
        corner = torch.tensor(
            [window.start[a] - self._offset[a] for a in (1, 2)], dtype=torch.int64
        )
        (y0, y1), (x0, x1) = bounding_box(inside)
        y, x = corner.tolist()
        box = Roi((z[0], y0 + y, x0 + x), (z[1], y1 + y, x1 + x))
        return box, inside - torch.tensor([y0, x0]).reshape(2, 1, 1)


def _draw_below(stop: int, generator: torch.Generator) -> int:
    return int(torch.randint(stop, (1,), generator=generator))


def _is_wanted(target: NDArray[np.uint8], is_foreground: bool) -> NDArray[np.bool_]:
    """Return which voxels are known, or which are foreground."""
    is_known = target != UNLABELLED
    return np.asarray(is_known & (target != 0) if is_foreground else is_known)


def _as_tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _render(patch: Patch, device: torch.device) -> Batch:
    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    image = augment_image(
        to_device(patch.image),
        to_device(patch.image_coordinates),
        is_copied=patch.is_copied,
    )
    scale, shift = to_device(patch.grey)[:, :, None, None, None]
    at = to_device(patch.target_coordinates)
    border = patch.border
    return Batch(
        image=image * scale + shift,
        target=augment_labels(to_device(patch.target), at),
        border=None if border is None else augment_labels(to_device(border), at),
        seeds=(patch.seed,),
    )
