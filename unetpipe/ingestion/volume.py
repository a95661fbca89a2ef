"""Bring one volume in: check its originals, store them, and say what they are."""

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from unetpipe.config import IngestConfig, Section
from unetpipe.config.sheet import Row
from unetpipe.errors import DataError
from unetpipe.images import ImageReader
from unetpipe.images.files import is_remote
from unetpipe.images.frames import FrameSource
from unetpipe.images.partial import partial_label_source
from unetpipe.images.scaled import at_own_scale
from unetpipe.ingestion.agreement import (
    annotated_roles,
    check_annotated,
    check_pixels,
    compare_file_numbers,
    describe_constant,
)
from unetpipe.ingestion.copying import (
    CopiedImage,
    Layout,
    check_ingestion_memory,
    fit_shard_depth,
    ingest_image,
    ingest_labels,
    largest_label_id,
)
from unetpipe.ingestion.label_kinds import AnnotationReader
from unetpipe.ingestion.layers import Layers
from unetpipe.ingestion.matching import check_resampled, match_scale, matched_voxel_size
from unetpipe.ingestion.odd_sections import describe_odd, find_odd_sections
from unetpipe.ingestion.opening import (
    is_depth_told,
    list_original_files,
    open_originals,
    voxel_size_of_original,
)
from unetpipe.ingestion.palette import Palette, choose_palette
from unetpipe.ingestion.robust import describe_flat, measure_percentiles
from unetpipe.records.pyramids import PyramidJob
from unetpipe.records.sections import OddSections, Sections
from unetpipe.records.volume import (
    ChannelStatistics,
    IngestedVolume,
    LabelledBox,
    Manifest,
    OriginalFile,
    OriginalGrid,
    StoredImage,
    StoredLabels,
)
from unetpipe.runtime.problems import Problems
from unetpipe.runtime.staging import partial_folder
from unetpipe.storage.levels import create_levels
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.volumes import create_labels_group
from unetpipe.tiling.resampling import size_at
from unetpipe.tiling.scale import SizeNm, ToldSize, told_size

log = logging.getLogger(__name__)

Files = tuple[OriginalFile, ...]


class VolumeOrder(Section):
    """What sheet and configuration say of one volume."""

    volume: str
    rows: tuple[Row, ...]
    """Of the sheet."""
    ingest: IngestConfig
    """Chunk, shard, and what to do with NaN."""
    num_classes: int
    """Ids of ``classes`` labels must be smaller."""
    voxel_size_nm: tuple[float, float, float] | None = None
    """That the network learns at, with ``ingest.scale: match``; None: nobody knows."""
    ndim: int = 2
    """Of the network."""
    palette: dict[str, int | None] | None = None
    """Class of each colour or grey value of labels; None: values are classes."""
    pixel_sha256: dict[str, str] = Field(default_factory=dict)
    """Checksums to insist on, of the voxels of ``image`` and ``labels`` as the files
    hold them: section by section, (c, y, x) in C order, little-endian."""


@dataclass(frozen=True)
class VolumeStores:
    """Where a volume goes.

    Attributes
    ----------
    image, labels : Path
        OME-Zarr stores; the second only if the volume has labels. An image that is an
        OME-Zarr as our own (c, z, y, x; small chunks) is used where it is. Labels may
        lie inside the image's store (``image.ome.zarr/labels/annotated``), so that
        viewers show both; if that is used where it is, ``labels.ome.zarr`` beside it.
    pyramids : Path
        Folder of the receipts of their coarser levels.
    with_pyramid : bool
        Write the coarser levels now; else only their empty arrays are made, and
        ``coarsen_part`` and ``finish_pyramid`` fill them.
    layers : Path or None
        Where other jobs store the image's layers of shards; what is not needed there
        any longer is removed.
    """

    image: Path
    labels: Path
    pyramids: Path
    with_pyramid: bool = True
    layers: Path | None = None


def bring_in(
    order: VolumeOrder, originals: Manifest, stores: VolumeStores, *, has_layers: bool
) -> IngestedVolume:
    """Check one volume, and store its image and labels.

    Stores are built under a ``.partial`` name and renamed when all are whole; those of
    an earlier sheet that are not used any more are removed.

    Parameters
    ----------
    order : VolumeOrder
        What the user says of it.
    originals : Manifest
        Where its files are, and which have been hashed already.
    stores : VolumeStores
        Where it goes.
    has_layers : bool
        Whether other jobs have stored the image's layers.

    Raises
    ------
    DataError
        Listing all problems of the volume that could be found at once.
    ResourceError
        If memory does not suffice.
    """
    problems = Problems(f"volume {order.volume}")
    with ExitStack() as stack:
        palette = choose_palette(order.palette, order.rows[0].label_kind)
        root = Path(originals.root)
        coming = _Coming(order, originals, stores, palette, problems, stack)
        opened, labels = open_originals(
            order.rows, root, palette, problems, stack, coming.warnings
        )
        size_nm, said_by = coming.measure(opened)
        image, labels, grid = coming.match_scale(opened, labels, size_nm, said_by)
        known_grid = None if said_by == "nobody" else grid
        is_depth_known = is_depth_told(order.rows[0], opened)
        voxel_size_nm = matched_voxel_size(known_grid, image.zyx, size_nm)
        told_nm = told_size(voxel_size_nm, is_depth_known=is_depth_known)
        coming.lay_out(image, told_nm)
        stored: StoredImage | None = None
        stored_labels: StoredLabels | None = None
        statistics: tuple[ChannelStatistics, ...] = ()
        with problems:
            stored, statistics = coming.store_image(image, has_layers=has_layers)
        with problems:
            if labels is not None:
                stored_labels = coming.store_labels(labels, image)
        problems.raise_any()
    assert stored is not None
    _remove_unused(stores, stored, stored_labels)
    if stores.layers:
        _remove_layers(stores.layers, coming.layers_home)
    return IngestedVolume(
        volume=order.volume,
        shape=image.zyx,
        num_channels=image.shape[0],
        dtype=str(image.dtype),
        axes_of_file=opened.plan.letters,
        time=opened.plan.time if "t" in opened.plan.letters else None,
        channel_names=tuple(image.channel_names),
        channels_of_file=opened.plan.channels,
        original=grid,
        georeference=opened.source.georeference,
        voxel_size_nm=voxel_size_nm,
        voxel_size_from=said_by,
        is_depth_known=is_depth_known,
        labels=stored_labels,
        image=stored,
        statistics=statistics,
        num_nan=sum(channel.num_nan for channel in statistics),
        pyramids=tuple(_list_pyramids(stores.pyramids, stored, stored_labels)),
        warnings=tuple(coming.warnings),
        sections=coming.sections,
        odd_sections=coming.odd,
    )


@dataclass
class _Coming:
    """One volume on its way into its stores."""

    order: VolumeOrder
    originals: Manifest
    stores: VolumeStores
    palette: Palette | None
    problems: Problems
    stack: ExitStack
    warnings: list[str] = field(default_factory=list)
    sections: Sections | None = None
    odd: tuple[OddSections, ...] = ()
    # The image's store while it is made; None where it is used as it is.
    partial: Path | None = None
    # Where the layers of other jobs are, if the image was made of them.
    layers_home: Path | None = None
    layout: Layout = field(init=False)
    # Files are hashed while they are copied, and so read from the disk once.
    _hashing: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._hashing = self.stack.enter_context(ThreadPoolExecutor(1, "hash"))

    def measure(self, image: ImageReader) -> tuple[SizeNm, str]:
        """Return the voxel size and who says so."""
        return voxel_size_of_original(self.order.rows[0], image, self.warnings)

    def match_scale(
        self,
        image: ImageReader,
        labels: ImageReader | None,
        size_nm: SizeNm,
        said_by: str,
    ) -> tuple[ImageReader, ImageReader | None, OriginalGrid | None]:
        """Bring image and labels to the scale that is wanted: of the network, or so."""
        order, scale = self.order, self.order.ingest.scale
        wanted_nm = order.voxel_size_nm
        if scale == "keep":
            return image, labels, None
        if isinstance(scale, float):
            wanted_nm = size_at(scale, size_nm, order.ndim)
        elif wanted_nm is None or said_by == "nobody":
            whose = "the network has learnt at" if wanted_nm is None else "it has"
            self.warnings.append(
                f"ingest.scale is match, but nobody knows which voxel size {whose}: it "
                "stays as it is; write voxel_size_nm in the sheet"
            )
            return image, labels, None
        found = match_scale(image, labels, size_nm, wanted_nm, order.ndim)
        if found[2] is not None:
            check_resampled(order.volume, order.rows, image.zyx[0], found[0].zyx[0])
            self.stack.enter_context(found[0])
            if order.pixel_sha256:
                raise DataError(
                    f"volume {order.volume} is resampled, but pixel_sha256 is of the "
                    "voxels as the files hold them; leave it out, or set "
                    "ingest.scale: keep"
                )
        return found

    def lay_out(self, image: ImageReader, size_nm: ToldSize) -> None:
        """Choose the layout."""
        ingest, shard = self.order.ingest, self.order.ingest.shard
        if is_remote(str(image.files[0])):
            shard = fit_shard_depth(ingest.chunk, shard, image.granule[0])
        self.layout = Layout(ingest.chunk, shard, size_nm)

    def store_image(
        self, image: ImageReader, *, has_layers: bool
    ) -> tuple[StoredImage, tuple[ChannelStatistics, ...]]:
        """Copy and measure the image, unless its store can be used where it is."""
        policy = self.order.ingest.nan_policy
        is_changing = policy == "replace" and image.dtype.kind == "f"
        ready = None if is_changing else image.ready_store
        if ready is None:
            self.partial = self.stack.enter_context(partial_folder(self.stores.image))
        what = f"volume {self.order.volume}: image"
        check_ingestion_memory(image, self.layout, image.dtype, what)
        files = self._hash(image.recorded)
        if is_remote(str(image.files[0])) and not is_changing:
            has_layers = True  # what was fetched once is kept
        if self.stores.layers and has_layers:
            layers = Layers(image, self.layout, self.stores.layers)
            found, self.layers_home = layers.assemble(self.partial), layers.home
        else:
            found = ingest_image(image, self.partial, self.layout, nan_policy=policy)
        check_pixels("image", image, found.pixel_sha256, self.order.pixel_sha256)
        self.warnings += [*image.source.remarks, *image.source.warnings()]
        self.warnings += describe_constant(found.statistics, image.channel_names)
        self.sections = found.sections
        self.odd = find_odd_sections(found.sections) if found.sections else ()
        self.warnings += describe_odd(self.odd, image.zyx[0])
        if self.partial:
            self._add_levels(self.partial, is_labels=False)
        stored = StoredImage(
            store=ready or self.stores.image,
            is_copied=ready is None,
            content_sha256=found.content_sha256,
            pixel_sha256=found.pixel_sha256,
            files=files.result(),
        )
        copied = None if is_changing else ready or self.partial
        return stored, self._describe_channels(image, found, copied)

    def _describe_channels(
        self, image: ImageReader, found: CopiedImage, copied: Path | None
    ) -> tuple[ChannelStatistics, ...]:
        """Return the statistics of the channels, with percentiles where wanted."""
        ranks = self.order.ingest.percentiles
        if ranks is None:
            for channel, statistics in enumerate(found.statistics):
                if warning := statistics.warning():
                    self.warnings.append(f"channel {channel} of the image: {warning}")
            return tuple(ChannelStatistics(**s.to_json()) for s in found.statistics)
        channels = measure_percentiles(image, copied, self.layout, ranks)
        self.warnings += describe_flat(channels, ranks)
        return tuple(
            ChannelStatistics(**s.to_json(), percentiles=percentiles)
            if percentiles
            else ChannelStatistics(**s.to_json())
            for s, percentiles in zip(found.statistics, channels, strict=True)
        )

    def store_labels(self, labels: ImageReader, image: ImageReader) -> StoredLabels:
        """Copy the labels, and judge whether they can teach or score anything."""
        order = self.order
        row, roles = order.rows[0], _sections_of_roles(order.rows, image.zyx[0])
        part_of = partial_label_source(labels)
        boxes = part_of.boxes if part_of else None
        if boxes:
            roles = annotated_roles(roles, boxes)
        original = at_own_scale(part_of.parts[0].reader if part_of else labels)
        if not boxes:
            self.warnings += compare_file_numbers(at_own_scale(image), original)
        frames = original.source if isinstance(original.source, FrameSource) else None
        store, partial = self._place_labels(self.stores.labels)
        annotation = AnnotationReader(
            "instances" if row.label_kind == "masks" else row.label_kind,
            unlabelled=frames.unlabelled if frames else row.unlabelled,
            num_classes=order.num_classes,
            largest=largest_label_id(labels, self.layout.shard[0]),
            palette=self.palette,
            is_partial=part_of is not None,
        )
        what = f"volume {order.volume}: labels"
        check_ingestion_memory(
            labels, self.layout, annotation.dtype, what, is_labels=True
        )
        files = self._hash(labels.recorded)
        written = ingest_labels(labels, partial, self.layout, annotation)
        self._add_levels(partial, is_labels=True)
        self.problems.texts += annotation.problems()
        with self.problems:
            check_pixels("labels", labels, written.pixel_sha256, order.pixel_sha256)
        with self.problems:
            self.warnings += check_annotated(annotation.foreground, roles)
        self.warnings += annotation.warnings()
        self.warnings += [*labels.source.remarks, *labels.source.warnings()]
        return StoredLabels(
            store=store,
            content_sha256=written.content_sha256,
            pixel_sha256=written.pixel_sha256,
            files=files.result(),
            markers=frames.marker_paths() if frames and frames.markers else None,
            dtype=str(annotation.dtype),
            label_kind=annotation.kind,
            unlabelled=annotation.stored_unlabelled,
            num_ids=annotation.num_ids,
            boxes=None
            if boxes is None
            else tuple(LabelledBox(start=b.start, stop=b.stop) for b in boxes),
        )

    def _hash(self, files: Sequence[Path]) -> "Future[Files]":
        return self._hashing.submit(list_original_files, files, self.originals)

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
        if self.stores.with_pyramid:
            build_pyramid(store, is_labels=is_labels)
        else:
            create_levels(store)


def _image_around(labels_store: Path) -> Path | None:
    """Return the image's store if labels are to lie inside it."""
    is_inside = labels_store.parent.name == "labels"
    return labels_store.parent.parent if is_inside else None


def _labels_beside(image_store: Path) -> Path:
    return image_store.with_name("labels.ome.zarr")


def _list_pyramids(
    folder: Path, image: StoredImage, labels: StoredLabels | None
) -> list[PyramidJob]:
    """Return what later jobs need to make the pyramids of our own stores."""
    stored = {"image": image if image.is_copied else None, "labels": labels}
    return [
        PyramidJob(
            store=one.store,
            is_labels=name == "labels",
            content_sha256=one.content_sha256,
            receipts=folder / name,
        )
        for name, one in stored.items()
        if one
    ]


def _remove_unused(
    stores: VolumeStores, image: StoredImage, labels: StoredLabels | None
) -> None:
    """Remove stores of an earlier sheet that nobody names any longer."""
    used = {one.store.resolve() for one in (image, labels) if one}
    for store in (stores.image, stores.labels, _labels_beside(stores.image)):
        if store.resolve() not in used:
            shutil.rmtree(store, ignore_errors=True)


def _remove_layers(folder: Path, used: Path | None) -> None:
    """Remove the layers of other images or layouts, of all where no job made any."""
    if used is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for other in folder.iterdir():
        if other not in (used, folder / "parts"):
            shutil.rmtree(other, ignore_errors=True)
    for left in used.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _sections_of_roles(rows: Sequence[Row], num_sections: int) -> dict[str, list[int]]:
    """Return which sections have which role, over all rows of a volume."""
    roles: dict[str, set[int]] = {}
    for row in rows:
        roles.setdefault(row.role, set()).update(row.section_numbers(num_sections))
    return {role: sorted(numbers) for role, numbers in roles.items()}
