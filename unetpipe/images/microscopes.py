"""Files of microscopes, each by its library: Zeiss CZI, Nikon ND2, Leica LIF.

Their libraries are optional: ``pip install unetpipe[microscopes]``. Where a file holds
several images, one is named after a colon: ``a.lif:Series 1``, ``a.czi:0``.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import escape
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.array_source import load_format_library, refuse_damaged
from unetpipe.images.axes import Index
from unetpipe.images.lengths import Lengths
from unetpipe.images.source import ImageSource

EXTRA = "microscopes"
LISTED = 8
MOST_LIF_BYTES = 1 << 32  # of one image, which its library reads as a whole
PIXELS = {
    **{"Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1)},
    **{"Bgr24": ("u1", 3), "Bgr48": ("u2", 3)},
}
"""Kind of a pixel of CZI -> type, and samples."""


class CziSource(ImageSource):
    """One scene of a CZI, read plane by plane: (t, c, z, y, x), colours last."""

    def __init__(self, path: Path, name: str = "") -> None:
        library = load_format_library("pylibCZIrw.czi", "pylibCZIrw", path, extra=EXTRA)
        self.files = (path,)
        _check_parts(path)
        try:
            self._opened = library.open_czi(str(path))
            self._czi = self._opened.__enter__()
            self._describe(path, name)
        except UnetpipeError:
            raise
        except Exception as error:
            raise refuse_damaged(path, "CZI", error) from error

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        times, channels, sections, rows, columns, *_ = index
        outer = [range(i.start, i.stop) for i in (times, channels, sections)]
        left, top = self._corner
        box = (
            *(left + columns.start, top + rows.start),
            *(columns.stop - columns.start, rows.stop - rows.start),
        )
        planes = []
        for t, c, z in product(*outer):
            where = {"T": t + self._first["T"], "C": c, "Z": z + self._first["Z"]}
            try:
                plane = self._czi.read(roi=box, plane=where, scene=self._scene)
            except Exception as error:
                raise refuse_damaged(self.files[0], "CZI", error) from error
            planes.append(plane[..., ::-1] if self._samples == 3 else plane[..., 0])
        whole = np.stack(planes).reshape(*map(len, outer), *planes[0].shape)
        whole = whole.astype(self.dtype, copy=False)
        return whole[..., index[5]] if self._samples == 3 else whole

    def close(self) -> None:
        """Close the file."""
        self._opened.__exit__(None, None, None)

    def _describe(self, path: Path, name: str) -> None:
        scenes = dict(self._czi.scenes_bounding_rectangle_no_pyramid)
        self._scene = _choose(path, name, [str(scene) for scene in scenes], "scene")
        box = self._czi.total_bounding_box_no_pyramid
        sides = {axis: range(*box.get(axis, (0, 1))) for axis in "TCZ"}
        if planes := self._list_planes():
            ends = ((min(own), max(own) + 1) for own in zip(*planes, strict=True))
            sides = {a: range(*end) for a, end in zip("TCZ", ends, strict=True)}
            self._note_missing(list(product(*sides.values())), planes)
        self._first = {axis: side.start for axis, side in sides.items()}
        depths = [len(side) for side in sides.values()]
        place = scenes.get(self._scene)
        if place is None:
            (left, right), (top, low) = box["X"], box["Y"]
            self._corner, plane = (left, top), (low - top, right - left)
        else:
            self._corner, plane = (place.x, place.y), (place.h, place.w)
        kinds = set(self._czi.pixel_types.values())
        if len(kinds) != 1 or next(iter(kinds)) not in PIXELS:
            raise DataError(
                f"{path} has pixels of {', '.join(sorted(map(str, kinds)))}; channels "
                f"of one of {', '.join(PIXELS)} are read: export it as OME-TIFF"
            )
        code, self._samples = PIXELS[kinds.pop()]
        self.dtype = np.dtype(code)
        colours = (self._samples,) if self._samples == 3 else ()
        self.shape = (*depths, *plane, *colours)
        self.axes = "tczyx" + "s" * len(colours)
        self._read_metadata()

    def _list_planes(self) -> set[tuple[int, int, int]]:
        """Return time, channel and section of the planes that are in the file."""
        planes = set[tuple[int, int, int]]()

        def note(_: int, block: Any) -> bool:
            place = block.coordinate.to_dict()
            if block.get_zoom() >= 1 and place.get("S", 0) == self._scene:
                planes.add((place.get("T", 0), place.get("C", 0), place.get("Z", 0)))
            return True

        if hasattr(self._czi, "enumerate_subblocks"):  # of version 6 on
            self._czi.enumerate_subblocks(note)
        return planes

    def _note_missing(
        self, expected: Sequence[tuple[int, ...]], planes: set[tuple[int, int, int]]
    ) -> None:
        missing = [place for place in expected if place not in planes]
        if missing:
            first = ", ".join(
                f"{a} {n}" for a, n in zip("tcz", missing[0], strict=True)
            )
            self.remarks = (
                f"{self.files[0]}: {len(missing)} of its {len(expected)} planes (the "
                f"first: {first}) are not in the file, and are read as 0; if they were "
                "taken, they may lie in another file",
            )

    def _read_metadata(self) -> None:
        about = self._czi.metadata.get("ImageDocument", {}).get("Metadata", {})
        distances = _items(about, "Scaling", "Items", "Distance")
        lengths, told = (
            Lengths("CZI"),
            {d.get("@Id"): d.get("Value") for d in distances},
        )
        # Microscopes write 0 where they have not measured.
        sides = [_positive(told.get(axis)) for axis in "ZYX"]
        pairs = zip("ZYX", sides, strict=True)
        self.voxel_size = lengths.found([lengths.read(a, s, "m") for a, s in pairs])
        path = ("Information", "Image", "Dimensions", "Channels", "Channel")
        names = tuple(str(c.get("@Name") or "") for c in _items(about, *path))
        if len(names) == self.shape[1] and all(names) and self._samples == 1:
            self.channel_names = names


def _check_parts(path: Path) -> None:
    """Refuse a CZI in several files, of which its library reads one.

    Its parts tell by an id which file is the first, and are called ``a (1).czi``.
    """
    _, own, part = _read_head(path)
    remedy = "save all as one file in ZEN, or as OME-TIFF"
    if part:
        raise DataError(
            f"{path} is part {part} of a CZI in several files, which are not read; "
            f"{remedy}"
        )
    for other in sorted(path.parent.glob(f"{escape(path.stem)}*(*)*{path.suffix}")):
        primary, _, part = _read_head(other)
        if part and primary == own:
            raise DataError(
                f"{path} keeps voxels in {other.name} too, and CZI in several files "
                f"are not read; {remedy}"
            )


def _read_head(path: Path) -> tuple[bytes, bytes, int]:
    """Return the ids of the first file and of this one, and which part it is."""
    with path.open("rb") as file:
        head = file.read(84)
    return head[48:64], head[64:80], int.from_bytes(head[80:84], "little")


class LazySource(ImageSource):
    """An array that a library cuts, with letters of axes that it tells."""

    def __init__(
        self,
        path: Path,
        read: Callable[[Index], NDArray[Any]],
        sizes: dict[str, int],
        dtype: Any,
        close: Callable[[], None],
    ) -> None:
        self.files, self._read, self._close = (path,), read, close
        self.axes = "".join(sizes).lower()
        self.shape = tuple(sizes.values())
        self.dtype = np.dtype(dtype).newbyteorder("=")

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        try:
            return np.asarray(self._read(index), self.dtype)
        except Exception as error:
            raise refuse_damaged(self.files[0], "image", error) from error

    def close(self) -> None:
        """Close the file."""
        self._close()


def open_nd2(path: Path, name: str = "") -> ImageSource:
    """Open one position of an ND2."""
    library = load_format_library("nd2", "nd2", path, extra=EXTRA)
    try:
        file = library.ND2File(path)
        sizes = {str(axis): int(n) for axis, n in file.sizes.items()}
        array = file.to_dask()
        size, told = file.voxel_size(), getattr(file.metadata, "channels", None) or ()
    except Exception as error:
        raise refuse_damaged(path, "ND2", error) from error
    place = {}
    if (count := sizes.pop("P", None)) is not None:
        numbers = list(map(str, range(count)))
        place["P"] = _choose(path, name, numbers, "position")
    order = list(file.sizes)

    def read(index: Index) -> NDArray[Any]:
        slices = dict(zip(sizes, index, strict=True))
        cut = tuple(place.get(a, slices.get(a)) for a in order)
        return np.asarray(array[cut].compute(scheduler="single-threaded"))

    source = LazySource(path, read, sizes, array.dtype, file.close)
    lengths = Lengths("ND2")
    sides = [_positive(getattr(size, axis)) for axis in "zyx"]
    if "Z" not in sizes:
        sides[0] = None
    pairs = zip("zyx", sides, strict=True)
    source.voxel_size = lengths.found([lengths.read(a, s, "um") for a, s in pairs])
    names = tuple(str(one.channel.name) for one in told)
    if len(names) == sizes.get("C", 1):
        source.channel_names = names
    source.remarks = _describe_frames(path, file)
    return source


def _describe_frames(path: Path, file: Any) -> tuple[str, ...]:
    """Tell of frames that a recording lacks, as far as the library says so."""
    written = getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    inside = {"Y", "X", "C", "S"}  # channels lie in one frame
    promised = prod(n for axis, n in file.sizes.items() if axis not in inside)
    if not isinstance(written, dict) or len(written) >= promised:
        return ()
    return (
        f"{path}: {promised - len(written)} of its {promised} frames were never "
        "written, and are read as 0",
    )


def open_lif(path: Path, name: str = "") -> ImageSource:
    """Open one image of a LIF, which is read as a whole."""
    library = load_format_library("liffile", "liffile", path, extra=EXTRA)
    try:
        file = library.LifFile(path)
    except Exception as error:
        raise refuse_damaged(path, "LIF", error) from error
    try:
        names = [str(image.name) for image in file.images]
        image = file.images[_choose(path, name, names, "image")]
        return _open_lif_image(path, image, file.close)
    except UnetpipeError:
        file.close()
        raise
    except Exception as error:  # metadata may hold anything
        file.close()
        raise refuse_damaged(path, "LIF", error) from error


def _open_lif_image(path: Path, image: Any, close: Callable[[], None]) -> ImageSource:
    if image.nbytes > MOST_LIF_BYTES:
        raise DataError(
            f"{path}:{image.name} has {image.nbytes} bytes, more than is held in "
            "memory; export it as OME-TIFF"
        )
    stored = 0
    with suppress(KeyError):  # it is not in the file at all
        stored = int(image.memory_block.size)
    if not stored:
        raise DataError(
            f"{path}:{image.name} lacks its {image.nbytes} bytes of voxels: it was "
            "not recorded to its end, or the file is truncated; copy it again, or "
            "export what is there"
        )
    sizes = {str(axis): int(n) for axis, n in image.sizes.items()}
    held: list[NDArray[Any]] = []

    def read(index: Index) -> NDArray[Any]:
        if not held:
            held.append(np.asarray(image.asarray()))
        return held[0][index]

    source = LazySource(path, read, sizes, image.dtype, close)
    lengths, sides = Lengths("LIF"), []
    for axis in "ZYX":
        line = np.asarray(image.coords.get(axis, ()), float)
        step = abs(line[-1] - line[0]) / (len(line) - 1) if len(line) > 1 else None
        sides.append(lengths.read(axis, _positive(step), "m"))
    source.voxel_size = lengths.found(sides)
    if (more := path.with_suffix(".lifext")).is_file():
        source.remarks = (
            f"{path}: {more.name} beside it holds further images of this recording, "
            "which are not read",
        )
    return source


def _choose(path: Path, name: str, names: Sequence[str], what: str) -> int:
    """Return the number of the image that is meant.

    Raises
    ------
    DataError
        If there are several and none is named, or another one is.
    """
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    if not name and len(names) <= 1:
        return 0
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    raise DataError(
        f"{path} holds {len(names)} {what}s ({listed or 'none'}); name one in the "
        f"sheet, such as {path.name}:{names[0] if names else 0}"
    )


def _items(about: Any, *keys: str) -> list[Any]:
    """Return what stands below nested keys: a list, also of one or none."""
    for key in keys:
        about = (about or {}).get(key) if isinstance(about, dict) else None
    if about is None:
        return []
    return about if isinstance(about, list) else [about]


def _positive(value: Any) -> float | None:
    """Return a length; None where 0 or nothing stands for not measured."""
    try:
        return float(value) or None
    except (TypeError, ValueError):
        return None


OPENERS: dict[str, Callable[[Path, str], ImageSource]] = {
    ".czi": CziSource,
    ".nd2": open_nd2,
    ".lif": open_lif,
}
"""Ending of a file's name -> what opens the image of a name in it."""
