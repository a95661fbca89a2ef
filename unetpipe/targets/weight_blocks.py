"""Target and border term of a volume, block by block: the bits of the whole.

::

    +---------------+
    |  halo: real   |    The border term depends on nothing farther than 6 sigma,
    |   +-------+   |    touching cells on the next voxel only, and components are
    |   | block |   |    numbered for the whole volume beforehand; so what a block
    |   +-------+   |    gets does not depend on how the volume was cut.
    +---------------+
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError, ResourceError
from unetpipe.runtime.machine import num_processors
from unetpipe.storage.volumes import read_stored_roi, shard_shape, store_shard
from unetpipe.targets.cores import NUM_LEARNT, core_reach, split_cells
from unetpipe.targets.stored_cells import (
    Components,
    ComponentsOfBoxes,
    ReadMask,
    StoredComponents,
)
from unetpipe.targets.weight_map import (
    UNLABELLED,
    LabelKind,
    border_reach,
    cells_to_instances,
    compute_border_term,
    compute_target,
    count_classes,
    find_cells,
    restore_thin,
    separate_touching,
)
from unetpipe.tiling.boxes import (
    Halo,
    Roi,
    Zyx,
    as_zyx,
    cells_of_boxes,
    grid_cell,
    parts_in,
    whole_volume,
)

Ids = NDArray[Any]

log = logging.getLogger(__name__)

# Voxels of a block with its halo, if its shards are not larger already.
MOST_VOXELS = 6_000_000
MOST_FLAT_VOXELS = 1_300_000  # of one section: its halo is small beside it
# Two neighbours of each voxel, distances, results; labels and two kinds of ids come on
# top.
BYTES_PER_VOXEL = 72
BYTES_OF_CORES = 24  # depths, of whole blocks and as they spread
COMPILED_BYTES = 24 * 2**20  # of loops that are loaded with the first block
MOST_SECTIONS = 8
MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Weighed:
    """What is known of a block once it is stored.

    ``class_counts`` are the known voxels of each class in each of its sections, shape
    (z, k); ``cells`` are the ids that each section of it holds, ``kept`` those of which
    the borders between touching cells leave something in the target. ``learnt_counts``
    are the same as ``class_counts`` of the targets with cores.
    """

    roi: Roi
    class_counts: NDArray[np.int64]
    learnt_counts: dict[str, NDArray[np.int64]]
    cells: list[NDArray[Any]]
    kept: list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Annotation:
    """Labels as ingested, (z, y, x), and what they mean.

    ``kind``, ``border_class`` and ``unlabelled`` are those of ``cells_to_instances``;
    along y and x ``rim_vox`` voxels at the edge are not annotated, nor is anything
    outside of ``boxes``, where there are any.
    """

    labels: zarr.Array[Any]
    kind: LabelKind
    unlabelled: int | None
    border_class: int | None
    rim_vox: int = 0
    boxes: tuple[Roi, ...] | None = None

    def find_cells(self, roi: Roi) -> NDArray[np.bool_]:
        """Return which voxels of a box belong to cells."""
        return find_cells(
            read_stored_roi(self.labels, roi),
            self.kind,
            border_class=self.border_class,
            unlabelled=self.unlabelled,
        )

    def to_instances(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the cells of a box that holds all of each."""
        return cells_to_instances(
            labels,
            self.kind,
            border_class=self.border_class,
            unlabelled=self.unlabelled,
        )


@dataclass(frozen=True, slots=True)
class BorderRule:
    """How much a voxel between cells weighs.

    Attributes
    ----------
    w0, sigma_vox : float
        Of the border term; without w0 it is 0 everywhere.
    voxel_size : (z, y, x)
        Of any unit; the border term measures distances in it.
    """

    w0: float
    sigma_vox: float
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class CoreRule:
    """Which targets with cores are wanted.

    Attributes
    ----------
    border_vox : float
        How wide rims are.
    stores : mapping
        "border", "markers" -> the zarr array (z, y, x) to be filled.
    """

    border_vox: float = 1.0
    stores: Mapping[str, zarr.Array[Any]] = field(default_factory=dict)


class Weigher:
    """Computes and stores target and border term of one volume.

    Parameters
    ----------
    annotation : Annotation
        What there is to learn.
    border, target : zarr arrays, (z, y, x)
        To be filled; of equal shards, with ``ndim`` 2 one section deep.
    scratch : Path
        Of a store that may be needed meanwhile.
    num_classes : int
        Classes of the network.
    ndim : 2 or 3
        2: each section by itself.
    rule : BorderRule
        Of the border term.
    cores : CoreRule, optional
        Of targets with cores.
    """

    def __init__(
        self,
        annotation: Annotation,
        *,
        border: zarr.Array[Any],
        target: zarr.Array[Any],
        scratch: Path,
        num_classes: int,
        ndim: int,
        rule: BorderRule,
        cores: CoreRule | None = None,
    ) -> None:
        self.annotation, self.border, self.target = annotation, border, target
        self.scratch, self.num_classes, self.ndim = scratch, num_classes, ndim
        self.rule, self.cores = rule, cores or CoreRule()
        self.shape = as_zyx(annotation.labels.shape)
        # One voxel more, where touching cells lie apart.
        reach = 1 + (border_reach(rule.sigma_vox) if rule.w0 else 0)
        if self.cores.stores:
            reach = max(reach, core_reach(self.cores.border_vox))
        around: Zyx = (reach if ndim == 3 else 0, reach, reach)
        self.halo = Halo(around, around)
        self.block = choose_weight_block(
            self.shape, shard_shape(border), self.halo, ndim
        )
        if ndim == 2:  # as many sections as are decoded together anyway
            depth = min(annotation.labels.chunks[0], MOST_SECTIONS)
            self.block = (depth, *self.block[1:])
        self.components: Components | None = None
        self.thin: dict[int, NDArray[Any]] = {}
        """Of each section, cells that keep what borders would swallow whole."""

    @property
    def num_threads(self) -> int:
        """Blocks that are computed at once."""
        return min(num_processors(), MOST_THREADS)

    @property
    def peak_bytes(self) -> int:
        """Memory that this takes at most, beside the libraries."""
        given = self.annotation.labels.dtype.itemsize
        id_bytes = 8 if self._needs_components() else given
        wide = prod(
            min(b + h, n)
            for b, h, n in zip(self.block, self.halo.total, self.shape, strict=True)
        )
        at_once = wide if self.ndim == 3 else wide // min(self.block[0], self.shape[0])
        working = BYTES_PER_VOXEL + BYTES_OF_CORES * bool(self.cores.stores)
        each = wide * given + at_once * (working + 2 * id_bytes)
        return self.num_threads * each + COMPILED_BYTES

    def check_memory(self, what: str) -> None:
        """Log how much memory this takes at most, and refuse too much.

        Raises
        ------
        ResourceError
            If that is more than is free.
        """
        free = psutil.virtual_memory().available
        log.info("%s: at most %d MB of memory", what, ceil(self.peak_bytes / 2**20))
        if self.peak_bytes > free:
            raise ResourceError(
                f"{what} needs {self.peak_bytes >> 20} MB of memory in blocks of "
                f"{self.block} voxels, {free >> 20} MB are free; make ingest.shard "
                "smaller along y and x, or use more memory"
            )

    def blocks(self) -> Iterator[Weighed]:
        """Compute and store all blocks, and yield what is known of them in order."""
        if self._needs_components():
            self.components = self._open_components()
        waiting: deque[Future[Weighed]] = deque()
        with ThreadPoolExecutor(self.num_threads, "weigh") as threads:
            try:
                for index in cells_of_boxes(self._boxes, self.block):
                    roi = grid_cell(index, self.block, self.shape)
                    if self.components is not None:
                        # Boxes of the next layers lie within the halo, too.
                        wide = roi.grow(self.halo).intersect(whole_volume(self.shape))
                        self.components.number(wide)
                    waiting.append(threads.submit(self._weigh, roi))
                    if len(waiting) > self.num_threads:
                        yield self._first_of(waiting)
                while waiting:
                    yield self._first_of(waiting)
            finally:
                for block in waiting:
                    block.cancel()

    def _first_of(self, waiting: deque[Future[Weighed]]) -> Weighed:
        """Wait for the oldest block, which no later one needs."""
        block = waiting.popleft().result()
        if self.components is not None:
            self.components.forget_before(block.roi)
        return block

    @property
    def _boxes(self) -> Sequence[Roi]:
        """Where anything may be annotated."""
        return self.annotation.boxes or [whole_volume(self.shape)]

    def _open_components(self) -> Components:
        def open_in(folder: Path, shape: Zyx, read_mask: ReadMask) -> StoredComponents:
            return StoredComponents(
                folder,
                shape=shape,
                block=self.block,
                sections_apart=self.ndim == 2,
                read_mask=read_mask,
            )

        find_cells = self.annotation.find_cells
        if self.annotation.boxes is None:
            return open_in(self.scratch, self.shape, find_cells)
        return ComponentsOfBoxes(
            self.scratch,
            self.shape,
            self.annotation.boxes,
            self.block[0],
            find_cells,
            open_in,
        )

    def _needs_components(self) -> bool:
        """Return whether cells are components that may reach beyond a block."""
        lengths = list(zip(self.block, self.shape, strict=True))[3 - self.ndim :]
        is_cut = any(block < length for block, length in lengths)
        is_cut |= self.annotation.boxes is not None
        return is_cut and self.annotation.kind != "instances"

    def _weigh(self, roi: Roi) -> Weighed:
        """Compute and store a block; with ``ndim`` 2 section by section."""
        target = np.full(roi.shape, UNLABELLED, np.uint8)
        border = np.zeros(roi.shape, np.float32)
        learnt = {name: np.full_like(target, UNLABELLED) for name in self.cores.stores}
        cells: list[list[NDArray[Any]]] = [[] for _ in target]
        kept: list[list[NDArray[Any]]] = [[] for _ in target]
        for part in parts_in(self._boxes, roi):
            wide = part.grow(self.halo).intersect(whole_volume(self.shape))
            labels = read_stored_roi(self.annotation.labels, wide)
            for box in _layers(part, 1 if self.ndim == 2 else part.shape[0]):
                inside = box.relative_to(roi.start).slices
                target[inside], border[inside], split, *ids = self._weigh_box(
                    box, labels, wide
                )
                for name, classes in split.items():
                    learnt[name][inside] = classes
                for known, found in zip((cells, kept), ids, strict=True):
                    for z, of_section in enumerate(found, start=inside[0].start):
                        known[z].append(of_section)
        self._store(self.border, roi, border)
        self._store(self.target, roi, target)
        for name, store in self.cores.stores.items():
            self._store(store, roi, learnt[name])
        return Weighed(
            roi,
            np.stack([count_classes(s, self.num_classes) for s in target]),
            {
                name: np.stack([count_classes(s, NUM_LEARNT) for s in classes])
                for name, classes in learnt.items()
            },
            *([_join(ids) for ids in known] for known in (cells, kept)),
        )

    def _weigh_box(
        self, roi: Roi, labels: NDArray[Any], origin: Roi
    ) -> tuple[
        NDArray[np.uint8],
        NDArray[np.float32],
        dict[str, NDArray[np.uint8]],
        list[Ids],
        list[Ids],
    ]:
        """Compute what is connected: labels are those of a larger box.

        Returns
        -------
        target, border : arrays, shape (z, y, x)
        split : dict of arrays
            The targets with cores.
        cells, kept : lists of arrays
            Of each section: see ``Weighed``.
        """
        wide = roi.grow(self.halo).intersect(origin)
        inside = roi.relative_to(wide.start).slices
        labels = labels[wide.relative_to(origin.start).slices]
        if self.components is None:
            cells = self.annotation.to_instances(labels)
        else:
            cells = self.components.read(wide)
        separated = self._separate(cells, wide)
        try:
            target = compute_target(
                labels[inside],
                separated[inside],
                self.annotation.kind,
                num_classes=self.num_classes,
                unlabelled=self.annotation.unlabelled,
            )
        except DataError as error:
            where = f"section {roi.start[0]}" if self.ndim == 2 else f"at {roi.start}"
            raise DataError(f"{where}: {error}") from error
        target[:, ~self._is_in_field(roi)] = UNLABELLED
        border = np.zeros(roi.shape, np.float32)
        if self.rule.w0:
            border = compute_border_term(
                separated,
                w0=self.rule.w0,
                sigma_vox=self.rule.sigma_vox,
                inside=inside,
                voxel_size=self.rule.voxel_size[3 - self.ndim :],
            )
            border[target == UNLABELLED] = 0
        split = self._split(cells, separated, inside, target == UNLABELLED)
        ids, kept = (_ids_of_sections(of[inside]) for of in (cells, separated))
        return target, border, split, ids, kept

    def _separate(self, cells: NDArray[Any], wide: Roi) -> NDArray[Any]:
        """Return the cells of a box apart from each other, thin ones kept."""
        separated = separate_touching(cells)
        numbers = range(wide.start[0], wide.stop[0])
        thin = [self.thin[z] for z in numbers if z in self.thin]
        if not thin:
            return separated
        is_thin = np.isin(cells, np.concatenate(thin))
        return restore_thin(separated, cells, is_thin, wide.start)

    def _split(
        self,
        cells: NDArray[Any],
        separated: NDArray[Any],
        inside: tuple[slice, ...],
        unknown: NDArray[np.bool_],
    ) -> dict[str, NDArray[np.uint8]]:
        """Return the targets with cores."""
        if not self.cores.stores:
            return {}
        flat = self.ndim == 2
        split = split_cells(
            cells[0] if flat else cells,
            separated[0] if flat else separated,
            self.cores.border_vox,
            inside=inside[1:] if flat else inside,
            voxel_size=self.rule.voxel_size[3 - self.ndim :],
        )
        found = {name: split[name].reshape(unknown.shape) for name in self.cores.stores}
        for classes in found.values():
            classes[unknown] = UNLABELLED
        return found

    def _is_in_field(self, roi: Roi) -> NDArray[np.bool_]:
        """Return which voxels of a box anybody annotated, shape (y, x)."""
        y, x = (
            (np.arange(a, b) >= self.annotation.rim_vox)
            & (np.arange(a, b) < n - self.annotation.rim_vox)
            for a, b, n in zip(roi.start[1:], roi.stop[1:], self.shape[1:], strict=True)
        )
        return np.asarray(y[:, None] & x)

    def _store(self, array: zarr.Array[Any], roi: Roi, voxels: NDArray[Any]) -> None:
        shard = shard_shape(array)
        for index in cells_of_boxes(parts_in(self._boxes, roi), shard):
            part = grid_cell(index, shard, self.shape).relative_to(roi.start)
            store_shard(array, index, voxels[part.slices])


def _layers(roi: Roi, depth: int) -> list[Roi]:
    """Cut a box along z."""
    (first, *low), (stop, *high) = roi.start, roi.stop
    return [
        Roi(as_zyx((z, *low)), as_zyx((z + depth, *high)))
        for z in range(first, stop, depth)
    ]


def _ids_of_sections(cells: NDArray[Any]) -> list[Ids]:
    return [np.unique(section[section > 0]) for section in cells]


def _join(ids: list[Ids]) -> Ids:
    return np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.uint64)


def choose_weight_block(shape: Zyx, shard: Zyx, halo: Halo, ndim: int) -> Zyx:
    """Return the block to compute at once: whole shards, as many as fit.

    Parameters
    ----------
    shape, shard : (z, y, x)
        Of the volume and of its stores.
    halo : Halo
        What is read around a block.
    ndim : 2 or 3
        2: sections are computed one by one.
    """
    block, most = list(shard), MOST_VOXELS
    if ndim == 2:
        most = min(most, MOST_FLAT_VOXELS)
    grown = True
    while grown:
        grown = False
        for axis in (2, 1, 0)[:ndim]:
            larger = block.copy()
            larger[axis] *= 2
            wide = prod(n + h for n, h in zip(larger, halo.total, strict=True))
            if block[axis] < shape[axis] and wide <= most:
                block, grown = larger, True
    return as_zyx(block)
