"""PNG: every checksum is verified, which decoders leave out."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.source import ImageSource, check_promised_voxels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
# Samples of each colour type: grey, RGB, palette (decoded to RGB), grey + alpha, RGBA.
NUM_SAMPLES = {0: 1, 2: 3, PALETTE: 3, 4: 2, 6: 4}


class PngSource(ImageSource):
    """One PNG file: (y, x), or (y, x, s) with colour or transparency.

    Grey values of fewer than 8 bits are spread to 0 to 255, as viewers show them.

    Parameters
    ----------
    path : Path
        Of the file.
    colours : bool
        Of a palette, give the colours; else the numbers of its entries, which are the
        ids of a label image that was painted for the eye, or its greys if it has no
        colours.
    """

    by_section = True

    def __init__(self, path: Path, *, colours: bool = True) -> None:
        self.files = (path,)
        with path.open("rb") as file:
            head = file.read(33)
        if head[:8] != SIGNATURE or len(head) < 33 or head[12:16] != b"IHDR":
            raise DataError(f"{path} is no PNG file; copy or download it again")
        width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
        self._step = 0  # between the grey values that stand for entries of a palette
        # A palette of greys saves bytes, and its greys are what was drawn.
        self._is_grey = colour == PALETTE and not colours and _has_grey_palette(path)
        if self._is_grey:
            colour = GREY
        elif colour == PALETTE and not colours:
            colour, self._step = GREY, 255 // (2**bits - 1)
        samples = NUM_SAMPLES.get(colour, 1)
        self.is_palette = colour == PALETTE
        self.dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
        self.shape = (height, width, samples) if samples > 1 else (height, width)
        self.axes = "yxs" if samples > 1 else "yx"
        promised = height * width * samples * self.dtype.itemsize
        check_promised_voxels(str(path), promised, path.stat().st_size)
        _check_end(path)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the image."""
        path = self.files[0]
        content = path.read_bytes()
        _check_chunks(path, content)
        if self._step:
            content = _forget_palette(content)
        try:
            values = np.asarray(imagecodecs.png_decode(content))
        except imagecodecs.PngError as error:
            raise DataError(
                f"{path} cannot be decoded ({error}); copy or download it again"
            ) from error
        if self._is_grey:
            values = values[..., 0]
        if values.size != np.prod(self.shape):  # a palette with transparency
            raise DataError(
                f"{path} decodes to the shape {values.shape}, not {self.shape}; "
                "save it as a grey or RGB image without transparency"
            )
        values = values.reshape(self.shape)[index]
        return values // np.uint8(self._step) if self._step else values


def _has_grey_palette(path: Path) -> bool:
    """Tell whether red, green and blue are equal in each entry of a palette."""
    content, place = path.read_bytes(), len(SIGNATURE)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"PLTE":
            table = content[place + 8 : place + 8 + length]
            return table[::3] == table[1::3] == table[2::3]
        place += length + 12
    return False


def _forget_palette(content: bytes) -> bytes:
    """Return the same file with grey values in place of the entries of its palette.

    The pixels of both kinds are stored alike, so that only the header says what they
    are; palette and transparency are left out.
    """
    head = content[12:25] + bytes([GREY]) + content[26:29]
    parts = [SIGNATURE, content[8:12], head, struct.pack(">I", zlib.crc32(head))]
    place = 33
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind not in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            parts.append(content[place : place + length + 12])
        place += length + 12
    return b"".join(parts)


def _check_end(path: Path) -> None:
    """Refuse a file that ends before its last chunk, without reading the others."""
    size, place = path.stat().st_size, len(SIGNATURE)
    with path.open("rb") as file:
        file.seek(max(0, size - 12))
        if file.read(12)[4:8] == b"IEND":
            return
        while place + 12 <= size:
            file.seek(place)
            length, kind = struct.unpack(">I4s", file.read(8))
            if kind == b"IEND":
                return  # more follows, which nobody reads
            place += length + 12
    raise _truncated(path, size)


def _truncated(path: Path, size: int) -> DataError:
    return DataError(
        f"{path} is truncated: it ends at byte {size} without its end mark; copy or "
        "download it again"
    )


def _check_chunks(path: Path, content: bytes) -> None:
    """Verify the checksum of every chunk, and that the last one is there."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(content):
            raise _truncated(path, len(content))
        length, kind = struct.unpack_from(">I4s", content, place)
        stop = place + 8 + length
        if content[stop : stop + 4] != struct.pack(
            ">I", zlib.crc32(memoryview(content)[place + 4 : stop])
        ):
            raise DataError(
                f"{path} is truncated or corrupt: chunk {kind.decode('latin-1')} at "
                f"byte {place} fails its checksum; copy or download it again"
            )
        place = stop + 4
