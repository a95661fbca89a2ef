"""OME-Zarr images, levels of them, and plain Zarr arrays of either format."""

import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.axes import Index, axis_letters
from unetpipe.images.files import METADATA, is_zarr_image, refuse_dangling_image
from unetpipe.images.ngff_metadata import (
    GroupDescription,
    read_ngff_group,
    read_ngff_level,
)
from unetpipe.images.source import ImageSource, tell_missing_chunks

LARGEST_CHUNK_BYTES = 1 << 25  # of a store that is used where it is
MOST_PARENTS = 3  # between an array and the group that describes it


class ZarrSource(ImageSource):
    """One level of an OME-Zarr image (0.1 to 0.5), or a plain Zarr array.

    Parameters
    ----------
    path : Path
        Folder of an image, or of an array inside of one: that keeps what the image
        says of it.
    level : int
        Of an image's pyramid; 0: full resolution.

    Attributes
    ----------
    level : str or None
        Path of the level in its store; None for a plain array.
    """

    level: str | None = None

    def __init__(self, path: Path, *, level: int = 0) -> None:
        try:
            self._describe_node(path, _open_node(path), level)
        except UnetpipeError:
            raise
        except Exception as error:  # whatever its metadata hold
            raise DataError(
                f"{path} is not a Zarr store of images that can be read "
                f"({type(error).__name__}: {error}); write or copy it again"
            ) from error
        self._is_zipped = path.is_file()
        if self._is_zipped:
            self.files, self._folder = (path,), path
            return
        self.files = tuple(p for m in METADATA for p in sorted(path.rglob(m)))
        self._folder = _folder_of(self._array)
        self._find_chunks()

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        try:
            return np.asarray(self._array[index], self.dtype)
        except Exception as error:  # codecs raise their own
            place = [(i.start, i.stop) for i in index]
            raise self._failed(str(place), error) from error

    def _failed(self, place: str, error: Exception) -> DataError:
        return DataError(
            f"{self._path} cannot be read at {place} ({type(error).__name__}: "
            f"{error}); copy or write it again"
        )

    def where(self, section: int) -> str:
        """Name the store and the section."""
        return f"{self._path}, section {section}"

    def all_files(self) -> tuple[Path, ...]:
        """Return metadata and the files of all chunks."""
        return (
            self.files
            if self._is_zipped
            else (*self.files, *sorted(self._chunk_files()))
        )

    def recorded(self) -> tuple[Path, ...]:
        """Return metadata, and the folder of all chunks: there may be millions."""
        return self.files if self._is_zipped else (*self.files, self._folder)

    def warnings(self) -> list[str]:
        """Say how many chunks are not there."""
        if self._is_zipped:
            return []
        side = self._array.shards or self._array.chunks
        found = sum(1 for _ in self._chunk_files())
        return tell_missing_chunks(
            self._folder, self.shape, side, found, self._array.fill_value
        )

    def _adopt(self, found: GroupDescription) -> Any:
        self.axes, self.level, self._path = found.axes, found.level, found.path
        self.voxel_size, self.channel_names = found.voxel_size, found.channels
        self._number, self.origin = found.number, found.origin
        self.remarks = found.remarks
        return found.array

    def _describe_node(self, path: Path, node: Any, level: int) -> None:
        """Learn of an image or of an array, and choose what is read."""
        self._path = path
        if isinstance(node, zarr.Group):
            node = self._adopt(read_ngff_group(path, node, level))
        elif level:
            raise DataError(
                f"{path} is one array, but level is {level} in the sheet; name "
                "the image around it, or leave level empty"
            )
        elif found := self._look_around(path):
            self.axes, self.voxel_size = found.axes, found.voxel_size
            self.channel_names, self.origin = found.channels, found.origin
        else:
            self.axes = _dimension_letters(node)
        self._array: Any = node
        self.shape = node.shape
        self.dtype = node.dtype.newbyteorder("=")
        self.granule = tuple(node.chunks)

    def _look_around(self, path: Path) -> GroupDescription | None:
        """Return what an image says that lies around an array."""
        for parent in list(path.parents)[:MOST_PARENTS]:
            if not is_zarr_image(parent):
                continue
            group = zarr.open(parent, mode="r")
            inside = path.relative_to(parent).as_posix()
            if isinstance(group, zarr.Group) and (
                found := read_ngff_level(parent, group, inside)
            ):
                return found
        return None

    @property
    def is_ready(self) -> bool:
        """Whether the store is as our own: nothing would be gained by a copy."""
        size = prod(self._array.chunks) * self.dtype.itemsize
        return (
            (self.level, self.axes) == ("0", "czyx")
            and self._array.dtype.isnative
            and self._array.dtype.kind in "iuf"
            and size <= LARGEST_CHUNK_BYTES
            and not (self.remarks or self._is_zipped)
        )

    @property
    def path(self) -> Path:
        """The image's folder."""
        return self._path

    def _find_chunks(self) -> None:
        """See that there are chunks under the names that the metadata give.

        Many stores keep their chunks in folders and do not say so, or say so and do
        not: read as they say, they hold nothing.
        """
        if any(True for _ in self._chunk_files()):
            return
        other = _other_separator(self._array)
        there = [] if other is None else list(_first(_chunk_files(other, self._folder)))
        if there:
            self.remarks = (
                *self.remarks,
                f"{self._folder}: its metadata promise chunks named "
                f"{_example(self._array)}; they are named {_example(other)}, and read",
            )
            self._array = other
        elif _is_field(self._path) and not list(_first(_other_files(self._folder))):
            self.remarks = (
                *self.remarks,
                f"{self._folder} has no chunk: its voxels are all "
                f"{self._array.fill_value}, unless the plate was copied without them",
            )
        else:
            self.is_unwritten = True

    def _chunk_files(self) -> Iterator[Path]:
        return _chunk_files(self._array, self._folder)


def is_zipped_zarr(path: Path) -> bool:
    """Return whether a zip file holds a Zarr store, at its top or in one folder."""
    return _zarr_inside(path) is not None


def _zarr_inside(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as packed:
            names = [name for name in packed.namelist() if name.count("/") <= 1]
    except zipfile.BadZipFile:
        return None
    stores = [n.rpartition("/")[0] for n in names if n.rpartition("/")[2] in METADATA]
    return min(stores, key=len, default=None)


def _open_node(path: Path) -> Any:
    if not path.is_file():
        return zarr.open(path, mode="r")
    return zarr.open(zarr.storage.ZipStore(path), mode="r", path=_zarr_inside(path))


def _dimension_letters(array: Any) -> str:
    """Return the letters of dimension names: Zarr v3's own, or those of xarray."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    return axis_letters(names) if len(names) == array.ndim else ""


def _folder_of(array: Any) -> Path:
    return Path(str(array.store_path.store.root), str(array.store_path.path))


def _example(array: Any) -> str:
    return str(array.metadata.encode_chunk_key((0,) * array.ndim))


def _other_separator(array: Any) -> Any:
    """Return the array as if its chunks' names were written the other way."""
    about = array.metadata
    if about.zarr_format == 2:
        separator = "." if about.dimension_separator == "/" else "/"
        about = replace(about, dimension_separator=separator)
    else:
        encoding = about.chunk_key_encoding
        separator = "." if encoding.separator == "/" else "/"
        about = replace(
            about,
            chunk_key_encoding={
                "name": encoding.name,
                "configuration": {"separator": separator},
            },
        )
    return zarr.Array(zarr.AsyncArray(metadata=about, store_path=array.store_path))


def _chunk_files(array: Any, folder: Path) -> Iterator[Path]:
    """Yield the files whose names are those of chunks, in any order."""
    example = re.sub(r"\d+", r"\\d+", re.escape(_example(array)))
    pattern = re.compile(example)
    for root, _, names in os.walk(folder):
        inside = Path(root).relative_to(folder)
        for name in names:
            if name not in METADATA and pattern.fullmatch((inside / name).as_posix()):
                path = Path(root) / name
                # Zarr takes a link to nothing for a chunk of zeros.
                refuse_dangling_image(path)
                yield path


def _other_files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and p.name not in METADATA)


def _is_field(path: Path) -> bool:
    """Tell whether an image lies in a well of a plate, which may have empty ones."""
    if not is_zarr_image(path.parent):
        return False
    about = zarr.open_group(path.parent, mode="r").attrs.asdict()
    ome = about.get("ome")
    return "well" in about or (isinstance(ome, dict) and "well" in ome)


def _first(paths: Iterator[Path]) -> Iterator[Path]:
    for path in paths:
        yield path
        return
