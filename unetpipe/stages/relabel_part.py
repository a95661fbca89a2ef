"""Rule relabel_part: write the final ids of one part's blocks."""

from pathlib import Path

from unetpipe.config import SegmentationConfig
from unetpipe.segmentation.passes import Segmentation
from unetpipe.segmentation.segmentation_jobs import record_part


def relabel_part(
    *,
    prediction: Path,
    model_json: Path,
    ingest: Path,
    segmentation: SegmentationConfig,
    folder: Path,
    part: int,
    record: Path,
) -> None:
    """Write mask and objects of the blocks of one part that are not whole yet.

    Parameters
    ----------
    prediction : Path
        ``prediction.json`` of the finished prediction.
    model_json : Path
        Holds what was chosen on the validation rows.
    ingest : Path
        ``ingest.json``, for the voxel size.
    segmentation : SegmentationConfig
        How objects are made, and in how many parts.
    folder : Path
        Where the folder ``segmentation-<id>`` lies.
    part : int
        Which of the parts, from 0.
    record : Path
        Where to write the part's record, last.
    """
    record_part(
        Segmentation.relabel,
        part=part,
        num_parts=segmentation.parts,
        record=record,
        prediction=prediction,
        model_json=model_json,
        ingest=ingest,
        settings=segmentation.model_dump(mode="json"),
        folder=folder,
    )
