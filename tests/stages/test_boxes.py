"""Labels of boxes in a volume: as if they were pasted into an unlabelled one."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.records.whole import whole
from tests.stages.annotated import draw_instances, training_files
from tests.stages.ingested import ingest_volume
from tests.stages.scored import Scored
from tests.variants import mostly_slow
from unetpipe.config import (
    AugmentationConfig,
    IngestConfig,
    NetworkConfig,
    SegmentationConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError
from unetpipe.evaluation.scored_volume import ScoredBox
from unetpipe.images import Reading, open_image
from unetpipe.images.partial import LabelPart, find_corner, join_label_parts
from unetpipe.ingestion.copying import Layout, ingest_labels
from unetpipe.ingestion.label_kinds import AnnotationReader
from unetpipe.records.model import Model
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import WeightMap
from unetpipe.runtime.files import write_record
from unetpipe.stages.compute_weight_map import compute_weight_map
from unetpipe.stages.train_unet import train_unet
from unetpipe.storage.pyramid import build_pyramid
from unetpipe.storage.verification import Commands, verify_volume
from unetpipe.storage.volumes import create_volume, open_volume
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.targets.rows import open_annotated_rows
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.order import TrainingOrder
from unetpipe.training.sampling import PatchSampler

UNLABELLED = 2**32 - 1
SHAPE = (5, 96, 150)
CORNERS = [(1, 7, 11), (0, 40, 90)]  # the second one reaches over a shard's face
BOXES = [draw_instances((3, 40, 42)), draw_instances((4, 50, 55), seed=3)]
SMALL = IngestConfig(chunk=(2, 16, 16), shard=(2, 32, 32))


def paste(boxes=BOXES, corners=CORNERS, shape=SHAPE):
    """Return labels of a whole volume, unlabelled outside of boxes."""
    whole = np.full(shape, UNLABELLED, np.uint32)
    for (z, y, x), box in zip(corners, boxes, strict=True):
        d, h, w = box.shape
        whole[z : z + d, y : y + h, x : x + w] = box
    return whole


def draw_image(labels):
    grey = np.random.default_rng(5).normal(60, 20, labels.shape)
    grey += 90 * ((labels > 0) & (labels != UNLABELLED))
    return grey.clip(0, 255).astype(np.uint8)


@dataclass
class Volume:
    """A volume on its way from its originals to a network."""

    folder: Path

    def __post_init__(self):
        self.root = self.folder / "originals"
        self.root.mkdir(parents=True)
        manifest = {"source": "x", "kind": "folder", "root": str(self.root)}
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        self.tiff("image.tif", draw_image(paste()))

    def tiff(self, name, stack):
        tifffile.imwrite(self.root / name, stack, photometric="minisblack")

    def boxes(self):
        for number, box in enumerate(BOXES):
            self.tiff(f"box{number}.tif", box)
        return {
            "labels": "box0.tif; box1.tif",
            "labels_at": "; ".join(",".join(map(str, c)) for c in CORNERS),
        }

    def pasted(self):
        self.tiff("labels.tif", paste())
        return {"labels": "labels.tif", "unlabelled": str(UNLABELLED)}

    def ingest(self, cells, **options):
        row = {"volume": "a", "image": "image.tif", "role": "train"} | cells
        lines = ["\t".join(row), "\t".join(row.values())]
        rows = [r.model_dump() for r in parse_sheet("\n".join(lines)).rows]
        ingest_volume(
            manifest=self.folder / "manifest.json",
            volume="a",
            rows=rows,
            ingest=SMALL,
            num_classes=2,
            image_store=self.folder / "image.ome.zarr",
            labels_store=self.folder / "image.ome.zarr" / "labels" / "annotated",
            record=self.folder / "ingest.json",
            **options,
        )
        return IngestedVolume.read(self.folder / "ingest.json")

    def labels(self):
        stored = IngestedVolume.read(self.folder / "ingest.json").labels
        return np.asarray(open_volume(stored.store)[:])

    def weigh(self, ndim=2):
        compute_weight_map(
            ingest=self.folder / "ingest.json",
            weight_map=WeightMapConfig(sigma_vox=2.0),
            num_classes=2,
            ndim=ndim,
            stores={
                "border_term": self.folder / "border_term.ome.zarr",
                "target": self.folder / "target.ome.zarr",
            },
            record=self.folder / "weight_map.json",
        )
        return WeightMap.read(self.folder / "weight_map.json")

    def train(self, ndim=2):
        both = {
            "ingest": self.folder / "ingest.json",
            "weight_map": self.folder / "weight_map.json",
        }
        rows = [
            {**both, "sections": [0, 1, 2], "role": "train"},
            {**both, "sections": [3, 4], "role": "validate"},
        ]
        training = TrainingConfig(steps=4, validate_every=2, threads=1)
        network = NetworkConfig(
            depth=1, base_channels=2, ndim=ndim, initialization="he"
        )
        folder = self.folder / "unet"
        train_unet(
            order=TrainingOrder(
                rows=rows,
                network=network,
                training=training,
                augmentation=AugmentationConfig(),
                weight_map=WeightMapConfig(),
                segmentation=SegmentationConfig(),
            ),
            files=training_files(folder),
        )
        return Model.read(folder / "model.json")


def files_of(store):
    return [path for path in (store / "0" / "c").rglob("*") if path.is_file()]


def both_ways(folder, kind, ndim):
    """Return the same labels as boxes, and pasted into a volume, with weight maps."""
    boxed, pasted = Volume(folder / "boxed"), Volume(folder / "pasted")
    for volume in (boxed, pasted):
        cells = volume.boxes() if volume is boxed else volume.pasted()
        if kind == "binary":
            for path in volume.root.glob("[bl]*.tif"):
                ids = tifffile.imread(path)
                ids[(ids > 0) & (ids != UNLABELLED)] = 1
                tifffile.imwrite(path, ids, photometric="minisblack")
        volume.ingest({**cells, "label_kind": kind})
        volume.weigh(ndim)
    return boxed, pasted


@pytest.mark.parametrize(
    ("kind", "ndim"),
    mostly_slow([("instances", 2), ("binary", 2), ("instances", 3), ("binary", 3)]),
)
def test_boxes_weigh_what_the_same_labels_pasted_into_a_volume_weigh(
    tmp_path, kind, ndim
):
    volumes = both_ways(tmp_path, kind, ndim)
    one, other = (WeightMap.read(v.folder / "weight_map.json") for v in volumes)
    assert (one.class_counts, one.num_cells) == (other.class_counts, other.num_cells)
    assert (volumes[0].labels() == volumes[1].labels()).all()
    for name in ("border_term", "target"):
        stores = [v.folder / f"{name}.ome.zarr" for v in volumes]
        a, b = (np.asarray(open_volume(store)[:]) for store in stores)
        assert (a == b).all()
        assert len(files_of(stores[0])) < len(files_of(stores[1])) or ndim == 3


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ndim"), [("instances", 2), ("binary", 3)])
def test_boxes_teach_what_the_same_labels_pasted_into_a_volume_teach(
    tmp_path, kind, ndim
):
    models = [volume.train(ndim) for volume in both_ways(tmp_path, kind, ndim)]
    assert models[0].weights_sha256 == models[1].weights_sha256


def test_shards_without_labels_are_not_stored_and_the_record_tells_the_boxes(tmp_path):
    volume = Volume(tmp_path / "a")
    record = volume.ingest(volume.boxes())
    stored = record.labels
    assert [(b.start, b.stop) for b in stored.boxes] == [
        (corner, tuple(a + n for a, n in zip(corner, box.shape, strict=True)))
        for corner, box in zip(CORNERS, BOXES, strict=True)
    ]
    array = open_volume(stored.store)
    assert stored.unlabelled == array.fill_value == UNLABELLED
    whole = paste()
    shards = {tuple(p.parts[-3:]) for p in files_of(stored.store)}
    for z, y, x in np.ndindex(3, 3, 5):
        there = whole[2 * z : 2 * z + 2, 32 * y : 32 * y + 32, 32 * x : 32 * x + 32]
        is_in_a_box = (there != UNLABELLED).any()
        assert ((str(z), str(y), str(x)) in shards) == is_in_a_box
    assert verify_volume(tmp_path / "a" / "ingest.json", Commands("snakemake", 1)) == []
    next(iter(files_of(stored.store))).unlink()
    assert (
        len(verify_volume(tmp_path / "a" / "ingest.json", Commands("snakemake", 1)))
        == 1
    )


def write_ngff(path, array, *, translation=None, scale=(50.0, 4.0, 4.0)):
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("s0", data=array, chunks=array.shape)
    moves = [{"type": "scale", "scale": list(scale)}]
    if translation is not None:
        moves.append({"type": "translation", "translation": list(translation)})
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    levels = [{"path": "s0", "coordinateTransformations": moves}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]


def in_ngff(root, number, box, corner):
    place = [10 * a + b * a for a, b in zip((50.0, 4.0, 4.0), corner, strict=True)]
    write_ngff(root / f"{number}.zarr", box, translation=place)
    return f"{number}.zarr"


def in_hdf5(root, number, box, corner):
    with h5py.File(root / "boxes.h5", "a") as file:
        labels = file.create_dataset(f"volumes/labels/box{number}", data=box)
        labels.attrs["resolution"] = (50.0, 4.0, 4.0)
        labels.attrs["offset"] = [50.0 * corner[0], 4.0 * corner[1], 4.0 * corner[2]]
    return f"boxes.h5:volumes/labels/box{number}"


@pytest.mark.parametrize("write", [in_ngff, in_hdf5])
def test_files_say_where_their_boxes_lie(tmp_path, write):
    volume = Volume(tmp_path / "a")
    image = "image.tif"
    if write is in_ngff:  # whose image lies somewhere in the world, too
        image = "image.zarr"
        grey = draw_image(paste())
        write_ngff(volume.root / image, grey, translation=(500.0, 40.0, 40.0))
    boxes = zip(BOXES, CORNERS, strict=True)
    cells = [write(volume.root, k, *one) for k, one in enumerate(boxes)]
    record = volume.ingest({"image": image, "labels": ";".join(cells)})
    assert [box.start for box in record.labels.boxes] == CORNERS
    assert (volume.labels() == paste()).all()


@pytest.mark.parametrize(
    ("scale", "shift", "corner"),
    [
        ((50.0, 4.05, 4.05), 0.0, (1, 50, 60)),  # sizes that somebody rounded
        ((50.0, 4.0, 4.0), 2.0, (1, 51, 61)),  # half a voxel is always rounded up
        ((50.0, 4.0, 4.0), 6.0, (1, 52, 62)),
    ],
)
def test_boxes_lie_where_they_are_in_space(tmp_path, scale, shift, corner):
    around = (500.0, 4000.0, 8000.0)
    box = np.ones((2, 10, 10), np.uint8)
    place = (550.0, 4200.0 + shift, 8240.0 + shift)
    write_ngff(tmp_path / "image.zarr", np.zeros(SHAPE, np.uint8), translation=around)
    write_ngff(tmp_path / "box.zarr", box, translation=place, scale=scale)
    with (
        open_image("image.zarr", tmp_path) as image,
        open_image("box.zarr", tmp_path, Reading(is_labels=True)) as labels,
    ):
        found, remark = find_corner(labels, image)
    assert found == corner
    assert bool(remark) == bool(shift)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            {"labels_at": "1,7,11; 0,40,40"},
            ("share voxels", "(1, 7, 11)", "(0, 40, 40)"),
        ),
        ({"labels_at": "1,7,11; 0,47,90"}, ("leave the image", "(4, 97, 145)")),
        ({"labels_at": ""}, ("column labels_at",)),
        (
            {"labels": "box0.tif", "labels_at": ""},
            ("must be alike", "column labels_at"),
        ),
        ({"role": "test", "sections": "4"}, ("no box of labels reaches", "role test")),
    ],
)
def test_boxes_that_cannot_be_are_one_error(tmp_path, cells, told):
    volume = Volume(tmp_path / "a")
    with pytest.raises(DataError) as caught:
        volume.ingest(volume.boxes() | cells)
    assert all(text in str(caught.value) for text in told)
    assert not (tmp_path / "a" / "ingest.json").exists()


def test_what_lies_outside_the_field_of_view_is_unlabelled(tmp_path):
    volume = Volume(tmp_path / "a")
    field = np.zeros(SHAPE[1:], np.uint8)
    field[20:70, 30:120] = 255
    mask = (np.where(paste() == UNLABELLED, 0, paste()) > 0).astype(np.uint8)
    volume.tiff("mask.tif", mask)
    volume.tiff("field.tif", field)
    cells = {"labels": "mask.tif", "field_of_view": "field.tif"}
    record = volume.ingest({**cells, "label_kind": "binary"})
    assert (record.labels.boxes, record.labels.unlabelled) == (None, 255)
    assert (volume.labels() == np.where(field > 0, mask, 255)).all()


def test_a_field_of_view_that_is_0_everywhere_is_refused(tmp_path):
    volume = Volume(tmp_path / "a")
    volume.tiff("mask.tif", np.ones(SHAPE, np.uint8))
    volume.tiff("field.tif", np.zeros(SHAPE[1:], np.uint8))
    cells = {"labels": "mask.tif", "field_of_view": "field.tif"}
    with pytest.raises(DataError, match=r"field\.tif is 0 everywhere, so that nothing"):
        volume.ingest({**cells, "label_kind": "binary"})


def test_scores_are_those_of_labels_pasted_into_a_volume(tmp_path, monkeypatch):
    ids, shape = paste(), SHAPE
    noise = np.random.default_rng(2).random(shape)
    probability = np.clip(0.7 * ((ids > 0) & (ids != UNLABELLED)) + 0.4 * noise, 0, 1)
    boxes = [
        {"start": c, "stop": [a + n for a, n in zip(c, b.shape, strict=True)]}
        for c, b in zip(CORNERS, BOXES, strict=True)
    ]
    told = []
    looked_at = []

    class Box(ScoredBox):
        def __init__(self, volume, numbers, roi, group=0):
            super().__init__(volume, numbers, roi, group)
            if volume.rois:
                looked_at.append(roi)

    monkeypatch.setattr("unetpipe.evaluation.scored_volume.ScoredBox", Box)
    monkeypatch.setattr("unetpipe.evaluation.scored_volume.AROUND_BOXES", (0, 8, 8))
    for name, given in (("boxed", boxes), ("pasted", None)):
        options = {"kind": "instances", "unlabelled": UNLABELLED, "boxes": given}
        scored = Scored(tmp_path / name, probability, ids, **options)
        told.append(scored.evaluate(("validate", [0, 1]), ("test", [2, 3])))
    for key in ("tables", "objects"):
        ours = [
            [
                (t["role"], r)
                for t in one[key]
                for r in t["rows"]
                if r["predictor"] == "unet"
            ]
            for one in told
        ]
        assert ours[0] == ours[1]
    assert told[0]["role_sections"] == told[1]["role_sections"]
    around = [Roi((1, 0, 3), (4, 55, 61)), Roi((0, 32, 82), (4, 96, 150))]
    assert all(any(box.intersect(w) == box for w in around) for box in looked_at)


def write_levels(path, levels, scales, places):
    group = zarr.create_group(path, zarr_format=2)
    told = []
    for k, array in enumerate(levels):
        group.create_array(str(k), data=array, chunks=array.shape)
        moves = [
            {"type": "scale", "scale": list(scales[k])},
            {"type": "translation", "translation": list(places[k])},
        ]
        told.append({"path": str(k), "coordinateTransformations": moves})
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": told}]


@pytest.mark.parametrize("is_boxed", mostly_slow([True, False]))
def test_a_coarser_level_is_learnt_from_with_labels_at_its_scale(tmp_path, is_boxed):
    volume = Volume(tmp_path / "a")
    grey = draw_image(paste())
    fine = grey.repeat(2, axis=1).repeat(2, axis=2)
    scales = [(50.0, 4.0, 4.0), (50.0, 8.0, 8.0)]
    # The centres of coarse voxels lie half a fine one further in.
    write_levels(
        volume.root / "image.zarr", [fine, grey], scales, [(0, 0, 0), (0, 2, 2)]
    )
    cells = volume.pasted()
    if is_boxed:
        names = []
        for k, (box, (z, y, x)) in enumerate(zip(BOXES, CORNERS, strict=True)):
            place = (50.0 * z, 8.0 * y + 2, 8.0 * x + 2)
            names.append(f"box{k}.zarr")
            write_levels(volume.root / names[-1], [box], scales[1:], [place])
        cells = {"labels": "; ".join(names)}
    record = volume.ingest({"image": "image.zarr", "level": "1", **cells})
    assert (record.shape, record.voxel_size_nm) == (SHAPE, (50.0, 8.0, 8.0))
    assert not [text for text in record.warnings if "beside" in text]
    assert (np.asarray(open_volume(record.image.store)[0]) == grey).all()
    assert (volume.labels() == paste()).all()
    assert sum(sum(volume.weigh().class_counts, ())) == sum(box.size for box in BOXES)


def spend(folder, side):
    """Store two boxes in a volume of 64 sections, weigh them, and draw patches."""
    shape, corners = (64, side, side), [(16, 100, 200), (20, 600, 700)]
    folder.mkdir()
    store = folder / "labels.ome.zarr"
    parts = []
    for k, corner in enumerate(corners):
        path = folder / f"{k}.tif"
        box = draw_instances((32, 256, 256), seed=k)
        tifffile.imwrite(path, box, photometric="minisblack")
        reader = open_image(path.name, folder, Reading(axes="zyx", is_labels=True))
        stop = tuple(a + n for a, n in zip(corner, box.shape, strict=True))
        parts.append(LabelPart(reader, Roi(corner, stop)))
    began = process_time()
    annotation = AnnotationReader(
        "instances", unlabelled=None, num_classes=2, largest=UNLABELLED, is_partial=True
    )
    layout = Layout((8, 128, 128), (8, 1024, 1024), (50.0, 4.0, 4.0))
    with join_label_parts(parts, shape) as labels:
        content = ingest_labels(labels, store, layout, annotation).content_sha256
    build_pyramid(store, is_labels=True)
    create_volume(
        folder / "image.ome.zarr",
        shape=shape,
        dtype=np.uint8,
        chunk=layout.chunk,
        shard=layout.shard,
        voxel_size_nm=layout.voxel_size_nm,
        channels=["grey"],
    )
    about = {
        "store": str(store),
        "content_sha256": content,
        "label_kind": "instances",
        "unlabelled": annotation.stored_unlabelled,
        "boxes": [{"start": p.box.start, "stop": p.box.stop} for p in parts],
    }
    image = {"store": str(folder / "image.ome.zarr"), "files": []}
    told = {"volume": "a", "shape": shape, "image": image, "labels": about}
    write_record(folder / "ingest.json", whole("ingest", told))
    volume = Volume.__new__(Volume)
    volume.folder = folder
    volume.weigh()
    row = AnnotatedRow(
        ingest=folder / "ingest.json",
        weight_map=folder / "weight_map.json",
        sections=None,
        role="train",
    )
    rows = open_annotated_rows([row], "train", 2, with_border=True)
    spec = UNetSpec(depth=1, base_channels=2)
    sampler = PatchSampler(rows.volumes, spec, (1, 68, 68), Augmentation(), seed=1)
    patches = sampler.batch(0, range(20))
    assert all((patch.target != 255).any() for patch in patches)
    seconds = process_time() - began
    stores = [folder / f"{n}.ome.zarr" for n in ("labels", "border_term", "target")]
    files = [p for s in stores for p in s.rglob("*") if p.is_file()]
    return seconds, sum(p.stat().st_size for p in files), patches


@pytest.mark.slow
def test_time_and_room_depend_on_the_boxes_and_not_on_the_volume(tmp_path):
    spent = {side: spend(tmp_path / str(side), side) for side in (1024, 8192)}
    seconds, num_bytes, patches = zip(*spent.values(), strict=True)
    assert seconds[1] < 1.5 * seconds[0] + 1
    assert num_bytes[1] < 1.2 * num_bytes[0]
    for one, other in zip(*patches, strict=True):
        assert (one.target == other.target).all()
        assert (one.border == other.border).all()


def test_large_ids_of_boxes_stay_apart_where_other_boxes_are_of_another_type(tmp_path):
    volume = Volume(tmp_path / "a")
    ids = np.array([[[2**56 + 1, 2**56 + 2], [0, 5]]], np.uint64)  # as of FlyWire
    tifffile.imwrite(volume.root / "a.tif", ids, photometric="minisblack")
    volume.tiff("b.tif", np.ones((1, 2, 2), np.int32))
    cells = {"labels": "a.tif; b.tif", "labels_at": "0,0,0; 0,9,9", "axes": "zyx"}
    assert volume.ingest(cells).labels.num_ids == 4
    assert (volume.labels()[0, :2, :2] == ids).all()
