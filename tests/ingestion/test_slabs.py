"""Slabs are read ahead and written whole, whatever the threads do."""

import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from unetpipe.images import ImageReader
from unetpipe.images.axes import AxisPlan
from unetpipe.images.source import ImageSource
from unetpipe.ingestion import slabs
from unetpipe.ingestion.slabs import (
    VoxelHash,
    finish_slabs,
    ingest_label_boxes,
    start_slabs,
)
from unetpipe.storage.volumes import create_volume


class Stack(ImageSource):
    """An array in memory, read section by section or at once."""

    def __init__(self, voxels, by_section):
        self.voxels, self.by_section = voxels, by_section
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.files, self.largest = (Path("a.npy"),), 0

    def read(self, index):
        self.largest = max(self.largest, index[0].stop - index[0].start)
        return self.voxels[index]


def reader_of(voxels, by_section=True, num_threads=2):
    source = Stack(voxels, by_section)
    return ImageReader(source, AxisPlan("zyx", voxels.shape), num_threads)


def stack(depth, side=11):
    rng = np.random.default_rng(depth)
    return rng.integers(0, 255, (depth, side, side)).astype(np.uint8)


@pytest.mark.parametrize("by_section", [True, False])
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("depth", [1, 3, 4, 9, 12])
def test_slabs_are_the_sections_in_order(depth, num_threads, by_section):
    voxels = stack(depth)
    with reader_of(voxels, by_section, num_threads) as reader:
        boxes = ingest_label_boxes(reader, (4, 8, 8), "test")
        found = [(box.origin[0], box.voxels.copy()) for box in boxes]
        assert reader.source.largest == (1 if by_section else min(4, depth))
    assert [start for start, _ in found] == list(range(0, depth, 4))
    np.testing.assert_array_equal(np.concatenate([s for _, s in found], 1)[0], voxels)


def test_slabs_share_the_memory_of_two():
    with reader_of(stack(20)) as reader:
        bases = {
            box.voxels.__array_interface__["data"][0]
            for box in ingest_label_boxes(reader, (4, 8, 8), "test")
        }
    assert len(bases) == 2


def test_a_slab_may_be_changed_while_the_next_is_read():
    voxels = stack(12)
    seen = []
    with reader_of(voxels) as reader:
        for box in ingest_label_boxes(reader, (4, 8, 8), "test"):
            seen.append(box.voxels[0].copy())
            box.voxels[...] = 0
            assert box.origin == (4 * (len(seen) - 1), 0, 0)
    np.testing.assert_array_equal(np.concatenate(seen), voxels)


def test_writing_a_slab_writes_its_layer_of_shards(tmp_path):
    voxels = stack(6)
    array = create_volume(
        tmp_path / "a",
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunk=(2, 4, 4),
        shard=(4, 8, 8),
        voxel_size_nm=(1, 1, 1),
    )
    with ThreadPoolExecutor(3) as threads:
        for start in (0, 4):
            finish_slabs(
                start_slabs(array, (start, 0, 0), voxels[start : start + 4], threads)
            )
    np.testing.assert_array_equal(array[...], voxels)


def test_the_first_error_of_a_thread_is_raised(tmp_path, monkeypatch):
    array = create_volume(
        tmp_path / "a",
        shape=(4, 8, 8),
        dtype="u1",
        chunk=(4, 8, 8),
        shard=(4, 8, 8),
        voxel_size_nm=(1, 1, 1),
    )

    def fail(*_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("unetpipe.ingestion.slabs.store_shard", fail)
    with ThreadPoolExecutor(1) as threads:
        writing = start_slabs(array, (0, 0, 0), np.zeros((4, 8, 8), np.uint8), threads)
        with pytest.raises(OSError, match="Disk quota exceeded"):
            finish_slabs(writing)


class Channels(Stack):
    """Channels before sections, all cut anywhere."""

    def read(self, index):
        return self.voxels[index]


@pytest.mark.parametrize("most", [1, 900, 3000, 10_000, 1 << 20])
@pytest.mark.parametrize("shape", [(1, 1, 37, 41), (1, 6, 37, 41), (3, 6, 37, 41)])
@pytest.mark.parametrize("by_section", [True, False])
def test_boxes_of_any_size_give_the_same_voxels_and_hash(
    tmp_path, monkeypatch, most, shape, by_section
):
    monkeypatch.setattr(slabs, "BOX_BYTES", most)
    voxels = np.random.default_rng(0).integers(0, 999, shape).astype(">u2")
    source = Channels(voxels, by_section)
    source.dtype = np.dtype(np.uint16)
    found = np.zeros(shape, np.uint16)
    expected = hashlib.sha256()
    for section in np.moveaxis(voxels, 1, 0):
        expected.update(np.ascontiguousarray(section, "<u2").data)
    given = VoxelHash(hashlib.sha256(), shape, tmp_path)
    with ImageReader(source, AxisPlan("czyx", shape), 2) as reader:
        boxes = 0
        for box in ingest_label_boxes(reader, (4, 8, 16), "test"):
            z, y, x = box.origin
            assert (z % 4, y % 8, x % 16) == (0, 0, 0)
            _, deep, high, wide = box.voxels.shape
            found[:, z : z + deep, y : y + high, x : x + wide] = box.voxels
            given.add(box)
            boxes += 1
    np.testing.assert_array_equal(found, voxels)
    assert given.hexdigest() == expected.hexdigest()
    assert list(tmp_path.iterdir()) == []
    layers = -(-shape[1] // 4)
    assert (boxes == layers) == (most >= voxels[:, :4].nbytes)


@pytest.mark.parametrize(
    ("granule", "most"),
    [((1, 256, 256), (1024, 1024)), ((1, 8, 5000), (1024, 5000)), ((), (3000, 5000))],
)
def test_boxes_are_small_where_none_is_decoded_for_several(granule, most):
    section = np.broadcast_to(np.uint32(0), (1, 3000, 5000))
    source = Stack(section, True)
    source.granule = granule
    with ImageReader(source, AxisPlan("zyx", section.shape), 1) as reader:
        rows, columns = zip(*slabs.cut_image(reader, (1, 1024, 1024)), strict=True)
    assert max(row.stop - row.start for row in rows) == most[0]
    assert max(column.stop - column.start for column in columns) == most[1]


def test_boxes_of_several_sections_are_large_because_their_hash_has_to_wait():
    stack = np.broadcast_to(np.uint32(0), (2, 3000, 5000))
    source = Stack(stack, True)
    source.granule = (1, 8, 8)
    with ImageReader(source, AxisPlan("zyx", stack.shape), 1) as reader:
        assert len(slabs.cut_image(reader, (2, 1024, 1024))) == 1


def test_of_one_plane_no_more_waits_than_a_row_of_boxes(monkeypatch):
    section = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8)
    digest = VoxelHash(hashlib.sha256(), (1, *section.shape), None)
    sizes = []
    monkeypatch.setattr(digest, "_add_waiting", sizes.append)
    source = Stack(section, True)
    source.granule = (1, 16, 16)
    monkeypatch.setattr(slabs, "SMALL_BOX_BYTES", 1)
    with ImageReader(source, AxisPlan("zyx", section.shape), 1) as reader:
        for box in ingest_label_boxes(reader, (1, 16, 16), "test"):
            digest.add(box)
    assert sizes == [16 * 64] * 4


def test_a_box_is_no_larger_than_asked_unless_it_is_one_shard():
    shape, shard = (2, 30, 5000, 7000), (8, 1024, 1024)
    one = 2 * 8 * 1024 * 1024
    for most in (1, one, 3 * one, 7 * one, 40 * one):
        for rows, columns in slabs.cut_slab(shape, shard, 1, most):
            size = 16 * (rows.stop - rows.start) * (columns.stop - columns.start)
            assert size <= max(most, one)
