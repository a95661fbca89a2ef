"""Rule relabel_part: write the final ids of one part's blocks."""

from pathlib import Path

from unetpipe.segmentation.passes import (
    Segmentation,
    SegmentationInputs,
    finish_part_of_objects,
)


def relabel_part(*, inputs: SegmentationInputs, part: int, record: Path) -> None:
    """Write mask and objects of the blocks of one part that are not whole yet.

    Parameters
    ----------
    inputs : SegmentationInputs
        Records, settings, and where to write.
    part : int
        Which of the parts, from 0.
    record : Path
        Where to write the part's record, last.
    """
    finish_part_of_objects(Segmentation.relabel, inputs, part=part, record=record)
