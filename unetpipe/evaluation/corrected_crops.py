"""What somebody has saved in the folder of a proposed crop."""

from pathlib import Path

from unetpipe.images.endings import IMAGES
from unetpipe.records.proposals import CORRECTED, IMAGE, PREDICTED, Proposal
from unetpipe.runtime.files import hash_file


def is_worked_on(folder: Path, crop: Proposal) -> bool:
    """Return whether anything in the folder of a crop is somebody's work.

    Parameters
    ----------
    folder : Path
        Of all proposals.
    crop : Proposal
    """
    return (folder / crop.name / CORRECTED).exists() or bool(saved_beside(folder, crop))


def saved_beside(folder: Path, crop: Proposal) -> list[Path]:
    """Return somebody's images in the folder of a crop that no training would read.

    An editor saves in place (``predicted.tif``), or by a name and ending of its own.

    Parameters
    ----------
    folder : Path
        Of all proposals.
    crop : Proposal
    """
    place = folder / crop.name
    ours = {IMAGE, PREDICTED, CORRECTED}
    found = sorted(
        path
        for path in place.glob("[!.]*")
        if path.name not in ours and path.name.lower().endswith(IMAGES)
    )
    known, path = crop.predicted_sha256, place / PREDICTED
    is_changed = known is not None and path.exists() and hash_file(path) != known
    return [path, *found] if is_changed else found
