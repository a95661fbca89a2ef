"""Encode a shard: many compressed chunks in one file, and the index that finds them.

::

    | chunk | chunk | ... | offset and length of each chunk | checksum of the index |

This is what the Zarr codec ``sharding_indexed`` describes and every Zarr library reads:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/v1.0.html.
zarr-python writes it too, but takes twice the time, most of it in one thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

# Offset and length of a chunk that is not there: it reads as the fill value.
MISSING = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ShardFormat:
    """How an array's shards are encoded; shapes count channels too, if there are any.

    Attributes
    ----------
    chunk, shard : tuple of int
        Shapes; a shard is a whole multiple of chunks.
    dtype : dtype
        Of the voxels; they are stored little-endian.
    level : int
        Of the zstd compression; 0 is the library's default.
    """

    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dtype: np.dtype[Any]
    level: int

    def encode(self, voxels: NDArray[Any]) -> list[bytes]:
        """Return the pieces of the file that holds a shard, in order.

        Parameters
        ----------
        voxels : array
            The shard's voxels; shorter than the shard at the end of the array, where
            chunks are filled up with 0, and those quite outside are left out.
        """
        compress = Zstd(level=self.level).encode
        counts = tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))
        index = np.full((*counts, 2), MISSING, "<u8")
        pieces, offset = [], 0
        for place, chunk in self._chunks(voxels):
            piece = bytes(compress(chunk))
            index[place] = offset, len(piece)
            pieces.append(piece)
            offset += len(piece)
        table = index.tobytes()
        checksum = int(google_crc32c.value(table)).to_bytes(4, "little")
        return [*pieces, table, checksum]

    def _chunks(
        self, voxels: NDArray[Any]
    ) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Yield chunks that hold a voxel, contiguous and whole, with their places."""
        little = self.dtype.newbyteorder("<")
        sizes = zip(voxels.shape, self.chunk, strict=True)
        for place in product(*(range(-(-n // c)) for n, c in sizes)):
            inside = tuple(
                slice(i * c, (i + 1) * c)
                for i, c in zip(place, self.chunk, strict=True)
            )
            part = voxels[inside]
            if part.shape == self.chunk:
                yield place, np.ascontiguousarray(part, little)
                continue
            whole = np.zeros(self.chunk, little)
            whole[tuple(map(slice, part.shape))] = part
            yield place, whole
