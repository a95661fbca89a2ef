"""Cores and rims are what their definition says, whatever a volume is cut into."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from tests.stages.annotated import draw_instances, ingest, weigh
from tests.variants import mostly_slow
from unetpipe.config import WeightMapConfig
from unetpipe.errors import ConfigError
from unetpipe.records.weight_map import WeightMap
from unetpipe.segmentation.components import label_components
from unetpipe.storage.volumes import open_volume
from unetpipe.targets.cores import core_reach, split_cells, usual_diameter
from unetpipe.targets.weight_map import UNLABELLED, separate_touching

KINDS = ("border", "markers")


def split(cells, width, **more):
    return split_cells(cells, separate_touching(cells), width, **more)


@pytest.mark.parametrize("width", [1, 2.5])
def test_thick_cells_lose_what_is_near_others(width):
    """The definition, by a library's distances: cells here are thick enough."""
    cells = np.zeros((60, 60), np.int64)
    cells[5:55, 5:28], cells[5:55, 28:50] = 1, 2
    found = split(cells, width)
    for number in (1, 2):
        own = cells == number
        other = distance_transform_edt(~((cells != 0) & ~own))
        deep = distance_transform_edt(own)
        np.testing.assert_array_equal(found["border"][own] == 2, other[own] <= width)
        np.testing.assert_array_equal(found["markers"][own] == 2, deep[own] <= width)
    for classes in found.values():
        np.testing.assert_array_equal(classes == 0, cells == 0)


@pytest.mark.parametrize("shape", [(90, 100), (6, 40, 44)])
def test_every_cell_that_is_kept_has_a_core_and_none_touches_another(shape):
    cells = draw_instances((1, *shape) if len(shape) == 2 else shape)
    cells = cells[0] if len(shape) == 2 else cells
    kept = np.unique(separate_touching(cells))
    for width in (1, 4, 20):
        for classes in split(cells, width).values():
            cores = np.where(classes == 1, cells, 0)
            np.testing.assert_array_equal(np.unique(cores), kept)
            np.testing.assert_array_equal(separate_touching(cores), cores)


def test_long_voxels_have_a_rim_of_one():
    cells = np.ones((8, 6, 6), np.int32)
    cells[4:] = 2
    classes = split(cells, 2, voxel_size=(50.0, 4.0, 4.0))["border"]
    assert classes[:, 3, 3].tolist() == [1, 1, 1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0)])
def test_nothing_farther_than_the_reach_counts(size):
    cells = draw_instances((9, 60, 64), seed=3)
    reach = core_reach(1.5)
    whole = split(cells, 1.5, voxel_size=size)
    box = np.s_[:, 20 - reach : 40 + reach, 22 - reach : 40 + reach]
    inside = np.s_[:, reach : reach + 20, reach : reach + 18]
    part = split(cells[box], 1.5, voxel_size=size, inside=inside)
    for name in KINDS:
        np.testing.assert_array_equal(part[name], whole[name][:, 20:40, 22:40])


@pytest.mark.parametrize("ndim", mostly_slow([2, 3]))
@pytest.mark.parametrize("kind", ["instances", "binary"])
def test_the_stored_targets_do_not_depend_on_the_blocks(
    tmp_path, monkeypatch, kind, ndim
):
    labels = draw_instances((2, 70, 76))
    labels[:, 30:34, 20:50] = 999
    if kind == "binary":
        labels = np.where(labels == 999, 999, labels > 0)
    labels = labels.astype(np.uint32)
    more = {"ndim": ndim, "learnt": KINDS, "config": WeightMapConfig(border_vox=2)}
    found = []
    for name in ("whole", "parts"):
        path = ingest(tmp_path / name, labels, kind=kind, unlabelled=999)
        record = WeightMap.read(weigh(path, **more))
        found.append(
            {n: open_volume(record.learnt[n].store)[...] for n in KINDS}
            | {"counts": [record.learnt[n].class_counts for n in KINDS]}
        )
        monkeypatch.setattr("unetpipe.targets.weight_blocks.MOST_VOXELS", 1)
        stores = "unetpipe.targets.whole_volumes"
        monkeypatch.setattr(f"{stores}.CHUNK_3D", (2, 16, 16))
        monkeypatch.setattr(f"{stores}.SHARD_3D", (2, 32, 32))
    for name in KINDS:
        np.testing.assert_array_equal(found[0][name], found[1][name])
        classes = found[0][name]
        np.testing.assert_array_equal(classes == UNLABELLED, labels == 999)
        of_sections = np.stack(
            [np.bincount(s.ravel(), minlength=3)[:3] for s in classes]
        )
        index = KINDS.index(name)
        np.testing.assert_array_equal(found[1]["counts"][index], of_sections)
    assert (found[0]["markers"] == 2).sum() > (found[0]["border"] == 2).sum() > 0


def test_the_width_follows_from_the_size_of_cells(tmp_path):
    cells = np.zeros((2, 80, 80), np.uint32)
    cells[:, 10:40, 10:40], cells[:, 40:70, 10:40] = 1, 2
    assert usual_diameter([cells[0]]) == pytest.approx(33.9, abs=0.1)
    record = WeightMap.read(weigh(ingest(tmp_path, cells), learnt=["markers"]))
    assert record.learnt["markers"].border_vox == 3.4
    core = open_volume(record.learnt["markers"].store)[0] == 1
    assert label_components(core[None], "2d")[1] == 2


def test_classes_tell_no_cells_apart(tmp_path):
    labels = np.zeros((1, 40, 40), np.uint8)
    with pytest.raises(ConfigError, match=r"network\.targets is border.*classes"):
        weigh(ingest(tmp_path, labels, kind="classes"), learnt=["border"])
