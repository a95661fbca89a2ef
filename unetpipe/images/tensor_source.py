"""N5 and neuroglancer's precomputed volumes, on a disk or a server, by tensorstore."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.array_source import load_format_library
from unetpipe.images.axes import Index, axis_letters, split_names
from unetpipe.images.files import Address
from unetpipe.images.lengths import FoundSize, Lengths
from unetpipe.images.source import ImageSource, tell_missing_chunks

LISTED = 8
N5, PRECOMPUTED = "n5", "precomputed"
DRIVERS = {N5: "n5", PRECOMPUTED: "neuroglancer_precomputed"}
ABOUT = {N5: "attributes.json", PRECOMPUTED: "info"}


def tensor_form(folder: Path) -> str | None:
    """Return which of the two forms a folder has; None: neither."""
    about = folder / ABOUT[PRECOMPUTED]
    if about.is_file() and b'"scales"' in about.read_bytes()[:4096]:
        return PRECOMPUTED
    inside = [folder, *list(folder.parents)[:2]]
    if any((f / ABOUT[N5]).is_file() for f in inside) or folder.suffix == ".n5":
        return N5
    return None


class TensorSource(ImageSource):
    """One array, with its axes as the form has them: x first.

    Parameters
    ----------
    form : {"n5", "precomputed"}
    path : Path
        For messages.
    kvstore : dict
        Where it lies, as tensorstore says it.
    level : int
        Of its pyramid.
    failed : callable
        Makes an error of what tensorstore raises.
    """

    _folder: Path | None = None
    _told: tuple[int, str] = (0, "")
    _key, _is_sharded = "", False  # of chunks of precomputed volumes

    def __init__(
        self,
        form: str,
        path: Path,
        kvstore: dict[str, Any],
        level: int,
        failed: Callable[[str, Exception], DataError],
    ) -> None:
        self._path, self._failed = path, failed
        self._library = load_format_library(
            "tensorstore", "tensorstore", path, extra="cloud"
        )
        self._store = kvstore
        try:
            about = self._about(form)
            spec: dict[str, Any] = {"driver": DRIVERS[form], "kvstore": kvstore}
            if form == N5:
                if "dimensions" not in about:
                    base = kvstore["path"].rstrip("/")
                    self._store = spec["kvstore"] = {
                        **kvstore,
                        "path": f"{base}/s{level}/",
                    }
                    outer, about = about, self._about(form)
                    about = {**outer, **about}
                elif level:
                    raise DataError(
                        f"{path} is one array, but level is {level} in the sheet; name "
                        "the group around it, or leave level empty"
                    )
                if "dimensions" not in about:
                    raise DataError(
                        f"{path} is a group of N5, not an array; {_list_arrays(path)}"
                    )
            else:
                spec["scale_index"] = level
            self._array = self._library.open(spec, read=True, open=True).result()
            self._describe(form, about, level)
        except DataError:
            raise
        except Exception as error:
            raise failed(str(path), error) from error

    @classmethod
    def of_folder(cls, form: str, folder: Path, level: int = 0) -> "TensorSource":
        """Open a folder on a disk."""
        store = {"driver": "file", "path": f"{folder.absolute()}/"}
        found = cls(form, folder, store, level, _damaged)
        found.files = (Path(found._store["path"]) / ABOUT[form],)
        found._folder = Path(found._store["path"])
        found.is_unwritten = next(found._chunk_files(), None) is None
        return found

    @classmethod
    def of_address(
        cls, form: str, address: str, level: int, failed: Callable[..., DataError]
    ) -> "TensorSource":
        """Open an address."""
        kind, _, rest = address.partition("://")
        host, _, inside = rest.partition("/")
        store: dict[str, Any] = {"driver": "gcs", "bucket": host, "path": f"{inside}/"}
        if kind == "s3":
            store["driver"] = "s3"
        elif kind.startswith("http"):
            store = {
                "driver": "http",
                "base_url": f"{kind}://{host}",
                "path": f"/{inside}/",
            }
        where = Address(address)
        found = cls(form, where, store, level, failed)
        where.num_bytes, where.sha256 = found._told
        found.files = (where,)
        return found

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the array."""
        try:
            # Of precomputed volumes the origin need not be 0.
            box = self._array.translate_to[0][index]
            return np.asarray(box.read().result(), self.dtype)
        except Exception as error:
            raise self._failed(str(self._path), error) from error

    def all_files(self) -> tuple[Path, ...]:
        """Return all files of the array."""
        if self._folder is None:
            return self.files
        return tuple(sorted(p for p in self._folder.rglob("*") if p.is_file()))

    def recorded(self) -> tuple[Path, ...]:
        """Return the folder of all files: there may be millions."""
        return self.files if self._folder is None else (self._folder,)

    def warnings(self) -> list[str]:
        """Say how many chunks are not there, where each is a file."""
        if self._folder is None or self._is_sharded:
            return []
        found = sum(1 for _ in self._chunk_files())
        return tell_missing_chunks(self._folder, self.shape, self.granule, found, 0)

    def _chunk_files(self) -> Iterator[Path]:
        assert self._folder is not None
        inside = (self._folder / self._key).rglob("*")
        return (p for p in inside if p.is_file() and p.name not in ABOUT.values())

    def where(self, section: int) -> str:
        """Name array and section."""
        return f"{self._path}, section {section}"

    def _about(self, form: str) -> Any:
        """Return what its metadata say."""
        store = self._library.KvStore.open(self._store).result()
        text = store.read(ABOUT[form]).result().value
        self._told = len(text), hashlib.sha256(text).hexdigest()
        return json.loads(text) if text else {}

    def _describe(self, form: str, about: Any, level: int) -> None:
        array = self._array
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype.numpy_dtype).newbyteorder("=")
        self.granule = tuple(array.chunk_layout.read_chunk.shape)
        self.axes = "xyzct"[: len(self.shape)]
        if form == PRECOMPUTED:
            lengths, scale = Lengths("precomputed info"), about["scales"][level]
            found = [
                lengths.read(f"resolution of {a}", side, "nm")
                for a, side in zip("xyz", scale["resolution"], strict=True)
            ]
            self._key, self._is_sharded = str(scale["key"]), bool(scale.get("sharding"))
            self.voxel_size = lengths.found(found[::-1])
            return
        axes = split_names(about.get("axes") or ())
        if len(axes) == len(self.shape):
            self.axes = axis_letters(axes) or self.axes
        self.voxel_size = _size_of_n5(about, self.axes)


def _damaged(path: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())[:200]
    return DataError(f"{path} cannot be read ({said}); copy or write it again")


def _list_arrays(path: Path) -> str:
    """Say which arrays a group holds, or what one is usually called."""
    about = path.rglob(ABOUT[N5]) if path.is_dir() else ()
    arrays = sorted(
        p.parent.relative_to(path).as_posix()
        for p in about
        if b'"dimensions"' in p.read_bytes()
    )
    if not arrays:
        return f"name one in it, such as {path.name}/s0"
    more = ", ..." * (len(arrays) > LISTED)
    return (
        f"it holds {', '.join(arrays[:LISTED])}{more}: name one in the sheet, such as "
        f"{path.name}/{arrays[0]}"
    )


def _size_of_n5(about: Any, axes: str) -> FoundSize:
    """Return the size of a voxel, as any of three habits writes it."""
    lengths = Lengths("N5 attributes")
    if "pixelResolution" in about:
        told = about["pixelResolution"]
        sides = told["dimensions"] if isinstance(told, dict) else told
        unit = told.get("unit", "um") if isinstance(told, dict) else "um"
        named = zip(axes, sides, [unit] * len(axes), strict=False)
    elif "transform" in about:
        told = about["transform"]
        named = zip(told["axes"], told["scale"], told["units"], strict=True)
    elif "resolution" in about:
        units = about.get("units") or [""] * len(axes)
        named = zip(axes, about["resolution"], units, strict=False)
    else:
        return FoundSize()
    found = {a: lengths.read(f"resolution of {a}", s, u) for a, s, u in named}
    return lengths.found([found.get(axis) for axis in "zyx"])
