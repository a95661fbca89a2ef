"""Formats of other fields, each by its library: NIfTI, MRC, NRRD, Imaris.

Their libraries are optional: ``pip install unetpipe[formats]``.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.array_source import (
    ArraySource,
    load_format_library,
    refuse_damaged,
)
from unetpipe.images.axes import Index, axis_letters
from unetpipe.images.endings import IMARIS, MRC, NIFTI, NRRD
from unetpipe.images.lengths import FoundSize, Lengths
from unetpipe.images.source import ImageSource

MOST_NRRD_BYTES = 1 << 32  # of voxels that are packed, and so held in memory
KINDS_OF_SPACE, UNSAID = ("domain", "space"), ("", "???", "none")  # of an axis of NRRD
IMOD_STAMP, IMOD_SIGNED, SIGNED_MOST = 1146047817, 1, 127


def open_nifti(path: Path) -> ImageSource:
    """Open NIfTI, whose arrays are x, y, z, time as they lie in the file."""
    library = load_format_library("nibabel", "nibabel", path)
    try:
        image = library.load(path)
        header, voxels = image.header, image.dataobj
        units, sides = header.get_xyzt_units()[0], header.get_zooms()
    except Exception as error:
        raise refuse_damaged(path, "NIfTI", error) from error
    voxels = _Proxy(voxels)
    lengths, axes = Lengths("the NIfTI header"), "xyztc"[: len(voxels.shape)]
    if voxels.num_samples:
        axes = f"{axes[:-1]}s"
    read = [
        lengths.read(n, float(s), units) for n, s in zip("xyz", sides, strict=False)
    ]
    found = [*read, None, None][:3]
    return ArraySource(path, voxels, axes, lengths.found(found[::-1]))


class _Proxy:
    """A NIfTI array: scaled ones are float32, colours have an axis of samples."""

    def __init__(self, voxels: Any) -> None:
        self._voxels, self.shape = voxels, tuple(voxels.shape)
        is_scaled = (voxels.slope, voxels.inter) != (1, 0)
        stored: Any = voxels.dtype
        self.num_samples = len(stored.names or ())
        if self.num_samples:
            self.shape, stored = (*self.shape, self.num_samples), stored[0]
        self.dtype = np.dtype(np.float32 if is_scaled else stored)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, index: Index) -> NDArray[Any]:
        if not self.num_samples:
            return np.asarray(self._voxels[index])
        colours = np.ascontiguousarray(self._voxels[index[:-1]])
        samples = colours.view(self.dtype).reshape(*colours.shape, self.num_samples)
        return samples[..., index[-1]]


def open_mrc(path: Path) -> ImageSource:
    """Open MRC of cryo-EM and tomography: z, y, x unless it says else, in ångström."""
    library = load_format_library("mrcfile", "mrcfile", path)
    try:
        file = library.mmap(path, mode="r")
    except Exception as error:
        if "mode" in str(error):
            raise DataError(
                f"{path} holds voxels of a kind that mrcfile does not read ({error}); "
                "save them as bytes, 16-bit integers or floating-point numbers"
            ) from error
        raise refuse_damaged(path, "MRC", error) from error
    lengths, size = Lengths("the MRC header"), file.voxel_size
    sides = [float(size[axis]) or None for axis in ("z", "y", "x")]
    if file.is_image_stack():
        sides[0] = None  # sections of a series of pictures have no distance
    found = [lengths.read(n, s, "angstrom") for n, s in zip("zyx", sides, strict=True)]
    axes, voxels, header = "tzyx"[-file.data.ndim :], file.data, file.header
    order = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    if axes == "zyx" and sorted(order) == [1, 2, 3]:
        axes = "".join("xyz"[number - 1] for number in order)
    if voxels.dtype == np.int8 and not _are_signed(path, header):
        voxels = voxels.view(np.uint8)
    return ArraySource(path, voxels, axes, lengths.found(found), file.close)


def _are_signed(path: Path, header: Any) -> bool:
    """Tell whether bytes of MRC are signed: as IMOD says, or their largest value.

    The standard says that they are; IMOD and others wrote them from 0 to 255, too.
    https://bio3d.colorado.edu/imod/doc/mrc_format.txt
    """
    with path.open("rb") as file:
        file.seek(152)
        order = np.dtype(np.int32).newbyteorder(header["mode"].dtype.byteorder)
        stamp, flags = np.frombuffer(file.read(8), order).tolist()
    if stamp == IMOD_STAMP:
        return bool(flags & IMOD_SIGNED)
    return bool(header["dmax"] <= SIGNED_MOST)


def open_nrrd(path: Path) -> ImageSource:
    """Open NRRD; what is not packed stays on the disk."""
    library = load_format_library("nrrd", "pynrrd", path)
    try:
        with path.open("rb") as file:
            header = library.read_header(file)
            offset = file.tell()
        if "data file" in header or "datafile" in header:
            raise DataError(
                f"{path} keeps its voxels in another file; save it as one .nrrd file"
            )
        shape = tuple(int(n) for n in header["sizes"])[::-1]
        voxels = _nrrd_voxels(library, path, header, shape, offset)
        axes = _nrrd_axes(header)
        size = _nrrd_size(header, axes)
    except DataError:
        raise
    except Exception as error:
        raise refuse_damaged(path, "NRRD", error) from error
    return ArraySource(path, voxels, axes[::-1], size)


def _nrrd_voxels(
    library: Any, path: Path, header: Any, shape: tuple[int, ...], offset: int
) -> NDArray[Any]:
    order = ">" if header.get("endian") == "big" else "<"
    dtype = np.dtype(library.reader._TYPEMAP_NRRD2NUMPY[header["type"]])
    skips = ("byte skip", "byteskip", "line skip", "lineskip")
    if header.get("encoding") == "raw" and not any(map(header.get, skips)):
        stored = dtype.newbyteorder(order)
        return np.memmap(path, stored, mode="r", offset=offset, shape=shape)
    if int(np.prod(shape)) * dtype.itemsize > MOST_NRRD_BYTES:
        raise DataError(
            f"{path} is packed ({header.get('encoding')}) and unpacks to the shape "
            f"{shape}, more than is held in memory; save it with encoding raw"
        )
    voxels, _ = library.read(str(path), index_order="C")
    return np.asarray(voxels)


def _nrrd_axes(header: Any) -> str:
    """Return the letters, fastest first: by labels, else the first in space is x."""
    labels = map(_unquoted, _of_each_axis(header, "labels", ""))
    named = axis_letters(list(labels)) or "q" * len(header["sizes"])
    letters, space = "", iter([axis for axis in "xyz" if axis not in named])
    kinds = _of_each_axis(header, "kinds", "")
    for letter, said, size, row in zip(
        named, kinds, header["sizes"], _nrrd_directions(header), strict=True
    ):
        kind = str(said).lower()
        in_space = row is not None if kind in UNSAID else kind in KINDS_OF_SPACE
        other = "t" if kind == "time" else "c" if size > 1 else "q"
        if letter != "q":
            letters += letter
        else:
            letters += next(space, "q") if in_space else other
    return letters


def _of_each_axis(header: Any, key: str, unsaid: Any) -> list[Any]:
    """Return what a header lists, with as many entries as there are axes."""
    listed, num = header.get(key), len(header["sizes"])
    return [*(() if listed is None else listed), *[unsaid] * num][:num]


def _nrrd_directions(header: Any) -> list[float | None]:
    """Return how far apart voxels are along each axis; None: not in space."""
    if "space directions" in header:
        rows = _of_each_axis(header, "space directions", [0.0])
        rows = [np.asarray(0 if row is None else row, float) for row in rows]
        is_in_space = [row.ndim > 0 and bool(np.isfinite(row).all()) for row in rows]
        pairs = zip(rows, is_in_space, strict=True)
        return [float(np.linalg.norm(row)) if known else None for row, known in pairs]
    spacings = _of_each_axis(header, "spacings", 0.0)
    return [float(s) if np.isfinite(s) else 0.0 for s in spacings]


def _nrrd_size(header: Any, axes: str) -> FoundSize:
    """Return the size of a voxel, in millimetres if it has a space and no unit."""
    lengths, found = Lengths("the NRRD header"), dict[str, float | None]()
    usual = "mm" if "space" in header else ""
    of_space = [_unquoted(unit) for unit in header.get("space units") or ()]
    of_axes = [_unquoted(unit) for unit in _of_each_axis(header, "units", "")]
    sides = zip(axes, _nrrd_directions(header), of_axes, strict=True)
    for axis, side, of_axis in sides:
        if axis in "xyz":
            units = (of_axis, *of_space[len(found) :][:1], usual)
            unit = next(filter(None, units), "")
            found[axis] = lengths.read(axis, side or None, unit)
    return lengths.found([found.get(axis) for axis in "zyx"])


def _unquoted(text: Any) -> str:
    return str(text).strip('"')


class ImarisSource(ImageSource):
    """Imaris 5.5 and later (.ims): channels and time points in HDF5, (t, c, z, y, x).

    Datasets are padded to whole chunks: what counts is the size that is written.
    """

    def __init__(self, path: Path, *, level: int = 0) -> None:
        self.files = (path,)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise refuse_damaged(path, "Imaris", error) from error
        try:
            self._describe(path, level)
        except DataError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise refuse_damaged(path, "Imaris", error) from error

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        times, channels = (range(i.start, i.stop) for i in index[:2])
        try:
            return np.stack(
                [
                    np.stack([self._data(t, c)[index[2:]] for c in channels])
                    for t in times
                ]
            ).astype(self.dtype, copy=False)
        except (OSError, KeyError) as error:
            raise refuse_damaged(self.files[0], "Imaris", error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _data(self, time: int, channel: int) -> Any:
        place = f"TimePoint {time}/Channel {channel}/Data"
        data = self._file[f"DataSet/ResolutionLevel {self._level}/{place}"]
        is_elsewhere = data.file.filename != self._file.filename
        if is_elsewhere or data.external or data.is_virtual:
            raise DataError(
                f"{self.files[0]} keeps voxels in other files, which could be any file "
                "of this computer; pack it into one file with h5repack"
            )
        return data

    def _describe(self, path: Path, level: int) -> None:
        self._level, data = level, self._file["DataSet"]
        levels = sum(key.startswith("ResolutionLevel") for key in data)
        if level >= levels:
            raise DataError(
                f"{path} has {levels} resolution levels, but level is {level} in the "
                f"sheet; write 0 to {levels - 1}"
            )
        of_level = data[f"ResolutionLevel {level}"]
        num_times = sum(key.startswith("TimePoint") for key in of_level)
        channels = of_level["TimePoint 0"]
        num_channels = sum(key.startswith("Channel") for key in channels)
        for time, channel in product(range(num_times), range(num_channels)):
            self._data(time, channel)
        first = channels["Channel 0"]
        written = [int(_text(first.attrs[f"ImageSize{a}"])) for a in "ZYX"]
        self.shape, self.axes = (num_times, num_channels, *written), "tczyx"
        self.dtype = first["Data"].dtype.newbyteorder("=")
        self.granule = (1, 1, *(first["Data"].chunks or (1, 1, written[-1])))
        about = self._file["DataSetInfo/Image"].attrs
        lengths, unit = Lengths("Imaris"), _text(about.get("Unit", "um"))
        sides = []
        for place, (axis, count) in enumerate(zip("zyx", written, strict=True)):
            low, high = (
                float(_text(about[f"Ext{k}{2 - place}"])) for k in ("Min", "Max")
            )
            sides.append(lengths.read(f"extent of {axis}", (high - low) / count, unit))
        self.voxel_size = lengths.found(sides)
        names = [
            self._file[f"DataSetInfo/Channel {c}"].attrs.get("Name")
            for c in range(num_channels)
            if f"DataSetInfo/Channel {c}" in self._file
        ]
        if len(names) == num_channels and all(name is not None for name in names):
            self.channel_names = tuple(map(_text, names))


def _text(value: Any) -> str:
    """Return a text that Imaris writes as an array of single letters."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return b"".join(value.astype("S1").ravel().tolist()).decode()
    return str(value)


OPENERS: dict[str, Callable[[Path], ImageSource]] = {
    **dict.fromkeys(NIFTI, open_nifti),
    **dict.fromkeys(MRC, open_mrc),
    **dict.fromkeys(NRRD, open_nrrd),
    **dict.fromkeys(IMARIS, ImarisSource),
}
"""Ending of a file's name -> what opens it."""


def opener_of(path: Path) -> Callable[[Path], ImageSource] | None:
    """Return what opens a file by the ending of its name, or None."""
    name = path.name.lower()
    found = (opener for ending, opener in OPENERS.items() if name.endswith(ending))
    return next(found, None)
