"""Rule segment_part: number the components of one part's blocks."""

from pathlib import Path

from unetpipe.segmentation.passes import (
    Segmentation,
    SegmentationInputs,
    finish_part_of_objects,
)


def segment_part(*, inputs: SegmentationInputs, part: int, record: Path) -> None:
    """Label the blocks of one part that have no valid receipt yet.

    Parameters
    ----------
    inputs : SegmentationInputs
        Records, settings, and where to write.
    part : int
        Which of the parts, from 0.
    record : Path
        Where to write the part's record, last.
    """
    finish_part_of_objects(Segmentation.label, inputs, part=part, record=record)
