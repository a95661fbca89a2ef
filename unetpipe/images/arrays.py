"""HDF5 datasets and OME-Zarr images: arrays that can be cut anywhere."""

import gzip
import json
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import h5py
import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.axes import Index
from unetpipe.images.ngff_metadata import describe_group
from unetpipe.images.source import (
    BOMB_BYTES,
    BOMB_RATIO,
    ImageSource,
    VoxelSize,
    check_promise,
)

CACHE_BYTES = 1 << 28
LARGEST_CHUNK_BYTES = 1 << 25  # of a store that is used where it is


class Hdf5Source(ImageSource):
    """One dataset of an HDF5 file."""

    def __init__(self, path: Path, dataset: str) -> None:
        self.files = (path,)
        self._unpacked: IO[bytes] | None = None
        try:
            # One layer of chunks stays decoded while its sections are read.
            if path.suffix.lower() == ".gz":
                self._unpacked = _unpack(path)
            opened = self._unpacked or path
            self._file = h5py.File(opened, "r", rdcc_nbytes=CACHE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            if self._unpacked:
                self._unpacked.close()
            raise DataError(
                f"{path} is truncated or no HDF5 file ({error}); copy or download it "
                "again"
            ) from error
        try:
            self._array = self._find(path, dataset)
            self.shape, self.dtype = (
                self._array.shape,
                self._array.dtype.newbyteorder("="),
            )
            self.axes = self._read_axes()
            self.voxel_size_nm = self._read_voxel_size()
            promised = prod(self.shape) * self.dtype.itemsize
            stored = max(self._array.id.get_storage_size(), path.stat().st_size)
            check_promise(f"{path}:{self._array.name}", promised, stored)
        except UnetpipeError:
            self.close()
            raise
        except Exception as error:  # attributes may hold anything
            self.close()
            raise DataError(
                f"{path} cannot be understood ({type(error).__name__}: {error}); save "
                "it again without attributes"
            ) from error

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the dataset."""
        try:
            return np.asarray(self._array[index], self.dtype)
        except OSError as error:
            raise DataError(
                f"{self.files[0]}:{self._array.name} cannot be read at "
                f"{[(i.start, i.stop) for i in index]} ({error}); copy it again"
            ) from error

    def read_whole(self, dataset: str) -> NDArray[Any]:
        """Return another dataset of the file, a small one, whole."""
        array = self._find(self.files[0], dataset)
        name, stored = f"{self.files[0]}:{dataset}", self.files[0].stat().st_size
        check_promise(name, prod(array.shape) * array.dtype.itemsize, stored)
        return np.asarray(array[...])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._unpacked:
            self._unpacked.close()

    def _find(self, path: Path, dataset: str) -> Any:
        """Return the dataset; without a name, the only one of the file."""
        names = [found.name for found in _datasets_of(self._file)]
        wanted = dataset.strip("/") or (names[0] if len(names) == 1 else "")
        if wanted not in names:
            problem = (
                f"has no dataset {dataset!r}" if dataset else "has several datasets"
            )
            raise DataError(
                f"{path} {problem}; name one in the sheet, {path.name}:NAME; it holds "
                f"{', '.join(names) or 'no array of 2 or more axes'}"
            )
        array = self._file[wanted]
        if array.external:
            raise DataError(
                f"{path}:{wanted} keeps its voxels in other files, "
                f"{array.external[0][0]!r} and so on, which could be any file of this "
                "computer; pack it into one file with h5repack"
            )
        return array

    def _read_axes(self) -> str:
        """Return the letters of axistags or dimension labels, or nothing."""
        tags = self._array.attrs.get("axistags")
        if tags is not None:
            return "".join(axis["key"] for axis in json.loads(tags)["axes"])
        labels = "".join(d.label for d in self._array.dims)
        return labels if len(labels) == len(self.shape) else ""

    def _read_voxel_size(self) -> VoxelSize | None:
        """Return CREMI's ``resolution`` (nm) or ``element_size_um``, both z, y, x."""
        for key, unit in (("resolution", 1.0), ("element_size_um", 1e3)):
            values = np.ravel(self._array.attrs.get(key, ()))
            if values.size == 3 and values.dtype.kind in "iuf" and (values > 0).all():
                z, y, x = (float(v) * unit for v in values)
                return z, y, x
        return None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of an HDF5 file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def list_datasets(path: Path) -> list[Dataset]:
    """Return the datasets of two or more axes in an HDF5 file, packed or not.

    Raises
    ------
    DataError
        If it is no HDF5 file.
    """
    unpacked: IO[bytes] | None = None
    try:
        unpacked = _unpack(path) if path.suffix.lower() == ".gz" else None
        with h5py.File(unpacked or path, "r") as file:
            return _datasets_of(file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is truncated or no HDF5 file ({error}); copy or download it again"
        ) from error
    finally:
        if unpacked:
            unpacked.close()


def _datasets_of(file: Any) -> list[Dataset]:
    found: list[Dataset] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            found.append(Dataset(name, item.shape, item.dtype))

    file.visititems(note)
    return found


def _unpack(path: Path) -> IO[bytes]:
    """Return what a gzip file holds, in a nameless file of its own.

    Raises
    ------
    DataError
        If it unpacks to far more than its size.
    """
    most = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    unpacked = TemporaryFile()  # noqa: SIM115 - closed with the source
    try:
        with gzip.open(path) as packed:
            while piece := packed.read(1 << 20):
                unpacked.write(piece)
                if unpacked.tell() > most:
                    raise DataError(
                        f"{path} unpacks to more than {most >> 20} MB; unpack it "
                        "yourself, and name the unpacked file"
                    )
    except BaseException:
        unpacked.close()
        raise
    unpacked.seek(0)
    return unpacked


class ZarrSource(ImageSource):
    """Full resolution of an OME-Zarr image (0.4 or 0.5), or a plain Zarr array.

    Attributes
    ----------
    level : str or None
        Path of the full resolution in the store; None for a plain array.
    """

    level: str | None = None

    def __init__(self, path: Path) -> None:
        try:
            node: Any = zarr.open(path, mode="r")
            if isinstance(node, zarr.Group):
                node = self._describe(path, node)
            self._array: Any = node
            self.shape = self._array.shape
            self.dtype = self._array.dtype.newbyteorder("=")
        except UnetpipeError:
            raise
        except Exception as error:  # whatever its metadata hold
            raise DataError(
                f"{path} is not a Zarr store of images that can be read "
                f"({type(error).__name__}: {error}); write or copy it again"
            ) from error
        metadata = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
        self.files = tuple(p for m in metadata for p in sorted(path.rglob(m)))
        self._path = path

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        try:
            return np.asarray(self._array[index], self.dtype)
        except Exception as error:  # codecs raise their own
            raise DataError(
                f"{self._path} cannot be read at {[(i.start, i.stop) for i in index]} "
                f"({type(error).__name__}: {error}); copy or write it again"
            ) from error

    def where(self, section: int) -> str:
        """Name the store and the section."""
        return f"{self._path}, section {section}"

    def _describe(self, path: Path, group: Any) -> Any:
        found = describe_group(path, group)
        self.axes, self.level = found.axes, found.level
        self.voxel_size_nm, self.channel_names = found.voxel_size_nm, found.channels
        return found.array

    @property
    def is_ready(self) -> bool:
        """Whether the store is as our own: nothing would be gained by a copy."""
        size = prod(self._array.chunks) * self.dtype.itemsize
        return (
            (self.level, self.axes) == ("0", "czyx")
            and self._array.dtype.isnative
            and self._array.dtype.kind in "iuf"
            and size <= LARGEST_CHUNK_BYTES
        )

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._path
