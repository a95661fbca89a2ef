"""Half precision on a processor without it: float32 convolutions of rounded values.

Left to itself torch unfolds a map nine times over there and takes five times as long as
in float32. Here a convolution is computed in strips, so that little of a map has to be
in float32 at once. As in hardware, sums are float32 and rounded once.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# What a strip may take in float32, its input and its output together.
STRIP_BYTES = 2**24

CONVOLUTIONS = (functional.conv2d, functional.conv3d)
TRANSPOSED = (functional.conv_transpose2d, functional.conv_transpose3d)


class RoundedConvolutions(TorchFunctionMode):
    """Within it convolutions take and return half precision, and add up in float32.

    Those of a ``UNet``: strides only where a transposed kernel is as large.

    Parameters
    ----------
    dtype : torch.dtype
        ``bfloat16`` or ``float16``.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in CONVOLUTIONS:
            return self._convolve(func, *args)
        if func in TRANSPOSED:
            return self._convolve_transposed(func, *args)
        return func(*args, **(kwargs or {}))

    def _convolve(
        self,
        convolution: Callable[..., Tensor],
        maps_NCYX: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Sequence[int],
        *_: Any,
    ) -> Tensor:
        before, *others = padding
        if before:
            edges = [0, 0] * len(others) + [before, before]
            maps_NCYX = functional.pad(maps_NCYX, edges)
        reach = weight.shape[2] - 1
        sides = [n + 2 * p - k + 1 for n, p, k in _axes(maps_NCYX, others, weight)]
        shape = (len(maps_NCYX), len(weight), maps_NCYX.shape[2] - reach, *sides)

        def one(strip: Tensor) -> Tensor:
            return convolution(strip, *parameters, stride, [0, *others])

        parameters = self._rounded(weight), self._rounded(bias)
        return self._in_strips(maps_NCYX, one, shape, rows=1, reach=reach)

    def _convolve_transposed(
        self,
        convolution: Callable[..., Tensor],
        maps_NCYX: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        *_: Any,
    ) -> Tensor:
        sides = [n * s for n, s in zip(maps_NCYX.shape[2:], stride, strict=True)]
        parameters = self._rounded(weight), self._rounded(bias)

        def one(strip: Tensor) -> Tensor:
            return convolution(strip, *parameters, stride)

        shape = (len(maps_NCYX), weight.shape[1], *sides)
        return self._in_strips(maps_NCYX, one, shape, rows=stride[0], reach=0)

    def _in_strips(
        self,
        maps_NCYX: Tensor,
        convolve: Callable[[Tensor], Tensor],
        shape: Sequence[int],
        *,
        rows: int,
        reach: int,
    ) -> Tensor:
        """Convolve along the first axis of space, some rows at a time.

        ``rows`` are what one row of the input becomes, ``reach`` those beside it that
        it needs.
        """
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        found = torch.empty(shape, dtype=self._dtype).contiguous(memory_format=layout)
        length = maps_NCYX.shape[2] - reach
        values = maps_NCYX.numel() // maps_NCYX.shape[2] + prod(shape) // length
        with torch.autocast("cpu", enabled=False):
            for start, stop in _strips(length, ceil(4 * values * length / STRIP_BYTES)):
                seen = maps_NCYX.narrow(2, start, stop - start + reach)
                strip = convolve(self._rounded(seen))
                found.narrow(2, start * rows, (stop - start) * rows).copy_(strip)
        return found

    def _rounded(self, values: Tensor | None) -> Any:
        return None if values is None else values.to(self._dtype).float()


def _axes(maps: Tensor, padding: Sequence[int], weight: Tensor) -> Any:
    return zip(maps.shape[3:], padding, weight.shape[3:], strict=True)


def _strips(length: int, number: int) -> list[tuple[int, int]]:
    """Cut a length into nearly equal strips.

    Examples
    --------
    >>> _strips(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    >>> _strips(2, 5)
    [(0, 1), (1, 2)]
    """
    number = min(number, length)
    return list(pairwise(ceil(length * i / number) for i in range(number + 1)))
