"""Shards are what the Zarr format says: every reader finds the same voxels in them."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_stores import store_voxels
from unetpipe.errors import ResourceError
from unetpipe.storage.shard_codec import MISSING, ShardFormat
from unetpipe.storage.volumes import (
    _decodable,
    create_volume,
    read_stored_roi,
    shard_path,
    store_shard,
    write_shard,
)
from unetpipe.tiling.boxes import Roi, iterate_grid, whole_volume

DTYPES = ["uint8", "int16", ">u2", "uint32", "uint64", "float32", "float64"]
sides = st.integers(1, 3)


def fill(path, voxels, chunk, shard):
    """Write voxels (c, z, y, x) or (z, y, x) shard by shard; return the array."""
    names = tuple("abc"[: len(voxels)]) if voxels.ndim == 4 else None
    return store_voxels(path, voxels, chunk=chunk, shard=shard, channels=names)


@settings(max_examples=settings.default.max_examples)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), channels=st.integers(0, 3))
def test_zarr_reads_what_was_stored(data, dtype, channels, tmp_path_factory):
    chunk = data.draw(st.tuples(sides, sides, sides))
    shard = tuple(c * data.draw(sides) for c in chunk)
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lead = (channels,) if channels else ()
    voxels = rng.integers(0, 200, (*lead, *shape)).astype(dtype)
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    array = fill(path, voxels, chunk, shard)
    fresh = zarr.open_array(path / "0", mode="r")
    np.testing.assert_array_equal(fresh[...], voxels)
    files = [p for p in (path / "0" / "c").rglob("*") if p.is_file()]
    assert len(files) == len(list(iterate_grid(whole_volume(shape), array.shards[-3:])))


def test_shards_that_zarr_wrote_hold_the_same_chunks(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (8, 16, 16)).astype(np.uint16)
    ours = fill(tmp_path / "ours", voxels, (2, 8, 8), (8, 16, 16))
    theirs = create_volume(
        tmp_path / "theirs",
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunk=(2, 8, 8),
        shard=(8, 16, 16),
        voxel_size_nm=(1, 1, 1),
    )
    theirs[...] = voxels
    files = [shard_path(array, (0, 0, 0)).read_bytes() for array in (ours, theirs)]
    indices = [np.frombuffer(f[-(16 * 16 + 4) : -4], "<u8") for f in files]
    chunks = [
        {
            f[offset : offset + length]
            for offset, length in index.reshape(-1, 2).tolist()
        }
        for f, index in zip(files, indices, strict=True)
    ]
    assert chunks[0] == chunks[1]
    assert len(chunks[0]) == 16


def test_chunks_outside_the_volume_are_left_out():
    buffers = ShardFormat((2, 2), (4, 6), np.dtype("u1"), 0).encode(
        np.ones((3, 2), np.uint8)
    )
    index = np.frombuffer(buffers[-2], "<u8").reshape(2, 3, 2)
    assert (index[:, 1:] == MISSING).all()
    assert (index[:, 0, 1] == [len(buffers[0]), len(buffers[1])]).all()
    assert len(buffers) == 2 + 2


def test_the_hash_is_that_of_the_file(tmp_path):
    array = create_volume(
        tmp_path / "a",
        shape=(2, 9, 9),
        dtype="u1",
        chunk=(1, 4, 4),
        shard=(2, 8, 8),
        voxel_size_nm=(1, 1, 1),
    )
    digest = write_shard(array, (0, 1, 0), np.full((2, 1, 8), 7, np.uint8))
    content = shard_path(array, (0, 1, 0)).read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("damage", ["index", "checksum"])
def test_a_damaged_index_is_found_by_its_checksum(tmp_path, damage):
    voxels = np.ones((2, 4, 4), np.uint8)
    array = fill(tmp_path / "a", voxels, (1, 2, 2), (2, 4, 4))
    path = shard_path(array, (0, 0, 0))
    content = bytearray(path.read_bytes())
    content[-1 if damage == "checksum" else -20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        array[...]


def test_a_damaged_shard_is_replaced_without_being_read(tmp_path):
    voxels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    array = fill(tmp_path / "a", voxels, (1, 2, 2), (2, 4, 4))
    shard_path(array, (0, 0, 0)).write_bytes(b"torn")
    write_shard(array, (0, 0, 0), voxels)
    np.testing.assert_array_equal(array[...], voxels)


def test_a_shard_that_cannot_be_written_leaves_the_old_one_and_no_rest(
    tmp_path, monkeypatch
):
    voxels = np.ones((2, 4, 4), np.uint8)
    array = fill(tmp_path / "a", voxels, (1, 2, 2), (2, 4, 4))

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unetpipe.runtime.files.os.fsync", fail)
    with pytest.raises(ResourceError, match="No space left"):
        store_shard(array, (0, 0, 0), voxels * 2)
    np.testing.assert_array_equal(array[...], voxels)
    assert not list(tmp_path.rglob("*.partial"))


def test_threads_may_write_shards_of_one_array(tmp_path):
    voxels = np.random.default_rng(1).integers(0, 255, (8, 32, 32)).astype(np.uint8)
    array = fill(tmp_path / "a", voxels * 0, (1, 8, 8), (1, 16, 16))
    indices = list(iterate_grid(whole_volume((8, 32, 32)), (1, 16, 16)))

    def work(own):
        for z, y, x in own:
            part = voxels[z : z + 1, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
            store_shard(array, (z, y, x), part)

    threads = [threading.Thread(target=work, args=(indices[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(array[...], voxels)


def test_a_temporary_name_is_one_that_finishing_sweeps(tmp_path, monkeypatch):
    array = create_volume(
        tmp_path / "a",
        shape=(1, 4, 4),
        dtype="u1",
        chunk=(1, 4, 4),
        shard=(1, 4, 4),
        voxel_size_nm=(1, 1, 1),
    )
    seen = []
    original = os.fsync

    def look(descriptor):
        seen.extend(p.name for p in tmp_path.rglob("*.partial"))
        original(descriptor)

    monkeypatch.setattr("unetpipe.runtime.files.os.fsync", look)
    store_shard(array, (0, 0, 0), np.zeros((1, 4, 4), np.uint8))
    assert len(seen) == 1


@settings(max_examples=settings.default.max_examples)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), channels=st.integers(0, 3))
def test_any_box_is_decoded_as_zarr_does(data, dtype, channels, tmp_path_factory):
    chunk = data.draw(st.tuples(sides, sides, sides))
    shard = tuple(c * data.draw(sides) for c in chunk)
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lead = (channels,) if channels else ()
    voxels = rng.integers(0, 200, (*lead, *shape)).astype(dtype)
    array = fill(tmp_path_factory.mktemp("store") / "a.zarr", voxels, chunk, shard)
    assert _decodable(array)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(
        data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)
    )
    roi = Roi(start, stop)
    if data.draw(st.booleans()):  # a shard that is not there reads as 0
        shard_path(array, (0, 0, 0)).unlink()
    expected = np.asarray(array[(..., *roi.slices)])
    found = read_stored_roi(array, roi)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


VOXELS = np.arange(2 * 8 * 8 * 8, dtype=np.uint16).reshape(2, 8, 8, 8)


@pytest.fixture
def stored(tmp_path):
    return fill(tmp_path / "a.zarr", VOXELS, (2, 4, 4), (4, 8, 8))


def test_only_the_chunks_of_a_box_are_read(stored, monkeypatch):
    lengths, real = [], os.pread

    def pread(descriptor, length, offset):
        lengths.append(length)
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    read_stored_roi(stored, Roi((2, 0, 0), (4, 4, 8)))
    assert len(lengths) == 1 + 2 * 2  # the index; two channels of two chunks


@pytest.mark.parametrize("damage", ["truncated", "index", "chunk"])
def test_a_damaged_shard_is_an_error_as_before(stored, damage):
    path = shard_path(stored, (0, 0, 0))
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[-6 if damage == "index" else 3] ^= 255
    path.write_bytes(content)
    box = Roi((0, 0, 0), (4, 8, 8))
    with pytest.raises(Exception) as of_zarr:  # noqa: PT011
        np.asarray(stored[(..., *box.slices)])
    with pytest.raises(of_zarr.type) as ours:
        read_stored_roi(stored, box)
    assert str(ours.value) == str(of_zarr.value)


@pytest.mark.parametrize(
    "made",
    [
        {"chunks": (1, 4, 4, 4)},
        {"chunks": (1, 4, 4, 4), "shards": (1, 8, 8, 8)},
        {"chunks": (1, 4, 4, 4), "shards": (2, 8, 8, 8), "compressors": None},
        {"chunks": (1, 4, 4, 4), "zarr_format": 2},
        {
            "chunks": (1, 4, 4, 4),
            "shards": (2, 8, 8, 8),
            "chunk_key_encoding": {"name": "default", "separator": "."},
        },
    ],
    ids=["no shards", "channels apart", "raw", "version 2", "dots"],
)
def test_what_others_store_otherwise_is_left_to_zarr(tmp_path, made):
    usual = (
        {"compressors": zarr.codecs.ZstdCodec()} if "zarr_format" not in made else {}
    )
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=VOXELS.shape, dtype=VOXELS.dtype, **(usual | made)
    )
    array[:, :4] = VOXELS[:, :4]
    assert _decodable(array) is None
    box = Roi((1, 2, 3), (7, 8, 8))
    np.testing.assert_array_equal(
        read_stored_roi(array, box), array[(..., *box.slices)]
    )


def test_what_was_never_written_reads_as_the_fill_value(tmp_path):
    """Labels of boxes lie in such arrays: whole shards, and chunks of others."""
    sizes = {"chunks": (1, 4, 4, 4), "shards": (2, 8, 4, 8)}
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=VOXELS.shape,
        dtype=VOXELS.dtype,
        fill_value=7,
        compressors=zarr.codecs.ZstdCodec(),
        **sizes,
    )
    array[:, :4, :3] = VOXELS[:, :4, :3]
    form = _decodable(array)
    assert form is not None
    assert form.fill == 7
    box = Roi((1, 2, 3), (7, 8, 8))
    np.testing.assert_array_equal(
        read_stored_roi(array, box), array[(..., *box.slices)]
    )
    assert (read_stored_roi(array, box)[:, :, 1:] == 7).all()


def test_a_box_beyond_the_array_is_cut_as_zarr_cuts_it(stored):
    box = Roi((6, 0, 0), (12, 8, 9))
    assert read_stored_roi(stored, box).shape == (2, 2, 8, 8)


def test_any_number_of_threads_makes_the_same_file(monkeypatch):
    voxels = np.random.default_rng(0).integers(0, 9, (1, 7, 20, 20)).astype(np.uint8)
    form = ShardFormat((1, 2, 4, 4), (1, 8, 20, 20), voxels.dtype, 1)
    made, pools = [], []

    class Pool(ThreadPoolExecutor):
        def __init__(self, num_threads, name):
            pools.append(num_threads)
            super().__init__(num_threads, name)

    module = "unetpipe.storage.shard_codec"
    monkeypatch.setattr(f"{module}.ThreadPoolExecutor", Pool)
    for number in (1, 2, 3, 64):
        monkeypatch.setattr(f"{module}.num_processors", lambda number=number: number)
        made.append(b"".join(form.encode(voxels)))
    assert pools == [1, 2, 3, 4]
    assert len(set(made)) == 1
