"""Stage: bring one volume and its labels into chunked, sharded OME-Zarr."""

import logging
import os
import shutil
from contextlib import ExitStack
from math import isclose
from pathlib import Path
from typing import Any

from unetpipe.agreement import (
    check_alike,
    check_annotated,
    check_image_dtype,
    check_label_values,
    check_pixels,
    compare_numbers,
)
from unetpipe.annotations import AnnotationReader
from unetpipe.archives import partial_folder
from unetpipe.config import IngestConfig
from unetpipe.images import ImageReader, open_image
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
    problems = Problems(f"volume {volume}")
    with ExitStack() as stack:
        image, labels = _open(sheet, Path(originals["root"]), problems, stack)
        warnings = compare_numbers(image, labels) if labels else []
        voxel_size_nm = _choose_voxel_size(sheet[0], image, warnings)
        layout = Layout(ingest.chunk, ingest.shard, voxel_size_nm)
        check_memory(image, layout, image.dtype, f"volume {volume}: image")
        about: dict[str, Any] = {
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
            check_pixels("image", image, found.pixel_sha256, pixel_sha256)
            about["image"] = {
                "store": image_store,
                "content_sha256": found.content_sha256,
                "pixel_sha256": found.pixel_sha256,
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
                what = f"volume {volume}: labels"
                check_memory(labels, layout, annotation.dtype, what)
                written = copy_labels(labels, partial, layout, annotation)
                check_pixels("labels", labels, written.pixel_sha256, pixel_sha256)
                problems.texts += annotation.problems()
                warnings += annotation.warnings()
                warnings += check_annotated(
                    annotation.foreground, _sections_of_roles(sheet, image.zyx[0])
                )
                about["labels"] = {
                    "store": labels_store,
                    "content_sha256": written.content_sha256,
                    "pixel_sha256": written.pixel_sha256,
                    "files": _list_files(labels, originals),
                    **annotation.to_json(),
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
    """Open image and labels, and check what can be told before reading them."""
    row, image, labels = sheet[0], None, None
    threads = min(MAX_READ_THREADS, len(os.sched_getaffinity(0)))
    with problems:
        image = open_image(row.image, root, axes=row.axes, num_threads=threads)
        stack.enter_context(image)
        check_image_dtype(image)
    for part in sheet:
        with problems:
            if image is not None:
                part.section_numbers(image.zyx[0])
    with problems:
        if row.labels:
            labels = open_image(
                row.labels, root, axes=row.axes, is_labels=True, num_threads=threads
            )
            stack.enter_context(labels)
            check_label_values(labels)
    with problems:
        if image is not None and labels is not None:
            check_alike(labels, image)
    problems.raise_any()
    assert image is not None
    return image, labels


def _sections_of_roles(sheet: list[Row], num_sections: int) -> dict[str, list[int]]:
    """Return which sections have which role, over all rows of a volume."""
    roles: dict[str, set[int]] = {}
    for row in sheet:
        roles.setdefault(row.role, set()).update(row.section_numbers(num_sections))
    return {role: sorted(numbers) for role, numbers in roles.items()}


def _choose_voxel_size(
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
