"""The architecture in numbers: legal sizes, halo, pooling grid, parameters, FLOP.

No torch here: the Snakefile and the planning stage import this module.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from typing import Any, Literal

from unetpipe.errors import GeometryError
from unetpipe.tiling.boxes import AXES, Halo, Zyx, as_zyx, round_up

LayerKind = Literal["conv", "up", "out", "pool"]
Targets = Literal["cells", "border", "markers", "affinities"]
FAR = (3, 9)  # voxels of y and x between the pairs that usually are told apart


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the network at a given input size.

    ``saved`` marks a feature map that a later skip connection reads.
    """

    kind: LayerKind
    level: int
    in_channels: int
    out_channels: int
    kernel: Zyx
    out_shape: Zyx
    saved: bool = False

    @property
    def flop(self) -> int:
        """Floating-point operations, two per multiply-add."""
        if self.kind == "pool":
            return 0
        per_output = self.in_channels * self.out_channels * 2
        # An up-convolution with stride = kernel reads one input voxel an output voxel.
        taps = 1 if self.kind == "up" else prod(self.kernel)
        return per_output * taps * prod(self.out_shape)

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        if self.kind == "pool":
            return 0
        return prod(self.kernel) * self.in_channels * self.out_channels + (
            self.out_channels
        )

    @property
    def num_values(self) -> int:
        """Values in the output feature map."""
        return self.out_channels * prod(self.out_shape)


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """A U-Net, drawn from a few numbers (Ronneberger et al. 2015, Fig. 1).

    Parameters
    ----------
    ndim : 2 or 3
        2 slides over single sections; 3 is the volumetric variant (Cicek et al. 2016).
    in_channels, num_classes : int
        Channels of the image; classes of the softmax (with ``head="sigmoid"`` 2
        classes share one output channel).
    depth : int
        Number of poolings.
    base_channels : int
        Channels of the first level; they double with each pooling.
    padding : "valid" or "same"
        The paper convolves without padding.
    normalization : "none" or "batch"
        Batch normalisation after each 3x3 convolution. Norms over the tile
        (instance, group) do not exist here: they cannot be tiled exactly.
    head : "softmax" or "sigmoid"
        Final activation.
    dropout : float
        Rate at the end of the contracting path.
    pooling : tuple of (z, y, x)
        Pooling factor of each level, 1 or 2 an axis; () means 2 on every axis that
        the network sees (z only with ``ndim=3``).
    targets : "cells", "border", "markers" or "affinities"
        What voxels are told apart: the classes; background, and of cells the core
        and the rim, see ``unetpipe.targets.cores``; or whether two voxels are of one
        cell, see ``unetpipe.targets.affinities``.
    affinity_offsets : tuple of (z, y, x)
        With affinities: where, seen from a voxel, the other one of each pair lies; ()
        means ``usual_offsets``.

    Raises
    ------
    GeometryError
        If a number is outside its range; the message names it.

    Examples
    --------
    >>> spec = UNetSpec()
    >>> spec.output_shape((1, 572, 572))
    (1, 388, 388)
    >>> spec.num_parameters
    31030658
    """

    ndim: int = 2
    in_channels: int = 1
    num_classes: int = 2
    depth: int = 4
    base_channels: int = 64
    padding: Literal["valid", "same"] = "valid"
    normalization: Literal["none", "batch"] = "none"
    head: Literal["softmax", "sigmoid"] = "softmax"
    dropout: float = 0.5
    pooling: tuple[Zyx, ...] = ()
    targets: Targets = "cells"
    affinity_offsets: tuple[Zyx, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges and fill in the pooling of each level."""
        if self.ndim not in (2, 3):
            raise GeometryError(f"ndim is {self.ndim}; use 2 or 3")
        if self.has_affinities:
            self._check_affinities()
        elif self.affinity_offsets:
            raise GeometryError(
                f"affinity_offsets is {self.affinity_offsets} with targets "
                f"{self.targets}, which have none; use targets affinities"
            )
        if self.head == "sigmoid" and self.num_classes != 2:
            raise GeometryError(
                f"head is sigmoid with {self.num_classes} classes; use softmax"
            )
        if self.has_cores and (self.num_classes > 2 or self.head == "sigmoid"):
            raise GeometryError(
                f"targets is {self.targets}, which tells background, core and rim of "
                f"cells apart, with num_classes {self.num_classes} and head "
                f"{self.head}; use num_classes 2 and head softmax, or targets cells"
            )
        if self.normalization not in ("none", "batch"):
            raise GeometryError(
                f"normalization is {self.normalization!r}: its statistics would depend "
                "on the tile, so tiling could not be exact; use none or batch"
            )
        pooling = self.pooling or ((self.ndim - 1, 2, 2),) * self.depth
        pooling = tuple(as_zyx(tuple(p)) for p in pooling)
        if len(pooling) != self.depth or any(
            f not in (1, 2) for p in pooling for f in p
        ):
            raise GeometryError(
                f"pooling is {pooling}; give {self.depth} triples of 1 or 2, "
                "one a level"
            )
        if self.ndim == 2 and any(p[0] != 1 for p in pooling):
            raise GeometryError("pooling along z needs ndim 3; use 1 along z")
        object.__setattr__(self, "pooling", pooling)
        if self.has_affinities:
            wanted = self.affinity_offsets or usual_offsets(self.ndim, pooling)
            offsets = tuple(as_zyx(tuple(offset)) for offset in wanted)
            object.__setattr__(self, "affinity_offsets", offsets)

    def _check_affinities(self) -> None:
        """Raise GeometryError unless head and offsets are those of affinities."""
        if self.head != "sigmoid" or self.num_classes != 2:
            raise GeometryError(
                f"targets is affinities, a probability for each pair of voxels, with "
                f"num_classes {self.num_classes} and head {self.head}; use num_classes "
                "2 and head sigmoid"
            )
        offsets = [as_zyx(offset) for offset in self.affinity_offsets]
        either = {max(o, as_zyx(-n for n in o)) for o in offsets}
        if len(either) < len(offsets) or (0, 0, 0) in offsets:
            raise GeometryError(
                f"affinity_offsets is {offsets}; name each pair once, and no voxel "
                "with itself"
            )
        if self.ndim == 2 and any(z for z, _, _ in offsets):
            raise GeometryError(
                f"affinity_offsets is {offsets}, but with ndim 2 the network sees a "
                "section; use 0 along z"
            )
        if offsets and not any(map(is_nearest_offset, offsets)):
            raise GeometryError(
                f"affinity_offsets is {offsets}, no two of them neighbours; add "
                "[0, -1, 0] and [0, 0, -1], with ndim 3 [-1, 0, 0] too"
            )

    @property
    def kernel(self) -> Zyx:
        """Kernel of the ordinary convolutions."""
        return (3 if self.ndim == 3 else 1, 3, 3)

    @property
    def out_channels(self) -> int:
        """Channels of the last layer."""
        if self.has_affinities:
            return len(self.affinity_offsets)
        return 1 if self.head == "sigmoid" else self.num_learnt

    @property
    def has_cores(self) -> bool:
        """Whether the network tells the core of a cell from its rim."""
        return self.targets in ("border", "markers")

    @property
    def has_affinities(self) -> bool:
        """Whether the network tells of pairs of voxels whether they are of one cell."""
        return self.targets == "affinities"

    @property
    def num_learnt(self) -> int:
        """Classes that the loss tells apart: background, core and rim are three.

        Of affinities: two a pair.
        """
        if self.has_affinities:
            return 2 * len(self.affinity_offsets)
        return 3 if self.has_cores else self.num_classes

    @property
    def num_probabilities(self) -> int:
        """Stored probabilities of a voxel: the foreground; with cores core too.

        Of affinities: the foreground that they make, and each of them.
        """
        if self.has_affinities:
            return 1 + len(self.affinity_offsets)
        if self.has_cores:
            return 2
        return 1 if self.num_classes == 2 else self.num_classes

    @property
    def num_stored(self) -> int:
        """Stored bytes of a voxel: with more than two classes the class too."""
        return self.num_probabilities + (self.num_classes > 2)

    @property
    def pooling_grid(self) -> Zyx:
        """Tiles must start on multiples of this, or they disagree with each other."""
        return as_zyx(prod(p[axis] for p in self.pooling) for axis in range(3))

    def channels(self, level: int) -> int:
        """Return the feature channels of a level, 0 at full resolution."""
        return self.base_channels << level

    def layers(self, input_shape: Zyx) -> Iterator[Layer]:
        """Yield all layers in forward order with their output shapes.

        Raises
        ------
        GeometryError
            If the size is not legal: a feature map would be odd at a pooling, or
            nothing would be left. The message names the axis and legal sizes.
        """
        self.check_input_shape(input_shape)
        shape, channels = input_shape, self.in_channels
        skips: list[Zyx] = []
        for level in range(self.depth + 1):
            for i in range(2):
                shape, width = self._convolved(shape), self.channels(level)
                saved = i == 1 and level < self.depth
                yield Layer("conv", level, channels, width, self.kernel, shape, saved)
                channels = width
            if level < self.depth:
                skips.append(shape)
                pool = self.pooling[level]
                shape = as_zyx(n // p for n, p in zip(shape, pool, strict=True))
                yield Layer("pool", level, channels, channels, pool, shape)
        for level in reversed(range(self.depth)):
            pool, width = self.pooling[level], self.channels(level)
            shape = as_zyx(n * p for n, p in zip(shape, pool, strict=True))
            yield Layer("up", level, channels, width, pool, shape)
            channels = 2 * width
            for _ in range(2):
                shape = self._convolved(shape)
                yield Layer("conv", level, channels, width, self.kernel, shape)
                channels = width
        yield Layer("out", 0, channels, self.out_channels, (1, 1, 1), shape)

    @property
    def num_parameters(self) -> int:
        """Learnable weights and biases of the convolutions."""
        smallest = self.input_shape_for((1, 1, 1))
        count = sum(layer.num_parameters for layer in self.layers(smallest))
        if self.normalization == "batch":
            count += sum(
                2 * layer.out_channels
                for layer in self.layers(smallest)
                if layer.kind == "conv"
            )
        return count

    def flop(self, input_shape: Zyx) -> int:
        """Return the FLOP of one forward pass (2 a multiply-add)."""
        return sum(layer.flop for layer in self.layers(input_shape))

    @property
    def flop_per_voxel(self) -> float:
        """FLOP per output voxel if no halo were ever computed: 1.468 M in the paper."""
        total = 0.0
        for layer in self.layers(self.input_shape_for((1, 1, 1))):
            passes = 1.0
            for pool in self.pooling[: layer.level]:
                passes /= prod(pool)
            total += layer.flop / prod(layer.out_shape) * passes
        return total

    def peak_activation_values(self, input_shape: Zyx) -> int:
        """Return how many values live at once during inference, at the worst layer.

        Skip connections stay; beside them live a layer's input and output, and at a
        concatenation its two parts and the result.
        """
        live_skips: dict[int, int] = {}
        previous, peak = self.in_channels * prod(input_shape), 0
        for layer in self.layers(input_shape):
            values = layer.num_values
            peak = max(peak, previous + values + sum(live_skips.values()))
            if layer.kind == "up":
                # Concatenated with the cropped skip of equal size.
                peak = max(peak, 3 * values + sum(live_skips.values()))
                live_skips.pop(layer.level)
                values *= 2
            if layer.kind == "conv" and self.normalization == "batch":
                peak = max(peak, 2 * values + sum(live_skips.values()))
            if layer.saved:
                live_skips[layer.level] = values
            previous = values
        return peak

    def check_input_shape(self, shape: Zyx) -> None:
        """Raise GeometryError unless a tile of this shape can pass the network."""
        for axis, size in enumerate(shape):
            if self._output_size(size, axis) is None:
                legal = [
                    n
                    for n in range(max(1, size - 32), size + 300)
                    if self._output_size(n, axis) is not None
                ]
                nearest = sorted(legal, key=lambda n: abs(n - size))[:2]
                remedy = " or ".join(map(str, sorted(nearest)))
                raise GeometryError(
                    f"input is {size} voxels along {AXES[axis]}, which does not pass "
                    f"{self.depth} poolings; use {remedy}"
                )

    def output_shape(self, input_shape: Zyx) -> Zyx:
        """Return the shape that the network makes of a legal input shape."""
        self.check_input_shape(input_shape)
        return as_zyx(
            self._output_size(n, axis) or 0 for axis, n in enumerate(input_shape)
        )

    @property
    def halo(self) -> Halo:
        """What the network must see around a region that starts and ends on the grid.

        Computed by walking the layers backwards, never configured: (92, 96) along y
        and x for the paper's network, whose legal inputs are 12 modulo 16.
        """
        return _halo_of(self)

    @property
    def output_offset(self) -> Zyx:
        """Where, in the output of a tile, the region that it is kept for begins."""
        return self.halo.before if self.padding == "same" else (0, 0, 0)

    def input_shape_for(self, region: Zyx) -> Zyx:
        """Return the smallest legal tile whose kept region has at least this shape."""
        rounded = as_zyx(map(round_up, region, self.pooling_grid))
        return as_zyx(n + t for n, t in zip(rounded, self.halo.total, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values; targets only where they are others."""
        values = asdict(self)
        if self.targets == "cells":
            del values["targets"]
        del values["affinity_offsets"]
        if self.has_affinities:
            values["affinity_offsets"] = [list(o) for o in self.affinity_offsets]
        values["pooling"] = [list(p) for p in self.pooling]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "UNetSpec":
        """Return the spec that ``to_json`` described."""
        return cls(**values)

    def _convolved(self, shape: Zyx) -> Zyx:
        if self.padding == "same":
            return shape
        return as_zyx(n - k + 1 for n, k in zip(shape, self.kernel, strict=True))

    def _factors(self, axis: int) -> list[int]:
        return [pool[axis] for pool in self.pooling]

    def _shrink(self, axis: int) -> int:
        """Voxels that two convolutions take off, both sides together."""
        return 2 * (self.kernel[axis] - 1) if self.padding == "valid" else 0

    def _output_size(self, size: int, axis: int) -> int | None:
        """Return the output size along one axis, None where the size is not legal."""
        shrink, skips = self._shrink(axis), []
        for factor in self._factors(axis):
            size -= shrink
            if size <= 0 or size % factor:
                return None
            skips.append(size)
            size //= factor
        size -= shrink
        for factor in reversed(self._factors(axis)):
            size *= factor
            crop = skips.pop() - size
            if size <= 0 or crop < 0 or crop % 2:
                return None
            size -= shrink
        return size if size > 0 else None

    def _axis_halo(self, axis: int) -> tuple[int, int]:
        """Return (before, after) for a region of one pooling period at the origin."""
        grid = self.pooling_grid[axis]
        if self.padding == "valid":
            size = next(n for n in range(1, 10**6) if self._is_legal(n, axis, grid))
            surplus = size - (self._output_size(size, axis) or 0)
            before = surplus // 2
            return before, size - grid - before
        low, high = self._seen(axis)
        return round_up(-low, grid), round_up(high + 1 - grid, grid)

    def _is_legal(self, size: int, axis: int, at_least: int) -> bool:
        return (self._output_size(size, axis) or 0) >= at_least

    def _seen(self, axis: int) -> tuple[int, int]:
        """First and last input voxel that one period of the output depends on.

        For same-size convolutions: coordinates of a level are those of the input
        divided by its pooling. Walks the layers backwards with intervals.
        """
        reach = self.kernel[axis] - 1  # two convolutions, half a kernel each
        low, high = 0, self.pooling_grid[axis] - 1
        skips: list[tuple[int, int]] = []
        for factor in self._factors(axis):
            low, high = low - reach, high + reach
            skips.append((low, high))
            low, high = low // factor, high // factor
        low, high = low - reach, high + reach
        for factor in reversed(self._factors(axis)):
            low, high = low * factor, high * factor + factor - 1
            skip = skips.pop()
            low, high = min(low, skip[0]) - reach, max(high, skip[1]) + reach
        return low, high


def is_nearest_offset(offset: Zyx) -> bool:
    """Return whether two voxels share a face."""
    return sum(map(abs, offset)) == 1


def usual_offsets(ndim: int, pooling: Sequence[Zyx]) -> tuple[Zyx, ...]:
    """Return pairs of voxels that are told apart where nobody says which.

    Neighbours along each axis, then those 3 and 9 voxels away. Where sections are
    pooled less than y and x, because they lie farther apart, pairs across sections are
    as much nearer in voxels, but two at least.

    Examples
    --------
    >>> usual_offsets(2, [(1, 2, 2)])
    ((0, -1, 0), (0, 0, -1), (0, -3, 0), (0, 0, -3), (0, -9, 0), (0, 0, -9))
    >>> [z for z, _, _ in usual_offsets(3, [(1, 2, 2), (1, 2, 2)]) if z]
    [-1, -2]
    """
    grid = [prod(p[axis] for p in pooling) for axis in range(3)]
    far_z = dict.fromkeys(max(2, round(n * grid[0] / grid[1])) for n in FAR)
    lengths = {0: (1, *far_z) if ndim == 3 else (), 1: (1, *FAR), 2: (1, *FAR)}
    return tuple(
        as_zyx(-lengths[axis][k] if a == axis else 0 for a in range(3))
        for k in range(1 + len(FAR))
        for axis in range(3)
        if k < len(lengths[axis])
    )


@lru_cache(maxsize=256)
def _halo_of(spec: UNetSpec) -> Halo:
    """Return the halo; planning asks for it once for each tile that it weighs up."""
    pairs = [spec._axis_halo(axis) for axis in range(3)]
    return Halo(as_zyx(p[0] for p in pairs), as_zyx(p[1] for p in pairs))
