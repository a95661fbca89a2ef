"""What the loss needs of one volume's labels: ``weight_map.json``."""

from pathlib import Path

from pydantic import Field

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances


class StoredMap(Value):
    """A store of one value a voxel."""

    store: Path
    content_sha256: str


class LearntTarget(StoredMap):
    """uint8 (z, y, x): 0 background, 1 core, 2 rim, 255 = unlabelled."""

    class_counts: tuple[tuple[int, ...], ...]
    """Known voxels of each of the three, section by section."""
    border_vox: float
    """How wide the rim is, in lengths of the shortest voxel edge."""


class WeightMap(Record):
    """``weight_map.json``: border term and target of a volume."""

    WHAT = "the record of a weight map"

    volume: str
    border_term: StoredMap
    """float32 (z, y, x)."""
    target: StoredMap
    """uint8 (z, y, x): the class of each voxel, 255 = unlabelled."""
    class_counts: tuple[tuple[int, ...], ...]
    """Known voxels of each class, section by section."""
    num_cells: tuple[int, ...]
    """Cells, section by section."""
    num_lost: int = 0
    """Cells, counted section by section, of which the borders that are put between
    touching cells leave nothing."""
    learnt: dict[str, LearntTarget] = Field(default={})
    """By ``network.targets``, where a network learns cores: background, core, rim."""
    circumstances: Circumstances | None = None
