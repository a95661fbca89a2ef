"""Labels of boxes of an image, told by what their files say of their place."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from unetpipe.errors import UnetpipeError
from unetpipe.images import Reading, open_image
from unetpipe.images.partial import (
    LabelPart,
    check_label_boxes,
    find_corner,
    labels_cover_a_part,
)
from unetpipe.survey.cells import write_cell
from unetpipe.tiling.boxes import Roi, as_zyx


def find_boxes(image: str, labels: Sequence[str], root: Path) -> tuple[Roi, ...]:
    """Return the boxes that labels cover, if all their files say where they lie.

    Parameters
    ----------
    image : str
        Cell of the sheet.
    labels : sequence of str
        Files, each of a box.
    root : Path
        Folder of the originals.

    Returns
    -------
    tuple of Roi
        Empty where they are no such files, or cannot lie there: whoever reads them as
        labels of the whole image tells what is wrong.
    """
    try:
        with ExitStack() as stack:
            whole = stack.enter_context(open_image(image, root))
            parts = []
            for path in labels:
                how = Reading(is_labels=True)
                reader = stack.enter_context(open_image(write_cell(path), root, how))
                if not labels_cover_a_part(reader, whole):
                    return ()
                corner, _ = find_corner(reader, whole)
                pairs = zip(corner, reader.zyx, strict=True)
                box = Roi(corner, as_zyx(a + n for a, n in pairs))
                parts.append(LabelPart(reader, box))
            check_label_boxes(parts, whole)
            return tuple(part.box for part in parts)
    except (UnetpipeError, OSError):
        return ()


def describe_label_boxes(boxes: Sequence[Roi]) -> str:
    """Say where boxes of labels lie.

    Examples
    --------
    >>> describe_label_boxes([Roi((0, 2, 2), (1, 4, 4))])
    'its labels cover a box, from (0, 2, 2) to (1, 4, 4), as their file says'
    """
    one = boxes[0]
    place = f"from {one.start} to {one.stop}, as their file"
    if len(boxes) == 1:
        return f"its labels cover a box, {place} says"
    return f"its labels cover {len(boxes)} boxes, the first {place}s say"
