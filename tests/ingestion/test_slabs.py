"""Slabs are read ahead and written whole, whatever the threads do."""

import errno
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unetpipe.images import ImageReader
from unetpipe.images.axes import AxisPlan
from unetpipe.images.source import ImageSource
from unetpipe.ingestion.slabs import finish_writing, read_slabs, start_writing
from unetpipe.storage.volumes import create_volume


class Stack(ImageSource):
    """An array in memory, read section by section or at once."""

    def __init__(self, voxels, by_section):
        self.voxels, self.by_section = voxels, by_section
        self.shape, self.dtype = voxels.shape, voxels.dtype
        self.largest = 0

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
        found = [(start, slab.copy()) for start, slab in read_slabs(reader, 4, "test")]
        assert reader.source.largest == (1 if by_section else min(4, depth))
    assert [start for start, _ in found] == list(range(0, depth, 4))
    np.testing.assert_array_equal(np.concatenate([s for _, s in found], 1)[0], voxels)


def test_slabs_share_the_memory_of_two():
    with reader_of(stack(20)) as reader:
        bases = {
            slab.__array_interface__["data"][0]
            for _, slab in read_slabs(reader, 4, "test")
        }
    assert len(bases) == 2


def test_a_slab_may_be_changed_while_the_next_is_read():
    voxels = stack(12)
    seen = []
    with reader_of(voxels) as reader:
        for start, slab in read_slabs(reader, 4, "test"):
            seen.append(slab[0].copy())
            slab[...] = 0
            assert start == 4 * (len(seen) - 1)
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
            finish_writing(
                start_writing(array, start, voxels[start : start + 4], threads)
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
        writing = start_writing(array, 0, np.zeros((4, 8, 8), np.uint8), threads)
        with pytest.raises(OSError, match="Disk quota exceeded"):
            finish_writing(writing)
