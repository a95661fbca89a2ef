"""The stage that brings a volume into the store: what it keeps, what it refuses."""

import errno
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yaozarrs import validate_zarr_store

from tests.stages.ingested import ingest_volume
from tests.variants import mostly_slow
from unetpipe.config import IngestConfig
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import DataError, ResourceError
from unetpipe.images import open_image
from unetpipe.records.volume import IngestedVolume
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.intensity import IntensityStatistics

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (6, 40, 50), np.uint8)
LABELS = RNG.integers(0, 9, (6, 40, 50), np.uint16)
SMALL = IngestConfig(chunk=(2, 32, 32), shard=(4, 64, 64))  # two shards a volume


class Originals:
    """A folder of originals with its manifest, and what comes of them."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "originals"
        self.root.mkdir()
        self.results = folder / "results"
        manifest = {
            "source": "x",
            "kind": "folder",
            "root": str(self.root),
            "files": [],
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def tiff(self, name, stack, **options):
        options = {"photometric": "minisblack", **options}
        tifffile.imwrite(self.root / name, stack, **options)

    def rows(self, *cells, **column):
        """Rows of the sheet: one for each dictionary of cells."""
        base = {"volume": "a", "image": "image.tif", "labels": "labels.tif"}
        base |= {"role": "train", **column}
        rows = [base | more for more in cells or ({},)]
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = ["\t".join(names)]
        lines += ["\t".join(row.get(name, "") for name in names) for row in rows]
        return [row.model_dump() for row in parse_sheet("\n".join(lines)).rows]

    def ingest(
        self, rows=None, *, pixels=None, config=SMALL, num_classes=2, palette=None
    ):
        ingest_volume(
            manifest=self.folder / "manifest.json",
            volume="a",
            rows=self.rows() if rows is None else rows,
            pixel_sha256=pixels or {},
            ingest=config,
            num_classes=num_classes,
            palette=palette,
            image_store=self.results / "image.ome.zarr",
            labels_store=self.results / "labels.ome.zarr",
            record=self.results / "ingest.json",
        )
        return json.loads((self.results / "ingest.json").read_text())

    def refuse(self, rows=None, error=DataError, **options):
        """Return the message, after checking that nothing is left."""
        with pytest.raises(error) as caught:
            self.ingest(rows, **options)
        assert not self.results.exists() or list(self.results.iterdir()) == []
        return str(caught.value)

    def refuse_again(self, rows):
        """Return the message where an earlier result is there."""
        with pytest.raises(DataError) as caught:
            self.ingest(rows)
        return str(caught.value)

    def image(self):
        return np.asarray(open_volume(self.results / "image.ome.zarr")[:])

    def labels(self):
        return np.asarray(open_volume(self.results / "labels.ome.zarr")[:])


@pytest.fixture
def originals(tmp_path):
    folder = Originals(tmp_path)
    folder.tiff("image.tif", IMAGE)
    folder.tiff("labels.tif", LABELS)
    return folder


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_image_and_labels_are_stored_voxel_by_voxel(originals):
    record = originals.ingest()
    np.testing.assert_array_equal(originals.image(), IMAGE[None])
    np.testing.assert_array_equal(originals.labels(), LABELS)
    assert originals.labels().dtype == np.uint32
    assert record["shape"] == [6, 40, 50]
    assert (record["num_channels"], record["dtype"]) == (1, "uint8")
    assert record["axes_of_file"] == "zyx"
    assert record["image"]["content_sha256"] == sha256(IMAGE)
    assert record["labels"]["content_sha256"] == sha256(LABELS.astype("<u4"))
    assert record["labels"]["pixel_sha256"] == sha256(LABELS)
    assert record["labels"]["num_ids"] == 8
    assert record["warnings"] == []
    file = (originals.root / "image.tif").read_bytes()
    assert record["image"]["files"] == [
        {
            "path": "image.tif",
            "size": len(file),
            "sha256": hashlib.sha256(file).hexdigest(),
        }
    ]


def test_both_stores_are_valid_ngff_of_whole_shards(originals):
    config = IngestConfig(chunk=(2, 16, 16), shard=(2, 32, 32))
    originals.ingest(originals.rows(voxel_size_nm="50,4,4"), config=config)
    validate_zarr_store(str(originals.results / "image.ome.zarr"))
    for name, axes in (("image", 4), ("labels", 3)):
        store = originals.results / f"{name}.ome.zarr"
        array = open_volume(store)
        assert array.shards[-3:] == (2, 32, 32)
        assert array.chunks[-3:] == (2, 16, 16)
        assert len([p for p in (store / "0" / "c").rglob("*") if p.is_file()]) == 12
        ome = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]
        assert ome["multiscales"][0]["name"] == name
        (transform,) = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert transform["scale"] == [1.0] * (axes - 3) + [50.0, 4.0, 4.0]


def test_statistics_are_exact_whatever_the_shards(originals):
    expected = IntensityStatistics.of(IMAGE).to_json()
    for shard in ((1, 64, 64), (4, 32, 64), (8, 32, 32)):
        config = IngestConfig(chunk=(1, 32, 32), shard=shard)
        assert originals.ingest(config=config)["statistics"] == [expected]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_percentiles_are_those_of_all_finite_voxels_whatever_the_shards(
    originals, dtype
):
    stack = RNG.normal(100, 10, (2, *IMAGE.shape)).astype(dtype)
    stack[:, 2, 3, 4] = 60_000
    stack[1, 0, 0, :9] = np.nan if dtype == "float32" else 0
    originals.tiff("image.tif", stack)
    found = []
    for shard in ((1, 64, 64), (8, 32, 32)):
        layout = {"chunk": (1, 32, 32), "shard": shard, "nan_policy": "replace"}
        config = IngestConfig(**layout, percentiles=(2, 97.5))
        record = originals.ingest(originals.rows(axes="czyx"), config=config)
        assert not any("hot" in warning for warning in record["warnings"])
        found.append([channel["percentiles"] for channel in record["statistics"]])
    assert found[0] == found[1]
    for channel, told in zip(stack, found[0], strict=True):
        voxels = channel[np.isfinite(channel)]
        low, high = np.percentile(voxels, (2, 97.5), method="inverted_cdf").tolist()
        assert (told["ranks"], told["values"]) == ([2, 97.5], [low, high])
        assert told["centre"] == pytest.approx((low + high) / 2)
        assert told["half_width"] == pytest.approx((high - low) / 2)
    read = IngestedVolume.read(originals.results / "ingest.json")
    assert read.percentiles == (2, 97.5)
    for intensity in read.intensities:  # as without the voxel of 60,000
        assert intensity.mean == pytest.approx(100, abs=1.5)
        assert intensity.std == pytest.approx(10, rel=0.1)


def test_a_store_that_is_used_where_it_is_has_percentiles_too(originals):
    originals.ingest()
    (originals.results / "image.ome.zarr").rename(originals.root / "a.ome.zarr")
    config = SMALL.model_copy(update={"percentiles": (1, 99)})
    record = originals.ingest(originals.rows(image="a.ome.zarr"), config=config)
    assert not record["image"]["is_copied"]
    low, high = np.percentile(IMAGE, (1, 99), method="inverted_cdf")
    assert record["statistics"][0]["percentiles"]["values"] == [low, high]


def test_percentiles_that_are_one_grey_value_leave_mean_and_deviation(originals):
    sparse = np.zeros_like(IMAGE)
    sparse[0, 0, :5] = 200
    originals.tiff("image.tif", sparse)
    config = SMALL.model_copy(update={"percentiles": (1, 99)})
    record = originals.ingest(config=config)
    assert "percentiles" not in record["statistics"][0]
    assert any("are one grey value" in warning for warning in record["warnings"])
    plain = IntensityStatistics.of(sparse)
    [found] = IngestedVolume.read(originals.results / "ingest.json").intensities
    assert (found.mean, found.std) == (plain.mean, plain.std)


@pytest.mark.parametrize("ranks", [(60, 99), (1, 40), (0, 99), (1, 100)])
def test_percentiles_lie_on_both_sides_of_the_median(ranks):
    with pytest.raises(ValueError, match="percentiles"):
        IngestConfig(percentiles=ranks)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 24), st.integers(5, 24)),
    chunk=st.tuples(st.integers(1, 3), st.integers(5, 20), st.integers(5, 20)),
    factor=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_any_shape_fits_any_chunk_and_shard(originals, shape, chunk, factor):
    stack = RNG.integers(1, 99, shape, np.uint8)
    originals.tiff("image.tif", stack, metadata={"axes": "ZYX"})
    shard = tuple(c * f for c, f in zip(chunk, factor, strict=True))
    config = IngestConfig(chunk=chunk, shard=shard)
    rows = originals.rows(labels="", role="predict", axes="zyx")
    record = originals.ingest(rows, config=config)
    np.testing.assert_array_equal(originals.image()[0], stack)
    assert record["image"]["content_sha256"] == sha256(stack)


def test_channels_are_kept_and_measured_apart(originals):
    stack = RNG.integers(0, 999, (6, 2, 40, 50), np.uint16)
    originals.tiff("image.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    record = originals.ingest()
    np.testing.assert_array_equal(originals.image(), stack.transpose(1, 0, 2, 3))
    assert (record["num_channels"], record["dtype"]) == (2, "uint16")
    assert record["statistics"] == [
        IntensityStatistics.of(stack[:, c]).to_json() for c in (0, 1)
    ]
    assert record["image"]["content_sha256"] == sha256(stack)  # sections are (c, y, x)


def test_a_fitting_ome_zarr_is_used_where_it_is(originals):
    originals.ingest()
    (originals.results / "image.ome.zarr").rename(originals.root / "a.ome.zarr")
    once = json.loads((originals.results / "ingest.json").read_text())
    record = originals.ingest(originals.rows(image="a.ome.zarr"))
    assert record["image"]["store"] == str(originals.root / "a.ome.zarr")
    assert record["image"]["content_sha256"] == once["image"]["content_sha256"]
    assert record["statistics"] == once["statistics"]
    assert not (originals.results / "image.ome.zarr").exists()
    np.testing.assert_array_equal(originals.labels(), LABELS)


def test_an_ome_zarr_of_other_axes_is_copied(originals):
    group = zarr.create_group(originals.root / "a.zarr")
    group.create_array("0", data=IMAGE, chunks=(2, 20, 20))
    levels = [{"path": "0", "coordinateTransformations": []}]
    axes = [{"name": a, "type": "space"} for a in "zyx"]
    image = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    group.attrs["ome"] = image
    record = originals.ingest(originals.rows(image="a.zarr"))
    assert record["image"]["store"] == str(originals.results / "image.ome.zarr")
    np.testing.assert_array_equal(originals.image()[0], IMAGE)


def test_a_full_disk_is_said_and_leaves_nothing(originals, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("unetpipe.runtime.files.os.fsync", fail)
    message = originals.refuse(error=ResourceError)
    assert "no room on the disk for the" in message


def test_explicit_axes_of_the_image_do_not_spoil_the_labels(originals):
    originals.tiff("image.tif", np.stack([IMAGE, IMAGE + 1]))
    record = originals.ingest(originals.rows(axes="czyx"))
    assert record["num_channels"] == 2
    np.testing.assert_array_equal(originals.labels(), LABELS)


def test_without_labels_there_is_no_label_store(originals):
    originals.ingest()
    record = originals.ingest(originals.rows(labels="", role="predict"))
    assert record["labels"] is None
    assert sorted(p.name for p in originals.results.iterdir()) == [
        "image.ome.zarr",
        "ingest.json",
    ]


def test_a_rerun_replaces_what_was_there(originals):
    originals.ingest()
    (originals.results / "image.ome.zarr.partial").mkdir()  # of a killed run
    originals.tiff("image.tif", IMAGE[::-1].copy())
    originals.ingest()
    np.testing.assert_array_equal(originals.image(), IMAGE[None, ::-1])
    assert sorted(p.name for p in originals.results.iterdir()) == [
        "image.ome.zarr",
        "ingest.json",
        "labels.ome.zarr",
    ]


def test_the_same_volume_is_stored_in_the_same_bytes(originals, tmp_path):
    def files():
        store = originals.results
        return {
            p.relative_to(store): p.read_bytes()
            for p in store.rglob("*")
            if p.is_file() and p.name != "ingest.json"
        }

    originals.ingest()
    once = files()
    originals.ingest()
    assert files() == once


def test_pinned_voxels_are_compared_whatever_file_they_lie_in(originals):
    pixels = {"image": sha256(IMAGE), "labels": sha256(LABELS)}
    originals.ingest(pixels=pixels)
    (originals.root / "train").mkdir()
    for z in range(6):
        section = imagecodecs.png_encode(IMAGE[z])
        (originals.root / "train" / f"{z}.png").write_bytes(section)
    originals.ingest(originals.rows(image="train"), pixels=pixels)


def test_other_voxels_than_pinned_are_refused_with_both_checksums(originals):
    message = originals.refuse(pixels={"image": "0" * 64, "labels": "1" * 64})
    assert message.startswith("volume a: 2 problems")
    assert f"image.tif have sha256 {sha256(IMAGE)}, but pixel_sha256" in message
    assert f"expects {'0' * 64} of `image`" in message
    assert f"labels.tif have sha256 {sha256(LABELS)}" in message
    assert f"expects {'1' * 64} of `labels`" in message


def test_labels_of_another_shape_are_refused_with_both_shapes(originals):
    originals.tiff("labels.tif", LABELS[:5, :, :40])
    message = originals.refuse()
    assert "the image is (6, 40, 50) (z, y, x) in " in message
    assert "the labels are (5, 40, 40) in " in message
    assert "correct the sheet" in message


def test_all_that_can_be_told_beforehand_is_told_at_once(originals):
    originals.tiff("labels.tif", LABELS[:5].astype(np.float32) / 7)
    rows = originals.rows({"sections": "0-5"}, {"sections": "6-9", "role": "test"})
    message = originals.refuse(rows)
    assert message.startswith("volume a: 3 problems\n")
    assert "names section 9, the image has sections 0 to 5" in message
    assert "labels are float32 and hold 0." in message
    assert "the labels are (5, 40, 50)" in message


@pytest.mark.parametrize("column", ["image", "labels"])
def test_a_missing_file_is_named_with_what_is_there(originals, column):
    message = originals.refuse(originals.rows(**{column: "nowhere.tif"}))
    assert "'nowhere.tif': there is no such file or folder in" in message
    assert "there are: image.tif, labels.tif" in message


def test_unknown_axes_are_asked_for(originals):
    originals.tiff("image.tif", IMAGE.reshape(2, 3, 40, 50))
    message = originals.refuse()
    assert "image.tif has the shape" in message
    assert "write into the sheet's column `axes`" in message


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floating_point_labels_that_are_whole_numbers_are_ids(originals, dtype):
    with h5py.File(originals.root / "labels.h5", "w") as file:
        file["ids"] = LABELS.astype(dtype)
    record = originals.ingest(originals.rows(labels="labels.h5:ids"))
    assert record["labels"]["dtype"] == "uint32"
    expected = originals.ingest()["labels"]
    assert record["labels"]["content_sha256"] == expected["content_sha256"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *[(0.5, "labels are float32 and hold 0.5 in"), (np.nan, "and hold nan in")],
        (2.0**24 + 2, "hold 16777218 in .*; beyond 16777216 such numbers stand for"),
    ],
)
@pytest.mark.parametrize("z", [0, 5])
def test_floating_point_labels_that_are_no_ids_are_refused(
    originals, value, message, z
):
    labels = LABELS.astype(np.float32)
    labels[z, 1, 2] = value
    originals.tiff("labels.tif", labels)
    assert re.search(message, originals.refuse())


def test_minus_one_may_stand_for_what_nobody_annotated(originals):
    labels = LABELS.astype(np.int16)
    labels[1, :4] = -1
    originals.tiff("labels.tif", labels)
    assert "write it into the column unlabelled" in originals.refuse()
    record = originals.ingest(originals.rows(unlabelled="-1"))["labels"]
    assert record["unlabelled"] == 2**32 - 1
    stored = open_volume(Path(record["store"]))[...]
    np.testing.assert_array_equal(stored, labels.astype(np.int64) % 2**32)
    assert record["num_ids"] == len(np.unique(labels[labels > 0]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_with_its_place_and_number(originals, value):
    stack = IMAGE.astype(np.float32)
    stack[3, 7, 9] = stack[3, 8, 0] = stack[5, 0, 0] = value
    originals.tiff("image.tif", stack)
    message = originals.refuse()
    assert "the image holds 3 NaN or infinite voxels" in message
    assert "the first at z, y, x = 3, 7, 9 (" in message
    assert "image.tif, section 3)" in message
    assert "ingest.nan_policy: replace" in message


def test_nan_can_be_replaced_by_the_mean_of_its_channel(originals):
    stack = np.stack([IMAGE, IMAGE * 0.5]).astype(np.float32)
    stack[1, 3, 7, 9] = np.nan
    originals.tiff("image.tif", stack)
    config = IngestConfig(chunk=(2, 32, 32), shard=(4, 64, 64), nan_policy="replace")
    record = originals.ingest(originals.rows(axes="czyx"), config=config)
    mean = np.nanmean(stack[1].astype(np.float64))
    expected = stack.copy()
    expected[1, 3, 7, 9] = mean
    np.testing.assert_array_equal(originals.image(), expected)
    assert record["num_nan"] == 1
    assert [s["num_nan"] for s in record["statistics"]] == [0, 1]
    assert record["statistics"][1]["mean"] == pytest.approx(mean, rel=1e-12)
    by_section = expected.transpose(1, 0, 2, 3)
    assert record["image"]["content_sha256"] == sha256(by_section)
    assert record["image"]["pixel_sha256"] == sha256(stack.transpose(1, 0, 2, 3))


def test_a_channel_of_nan_only_cannot_be_replaced(originals):
    originals.tiff("image.tif", np.full(IMAGE.shape, np.nan, np.float32))
    config = IngestConfig(nan_policy="replace")
    assert "channel 0 holds no finite voxel" in originals.refuse(config=config)


@pytest.mark.parametrize("name", ["image.tif", "labels.tif"])
@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_a_truncated_tiff_is_refused_by_name(originals, name, fraction):
    originals.tiff("image.tif", IMAGE, compression="zlib")
    content = (originals.root / name).read_bytes()
    (originals.root / name).write_bytes(content[: int(len(content) * fraction)])
    message = originals.refuse()
    assert f"{name} is truncated or corrupt" in message
    assert "copy or download it again" in message


def test_damage_that_shows_only_while_reading_leaves_nothing(originals):
    originals.tiff("image.tif", IMAGE, compression="zlib")
    content = bytearray((originals.root / "image.tif").read_bytes())
    content[-3000:-2900] = bytes(100)
    (originals.root / "image.tif").write_bytes(content)
    labels = LABELS.astype(np.int16)
    labels[5, 0, 0] = -7
    originals.tiff("labels.tif", labels)
    message = originals.refuse()
    assert message.startswith("volume a: 2 problems")
    assert "image.tif, page 4, is corrupt" in message
    assert "labels are negative" in message


def test_an_annotation_without_a_cell_is_a_warning(originals):
    labels = np.zeros_like(LABELS)
    labels[5] = 3  # only outside the training sections
    originals.tiff("labels.tif", labels)
    rows = originals.rows(
        {"sections": "0-2"}, {"sections": "3"}, {"sections": "5", "role": "test"}
    )
    warnings = originals.ingest(rows)["warnings"]
    assert (
        "the labels hold no cell in any of the 4 sections with role train: only "
        "background is learnt from them"
    ) in warnings


def test_single_sections_without_a_cell_are_a_warning(originals):
    labels = LABELS.copy()
    labels[[1, 4]] = 0
    originals.tiff("labels.tif", labels)
    rows = originals.rows({"sections": "0-3"}, {"sections": "4-5", "role": "validate"})
    assert originals.ingest(rows)["warnings"] == [
        "the labels hold no cell in 1 of 4 sections with role train: 1",
        "the labels hold no cell in 1 of 2 sections with role validate: 4",
    ]


def test_binary_labels_become_0_1_and_255(originals):
    labels = np.where(LABELS > 4, 200, 0).astype(np.uint8)
    labels[2] = 7
    originals.tiff("labels.tif", labels)
    rows = originals.rows(label_kind="binary", unlabelled="7")
    record = originals.ingest(rows)
    expected = np.where(labels == 7, 255, labels > 0).astype(np.uint8)
    np.testing.assert_array_equal(originals.labels(), expected)
    assert record["labels"]["label_kind"] == "binary"
    assert (record["labels"]["dtype"], record["labels"]["unlabelled"]) == ("uint8", 255)


def test_a_mask_given_as_instances_is_a_warning(originals):
    originals.tiff("labels.tif", np.where(LABELS > 4, 255, 0).astype(np.uint8))
    (warning,) = originals.ingest()["warnings"]
    assert "write label_kind binary" in warning


def test_several_ids_given_as_binary_are_refused_with_the_ids(originals):
    message = originals.refuse(originals.rows(label_kind="binary"))
    assert "binary labels hold the values 0, 1, 2, 3, 4, 5, 6, 7, 8;" in message


def test_a_class_beyond_the_configured_ones_is_refused_with_file_and_section(originals):
    labels = np.minimum(LABELS, 2)
    labels[4, 0, 0] = 3
    originals.tiff("labels.tif", labels)
    rows = originals.rows(label_kind="classes")
    message = originals.refuse(rows, num_classes=3)
    assert "beyond 2 in " in message
    assert "labels.tif, section 4 (3)" in message
    assert originals.ingest(rows, num_classes=4)["labels"]["num_ids"] == 3


def test_negative_ids_are_refused(originals):
    labels = LABELS.astype(np.int32)
    labels[2, 0, 0] = -1
    originals.tiff("labels.tif", labels)
    message = originals.refuse()
    assert "labels are negative in " in message
    assert "labels.tif, section 2 (smallest -1)" in message


def test_huge_ids_are_kept(originals):
    labels = np.zeros(LABELS.shape, np.uint64)
    labels[0, 0, :3] = (1, 2**31 + 5, 2**63 - 1)
    originals.tiff("labels.tif", labels)
    record = originals.ingest()
    np.testing.assert_array_equal(originals.labels(), labels)
    assert (record["labels"]["dtype"], record["labels"]["num_ids"]) == ("uint64", 3)


@pytest.mark.parametrize("dtype", ["c8", "u8", "i8"])
def test_voxels_that_cannot_be_summed_exactly_are_refused(originals, dtype):
    with h5py.File(originals.root / "image.h5", "w") as file:
        file["raw"] = IMAGE.astype(dtype)
    message = originals.refuse(originals.rows(image="image.h5:raw"))
    assert f"has voxels of {np.dtype(dtype)}; save the image as integers" in message


def test_sequences_whose_numbers_disagree_are_not_paired_in_order(originals):
    for z in range(6):
        for name, number in (("i", z), ("l", z + (z > 2))):
            (originals.root / name).mkdir(exist_ok=True)
            section = imagecodecs.png_encode(LABELS[z].astype(np.uint8))
            (originals.root / name / f"{number}.png").write_bytes(section)
    message = originals.refuse(originals.rows(image="i", labels="l"))
    assert "6.png annotates frame 6, but the image has 6 frames, 0 to 5" in message


def test_the_voxel_size_of_the_file_counts_where_the_sheet_has_none(originals):
    metadata = {"axes": "ZYX", "spacing": 0.05, "unit": "um"}
    originals.tiff(
        "image.tif", IMAGE, imagej=True, resolution=(250, 250), metadata=metadata
    )
    assert originals.ingest()["voxel_size_nm"] == pytest.approx([50.0, 4.0, 4.0])
    record = originals.ingest(originals.rows(voxel_size_nm="40,4,4"))
    assert record["voxel_size_nm"] == [40.0, 4.0, 4.0]
    assert "voxel_size_nm is (40.0, 4.0, 4.0) in the sheet" in record["warnings"][0]


def test_the_record_tells_who_says_how_large_a_voxel_is(originals):
    assert originals.ingest()["voxel_size_from"] == "nobody"
    assert originals.ingest()["voxel_size_nm"] == [1, 1, 1]
    sized = originals.rows(voxel_size_nm="1,1,1")
    assert originals.ingest(sized)["voxel_size_from"] == "sheet"
    with h5py.File(originals.root / "image.h5", "w") as file:
        file.create_dataset("raw", data=IMAGE).attrs["resolution"] = (40.0, 4.0, 4.0)
    record = originals.ingest(originals.rows(image="image.h5:raw"))
    assert (record["voxel_size_nm"], record["voxel_size_from"]) == ([40, 4, 4], "file")


def about_sections(axes, **more):
    """OME's metadata of cubes of 100 nm, but for what is said otherwise."""
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, **more}
    return {"axes": axes, **sizes}


@pytest.mark.parametrize(
    ("about", "column", "halved"),
    [
        (about_sections("ZYX"), {}, (4, 550, 550)),  # a size of pixels alone
        (about_sections("ZYX", PhysicalSizeZ=0.1), {}, (2, 550, 550)),
        (about_sections("ZYX"), {"voxel_size_nm": "100,100,100"}, (2, 550, 550)),
        (
            about_sections("TYX", PhysicalSizeZ=0.1),
            {"axes": "zyx", "voxel_size_nm": "100,100,100"},
            (4, 550, 550),
        ),
    ],
    ids=["nobody tells z", "file", "sheet", "time"],
)
def test_sections_are_averaged_only_where_their_distance_is_known(
    originals, about, column, halved
):
    frames = np.array([10, 20, 7, 3], np.uint8)
    film = np.broadcast_to(frames[:, None, None], (4, 1100, 1100))
    originals.tiff("image.tif", film, ome=True, metadata=about)
    layout = IngestConfig(chunk=(4, 1100, 1100), shard=(4, 1100, 1100))
    bare = {"role": "predict", "labels": ""}
    record = originals.ingest(originals.rows(**bare, **column), config=layout)
    assert record["voxel_size_nm"] == [100, 100, 100]
    is_known = halved[0] == 2
    assert record["is_depth_known"] == is_known
    store = originals.results / "image.ome.zarr"
    coarse = open_volume(store, level=1)[0]
    assert coarse.shape == halved
    expected = [15, 5] if is_known else [10, 20, 7, 3]
    assert coarse[:, 0, 0].tolist() == expected
    (image,) = zarr.open_group(store).attrs["ome"]["multiscales"]
    units = [axis.get("unit") for axis in image["axes"][1:]]
    assert units == ["nanometer" if is_known else None, "nanometer", "nanometer"]
    with open_image("image.ome.zarr", originals.results) as stored:
        assert stored.is_depth_known == is_known


def test_of_a_single_section_nobody_asks_how_thick_it_is(originals):
    about = about_sections("YX")
    originals.tiff("image.tif", IMAGE[0], ome=True, metadata=about)
    record = originals.ingest(originals.rows(role="predict", labels=""))
    assert record["is_depth_known"]


def test_a_time_point_and_channels_of_the_sheet_are_stored(originals):
    movie = RNG.integers(0, 999, (3, 6, 2, 40, 50), np.uint16)
    originals.tiff("image.tif", movie, imagej=True, metadata={"axes": "TZCYX"})
    rows = originals.rows(time="2", channels="1")
    record = originals.ingest(rows)
    np.testing.assert_array_equal(originals.image()[0], movie[2, :, 1])
    assert (record["time"], record["num_channels"]) == (2, 1)
    assert record["channels_of_file"] == [1]
    assert record["image"]["content_sha256"] == sha256(movie[2, :, 1])
    both = originals.ingest(originals.rows(time="2"))
    np.testing.assert_array_equal(originals.image(), movie[2].transpose(1, 0, 2, 3))
    assert both["channels_of_file"] is None
    message = originals.refuse_again(originals.rows())
    assert "has 3 time points" in message
    assert "0 to 2, into the sheet's column `time`" in message


def test_known_checksums_of_the_originals_are_taken_over(originals):
    manifest = json.loads((originals.folder / "manifest.json").read_text())
    size = (originals.root / "image.tif").stat().st_size
    manifest["files"] = [{"path": "image.tif", "size": size, "sha256": "known"}]
    (originals.folder / "manifest.json").write_text(json.dumps(manifest))
    assert originals.ingest()["image"]["files"] == manifest["files"]


def test_too_little_memory_is_said_before_it_is_used(originals, monkeypatch):
    class Memory:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    message = originals.refuse(error=ResourceError)
    assert "needs" in message
    assert "make ingest.shard (and ingest.chunk) smaller along z" in message


MEASURE = """
import json, logging, resource, sys
from pathlib import Path
from unetpipe.config import IngestConfig
from tests.stages.ingested import ingest_volume

logging.basicConfig(level=logging.INFO)
folder, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
for row in rows:
    ingest_volume(
        manifest=folder / "manifest.json", volume="a", rows=[row], pixel_sha256={},
        ingest=IngestConfig(chunk=(4, 128, 128), shard=(4, 512, 512)), num_classes=2,
        image_store=folder / "i", labels_store=folder / "l", record=folder / "r.json",
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_below_its_projection_and_does_not_grow_with_the_volume(originals):
    for name, num_sections in (("tiny", 1), ("few", 12), ("many", 96)):
        stack = np.zeros((num_sections, 1024, 1024), np.uint8)
        originals.tiff(f"{name}.tif", stack, compression="zlib", metadata=None)
    rows = [
        originals.rows(image=f"{name}.tif", labels="", role="predict", axes="zyx")[0]
        for name in ("tiny", "few", "many")
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(originals.folder), json.dumps(rows)],
        check=True,
        capture_output=True,
        text=True,
    )
    tiny, few, many = (int(line) / 1024 for line in done.stdout.split())  # MB
    found = re.findall(r"image: at most (\d+) MB of memory", done.stderr)
    projected = int(found[-1])
    assert projected < 64 < 96  # the whole volume takes 96 MB
    assert many - tiny < projected
    assert many - few < 8


MEASURE_SECTION = """
import json, logging, sys
from pathlib import Path
from tests.stages.ingested import ingest_volume
from unetpipe.config import IngestConfig
from unetpipe.runtime.machine import peak_rss_bytes

logging.basicConfig(level=logging.INFO)
folder, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
for row in rows:
    ingest_volume(
        manifest=folder / "manifest.json", volume="a", rows=[row],
        ingest=IngestConfig(), num_classes=2, image_store=folder / "i",
        labels_store=folder / "l", record=folder / "r.json",
    )
    print(peak_rss_bytes())
"""


@pytest.mark.slow
def test_a_section_with_ids_takes_no_more_than_is_projected_nor_than_a_small_one(
    originals,
):
    # The tiny one has a pyramid: what that compiles is no matter of size.
    for name, side in (("tiny", 1024), ("large", 4096)):
        ids = np.kron(
            np.arange(1, (side // 32) ** 2 + 1, dtype=np.uint32).reshape(
                side // 32, -1
            ),
            np.ones((32, 32), np.uint32),
        )
        options = {"tile": (256, 256), "compression": "zlib", "metadata": None}
        originals.tiff(f"{name}.tif", np.uint8(ids), **options)
        originals.tiff(f"{name}_ids.tif", ids, **options)
    rows = [
        originals.rows(image=f"{n}.tif", labels=f"{n}_ids.tif", axes="yx")[0]
        for n in ("tiny", "large")
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_SECTION, originals.folder, json.dumps(rows)],
        check=True,
        capture_output=True,
        text=True,
    )
    tiny, large = (int(line) / 2**20 for line in done.stdout.split())
    projected = max(map(int, re.findall(r"at most (\d+) MB of memory", done.stderr)))
    print(f"{tiny:.0f}, {large:.0f} MiB, {projected} projected beside libraries")
    assert large - tiny < projected
    assert tiny + projected < 1.5 * large
    assert large < 1.25 * tiny, "sixteen times the area"


def test_real_sections_have_the_published_voxels(originals, real_data):
    originals.root = real_data / "isbi2012-em"
    manifest = {
        "source": "x",
        "kind": "folder",
        "root": str(originals.root),
        "files": [],
    }
    (originals.folder / "manifest.json").write_text(json.dumps(manifest))
    rows = originals.rows(
        image="**/train-volume.tif|train/image",
        labels="**/train-labels.tif|train/label",
        label_kind="binary",
        voxel_size_nm="50,4,4",
    )
    pixels = {
        "image": "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
        "labels": "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
    }
    record = originals.ingest(rows, pixels=pixels, config=IngestConfig())
    assert record["image"]["content_sha256"] == pixels["image"]
    assert record["shape"] == [30, 512, 512]
    assert record["warnings"] == []
    assert np.mean(originals.labels() == 0) == pytest.approx(0.22, abs=0.01)


def test_real_images_of_all_kinds_can_be_read(originals, real_data):
    read = {
        "drosophila-vnc-sstem/stack1/raw": (1, 20, 1024, 1024),
        "drosophila-vnc-sstem/stack1/membranes": (1, 20, 1024, 1024),
        "fib25-medulla/training_sample2/grayscale_maps/*.png": (1, 250, 250, 250),
        "ctc-dic-c2dh-hela/01/t*.tif": (1, 84, 512, 512),
        "ctc-dic-c2dh-hela/01_ST/SEG": (1, 84, 512, 512),
    }
    for cell, shape in read.items():
        with open_image(cell, real_data) as image:
            assert image.shape == shape
            assert image.read_sections(7, 9).shape == (1, 2, *shape[2:])
    nucleus = next((real_data / "dsb2018-nuclei/stage1_train").glob("*/images/*.png"))
    with open_image(str(nucleus), real_data) as image:  # RGBA, all grey
        assert image.shape[0] == 1


PALETTE = {"#000000": 0, "#0000ff": 1, "#ffff00": 2, "#808080": None}
COLOURS = np.array([[0, 0, 0], [0, 0, 255], [255, 255, 0], [128] * 3], np.uint8)


def test_painted_classes_are_stored_as_classes(originals):
    classes = RNG.integers(0, 4, IMAGE.shape)
    originals.tiff("labels.tif", COLOURS[classes], photometric="rgb")
    rows = originals.rows(label_kind="classes")
    record = originals.ingest(rows, num_classes=3, palette=PALETTE)
    np.testing.assert_array_equal(
        originals.labels(), np.where(classes == 3, 255, classes)
    )
    assert record["labels"]["unlabelled"] == 255
    assert record["labels"]["pixel_sha256"] == sha256(
        np.moveaxis(COLOURS[classes], -1, 1)
    )


def test_a_colour_beyond_the_palette_stops_with_file_pixel_and_colour(originals):
    painted = COLOURS[RNG.integers(0, 4, IMAGE.shape)]
    painted[4, 30, 7] = (1, 2, 3)
    originals.tiff("labels.tif", painted, photometric="rgb")
    rows = originals.rows(label_kind="classes")
    message = originals.refuse(rows, num_classes=3, palette=PALETTE)
    assert "does not know #010203 in " in message
    assert "labels.tif, section 4 at z, y, x = 4, 30, 7 (1 voxel of" in message


def test_painted_labels_without_a_palette_ask_for_one(originals):
    classes = RNG.integers(0, 4, IMAGE.shape)
    originals.tiff("labels.tif", COLOURS[classes], photometric="rgb")
    message = originals.refuse(originals.rows(label_kind="classes"), num_classes=3)
    assert "has 3 channels" in message
    assert "give each colour its class in labels.palette" in message


def test_colours_of_16_bits_are_refused(originals):
    painted = COLOURS[RNG.integers(0, 3, IMAGE.shape)].astype(np.uint16)
    originals.tiff("labels.tif", painted, photometric="rgb")
    rows = originals.rows(label_kind="classes")
    message = originals.refuse(rows, num_classes=3, palette=PALETTE)
    assert "has colours of uint16" in message


def test_masks_of_single_objects_are_stored_as_instances(originals):
    for z in range(6):
        for k in range(2):
            mask = np.zeros(IMAGE.shape[1:], np.uint8)
            mask[10 * k : 10 * k + 12] = 255
            path = originals.root / f"{z}" / "masks" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(imagecodecs.png_encode(mask))
    rows = originals.rows(labels="*/masks/*.png", label_kind="masks")
    record = originals.ingest(rows)
    labels = originals.labels()
    assert (labels.dtype, labels[3, 9, 0], labels[3, 10, 0]) == (np.uint32, 7, 7)
    assert labels[3, 12, 0] == 8
    assert record["labels"]["label_kind"] == "instances"
    assert record["labels"]["num_ids"] == 12
    (warning,) = record["warnings"]
    assert "masks overlap in 6 of 6 sections, 600 voxels" in warning


def test_an_image_of_one_grey_value_is_a_warning(originals):
    originals.tiff("image.tif", np.full_like(IMAGE, 7))
    (warning,) = originals.ingest()["warnings"]
    assert warning.startswith("the image holds the value 7 everywhere; see whether")


def test_a_channel_of_one_grey_value_is_a_warning(originals):
    both = np.stack([IMAGE, np.zeros_like(IMAGE)])
    originals.tiff("image.tif", both, ome=True, metadata={"axes": "CZYX"})
    (warning,) = originals.ingest()["warnings"]
    assert warning.startswith("channel 1 of the image holds the value 0 everywhere")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((17, 17), "the image holds the value 17 everywhere; see whether the file"),
        (
            (0, 9),
            "the image holds the same values everywhere (0, 9 in its channels)",
        ),
    ],
)
def test_an_image_of_nothing_in_all_channels_is_one_warning(originals, values, told):
    blank = np.stack([np.full_like(IMAGE, value) for value in values])
    originals.tiff("image.tif", blank, ome=True, metadata={"axes": "CZYX"})
    warnings = originals.ingest()["warnings"]
    assert [w[: len(told)] for w in warnings if "holds the" in w] == [told]


def test_a_size_that_is_doubtful_is_a_warning_unless_the_sheet_tells_it(originals):
    about = {"axes": "ZYX", "PhysicalSizeX": -0.1, "PhysicalSizeY": 0.1}
    originals.tiff("image.tif", IMAGE, ome=True, metadata=about)
    record = originals.ingest()
    assert record["voxel_size_nm"] == [100, 100, 100]
    doubt, taken = record["warnings"]
    assert "PhysicalSizeX = -0.1 µm, which cannot be true" in doubt
    assert "along y alone: x is taken as 100 nm too, how far sections are" in taken
    rows = originals.rows(voxel_size_nm="50,4,4")
    assert all(
        "cannot be true" not in text for text in originals.ingest(rows)["warnings"]
    )


def test_all_files_of_an_image_are_recorded_with_their_hashes(originals):
    chunks = (1, 1, 32, 32)
    group = zarr.create_group(originals.root / "a.zarr", zarr_format=2)
    group.create_array("0", data=IMAGE[None], chunks=chunks)
    axes = [{"name": n, "type": "channel" if n == "c" else "space"} for n in "czyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    rows = originals.rows(image="a.zarr")
    first = originals.ingest(rows)["image"]["files"]
    assert [file["path"] for file in first][-1] == "a.zarr/0"
    assert first[-1]["num_files"] == 6 * 2 * 2 + 2
    (originals.root / "a.zarr/0/0.5.1.1").write_bytes(
        (originals.root / "a.zarr/0/0.4.1.1").read_bytes()
    )
    second = originals.ingest(rows)["image"]["files"]
    assert second[:-1] == first[:-1]
    assert second[-1]["sha256"] != first[-1]["sha256"]


@pytest.mark.parametrize("kind", mostly_slow(["uint16", "uint8", "float32"]))
@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
def test_sections_read_in_boxes_make_the_same_stores_and_record(
    originals, monkeypatch, kind, tile
):
    ingest = IngestConfig(chunk=(2, 8, 8), shard=(4, 16, 16))
    rng = np.random.default_rng(0)
    image = (rng.random((6, 40, 50)) * 250).astype(kind)
    originals.tiff("image.tif", image, tile=tile, compression="zlib", metadata=None)
    rows = originals.rows(axes="zyx")
    whole = originals.ingest(rows, config=ingest)
    voxels, labels = originals.image(), originals.labels()
    monkeypatch.setattr("unetpipe.ingestion.slabs.BOX_BYTES", 1)
    boxes = originals.ingest(rows, config=ingest)
    np.testing.assert_array_equal(originals.image(), voxels)
    np.testing.assert_array_equal(originals.labels(), labels)
    for record in (whole, boxes):
        del record["circumstances"]
    assert boxes == whole


def test_nan_is_found_and_replaced_in_boxes_too(originals, monkeypatch):
    ingest = IngestConfig(chunk=(2, 8, 8), shard=(4, 16, 16), nan_policy="replace")
    image = IMAGE.astype(np.float32)
    image[3, 30, 41] = np.nan
    originals.tiff("image.tif", image, metadata=None)
    rows = originals.rows(axes="zyx")
    whole = originals.ingest(rows, config=ingest)
    monkeypatch.setattr("unetpipe.ingestion.slabs.BOX_BYTES", 1)
    boxes = originals.ingest(rows, config=ingest)
    assert boxes["image"] == whole["image"]
    shutil.rmtree(originals.results)
    refused = originals.refuse(rows, config=IngestConfig())
    assert "the first at z, y, x = 3, 30, 41" in refused
