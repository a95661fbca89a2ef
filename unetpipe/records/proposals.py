"""Proposed annotations: ``proposals.json``, beside a folder for each crop."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.tiling.boxes import Zyx

IMAGE, PREDICTED, CORRECTED = "image.tif", "predicted.tif", "corrected.tif"


class Proposal(Value):
    """A crop of one section, and why it is proposed."""

    name: str
    """Of its folder: volume and place."""
    volume: str
    start: Zyx
    shape: Zyx
    score: float
    entropy: float
    """Mean over voxels, in bits, 1 at the threshold."""
    disagreement: float
    """Twice the mean deviation between networks; 0 of one network."""
    novelty: float
    """How far the section's grey values lie beyond those learnt, 0 to 1."""
    labels_at: Zyx | None = None
    """The voxel of the volume's files that is its first; None where the next training
    does not see the volume on the same grid: then the crop is a volume of its own."""
    predicted_sha256: str | None = None
    """Of the file of predicted ids as it was written; None in earlier versions."""


class Proposals(Record):
    """What is proposed, and what a sheet with the corrections is made from."""

    WHAT = "the record of proposed annotations"

    proposals: tuple[Proposal, ...]
    label_kind: str
    axes: str
    """Of the crops' images."""
    voxel_sizes_nm: dict[str, tuple[float, float, float]]
    """By volume, where somebody said it."""
    sheet: str
    """That the run was made from."""
    config: dict[str, Any]
    """What the user has configured."""
    network: str
    """Folder of the network that a training may start from."""
    circumstances: Circumstances


def crops_of_labels(cells: Iterable[str]) -> set[str]:
    """Return the crops whose corrections a sheet's labels are, by name.

    Examples
    --------
    >>> sorted(crops_of_labels(["a/b_z1/corrected.tif; a/b_z2/corrected.tif", "c.tif"]))
    ['b_z1', 'b_z2']
    """
    paths = (Path(path.strip()) for cell in cells for path in cell.split(";"))
    return {path.parent.name for path in paths if path.name == CORRECTED}
