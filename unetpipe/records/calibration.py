"""What quantising a network took, and what it costs: ``calibration.json``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetpipe.errors import IntegrityError
from unetpipe.records import Record
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.tiling.boxes import Zyx


def calibrated_hashes(paths: Sequence[Path], model: Model) -> tuple[str, ...]:
    """Return the hashes of the quantised networks that records describe.

    Parameters
    ----------
    paths : sequence of Path
        ``calibration.json`` of a network, or of each member of an ensemble.
    model : Model
        Whose weights they must be of.

    Raises
    ------
    IntegrityError
        If they are of others.
    """
    found = [Calibration.read(path) for path in paths]
    expected = [model.weights_sha256]
    if model.is_ensemble:
        expected = [member.weights_sha256 for member in model.members]
    for path, made, sha256 in zip(paths, found, expected if paths else [], strict=True):
        if made.weights_sha256 != sha256:
            raise IntegrityError(
                f"{path} is the calibration of other weights; delete it and repeat the "
                "same command"
            )
    return tuple(made.quantised_sha256 for made in found)


class Calibration(Record):
    """``calibration.json``: the scales of int8, what they are from, and two scores."""

    WHAT = "the record of a calibration"

    weights_sha256: str
    """Of the network that was quantised."""
    quantised_sha256: str
    """Of ``int8.safetensors``: the graph, its weights and scales."""
    patch: Zyx
    """What the network sees of a training row."""
    num_patches: int
    rows: tuple[dict[str, Any], ...]
    """The training rows that they were drawn from."""
    metric: str | None = None
    """That chose the checkpoint; None: no validation rows, so no scores."""
    score_fp32: float | None = None
    """On the validation rows, averaged as the prediction; None: undefined."""
    score_int8: float | None = None
    """None with a metric: undefined, as of a network whose output is no number."""
    circumstances: Circumstances

    @property
    def is_undefined(self) -> bool:
        """Whether there are validation rows, and int8 has no score on them."""
        return self.metric is not None and self.score_int8 is None

    @property
    def score_loss(self) -> float | None:
        """By how much int8 is worse than fp32; None: nobody knows."""
        if self.score_fp32 is None or self.score_int8 is None:
            return None
        loss = self.score_fp32 - self.score_int8
        return -loss if self.metric == "loss" else loss
