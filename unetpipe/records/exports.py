"""What was written for other programs."""

from pathlib import Path

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances


class NgffCopy(Record):
    """``ngff04.json``: copies of stores for tools that read Zarr v2 only."""

    WHAT = "the record of a copy as NGFF 0.4"

    volume: str
    folder: Path
    stores: tuple[str, ...]
    levels_copied: dict[str, tuple[int, ...]]
    circumstances: Circumstances

    @property
    def receipts(self) -> Path:
        """Folder of the receipts of each store's levels."""
        return receipts_beside(self.folder)


def receipts_beside(folder: Path) -> Path:
    """Return where the receipts of a copy lie."""
    return folder.with_name(f"{folder.name}.receipts")


class PrecomputedCopy(Record):
    """``precomputed.json``: image, objects and their surfaces for neuroglancer."""

    WHAT = "the record of precomputed volumes"

    volume: str
    folder: Path
    objects: str
    """Hash of the identity of the objects."""
    num_meshes: int
    without_mesh: tuple[int, ...] = ()
    """Objects whose boxes are too large."""
    circumstances: Circumstances


class TileRule(Value):
    """Sides that a packed network accepts, in voxels."""

    min: int
    step: int
    halo: int


class ModelPackage(Record):
    """``export.json``: a network packed for ilastik, deepImageJ, QuPath and others."""

    WHAT = "the record of a packed network"

    package: Path
    package_sha256: str
    weights_sha256: str
    files: dict[str, int]
    """Bytes, by name."""
    tile_rule: TileRule
    circumstances: Circumstances


class WrittenFile(Value):
    """A file of a result."""

    path: str
    sha256: str


class CtcResult(Record):
    """``ctc.json``: objects in the layout of the Cell Tracking Challenge."""

    WHAT = "the record of a challenge's result"

    volume: str
    folder: Path
    num_frames: int
    num_objects: int
    ids_are_unique: bool
    are_tracks: bool = False
    """Whether objects of several frames were linked."""
    files: tuple[WrittenFile, ...]
    circumstances: Circumstances
