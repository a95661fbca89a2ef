"""Open one volume's originals as its rows of the sheet say, and check them."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from math import isclose
from pathlib import Path

from unetpipe.config.sheet import Row
from unetpipe.errors import DataError
from unetpipe.images import ImageReader, Reading, open_image, open_masks
from unetpipe.images.endings import HDF5
from unetpipe.images.files import Address
from unetpipe.images.frames import spread_labelled_frames
from unetpipe.images.partial import (
    LabelPart,
    check_label_boxes,
    find_corner,
    join_label_parts,
    labels_cover_a_part,
    partial_label_source,
)
from unetpipe.ingestion.agreement import (
    check_alike,
    check_image_dtype,
    check_label_values,
)
from unetpipe.ingestion.palette import Palette
from unetpipe.records.volume import Manifest, OriginalFile
from unetpipe.runtime.files import hash_file
from unetpipe.runtime.machine import num_processors
from unetpipe.runtime.problems import Problems
from unetpipe.tiling.boxes import UNKNOWN_SIZE, Roi, as_zyx, whole_volume

MAX_READ_THREADS = 4
MASK_BYTES = 1 << 24  # looked at, at once


def open_original_image(row: Row, root: Path, stack: ExitStack) -> ImageReader:
    """Open a volume's image.

    Raises
    ------
    DataError
        If it is not there, cannot be read, or has voxels of a kind that is not kept.
    """
    how = Reading(
        axes=row.axes,
        time=row.time,
        channels=row.channels,
        level=row.level,
        num_threads=_num_threads(),
    )
    image = open_image(row.image, root, how)
    stack.enter_context(image)
    check_image_dtype(image)
    return image


def open_originals(
    sheet: Sequence[Row],
    root: Path,
    palette: Palette | None,
    problems: Problems,
    stack: ExitStack,
    remarks: list[str],
) -> tuple[ImageReader, ImageReader | None]:
    """Open image and labels, and check what can be told before reading them.

    What is worth knowing of the place of labels is added to ``remarks``.
    """
    row, image, labels = sheet[0], None, None
    has_colours = palette is not None and palette.has_colours
    with problems:
        image = open_original_image(row, root, stack)
    for part in sheet:
        with problems:
            if image is not None:
                part.section_numbers(image.zyx[0])
    given: list[ImageReader] = []
    with problems:
        for cell in row.label_cells:
            given.append(_open_labels(cell, row, root, has_colours=has_colours))
            stack.enter_context(given[-1])
    with problems:
        if image is not None and len(given) == len(row.label_cells) > 0:
            field = _open_field(row, root, image, stack)
            labels = _place(row, given, image, field, remarks)
            stack.enter_context(labels)
        partial = labels and partial_label_source(labels)
        for reader in given if partial or not labels else [labels]:
            check_label_values(reader)
    with problems:
        if image is not None and labels is not None:
            check_alike(labels, image, has_colours=has_colours)
    problems.raise_any()
    assert image is not None
    return image, labels


def find_label_boxes(
    row: Row, root: Path, image: ImageReader
) -> tuple[Roi, ...] | None:
    """Return the boxes that a row's labels cover; None: all of the image, or nothing.

    Files are looked into only where row or format may tell of boxes.

    Raises
    ------
    DataError
        If boxes leave the image, share voxels, or nobody says where one lies.
    """
    cells = row.label_cells
    with ExitStack() as stack:
        _open_field(row, root, image, stack)
    may_tell = any(e in cell.lower() for cell in cells for e in (".zarr", *HDF5))
    if not (row.labels_at or len(cells) > 1 or may_tell):
        return None
    with ExitStack() as stack:
        given = [_open_labels(cell, row, root, has_colours=False) for cell in cells]
        for reader in given:
            stack.enter_context(reader)
        partial = partial_label_source(_place(row, given, image, None, []))
        return partial.boxes if partial else None


def _open_labels(cell: str, row: Row, root: Path, *, has_colours: bool) -> ImageReader:
    """Open one file of labels, or one set of masks."""
    threads = _num_threads()
    if row.label_kind == "masks":
        return open_masks(cell, root, num_threads=threads)
    how = Reading(
        axes=row.axes,
        time=row.time,
        level=row.level,
        is_labels=True,
        has_palette=has_colours,
        num_threads=threads,
    )
    return open_image(cell, root, how)


def _open_field(
    row: Row, root: Path, image: ImageReader, stack: ExitStack
) -> ImageReader | None:
    """Open the field of view: of the image's shape, or one section for all."""
    if not row.field_of_view:
        return None
    how = Reading(axes=row.axes, time=row.time, level=row.level, is_labels=True)
    field = open_image(row.field_of_view, root, how)
    stack.enter_context(field)
    if field.zyx not in (image.zyx, (1, *image.zyx[1:])):
        raise DataError(
            f"the image is {image.zyx} (z, y, x) in {image.files[0]}, its field of "
            f"view {field.zyx} in {field.files[0]}; they must be alike, or the field "
            "one section for all: correct field_of_view in the sheet"
        )
    if is_empty(field):
        raise DataError(
            f"the field of view in {field.files[0]} is 0 everywhere, so that nothing "
            "would be learnt or scored; correct the file, or leave field_of_view empty"
        )
    return field


def is_empty(mask: ImageReader) -> bool:
    """Tell whether a mask is 0 everywhere, until the first voxel that is not."""
    num_sections, height, _ = mask.zyx
    step = mask.band_rows(MASK_BYTES)
    return not any(
        mask.read_box(z, z + 1, slice(top, min(top + step, height))).any()
        for z in range(num_sections)
        for top in range(0, height, step)
    )


def _place(
    row: Row,
    given: Sequence[ImageReader],
    image: ImageReader,
    field: ImageReader | None,
    remarks: list[str],
) -> ImageReader:
    """Return labels of the whole image, or of the boxes that they are given for."""
    first = given[0]
    is_boxed = (
        bool(row.labels_at) or len(given) > 1 or labels_cover_a_part(first, image)
    )
    if not is_boxed:
        labels = spread_labelled_frames(first, image, row.unlabelled)
        if field is None or labels.zyx != image.zyx:
            return labels
        return join_label_parts(
            [LabelPart(labels, whole_volume(image.zyx))], image.zyx, field
        )
    parts = []
    for number, reader in enumerate(given):
        if row.labels_at:
            corner = row.labels_at[number]
        else:
            corner, remark = find_corner(reader, image)
            remarks += filter(None, [remark])
        stop = as_zyx(a + n for a, n in zip(corner, reader.zyx, strict=True))
        parts.append(LabelPart(reader, Roi(corner, stop)))
    check_label_boxes(parts, image)
    return join_label_parts(parts, image.zyx, field)


def voxel_size_of_original(
    row: Row, image: ImageReader, warnings: list[str]
) -> tuple[tuple[float, float, float], str]:
    """Return the voxel size and who says so: the sheet, else the file, else nobody."""
    of_sheet, of_file = row.voxel_size_nm, image.voxel_size_nm
    if of_sheet is None:
        warnings += image.size_remarks
    if of_sheet is None and of_file is None:
        return UNKNOWN_SIZE, "nobody"
    if of_sheet is None or of_file is None:
        return (of_sheet, "sheet") if of_sheet else (of_file or UNKNOWN_SIZE, "file")
    if not all(
        isclose(a, b, rel_tol=0.02) for a, b in zip(of_sheet, of_file, strict=True)
    ):
        warnings.append(
            f"voxel_size_nm is {of_sheet} in the sheet, {of_file} in {image.files[0]}; "
            "the sheet counts"
        )
    return of_sheet, "sheet"


def is_depth_told(row: Row, image: ImageReader) -> bool:
    """Return whether sheet or file tell how far sections are apart.

    Time points that are read as sections are no length apart, whatever is said.
    """
    is_told = row.voxel_size_nm is not None or image.is_depth_known
    return is_told and not image.has_frames


def list_original_files(
    paths: Sequence[Path], originals: Manifest
) -> tuple[OriginalFile, ...]:
    """Return path, size and sha256 of what was read; known checksums are not redone.

    Of a folder, whose files may be millions, the number of files and the sha256 of
    their names and sha256.
    """
    root = Path(originals.root)
    known = {file.path: file for file in originals.files}
    listing = []
    for path in paths:
        inside = path.is_relative_to(root)
        name = (path.relative_to(root) if inside else path).as_posix()
        if isinstance(path, Address):  # of what lies elsewhere the metadata are hashed
            size, digest = path.num_bytes, path.sha256
            listing.append(OriginalFile(path=str(path), size=size, sha256=digest))
            continue
        if path.is_dir():
            listing.append(_sum_folder(path, name))
            continue
        size = path.stat().st_size
        if name in known and known[name].size == size:
            listing.append(known[name])
        else:
            file = OriginalFile(path=name, size=size, sha256=hash_file(path))
            listing.append(file)
    return tuple(listing)


def _sum_folder(folder: Path, name: str) -> OriginalFile:
    digest, total, count = hashlib.sha256(), 0, 0
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        inside = path.relative_to(folder).as_posix()
        digest.update(f"{inside}\0{hash_file(path)}\n".encode())
        total += path.stat().st_size
        count += 1
    return OriginalFile(
        path=name, size=total, sha256=digest.hexdigest(), num_files=count
    )


def _num_threads() -> int:
    return min(MAX_READ_THREADS, num_processors())
