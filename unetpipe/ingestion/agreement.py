"""Check that image, labels, sheet and checksums agree with each other."""

from collections.abc import Sequence

import numpy as np

from unetpipe.errors import DataError
from unetpipe.images import ImageReader
from unetpipe.images.frames import are_numbered, frame_number_offset
from unetpipe.images.sequence import SequenceSource
from unetpipe.ingestion.label_kinds import check_label_dtype
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.intensity import IntensityStatistics

LISTED = 10  # sections named in a message
SAMPLE_BYTES = 1 << 26  # of floating-point labels


def check_image_dtype(image: ImageReader) -> None:
    """Refuse voxels that cannot be stored or summed exactly.

    Raises
    ------
    DataError
        Unless they are integers of at most 32 bits, or floating-point.
    """
    is_small_integer = image.dtype.kind in "iu" and image.dtype.itemsize <= 4
    if not (is_small_integer or image.dtype.kind == "f"):
        raise DataError(
            f"{image.where(0)} has voxels of {image.dtype}; save the image as integers "
            "of at most 32 bits, or as float32"
        )


def check_label_values(labels: ImageReader) -> None:
    """Refuse labels that are no whole numbers, as far as the first section tells.

    Raises
    ------
    DataError
        With a value that is no id, or how to store whole numbers as integers.
    """
    if labels.dtype.kind not in "iu":
        sample = labels.read_sections(0, 1)
        check_label_dtype(labels.dtype, sample, labels.where(0))
    elif labels.source.dtype.kind == "f":
        labels.read_box(0, 1, slice(0, labels.band_rows(SAMPLE_BYTES)))


def check_alike(
    labels: ImageReader, image: ImageReader, *, has_colours: bool = False
) -> None:
    """Refuse labels of another shape than the image, or colours without a palette.

    Parameters
    ----------
    labels, image : ImageReader
        Of one volume.
    has_colours : bool
        Labels may be red, green and blue: there is a palette.

    Raises
    ------
    DataError
        With both shapes.
    """
    num_channels = labels.shape[0]
    if num_channels > 1 and not (has_colours and num_channels == 3):
        raise DataError(
            f"{labels.where(0)} has {num_channels} channels; labels have one: save "
            "the ids as a grey image, or give each colour its class in labels.palette"
        )
    if num_channels > 1 and labels.dtype != np.uint8:
        raise DataError(
            f"{labels.where(0)} has colours of {labels.dtype}; a palette has 8 bits a "
            "colour: save it with 8 bits"
        )
    if labels.zyx != image.zyx:
        raise DataError(
            f"the image is {image.zyx} (z, y, x) in {image.files[0]}, the labels are "
            f"{labels.zyx} in {labels.files[0]}; they must be alike, voxel on voxel: "
            "correct the sheet (image, labels, axes) or the files; labels of a part of "
            "the image need its first voxel in the column labels_at"
        )


def describe_constant(
    statistics: Sequence[IntensityStatistics], names: Sequence[str]
) -> list[str]:
    """Warn of channels that hold one grey value everywhere: there is nothing to see.

    Parameters
    ----------
    statistics : sequence of IntensityStatistics
        Of each channel.
    names : sequence of str
        Of the channels; empty: they have none.
    """
    constant = [
        c for c, s in enumerate(statistics) if s.count > 1 and s.minimum == s.maximum
    ]
    if constant and len(constant) == len(statistics):
        held = [*dict.fromkeys(f"{one.minimum:g}" for one in statistics)]
        what = f"value {held[0]} everywhere"
        if len(held) > 1:
            what = f"same values everywhere ({', '.join(held)} in its channels)"
        return [
            f"the image holds the {what}; see whether the file is the right one, and "
            "was copied whole"
        ]
    return [
        f"channel {names[c] if names else c} of the image holds the value "
        f"{statistics[c].minimum:g} everywhere; leave it out by the column channels, "
        "or see whether the file was copied whole"
        for c in constant
    ]


def check_pixels(
    part: str, reader: ImageReader, found: str, expected: dict[str, str]
) -> None:
    """Compare the voxels of the files with the checksum that the user pinned.

    Raises
    ------
    DataError
        With both checksums.
    """
    if part in expected and expected[part] != found:
        raise DataError(
            f"the voxels of {reader.files[0]}{_and_more(reader)} have sha256 {found}, "
            f"but pixel_sha256 expects {expected[part]} of `{part}`; the files are "
            "others, or in another order: get the originals, or correct the checksum"
        )


def annotated_roles(
    roles: dict[str, list[int]], boxes: Sequence[Roi]
) -> dict[str, list[int]]:
    """Return the sections of each role that boxes of labels reach.

    Raises
    ------
    DataError
        If they reach none of a role that needs labels.
    """
    reached = {z for box in boxes for z in range(box.start[0], box.stop[0])}
    for role, numbers in roles.items():
        if role != "predict" and not reached.intersection(numbers):
            spans = ", ".join(f"{b.start[0]}-{b.stop[0] - 1}" for b in boxes[:LISTED])
            raise DataError(
                f"no box of labels reaches a section with the role {role}; boxes lie "
                f"in the sections {spans}: correct the columns sections and labels_at"
            )
    return {role: [z for z in n if z in reached] for role, n in roles.items()}


def check_annotated(foreground: list[int], sections: dict[str, list[int]]) -> list[str]:
    """Warn of sections without a cell: background alone is worth learning, too.

    Whether any volume of a run holds a cell is asked where all are known, in training.

    Parameters
    ----------
    foreground : list of int
        Voxels of cells in each section.
    sections : dict
        Role -> its sections.

    Returns
    -------
    list of str
        Warnings.

    """
    warnings = []
    for role, numbers in sections.items():
        empty = [z for z in numbers if not foreground[z]]
        if role == "train" and empty and len(empty) == len(numbers):
            warnings.append(
                f"the labels hold no cell in any of the {len(numbers)} sections with "
                "role train: only background is learnt from them"
            )
        elif role != "predict" and empty:
            some = ", ".join(map(str, empty[:LISTED]))
            some += ", ..." if len(empty) > LISTED else ""
            warnings.append(
                f"the labels hold no cell in {len(empty)} of {len(numbers)} sections "
                f"with role {role}: {some}"
            )
    return warnings


def compare_file_numbers(image: ImageReader, labels: ImageReader) -> list[str]:
    """Warn where image and labels are paired in order, and count from another start.

    Numbers with other gaps are matched one by one: see ``images.frames``.
    """
    one, two = image.source, labels.source
    if not (isinstance(one, SequenceSource) and isinstance(two, SequenceSource)):
        return []
    ours, theirs = one.numbers(), two.numbers()
    if len(ours) == 1 or not (are_numbered(ours) and are_numbered(theirs)):
        return []
    offset = frame_number_offset(ours, theirs)
    if not offset:
        return []
    return [
        f"the labels' numbers are {abs(offset)} {'above' if offset > 0 else 'below'} "
        f"the image's, so they are paired in order: {one.files[0].name} with "
        f"{two.files[0].name}; if a file is missing at either end, remove its partner"
    ]


def _and_more(reader: ImageReader) -> str:
    more = len(reader.files) - 1
    return f" and {more} more files" if more else ""
