"""HDF5: one dataset of a file, by whatever name, wherever its voxels lie."""

import gzip
import importlib
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError, UnetpipeError
from unetpipe.images.axes import Index, axis_letters, split_names
from unetpipe.images.files import refuse_dangling_image
from unetpipe.images.lengths import FoundSize, Lengths, nm_per_unit
from unetpipe.images.source import (
    BOMB_BYTES,
    BOMB_RATIO,
    ImageSource,
    check_promised_voxels,
)

CACHE_BYTES = 1 << 28
MOST_FILES = 4  # deep: virtual datasets of virtual datasets
LISTED = 8
NAMING_AXES = ("axes", "AXES", "axis_order", "dimensions", "DIMENSIONS")
UNITS = ("unit", "units", "resolution_unit", "resolution_units")
# https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
FILTERS = {
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32026: "blosc2",
}


class Hdf5Source(ImageSource):
    """One dataset of an HDF5 file.

    A virtual dataset is read from the files that it is made of, if they lie beside it;
    HDF5 itself reads 0 where one is missing.
    """

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
            self._describe(path, dataset)
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
        array = find_dataset(self._file, self.files[0], dataset)
        name, stored = f"{self.files[0]}:{dataset}", self.files[0].stat().st_size
        check_promised_voxels(name, prod(array.shape) * array.dtype.itemsize, stored)
        return np.asarray(array[...])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._unpacked:
            self._unpacked.close()

    def _describe(self, path: Path, dataset: str) -> None:
        self._array = find_dataset(self._file, path, dataset)
        self.shape = self._array.shape
        self.dtype = self._array.dtype.newbyteorder("=")
        self.axes = self._read_axes()
        self.voxel_size = self._read_voxel_size()
        self.origin = self._read_origin()
        chunks = self._array.chunks
        self.granule = chunks or (1,) * len(self.shape)
        name = f"{path}:{self._array.name}"
        if self._array.is_virtual:
            self.files = (path, *source_files(self._array, path))
            self._note_unmapped(name)
        else:
            self._note_unwritten(name)
        promised = prod(self.shape) * self.dtype.itemsize
        of_files = sum(file.stat().st_size for file in self.files)
        check_promised_voxels(
            name, promised, max(self._array.id.get_storage_size(), of_files)
        )

    def _note_unwritten(self, name: str) -> None:
        """Tell of chunks that were never written, which the format allows."""
        if not self._array.id.get_storage_size():
            self.is_unwritten = True
            return
        if self._array.chunks is None:
            return
        pairs = zip(self.shape, self._array.chunks, strict=True)
        expected = prod(-(-length // chunk) for length, chunk in pairs)
        found = self._array.id.get_num_chunks()
        if found < expected:
            self.remarks = (
                f"{name}: {expected - found} of {expected} chunks were never written "
                f"and read as {self._array.fillvalue}",
            )

    def _note_unmapped(self, name: str) -> None:
        """Tell of voxels of a virtual dataset that lie in no file: those are filled."""
        parts = self._array.virtual_sources()
        mapped = sum(int(part.vspace.get_select_npoints()) for part in parts)
        missing = prod(self.shape) - mapped
        if missing > 0:
            self.remarks = (
                f"{name} is made of other datasets, which have {mapped} of its "
                f"{prod(self.shape)} voxels; the others are read as "
                f"{self._array.fillvalue}",
            )

    def _read_axes(self) -> str:
        """Return the letters of axistags, labels, scales or attributes, or nothing."""
        tags = self._array.attrs.get("axistags")
        if tags is not None:
            return "".join(axis["key"] for axis in json.loads(tags)["axes"])
        names = [d.label or (d.keys()[0] if len(d) else "") for d in self._array.dims]
        attributes = self._array.attrs
        said = [split_names(attributes[k]) for k in NAMING_AXES if k in attributes]
        fitting = (n for n in (names, *said) if len(n) == self._array.ndim)
        return next(filter(None, map(axis_letters, fitting)), "")

    def _read_voxel_size(self) -> FoundSize:
        """Return CREMI's ``resolution`` (nm), or ``element_size_um``."""
        attributes = self._array.attrs
        said = (name_units(attributes[key]) for key in UNITS if key in attributes)
        fitting = (u for u in said if len(u) == 3 and any(map(_is_of_length, u)))
        for key, units in (
            ("resolution", next(fitting, ["nm"] * 3)),
            ("element_size_um", ["µm"] * 3),
        ):
            values = np.ravel(attributes.get(key, ()))
            if values.size == 3 and values.dtype.kind in "iuf":
                lengths = Lengths(f"attribute {key}")
                found = {
                    n: lengths.read(n, float(v), unit)
                    for n, v, unit in zip(
                        self._measured_axes(), values, units, strict=True
                    )
                }
                return lengths.found([found.get(axis) for axis in "zyx"])
        return FoundSize()

    def _measured_axes(self) -> str:
        """Return the axes of attributes of three values: z, y, x unless it says else.

        Those in space, of an array of four axes or more.
        """
        named = self.axes if "z" in self.axes else self.axes.replace("q", "z")
        in_space = "".join(axis for axis in named if axis in "zyx")
        return next((n for n in (named, in_space) if len(n) == 3), "zyx")

    def _read_origin(self) -> tuple[float, float, float] | None:
        """Return CREMI's ``offset`` (z, y, x) in voxels: like ``resolution``, in nm."""
        offset, size = (
            np.ravel(self._array.attrs.get(key, ())) for key in ("offset", "resolution")
        )
        are_numbers = offset.dtype.kind in "iuf" and size.dtype.kind in "iuf"
        if not (are_numbers and offset.size == size.size == 3 and np.all(size > 0)):
            return None
        steps = (offset / size).tolist()
        found = dict(zip(self._measured_axes(), steps, strict=True))
        z, y, x = (found.get(axis, 0.0) for axis in "zyx")
        return z, y, x


def name_units(said: Any) -> list[str]:
    """Return the three units that an attribute lists, or says once for all axes."""
    is_one = isinstance(said, str | bytes)
    units = [
        unit.decode() if isinstance(unit, bytes) else str(unit)
        for unit in ([said] if is_one else np.ravel(said).tolist())
    ]
    return units * 3 if len(units) == 1 else units


def _is_of_length(unit: str) -> bool:
    """Tell whether a unit is one of length, or none on purpose: not of grey values."""
    return nm_per_unit(unit) is not None or unit.lower().startswith(("pixel", "voxel"))


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
    refuse_dangling_image(path)
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


def find_dataset(file: Any, path: Path, dataset: str) -> Any:
    """Return a dataset by any of its names; without one, the only one of the file.

    Raises
    ------
    DataError
        If it is not there, lies in another file, or is packed in a way that is not
        installed.
    """
    wanted = dataset.strip("/")
    if not wanted:
        names = [found.name for found in _datasets_of(file)]
        wanted = names[0] if len(names) == 1 else ""
    array = _follow(file, path, wanted) if wanted else None
    if not isinstance(array, h5py.Dataset) or array.ndim < 2:
        names = [found.name for found in _datasets_of(file)]
        problem = f"has no dataset {dataset!r}" if dataset else "has several datasets"
        more = ", ..." if len(names) > LISTED else ""
        raise DataError(
            f"{path} {problem}; name one in the sheet, {path.name}:NAME; it holds "
            f"{', '.join(names[:LISTED]) or 'no array of 2 or more axes'}{more}"
        )
    if array.external:
        raise DataError(
            f"{path}:{wanted} keeps its voxels in other files, "
            f"{array.external[0][0]!r} and so on, which could be any file of this "
            "computer; pack it into one file with h5repack"
        )
    _check_filters(array, f"{path}:{wanted}")
    return array


def _follow(file: Any, path: Path, name: str) -> Any:
    """Return what has a name, by hard and soft links; None if there is nothing."""
    place: Any = file
    for k, part in enumerate(parts := [p for p in name.split("/") if p]):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise DataError(
                f"{path}:{name} is a link to {link.path!r} in the file "
                f"{link.filename!r}; name that file in the sheet"
            )
        if isinstance(link, h5py.SoftLink):
            absolute = link.path.startswith("/")
            target = link.path if absolute else f"{place.name}/{link.path}"
            try:
                found = place.get(part)
            except (OSError, RuntimeError):  # links in a circle
                found = None
            if found is None or found.file.filename != file.filename:
                raise DataError(
                    f"{path}:{name} is a link to {target!r}, which is not in the "
                    f"file; name the dataset itself"
                )
        place = place.get(part) if link is not None else None
        if place is None:
            return None
        if k + 1 < len(parts) and not isinstance(place, h5py.Group):
            return None
    return place


def source_files(array: Any, path: Path, depth: int = 0) -> tuple[Path, ...]:
    """Return the other files that a virtual dataset is made of; all must be there.

    Raises
    ------
    DataError
        If one is missing, outside the folder, or holds another shape: HDF5 would read
        0 there without a word.
    """
    files: dict[Path, None] = {}
    name = f"{path}:{array.name}"
    for source in array.virtual_sources():
        if "%b" in source.file_name or "%b" in source.dset_name:
            raise DataError(
                f"{name} is made of files that it numbers itself "
                f"({source.file_name!r}); pack it into one file with h5repack"
            )
        other = path if source.file_name == "." else path.parent / source.file_name
        folder = path.parent.resolve()
        if not other.resolve().is_relative_to(folder) or path.suffix.lower() == ".gz":
            raise DataError(
                f"{name} keeps voxels in {source.file_name!r}, outside its folder, "
                "which could be any file of this computer; pack it into one file with "
                "h5repack"
            )
        refuse_dangling_image(other)
        if not other.is_file():
            raise DataError(
                f"{name} keeps voxels in {other}, which is missing; copy that file "
                "there too"
            )
        files |= dict.fromkeys(_check_source(array, source, other, path, name, depth))
    return tuple(file for file in files if file != path)


def _check_source(
    array: Any, source: Any, other: Path, path: Path, name: str, depth: int
) -> list[Path]:
    """Return the files behind one part of a virtual dataset, after a look into it."""
    if depth >= MOST_FILES:
        raise DataError(
            f"{name} is made of virtual datasets, {depth} deep; pack it into one file "
            "with h5repack"
        )
    try:
        with h5py.File(other, "r") as file:
            part = find_dataset(file, other, source.dset_name)
            if not _fits(source, part.shape):
                raise DataError(
                    f"{name} wants more of {other}:{source.dset_name} than it holds, "
                    f"which is {part.shape}; make the virtual dataset anew"
                )
            if not part.is_virtual:
                return [other]
            if other == path and part.name == array.name:
                raise DataError(f"{name} is made of itself; make it anew")
            return [other, *source_files(part, other, depth + 1)]
    except OSError as error:
        raise DataError(
            f"{name} keeps voxels in {other}, which is truncated or no HDF5 file "
            f"({error}); copy or download it again"
        ) from error


def _fits(source: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a dataset holds all voxels that a virtual one takes from it."""
    chosen = source.src_space
    if chosen.get_select_type() == h5py.h5s.SEL_ALL:
        return bool(source.vspace.get_select_npoints() == prod(shape))
    _, last = chosen.get_select_bounds()
    return len(last) == len(shape) and all(map(int.__lt__, map(int, last), shape))


def _check_filters(array: Any, name: str) -> None:
    """Refuse a compression that nothing on this machine can undo."""
    created = array.id.get_create_plist()
    codes = [created.get_filter(k)[0] for k in range(created.get_nfilters())]
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if missing:
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # which registers its filters
        missing = [code for code in missing if not h5py.h5z.filter_avail(code)]
    if missing:
        known = ", ".join(f"{c} ({FILTERS.get(c, 'of its maker')})" for c in missing)
        raise DataError(
            f"{name} is compressed with the HDF5 filter {known}, which is not "
            "installed; pip install hdf5plugin, or pack it anew where it can be read: "
            "h5repack -f GZIP=1"
        )


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
            while data := packed.read(1 << 20):
                unpacked.write(data)
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
