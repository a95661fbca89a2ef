"""Labels in, target and border term out: whole shards, exact, replaced when redone."""

import hashlib

import numpy as np
import pytest

from tests.stages.annotated import draw_instances, ingest, weigh
from unetpipe.config import WeightMapConfig
from unetpipe.errors import ConfigError, DataError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.compute_weight_map import compute_weight_map
from unetpipe.storage.volumes import open_volume, shard_path, shard_shape
from unetpipe.targets.weight_map import (
    cells_to_instances,
    compute_border_term,
    separate_touching,
)
from unetpipe.tiling.boxes import iterate_grid, whole_volume


def stored(record, name):
    return np.asarray(open_volume_of(record, name)[...])


def open_volume_of(record, name):
    from pathlib import Path

    return open_volume(Path(read_record(record)[name]["store"]))


@pytest.mark.parametrize("ndim", [2, 3])
def test_stores_hold_what_the_formulas_say(tmp_path, ndim):
    """With ndim 2 section by section, with ndim 3 across sections."""
    ids = draw_instances((3, 70, 90))
    record = weigh(ingest(tmp_path / "cells", ids), ndim=ndim)
    if ndim == 3:
        separated = separate_touching(ids)
        border = compute_border_term(separated, voxel_size=(50.0, 4.0, 4.0))
    else:
        separated = np.stack([separate_touching(section) for section in ids])
        border = np.stack([compute_border_term(section) for section in separated])
    np.testing.assert_array_equal(stored(record, "target"), separated > 0)
    np.testing.assert_array_equal(stored(record, "border_term"), border)
    assert stored(record, "target").dtype == np.uint8
    assert stored(record, "border_term").dtype == np.float32
    assert border.max() > 5


def test_the_record_counts_classes_and_cells_of_each_section(tmp_path):
    ids = draw_instances()
    ids[1] = 0
    ids[2, :, 30:] = 9999
    record = weigh(ingest(tmp_path / "cells", ids, unlabelled=9999))
    target, values = stored(record, "target"), read_record(record)
    assert (target[2, :, 30:] == 255).all()
    assert values["class_counts"] == [
        [int((section == k).sum()) for k in range(2)] for section in target
    ]
    assert values["num_cells"] == [
        len(np.unique(section[(section > 0) & (section < 9999)])) for section in ids
    ]
    assert values["num_cells"][1] == 0
    assert values["volume"] == "cells"


def test_content_hashes_are_those_of_the_sections_in_order(tmp_path):
    record = weigh(ingest(tmp_path / "cells", draw_instances()))
    for name, dtype in (("border_term", "<f4"), ("target", "u1")):
        expected = hashlib.sha256()
        for section in stored(record, name).astype(dtype):
            expected.update(hashlib.sha256(section.tobytes()).digest())
        assert read_record(record)[name]["content_sha256"] == expected.hexdigest()


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_shard_is_written(tmp_path, ndim):
    """70 x 90 voxels in shards of 64 x 64: clipped ones too."""
    record = weigh(ingest(tmp_path / "cells", draw_instances((3, 70, 90))), ndim=ndim)
    for name in ("border_term", "target"):
        array = open_volume_of(record, name)
        shard = shard_shape(array)
        assert shard == ((1, 64, 64) if ndim == 2 else (64, 256, 256))
        indices = list(iterate_grid(whole_volume(array.shape), shard))
        assert len(indices) == (12 if ndim == 2 else 1)
        assert all(shard_path(array, index).is_file() for index in indices)


def test_only_wholly_written_stores_get_their_name(tmp_path, monkeypatch):
    """A failure midway leaves the old stores and the old record as they were."""
    path = ingest(tmp_path / "cells", draw_instances())
    record = weigh(path)
    before, old = stored(record, "border_term"), record.read_bytes()
    calls = []

    def fail_at_third(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("disk full")
        return compute_border_term(*arguments, **keywords)

    monkeypatch.setattr(
        "unetpipe.targets.weight_blocks.compute_border_term", fail_at_third
    )
    with pytest.raises(RuntimeError, match="disk full"):
        weigh(path, config=WeightMapConfig(w0=5.0))
    assert record.read_bytes() == old
    np.testing.assert_array_equal(stored(record, "border_term"), before)


def test_a_rerun_replaces_the_stores(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances())
    ten = stored(weigh(path), "border_term")
    record = weigh(path, config=WeightMapConfig(w0=5.0))
    np.testing.assert_allclose(stored(record, "border_term"), ten / 2, rtol=1e-6)
    folders = {p.name for p in (tmp_path / "cells").iterdir() if p.is_dir()}
    assert not [name for name in folders if "partial" in name]


def test_a_rerun_gives_the_same_bytes(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances())
    one, two = (read_record(weigh(path)) for _ in range(2))
    for values in (one, two):
        del values["circumstances"]
    assert one == two


def test_without_the_map_the_term_is_zero_and_the_target_the_same(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances())
    target = stored(weigh(path), "target")
    record = weigh(path, config=WeightMapConfig(enabled=False))
    assert not stored(record, "border_term").any()
    np.testing.assert_array_equal(stored(record, "target"), target)


def test_binary_labels_are_components_of_each_section(tmp_path):
    mask = (draw_instances() > 0).astype(np.uint8)
    mask[0, :5] = 255
    path = ingest(tmp_path / "cells", mask, kind="binary", unlabelled=255)
    record = weigh(path)
    np.testing.assert_array_equal(stored(record, "target"), mask)
    expected = compute_border_term(cells_to_instances(mask[1], "binary"))
    np.testing.assert_array_equal(stored(record, "border_term")[1], expected)
    assert not stored(record, "border_term")[0, :5].any()


def test_classes_are_cut_into_cells_by_the_border_class(tmp_path, caplog):
    classes = (draw_instances() > 0).astype(np.uint8) * 2 + 1  # 1 between, 3 inside
    path = ingest(tmp_path / "tissue", classes, kind="classes", unlabelled=255)
    record = weigh(path, num_classes=4, config=WeightMapConfig(border_class=1))
    np.testing.assert_array_equal(stored(record, "target"), classes)
    assert stored(record, "border_term")[classes == 1].max() > 5
    assert read_record(record)["class_counts"][0][2] == 0
    assert not caplog.text
    weigh(path, num_classes=4)
    assert not caplog.text, "classes without a border between them are usual"
    weigh(path, num_classes=4, config=WeightMapConfig(border_class=3))
    assert not caplog.text
    everything = ingest(tmp_path / "border", np.ones_like(classes), kind="classes")
    weigh(everything, num_classes=4, config=WeightMapConfig(border_class=1))
    assert "no cells, so its border term is 0 everywhere" in caplog.text
    assert "weight_map.border_class" in caplog.text


def test_a_class_that_the_network_lacks_names_volume_and_section(tmp_path):
    classes = np.zeros((3, 20, 20), np.uint8)
    classes[2, 4, 4] = 7
    path = ingest(tmp_path / "tissue", classes, kind="classes", unlabelled=255)
    with pytest.raises(DataError, match=r"tissue, section 2: labels hold class 7"):
        weigh(path, num_classes=4)
    assert not (tmp_path / "tissue" / "weight_map.json").exists()


def test_instances_need_two_classes(tmp_path):
    path = ingest(tmp_path / "cells", draw_instances())
    with pytest.raises(ConfigError, match=r"num_classes is 3 but label_kind"):
        weigh(path, num_classes=3)


def test_a_volume_without_labels_is_refused(tmp_path, make_volume):
    with pytest.raises(DataError, match=r"volume vol has no labels.*role predict"):
        weigh(make_volume((2, 16, 16)))


@pytest.mark.parametrize(("ndim", "original"), [(2, None), (3, None), (2, 18)])
def test_the_rim_that_nobody_annotated_weighs_nothing(tmp_path, ndim, original):
    labels = draw_instances((2, 50, 60))
    record = ingest(tmp_path / "vol", labels)
    if original:  # at half the resolution of the files
        grid = {"shape": [2, 100, 120], "voxel_size_nm": [1, 1, 1]}
        write_record(record, read_record(record) | {"original": grid})
    compute_weight_map(
        ingest=record,
        weight_map=WeightMapConfig(),
        num_classes=2,
        ndim=ndim,
        stores={
            "border_term": tmp_path / "border.zarr",
            "target": tmp_path / "target.zarr",
        },
        record=tmp_path / "weight_map.json",
        field_of_interest=original or 9,
    )
    target = np.asarray(open_volume(tmp_path / "target.zarr")[...])
    border = np.asarray(open_volume(tmp_path / "border.zarr")[...])
    known = np.zeros(labels.shape, bool)
    known[:, 9:-9, 9:-9] = True
    assert ((target != 255) == known).all()
    assert (border[~known] == 0).all()
    counts = np.array(read_record(tmp_path / "weight_map.json")["class_counts"])
    assert counts.sum() == known.sum()


@pytest.mark.parametrize(("width", "num_lost"), [(1, 16), (2, 0), (3, 0)])
def test_thin_cells_side_by_side_are_kept_or_counted_and_told(
    tmp_path, width, num_lost, caplog
):
    labels = np.zeros((1, 32, 32), np.uint32)
    labels[0] = np.arange(32) // width + 1
    path = weigh(ingest(tmp_path / "thin", labels))
    record, cells = (
        read_record(path),
        np.where(stored(path, "target") == 1, labels, 0),
    )
    assert record["num_lost"] == num_lost
    assert np.unique(cells[cells > 0]).size == record["num_cells"][0] - num_lost
    np.testing.assert_array_equal(separate_touching(cells[0]), cells[0])
    assert (stored(path, "border_term")[0, 1:-1, 1:-1].max() > 9) == (width < 3)
    told = f"{num_lost} of {record['num_cells'][0]} cells are so thin"
    assert (told in caplog.text) == bool(num_lost)
