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
from unetpipe.images.axes import Index
from unetpipe.images.endings import IMARIS, MRC, NIFTI, NRRD
from unetpipe.images.lengths import FoundSize, Lengths
from unetpipe.images.source import ImageSource

MOST_NRRD_BYTES = 1 << 32  # of voxels that are packed, and so held in memory
KINDS_OF_CHANNELS = ("vector", "list", "rgb-color", "rgba-color", "complex")


def open_nifti(path: Path) -> ImageSource:
    """Open NIfTI, whose arrays are x, y, z, time as they lie in the file."""
    library = load_format_library("nibabel", "nibabel", path)
    try:
        image = library.load(path)
        header, voxels = image.header, image.dataobj
        units, sides = header.get_xyzt_units()[0], header.get_zooms()
    except Exception as error:
        raise refuse_damaged(path, "NIfTI", error) from error
    lengths, axes = Lengths("the NIfTI header"), "xyztc"[: len(voxels.shape)]
    read = [
        lengths.read(n, float(s), units) for n, s in zip("xyz", sides, strict=False)
    ]
    found = [*read, None, None][:3]
    return ArraySource(path, _Proxy(voxels), axes, lengths.found(found[::-1]))


class _Proxy:
    """A NIfTI array: scaled ones are float32, others as they are stored."""

    def __init__(self, voxels: Any) -> None:
        self._voxels, self.shape = voxels, voxels.shape
        self.size = int(np.prod(voxels.shape))
        is_scaled = (voxels.slope, voxels.inter) != (1, 0)
        self.dtype = np.dtype(np.float32) if is_scaled else np.dtype(voxels.dtype)

    def __getitem__(self, index: Index) -> NDArray[Any]:
        return np.asarray(self._voxels[index])


def open_mrc(path: Path) -> ImageSource:
    """Open MRC of cryo-EM and tomography: z, y, x, in ångström."""
    library = load_format_library("mrcfile", "mrcfile", path)
    try:
        file = library.mmap(path, mode="r")
    except Exception as error:
        raise refuse_damaged(path, "MRC", error) from error
    lengths, size = Lengths("the MRC header"), file.voxel_size
    sides = [float(size[axis]) or None for axis in ("z", "y", "x")]
    if file.is_image_stack():
        sides[0] = None  # sections of a series of pictures have no distance
    found = [lengths.read(n, s, "angstrom") for n, s in zip("zyx", sides, strict=True)]
    axes = "tzyx"[-file.data.ndim :]
    return ArraySource(path, file.data, axes, lengths.found(found), file.close)


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
    except DataError:
        raise
    except Exception as error:
        raise refuse_damaged(path, "NRRD", error) from error
    return ArraySource(path, voxels, _nrrd_axes(header), _nrrd_size(header))


def _nrrd_voxels(
    library: Any, path: Path, header: Any, shape: tuple[int, ...], offset: int
) -> NDArray[Any]:
    order = ">" if header.get("endian") == "big" else "<"
    dtype = np.dtype(library.reader._TYPEMAP_NRRD2NUMPY[header["type"]])
    if header.get("encoding") == "raw" and not header.get("byte skip"):
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
    """Return the letters, slowest first: of axes in space, the last is x."""
    num = len(header["sizes"])
    kinds = [str(kind).lower() for kind in header.get("kinds", ["domain"] * num)]
    letters, space = [], iter("xyz")
    for kind in kinds:
        if kind == "time":
            letters.append("t")
        elif kind in KINDS_OF_CHANNELS or kind.endswith("vector"):
            letters.append("c")
        else:
            letters.append(next(space, "q"))
    return "".join(letters[::-1])


def _nrrd_size(header: Any) -> FoundSize:
    """Return the size from space directions, in millimetres unless it says else."""
    lengths, sides = Lengths("the NRRD header"), list[float]()
    if (directions := header.get("space directions")) is not None:
        rows = np.atleast_2d(np.asarray(directions, float))
        sides = [float(np.linalg.norm(r)) for r in rows if np.isfinite(r).all()]
    elif (spacings := header.get("spacings")) is not None:
        sides = [float(s) for s in spacings if np.isfinite(s)]
    units = header.get("space units") or (["mm"] * 3 if "space" in header else [""] * 3)
    triples = zip("xyz", sides, units, strict=False)
    found = [lengths.read(n, s, str(u).strip('"')) for n, s, u in triples]
    return lengths.found([*found, None, None, None][:3][::-1])


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
