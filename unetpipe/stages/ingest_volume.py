"""Stage: bring one volume and its labels into chunked, sharded OME-Zarr."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpipe.config import IngestConfig
from unetpipe.config.sheet import Row
from unetpipe.images import ImageReader
from unetpipe.images.frames import FrameSource
from unetpipe.ingestion.agreement import (
    check_annotated,
    check_pixels,
    compare_numbers,
)
from unetpipe.ingestion.copying import (
    Layout,
    check_memory,
    copy_image,
    copy_labels,
    largest_value,
)
from unetpipe.ingestion.label_kinds import AnnotationReader
from unetpipe.ingestion.layers import Layers
from unetpipe.ingestion.opening import (
    choose_voxel_size,
    list_files,
    open_originals,
)
from unetpipe.ingestion.palette import Palette, choose_palette
from unetpipe.records.pyramids import PyramidJob
from unetpipe.runtime.files import circumstances, read_record, write_record
from unetpipe.runtime.problems import Problems
from unetpipe.runtime.staging import partial_folder
from unetpipe.storage.levels import create_levels
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import create_labels_group

logger = logging.getLogger(__name__)


def ingest_volume(
    *,
    manifest: Path,
    volume: str,
    rows: list[dict[str, Any]],
    pixel_sha256: dict[str, str],
    ingest: IngestConfig,
    num_classes: int,
    palette: dict[str, int | None] | None = None,
    image_store: Path,
    labels_store: Path,
    record: Path,
    with_pyramid: bool = True,
    parts: Sequence[Path] = (),
    parts_folder: Path | None = None,
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
    palette : dict or None
        Class of each colour or grey value of ``classes`` and ``binary`` labels; None:
        the values are the classes.
    image_store, labels_store : Path
        OME-Zarr stores; the second only if the volume has labels. They are built
        under a ``.partial`` name and renamed when both are whole. An image that is
        an OME-Zarr as our own (c, z, y, x; small chunks) is used where it is. Labels
        may lie inside the image's store (``image.ome.zarr/labels/annotated``), so that
        viewers show both; if that is used where it is, ``labels.ome.zarr`` beside it.
    record : Path
        Written last.
    with_pyramid : bool
        Write the coarser levels here. Else only their empty arrays are made, and
        ``coarsen_part`` and ``finish_pyramid`` fill them.
    parts : sequence of Path
        Records of ``ingest_part``, which have stored the image's layers; none: all of
        it is done here. Stores and record are the same.
    parts_folder : Path, optional
        Where those layers are; removed where they are no longer needed.

    Raises
    ------
    DataError
        Listing all problems of the volume that could be found at once.
    ResourceError
        If memory does not suffice.
    """
    sheet = [Row(**row) for row in rows]
    problems = Problems(f"volume {volume}")
    originals = read_record(manifest)
    for part in map(read_record, parts):  # whose files have been hashed
        originals["files"] = [*originals["files"], *part["files"]]
    with ExitStack() as stack:
        used = choose_palette(palette, sheet[0].label_kind)
        image, labels = open_originals(
            sheet, Path(originals["root"]), used, problems, stack
        )
        job = _Job(
            *(volume, sheet, originals, pixel_sha256, ingest, problems, stack),
            with_pyramid=with_pyramid,
            layers_folder=parts_folder if parts else None,
        )
        about = job.describe(image)
        with problems:
            about |= job.ingest_image(image, image_store)
        with problems:
            if labels is not None:
                about["labels"] = job.ingest_labels(
                    labels, labels_store, image, num_classes, used
                )
        problems.raise_any()
    _remove_unused(about, image_store, labels_store)
    if parts_folder:
        _remove_layers(parts_folder, job.layers_home)
    about["pyramids"] = [job.to_json() for job in _list_pyramids(about, record)]
    for warning in job.warnings:
        logger.warning("volume %s: %s", volume, warning)
    write_record(
        record, {**about, "warnings": job.warnings, "circumstances": circumstances()}
    )


@dataclass
class _Job:
    """One volume: what the user says of it, and what is found to say about it."""

    volume: str
    sheet: list[Row]
    originals: dict[str, Any]
    pixel_sha256: dict[str, str]
    ingest: IngestConfig
    problems: Problems
    stack: ExitStack
    with_pyramid: bool
    # Where other jobs have stored the image's layers of shards, if they have.
    layers_folder: Path | None = None
    warnings: list[str] = field(default_factory=list)
    # The image's store while it is made; None where it is used as it is.
    partial: Path | None = None
    layers_home: Path | None = None
    layout: Layout = field(init=False)
    # Files are hashed while they are copied, and so read from the disk once.
    hashing: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.hashing = self.stack.enter_context(ThreadPoolExecutor(1, "hash"))

    def describe(self, image: ImageReader) -> dict[str, Any]:
        """Return what the record says of the volume as a whole; choose the layout."""
        voxel_size_nm, said_by = choose_voxel_size(self.sheet[0], image, self.warnings)
        self.layout = Layout(self.ingest.chunk, self.ingest.shard, voxel_size_nm)
        return {
            "volume": self.volume,
            "shape": image.zyx,
            "num_channels": image.shape[0],
            "dtype": str(image.dtype),
            "axes_of_file": image.plan.letters,
            "time": image.plan.time if "t" in image.plan.letters else None,
            "channel_names": image.channel_names,
            "channels_of_file": image.plan.channels,
            "voxel_size_nm": voxel_size_nm,
            "voxel_size_from": said_by,
            "labels": None,
        }

    def ingest_image(self, image: ImageReader, store: Path) -> dict[str, Any]:
        """Copy and measure the image, unless its store can be used where it is."""
        policy = self.ingest.nan_policy
        is_changing = policy == "replace" and image.dtype.kind == "f"
        ready = None if is_changing else image.ready_store
        if ready is None:
            self.partial = self.stack.enter_context(partial_folder(store))
        check_memory(image, self.layout, image.dtype, f"volume {self.volume}: image")
        files = self.hashing.submit(list_files, image.files, self.originals)
        if self.layers_folder:
            layers = Layers(image, self.layout, self.layers_folder)
            found, self.layers_home = layers.assemble(self.partial), layers.home
        else:
            found = copy_image(image, self.partial, self.layout, nan_policy=policy)
        check_pixels("image", image, found.pixel_sha256, self.pixel_sha256)
        if self.partial:
            self._add_levels(self.partial, is_labels=False)
        return {
            "image": {
                "store": str(ready or store),
                "is_copied": ready is None,
                "content_sha256": found.content_sha256,
                "pixel_sha256": found.pixel_sha256,
                "files": files.result(),
            },
            "statistics": [s.to_json() for s in found.statistics],
            "num_nan": sum(s.num_nan for s in found.statistics),
        }

    def ingest_labels(
        self,
        labels: ImageReader,
        store: Path,
        image: ImageReader,
        num_classes: int,
        palette: Palette | None,
    ) -> dict[str, Any]:
        """Copy the labels, and judge whether they can teach or score anything."""
        row, roles = self.sheet[0], _sections_of_roles(self.sheet, image.zyx[0])
        self.warnings += compare_numbers(image, labels)
        frames = labels.source if isinstance(labels.source, FrameSource) else None
        store, partial = self._place_labels(store)
        annotation = AnnotationReader(
            "instances" if row.label_kind == "masks" else row.label_kind,
            unlabelled=frames.unlabelled if frames else row.unlabelled,
            num_classes=num_classes,
            largest=largest_value(labels, self.layout.shard[0]),
            palette=palette,
        )
        what = f"volume {self.volume}: labels"
        check_memory(labels, self.layout, annotation.dtype, what)
        files = self.hashing.submit(list_files, labels.files, self.originals)
        written = copy_labels(labels, partial, self.layout, annotation)
        self._add_levels(partial, is_labels=True)
        self.problems.texts += annotation.problems()
        with self.problems:
            check_pixels("labels", labels, written.pixel_sha256, self.pixel_sha256)
        with self.problems:
            self.warnings += check_annotated(annotation.foreground, roles)
        self.warnings += annotation.warnings()
        self.warnings += labels.source.warnings()
        return {
            "store": str(store),
            "content_sha256": written.content_sha256,
            "pixel_sha256": written.pixel_sha256,
            "files": files.result(),
            "markers": frames.marker_paths() if frames and frames.markers else None,
            **annotation.to_json(),
        }

    def _place_labels(self, store: Path) -> tuple[Path, Path]:
        """Return the labels' store, and where it is made."""
        image = _image_around(store)
        if image and self.partial:
            group = create_labels_group(self.partial, (store.name,))
            return store, group / store.name
        if image:
            store = _labels_beside(image)
        return store, self.stack.enter_context(partial_folder(store))

    def _add_levels(self, store: Path, *, is_labels: bool) -> None:
        if self.with_pyramid:
            build_pyramid(store, is_labels=is_labels)
        else:
            create_levels(store)


def _image_around(labels_store: Path) -> Path | None:
    """Return the image's store if labels are to lie inside it."""
    is_inside = labels_store.parent.name == "labels"
    return labels_store.parent.parent if is_inside else None


def _labels_beside(image_store: Path) -> Path:
    return image_store.with_name("labels.ome.zarr")


def _list_pyramids(about: dict[str, Any], record: Path) -> list[PyramidJob]:
    """Return what later jobs need to make the pyramids of our own stores."""
    parts = {
        "image": about["image"] if about["image"]["is_copied"] else None,
        "labels": about["labels"],
    }
    return [
        PyramidJob(
            store=Path(part["store"]),
            is_labels=name == "labels",
            content_sha256=part["content_sha256"],
            receipts=record.parent / "pyramids" / name,
        )
        for name, part in parts.items()
        if part
    ]


def _remove_unused(
    about: dict[str, Any], image_store: Path, labels_store: Path
) -> None:
    """Remove stores of an earlier sheet that the record no longer names."""
    used = {
        Path(part["store"]).resolve()
        for part in (about["image"], about["labels"])
        if part
    }
    for store in (image_store, labels_store, _labels_beside(image_store)):
        if store.resolve() not in used:
            shutil.rmtree(store, ignore_errors=True)


def _remove_layers(folder: Path, home: Path | None) -> None:
    """Remove the layers of other images or layouts, of all where no job made any."""
    if home is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for other in folder.iterdir():
        if other not in (home, folder / "parts"):
            shutil.rmtree(other, ignore_errors=True)
    for left in home.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _sections_of_roles(sheet: list[Row], num_sections: int) -> dict[str, list[int]]:
    """Return which sections have which role, over all rows of a volume."""
    roles: dict[str, set[int]] = {}
    for row in sheet:
        roles.setdefault(row.role, set()).update(row.section_numbers(num_sections))
    return {role: sorted(numbers) for role, numbers in roles.items()}
