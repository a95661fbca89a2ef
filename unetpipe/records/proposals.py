"""Proposed annotations: ``proposals.json``, beside a folder for each crop."""

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
