"""Stored probabilities without a network, and the stages that make objects of them."""

import cc3d
import numpy as np

from tests.records.whole import whole
from unetpipe.config import SegmentationConfig
from unetpipe.runtime.files import read_record, write_record
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.stages.finish_segmentation import finish_segmentation
from unetpipe.stages.merge_objects import merge_objects
from unetpipe.stages.relabel_part import relabel_part
from unetpipe.stages.segment_part import segment_part
from unetpipe.storage.volumes import create_volume, open_volume, write_shard
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume


def store_prediction(
    folder,
    probability,
    shard,
    classes=None,
    voxel_size_nm=(50, 4, 4),
    voxel_size_from="file",
    **more,
):
    """Store uint8 (c, z, y, x) as a finished prediction; return its record's folder.

    ``more``: fields of the volume's record.
    """
    shape = probability.shape[1:]
    grids = {"shape": shape, "chunk": shard, "shard": shard}
    outputs = {"probability": probability}
    if classes is not None:
        outputs["classes"] = classes
    for name, voxels in outputs.items():
        channels = tuple(map(str, range(len(voxels)))) if voxels.ndim == 4 else None
        store = folder / f"{name}.ome.zarr"
        create_volume(
            store,
            **grids,
            dtype="uint8",
            voxel_size_nm=voxel_size_nm,
            channels=channels,
        )
        array = open_volume(store, mode="r+")
        for index in iterate_grid(whole_volume(shape), shard):
            roi = grid_cell(index, shard, shape)
            write_shard(array, index, voxels[(..., *roi.slices)])
    geometry = dict.fromkeys(
        ("stride", "input_shape", "chunk", "shard", "block"), shard
    )
    record = {
        "volume": "vol",
        "identity_sha256": "p",
        "content_sha256": "c",
        "geometry": {"volume_shape": shape, **geometry},
        "outputs": {
            n: {"store": str(folder / f"{n}.ome.zarr"), "channels": None}
            for n in outputs
        },
    }
    write_record(folder / "prediction.json", whole("prediction", record))
    size = {"voxel_size_nm": voxel_size_nm, "voxel_size_from": voxel_size_from}
    size |= more
    write_record(folder / "ingest.json", whole("ingest", size))
    write_record(folder / "model.json", whole("model", {"thresholds": {}}))
    return folder


class Segmented:
    """The stages of segmentation on one stored prediction, in a folder of their own."""

    def __init__(self, predicted, folder, **settings):
        self.predicted, self.folder = predicted, folder
        self.settings = SegmentationConfig(**({"threshold": 0.5} | settings))

    @property
    def common(self):
        inputs = SegmentationInputs(
            prediction=self.predicted / "prediction.json",
            model_json=self.predicted / "model.json",
            ingest=self.predicted / "ingest.json",
            settings=self.settings,
            folder=self.folder,
        )
        return {"inputs": inputs}

    @property
    def records(self):
        numbers = range(self.settings.parts)
        return {
            step: [self.folder / step / f"{number}.json" for number in numbers]
            for step in ("segment", "relabel")
        }

    @property
    def merged(self):
        return self.folder / "segment" / "merge.json"

    def label(self, part):
        segment_part(**self.common, part=part, record=self.records["segment"][part])
        return read_record(self.records["segment"][part])

    def merge(self):
        merge_objects(**self.common, record=self.merged)

    def relabel(self, part):
        relabel_part(**self.common, part=part, record=self.records["relabel"][part])
        return read_record(self.records["relabel"][part])

    def finish(self):
        parts = []
        if self.settings.parts > 1:
            parts = [*self.records["segment"], self.merged, *self.records["relabel"]]
        record = self.folder / "segmentation.json"
        finish_segmentation(**self.common, parts=parts, record=record)
        return read_record(record)

    def run(self):
        """Do all steps, parts in reverse; return the record."""
        if self.settings.parts > 1:
            numbers = range(self.settings.parts)
            for part in reversed(numbers):
                self.label(part)
            self.merge()
            for part in reversed(numbers):
                self.relabel(part)
        return self.finish()

    def objects(self):
        record = read_record(self.folder / "segmentation.json")
        return np.asarray(open_volume(self._path(record["objects"]))[...])

    def mask(self):
        record = read_record(self.folder / "segmentation.json")
        return np.asarray(open_volume(self._path(record["store"]))[...])

    def _path(self, text):
        return type(self.folder)(text)


def components(values, connectivity="3d"):
    """Return what cc3d finds in a whole volume or its sections, by first voxel."""
    if connectivity == "3d":
        return by_first_voxel(cc3d.connected_components(values, connectivity=6))
    labels = np.zeros(values.shape, np.int64)
    for z, section in enumerate(values):
        found = cc3d.connected_components(section, connectivity=4).astype(np.int64)
        labels[z] = np.where(found > 0, found + labels.max(), 0)
    return by_first_voxel(labels)


def by_first_voxel(labels):
    """Renumber objects 1, 2, ... in the order of their first voxels."""
    ids, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.zeros(len(ids), np.uint64)
    ranked = [i for i in np.argsort(first) if ids[i] != 0]
    order[ranked] = np.arange(1, len(ranked) + 1)
    return order[inverse].reshape(labels.shape)
