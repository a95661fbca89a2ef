"""Stage: bring one volume and its labels into chunked, sharded OME-Zarr."""

import logging
import os
import shutil
from contextlib import ExitStack
from math import isclose
from pathlib import Path
from typing import Any

from unetpipe.annotations import AnnotationReader, check_label_dtype
from unetpipe.archives import partial_folder
from unetpipe.config import IngestConfig
from unetpipe.errors import DataError
from unetpipe.images import ImageReader, open_image
from unetpipe.images.sequence import SequenceSource
from unetpipe.ingestion import (
    Layout,
    check_memory,
    copy_image,
    copy_labels,
    largest_value,
)
from unetpipe.problems import Problems
from unetpipe.records import circumstances, hash_file, read_record, write_record
from unetpipe.sheet import Row

logger = logging.getLogger(__name__)

MAX_READ_THREADS = 4


def ingest_volume(
    *,
    manifest: Path,
    volume: str,
    rows: list[dict[str, Any]],
    pixel_sha256: dict[str, str],
    ingest: IngestConfig,
    num_classes: int,
    image_store: Path,
    labels_store: Path,
    record: Path,
) -> None:
    """Check one volume, store its image and labels, and record what they are.

    Parameters
    ----------
    manifest : Path
        Record of ``download_dataset``: where the originals are.
    volume : str
        Name of the volume, for messages.
    rows : list of dict
        Its rows of the sheet.
    pixel_sha256 : dict
        Checksums to insist on, of the voxels of ``image`` and ``labels`` as the files
        hold them: section by section, (c, y, x) in C order, little-endian.
    ingest : IngestConfig
        Chunk, shard, and what to do with NaN.
    num_classes : int
        Ids of ``classes`` labels must be smaller.
    image_store, labels_store : Path
        OME-Zarr stores; the second only if the volume has labels. They are built
        under a ``.partial`` name and renamed when both are whole.
    record : Path
        Written last.

    Raises
    ------
    DataError
        Listing all problems of the volume that could be found at once.
    ResourceError
        If memory does not suffice.
    """
    sheet = [_as_row(row) for row in rows]
    originals = read_record(manifest)
    problems, warnings = Problems(f"volume {volume}"), list[str]()
    with ExitStack() as stack:
        image, labels = _open(sheet, Path(originals["root"]), problems, stack)
        warnings += _compare_numbers(image, labels)
        voxel_size_nm = _voxel_size(sheet[0], image, warnings)
        layout = Layout(ingest.chunk, ingest.shard, voxel_size_nm)
        check_memory(image, layout, f"volume {volume}: image")
        about = {
            "volume": volume,
            "shape": image.zyx,
            "num_channels": image.shape[0],
            "dtype": str(image.dtype),
            "axes_of_file": image.plan.letters,
            "voxel_size_nm": voxel_size_nm,
            "labels": None,
        }
        with problems:
            partial = stack.enter_context(partial_folder(image_store))
            found = copy_image(image, partial, layout, nan_policy=ingest.nan_policy)
            _check_pixels("image", image, found.pixel_sha256, pixel_sha256)
            about["image"] = {
                "store": image_store,
                "content_sha256": found.content_sha256,
                "files": _list_files(image, originals),
            }
            about["statistics"] = [s.to_json() for s in found.statistics]
            about["num_nan"] = sum(s.num_nan for s in found.statistics)
        with problems:
            if labels is not None:
                partial = stack.enter_context(partial_folder(labels_store))
                annotation = AnnotationReader(
                    sheet[0].label_kind,
                    unlabelled=sheet[0].unlabelled,
                    num_classes=num_classes,
                    largest=largest_value(labels, layout.shard[0]),
                )
                written = copy_labels(labels, partial, layout, annotation)
                _check_pixels("labels", labels, written.pixel_sha256, pixel_sha256)
                problems.texts += annotation.problems()
                warnings += annotation.warnings()
                warnings += _check_annotated(annotation.foreground, sheet)
                about["labels"] = {
                    "store": labels_store,
                    "dtype": str(annotation.dtype),
                    "content_sha256": written.content_sha256,
                    "label_kind": annotation.kind,
                    "unlabelled": annotation.stored_unlabelled,
                    "num_ids": annotation.num_ids,
                    "files": _list_files(labels, originals),
                }
        problems.raise_any()
    if labels is None:
        shutil.rmtree(labels_store, ignore_errors=True)  # of an earlier sheet
    for warning in warnings:
        logger.warning("volume %s: %s", volume, warning)
    write_record(
        record, {**about, "warnings": warnings, "circumstances": circumstances()}
    )


def _as_row(values: dict[str, Any]) -> Row:
    """Return a row of the sheet; tuples may have become lists on their way."""
    lists = {key: tuple(v) for key, v in values.items() if isinstance(v, list)}
    fields: dict[str, Any] = {**values, **lists}
    return Row(**fields)


def _open(
    sheet: list[Row], root: Path, problems: Problems, stack: ExitStack
) -> tuple[ImageReader, ImageReader | None]:
    """Open image and labels, and check what can be told without reading them."""
    row, image, labels = sheet[0], None, None
    threads = min(MAX_READ_THREADS, len(os.sched_getaffinity(0)))
    with problems:
        image = open_image(row.image, root, axes=row.axes, num_threads=threads)
        stack.enter_context(image)
        if (
            image.dtype.kind not in "iuf"
            or image.dtype.itemsize * (image.dtype.kind != "f") > 4
        ):
            raise DataError(
                f"{image.where(0)} has voxels of {image.dtype}; save the image as "
                "integers of at most 32 bits, or as float32"
            )
    if image is not None:
        for part in sheet:
            with problems:
                part.section_numbers(image.zyx[0])
    with problems:
        if row.labels:
            labels = open_image(
                row.labels, root, axes=row.axes, is_labels=True, num_threads=threads
            )
            stack.enter_context(labels)
            _check_labels(labels, image)
    problems.raise_any()
    assert image is not None
    return image, labels


def _check_labels(labels: ImageReader, image: ImageReader | None) -> None:
    """Refuse labels that are no ids, or of another shape than the image."""
    if labels.shape[0] > 1:
        raise DataError(
            f"{labels.where(0)} has {labels.shape[0]} channels; labels have one: save "
            "the ids as a grey image"
        )
    if image is not None and labels.zyx != image.zyx:
        raise DataError(
            f"the image is {image.zyx} (z, y, x) in {image.files[0]}, the labels are "
            f"{labels.zyx} in {labels.files[0]}; they must be alike, voxel on voxel: "
            "correct the sheet (image, labels, axes) or the files"
        )
    sample = labels.read_sections(0, 1) if labels.dtype.kind not in "iu" else None
    if sample is not None:
        check_label_dtype(labels.dtype, sample, labels.where(0))


def _check_pixels(
    part: str, reader: ImageReader, found: str, expected: dict[str, str]
) -> None:
    """Compare the voxels of the files with the checksum that the user pinned."""
    if part in expected and expected[part] != found:
        raise DataError(
            f"the voxels of {reader.files[0]}{_and_more(reader)} have sha256 {found}, "
            f"but pixel_sha256 expects {expected[part]} of `{part}`; the files are "
            "others, or in another order: get the originals, or correct the checksum"
        )


def _check_annotated(foreground: list[int], sheet: list[Row]) -> list[str]:
    """Warn of annotated sections without a cell; refuse if no training section has one.

    Raises
    ------
    DataError
        If there is nothing to learn from this volume.
    """
    warnings = []
    for role in ("train", "validate", "test"):
        sections = sorted(
            {
                z
                for row in sheet
                if row.role == role
                for z in row.section_numbers(len(foreground))
            }
        )
        empty = [z for z in sections if not foreground[z]]
        if sections and empty == sections and role == "train":
            raise DataError(
                f"the labels hold no cell in any of the {len(sections)} sections with "
                "role train; annotate some, or give the rows the role predict"
            )
        if empty:
            some = ", ".join(map(str, empty[:10])) + (
                ", ..." if len(empty) > 10 else ""
            )
            warnings.append(
                f"the labels hold no cell in {len(empty)} of {len(sections)} sections "
                f"with role {role}: {some}"
            )
    return warnings


def _compare_numbers(image: ImageReader, labels: ImageReader | None) -> list[str]:
    """Warn where files of image and labels that are paired bear different numbers."""
    if labels is None:
        return []
    one, two = image.source, labels.source
    if not (isinstance(one, SequenceSource) and isinstance(two, SequenceSource)):
        return []
    for z, (a, b) in enumerate(zip(one.numbers(), two.numbers(), strict=True)):
        if a != b:
            return [
                f"section {z} is {one.files[z].name} in the image and "
                f"{two.files[z].name} in the labels: check that both sequences begin "
                "alike and have no gap"
            ]
    return []


def _voxel_size(
    row: Row, image: ImageReader, warnings: list[str]
) -> tuple[float, float, float]:
    """Return the sheet's voxel size; the file's where the sheet has none."""
    of_sheet, of_file = row.voxel_size_nm, image.voxel_size_nm
    if of_file is None:
        return of_sheet
    if of_sheet == (1.0, 1.0, 1.0):
        logger.info("voxel size %s nm (z, y, x) from %s", of_file, image.files[0])
        return of_file
    if not all(
        isclose(a, b, rel_tol=0.02) for a, b in zip(of_sheet, of_file, strict=True)
    ):
        warnings.append(
            f"voxel_size_nm is {of_sheet} in the sheet, {of_file} in {image.files[0]}; "
            "the sheet counts"
        )
    return of_sheet


def _list_files(reader: ImageReader, originals: dict[str, Any]) -> list[dict[str, Any]]:
    """Return path, size and sha256 of what was read; known checksums are not redone."""
    root = Path(originals["root"])
    known = {file["path"]: file for file in originals["files"]}
    listing = []
    for path in reader.files:
        inside = path.is_relative_to(root)
        name = (path.relative_to(root) if inside else path).as_posix()
        size = path.stat().st_size
        if name in known and known[name]["size"] == size:
            listing.append(known[name])
        else:
            listing.append({"path": name, "size": size, "sha256": hash_file(path)})
    return listing


def _and_more(reader: ImageReader) -> str:
    more = len(reader.files) - 1
    return f" and {more} more files" if more else ""
