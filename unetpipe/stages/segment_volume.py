"""Rule segment_volume: probability to a mask and to numbered objects."""

import logging
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.archives import partial_folder
from unetpipe.code_version import code_versions
from unetpipe.config import SegmentationConfig
from unetpipe.geometry import Roi, Zyx, as_zyx, grid_cell, iterate_grid, whole_volume
from unetpipe.pyramid import build_pyramid
from unetpipe.records import (
    ListHash,
    circumstances,
    hash_of,
    read_record,
    write_record,
)
from unetpipe.segmentation import (
    choose_classes,
    face_pairs,
    fill_choices,
    label_components,
    merge_ids,
    threshold_mask,
)
from unetpipe.tiling import PredictionGeometry
from unetpipe.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    read_attributes,
    read_roi,
    write_shard,
)

log = logging.getLogger(__name__)


def segment_volume(
    *,
    prediction: Path,
    model_json: Path,
    ingest: Path,
    segmentation: SegmentationConfig,
    folder: Path,
    record: Path,
) -> None:
    """Turn stored probabilities into a mask and into objects, out of core.

    Each block is labelled by itself, touching ids are merged across block faces by a
    union-find, and a second pass writes the final ids: the partition does not depend
    on the blocks.

    Parameters
    ----------
    prediction : Path
        ``prediction.json`` of the finished prediction.
    model_json : Path
        Holds what was chosen on the validation rows.
    ingest : Path
        ``ingest.json``, for the voxel size.
    segmentation : SegmentationConfig
        Thresholds, connectivity, size filter.
    folder : Path
        Where the store ``segmentation-<id>.ome.zarr`` is created: the mask (or the
        classes) as image, the objects under ``labels/objects``.
    record : Path
        Where to write ``segmentation.json``.
    """
    began = time.monotonic()
    predicted, volume = read_record(prediction), read_record(ingest)
    model = read_record(model_json)
    settings, source = fill_choices(
        segmentation.model_dump(mode="json", exclude={"choose_by"}),
        model.get("thresholds", {}),
    )
    identity = {
        "prediction": predicted["identity_sha256"],
        "content": predicted["content_sha256"],
        "settings": settings,
        "code": code_versions("unetpipe.segmentation"),
    }
    store = folder / f"segmentation-{hash_of(identity)[:8]}.ome.zarr"
    if not store.exists():
        with partial_folder(store) as staging:
            _Segmenter(predicted, volume, settings, staging).segment(identity)
    else:
        log.info("%s is there already, from the same recipe", store)
    summary = read_attributes(store / "labels" / "objects")
    write_record(
        record,
        {
            "volume": predicted["volume"],
            "store": str(store),
            "objects": str(store / "labels" / "objects"),
            "threshold": settings["threshold"],
            "threshold_source": source,
            "class_thresholds": settings["class_thresholds"],
            "smallest_object_vox": settings["smallest_object_vox"],
            "identity": identity,
            **summary,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    log.info("%d objects in %s", summary["num_objects"], store)


class _Segmenter:
    """The two passes over the blocks of one volume; a block is one shard."""

    def __init__(
        self,
        predicted: dict[str, Any],
        volume: dict[str, Any],
        settings: dict[str, Any],
        store: Path,
    ) -> None:
        geometry = PredictionGeometry.from_json(predicted["geometry"])
        self.shape, self.block = geometry.volume_shape, geometry.shard
        self.settings, self.store = settings, store
        outputs = predicted["outputs"]
        self.classes = "classes" in outputs
        is_argmax = self.classes and not settings["class_thresholds"]
        name = "classes" if is_argmax else "probability"
        self.source = open_volume(Path(outputs[name]["store"]))
        grids: dict[str, Any] = {
            "shape": self.shape,
            "chunk": geometry.chunk,
            "shard": geometry.shard,
            "voxel_size_nm": tuple(volume["voxel_size_nm"]),
        }
        create_volume(store, dtype="uint8", **grids)
        few = prod(self.shape) < 2**32
        create_volume(
            create_labels_group(store, ("objects",)) / "objects",
            dtype="uint32" if few else "uint64",
            is_labels=True,
            **grids,
        )
        self.mask = open_volume(store, mode="r+")
        self.objects = open_volume(store / "labels" / "objects", mode="r+")
        self.written = {"mask": ListHash(), "objects": ListHash()}

    def segment(self, identity: dict[str, Any]) -> None:
        """Label, merge, relabel, then build the pyramids."""
        voxels, pairs = self._label()
        smallest = self.settings["smallest_object_vox"]
        table = merge_ids(len(voxels) - 1, pairs, voxels, smallest)
        for index, roi in self._blocks():
            final = table[read_roi(self.objects, roi)]
            kept = final.astype(self.objects.dtype)
            self.written["objects"].add(write_shard(self.objects, index, kept))
        build_pyramid(self.store, is_labels=True)
        build_pyramid(self.store / "labels" / "objects", is_labels=True)
        summary: dict[str, Any] = {
            "identity": identity,
            "num_objects": int(table.max()),
            "num_foreground_voxels": int(voxels.sum()),
            "files_sha256": {n: h.hexdigest() for n, h in self.written.items()},
        }
        group = zarr.open_group(self.store / "labels" / "objects", mode="r+")
        group.attrs["unetpipe"] = summary

    def _blocks(self) -> Iterator[tuple[Zyx, Roi]]:
        for index in iterate_grid(whole_volume(self.shape), self.block):
            yield index, grid_cell(index, self.block, self.shape)

    def _label(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Write block-wise ids; return their sizes and the pairs that touch."""
        sizes = [np.zeros(1, np.int64)]
        pairs = [np.zeros((0, 2), np.uint64)]
        offset = 0
        for index, roi in self._blocks():
            shown, foreground = self._foreground(read_roi(self.source, roi))
            self.written["mask"].add(write_shard(self.mask, index, shown))
            labels, count = label_components(foreground, self.settings["connectivity"])
            sizes.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
            ids = labels.astype(self.objects.dtype)
            ids[labels > 0] += offset
            write_shard(self.objects, index, ids)
            pairs += self._touching(ids, roi)
            offset += count
        return np.concatenate(sizes), np.concatenate(pairs)

    def _foreground(
        self, stored: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return mask or classes, and the voxels that make objects."""
        if not self.classes:
            foreground = threshold_mask(stored[0], self.settings["threshold"])
            return foreground.astype(np.uint8), foreground
        classes, thresholds = stored, self.settings["class_thresholds"]
        if thresholds:
            classes = choose_classes(stored, thresholds)
        if self.settings["object_classes"] is None:
            return classes, classes > 0
        return classes, np.isin(classes, self.settings["object_classes"])

    def _touching(self, ids: NDArray[Any], roi: Roi) -> list[NDArray[np.uint64]]:
        """Return the pairs across the faces to the blocks before this one."""
        found = []
        for axis in range(0 if self.settings["connectivity"] == "3d" else 1, 3):
            if roi.start[axis] == 0:
                continue
            start, stop = list(roi.start), list(roi.stop)
            start[axis], stop[axis] = roi.start[axis] - 1, roi.start[axis]
            before = read_roi(self.objects, Roi(as_zyx(start), as_zyx(stop)))
            found.append(face_pairs(before, np.take(ids, [0], axis=axis)))
        return found
