"""Resolution levels: valid, equal to the whole array halved, in any number of parts."""

import hashlib

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unetpipe.records.pyramids import PyramidJob
from unetpipe.runtime.files import hash_file
from unetpipe.storage.downsampling import downsample
from unetpipe.storage.levels import create_levels, pyramid_factors
from unetpipe.storage.pyramid import Pyramid, build_pyramid
from unetpipe.storage.pyramid_parts import coarsen_share, finish_levels
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    write_shard,
)
from unetpipe.tiling.boxes import UNKNOWN_SIZE, grid_cell, iterate_grid, whole_volume

SHAPE, SHARD = (3, 43, 69), (2, 16, 16)
VOXELS = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_screen(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 16)
    monkeypatch.setattr("unetpipe.storage.pyramid.BLOCK_BYTES", 16 * 512)


def job_of(path, is_labels, content, receipts):
    return PyramidJob(
        store=path, is_labels=is_labels, content_sha256=content, receipts=receipts
    )


def store(path, voxels=VOXELS, *, shard=SHARD, size=(50, 4, 4), left_out=(), **more):
    shape = voxels.shape[-3:]
    create_volume(
        path,
        shape=shape,
        dtype=voxels.dtype,
        chunk=(1, *(n // 2 or 1 for n in shard[1:])),
        shard=shard,
        voxel_size_nm=size,
        **more,
    )
    array = open_volume(path, mode="r+")
    for index in iterate_grid(whole_volume(shape), shard):
        if index not in left_out:
            inside = grid_cell(index, shard, shape).slices
            write_shard(array, index, voxels[(..., *inside)])
    return path


def levels(path):
    count = len(zarr.open_group(path).attrs["ome"]["multiscales"][0]["datasets"])
    return [open_volume(path, level=k)[...] for k in range(count)]


def halved(voxels, factors, *, is_labels=False):
    found = [voxels]
    for factor in factors:
        found.append(downsample(found[-1], factor, is_labels=is_labels))
    return found


def equal(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def contents(path):
    return {
        file.relative_to(path).as_posix(): hash_file(file)
        for file in path.rglob("*")
        if file.is_file()
    }


def test_only_axes_that_are_still_finer_are_halved(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 512)
    assert pyramid_factors((64, 2048, 2048), (16.0, 4.0, 4.0)) == [(1, 2, 2)] * 2
    assert pyramid_factors((64, 4096, 4096), (8.0, 8.0, 8.0)) == [(2, 2, 2)] * 3
    assert pyramid_factors((30, 512, 512), (50.0, 4.0, 4.0)) == []


def test_frames_whose_distance_nobody_knows_stay_apart(monkeypatch):
    monkeypatch.setattr("unetpipe.storage.levels.COARSEST_VOXELS", 512)
    assert pyramid_factors((84, 2048, 2048), UNKNOWN_SIZE) == [(1, 2, 2)] * 2
    assert pyramid_factors((84, 2048, 2048), (None, 4.0, 4.0)) == [(1, 2, 2)] * 2


@pytest.mark.parametrize("is_labels", [False, True])
def test_a_pyramid_is_valid_and_equals_the_whole_array_halved(tmp_path, is_labels):
    path = tmp_path / "v.zarr"
    store(path, channels=None)
    if is_labels:
        path = store(create_labels_group(path, ("cells",)) / "cells", unlabelled=0)
    assert build_pyramid(path, is_labels=is_labels) == 4
    assert equal(levels(path), halved(VOXELS, [(1, 2, 2)] * 3, is_labels=is_labels))
    yaozarrs.validate_zarr_store(tmp_path / "v.zarr")
    before = contents(path)
    assert build_pyramid(path, is_labels=is_labels) == 4
    assert contents(path) == before


@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=[*HealthCheck])
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 50), st.integers(1, 50)),
    shard=st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)),
    size=st.sampled_from([(50, 4, 4), (4, 4, 4), (8, 4, 5)]),
    num_parts=st.integers(1, 4),
    is_labels=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_shard_and_number_of_parts_gives_the_whole_array_halved(
    tmp_path_factory, shape, shard, size, num_parts, is_labels, seed
):
    folder = tmp_path_factory.mktemp("any")
    voxels = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint16)
    chunk = tuple(n // 2 or 1 for n in shard[1:])
    shard = (shard[0], *(2 * n for n in chunk))
    path = store(folder / "v.zarr", voxels, shard=shard, size=size)
    create_levels(path)
    job = job_of(path, is_labels, "content", folder / "receipts")
    for part in reversed(range(num_parts)):
        coarsen_share(job, part=part, num_parts=num_parts)
    finish_levels(job)
    factors = pyramid_factors(shape, size)
    assert equal(levels(path), halved(voxels, factors, is_labels=is_labels))


def test_the_bits_do_not_depend_on_parts_or_interruptions(tmp_path, monkeypatch):
    whole = store(tmp_path / "a" / "v.zarr", channels=("a", "b"), voxels=two_channels())
    build_pyramid(whole)
    parted = store(
        tmp_path / "b" / "v.zarr", channels=("a", "b"), voxels=two_channels()
    )
    create_levels(parted)
    job = job_of(parted, False, "content", tmp_path / "receipts")
    blocks = Pyramid(parted, is_labels=False).blocks
    assert len(blocks) > 4
    written = []
    write_block = Pyramid.write_block

    def die_after_two(self, block):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(block)
        return write_block(self, block)

    monkeypatch.setattr(Pyramid, "write_block", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        coarsen_share(job)
    monkeypatch.setattr(Pyramid, "write_block", write_block)
    done = [coarsen_share(job, part=part, num_parts=3) for part in (2, 0, 1)]
    assert sum(done) == len(blocks) - 2
    assert len(levels(parted)) == 1  # nothing is named before all is whole
    assert finish_levels(job) == 4
    assert contents(parted) == contents(whole)
    assert coarsen_share(job) == 0


def two_channels():
    return np.random.default_rng(1).integers(0, 256, (2, *SHAPE)).astype(np.uint8)


def damage_bytes(path):
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize("damage", ["unlink", damage_bytes])
@pytest.mark.parametrize("level", [1, 3])
def test_what_is_lost_or_damaged_is_made_again(tmp_path, damage, level):
    path = store(tmp_path / "v.zarr")
    create_levels(path)
    job = job_of(path, False, "content", tmp_path / "receipts")
    finish_levels(job)
    before = contents(path)
    file = next(p for p in (path / str(level) / "c").rglob("*") if p.is_file())
    file.unlink() if damage == "unlink" else damage(file)
    assert contents(path) != before
    assert finish_levels(job) == 4
    assert contents(path) == before


def test_another_content_makes_another_pyramid(tmp_path):
    path = store(tmp_path / "v.zarr")
    create_levels(path)
    receipts = tmp_path / "receipts"
    assert coarsen_share(job_of(path, False, "one", receipts)) > 0
    assert coarsen_share(job_of(path, False, "one", receipts)) == 0
    assert coarsen_share(job_of(path, False, "two", receipts)) > 0
    assert coarsen_share(job_of(path, True, "two", receipts)) > 0
    receipt_path(receipts, (0, 0, 0)).write_text("{")
    assert coarsen_share(job_of(path, True, "two", receipts)) == 1


def test_shards_that_were_left_out_stay_left_out(tmp_path):
    left_out = [(0, y, x) for y in range(4) for x in range(4)]
    voxels = VOXELS.copy()
    voxels[:2, :64, :64] = 0
    path = store(tmp_path / "v.zarr", voxels, left_out=left_out)
    build_pyramid(path)
    assert equal(levels(path), halved(voxels, [(1, 2, 2)] * 3))
    assert not (path / "1/c/0/0/0").exists()
    assert not (path / "2/c/0/0/0").exists()
    assert (path / "3/c/0/0/0").exists()


def test_a_store_with_one_level_is_left_as_it_is(tmp_path):
    path = store(tmp_path / "v.zarr", VOXELS[:, :16, :16])
    before = contents(path)
    create_levels(path)
    job = job_of(path, False, "content", tmp_path / "receipts")
    assert coarsen_share(job) == 0
    assert finish_levels(job) == 1
    assert contents(path) == before


def test_levels_hold_the_bits_that_they_always_held(tmp_path):
    for is_labels, expected in (
        (False, "73306955c65c8368"),
        (True, "e7bbceb342ea7c2e"),
    ):
        path = store(tmp_path / str(is_labels) / "v.zarr")
        build_pyramid(path, is_labels=is_labels)
        digest = hashlib.sha256()
        for level in levels(path):
            digest.update(level.tobytes())
        assert digest.hexdigest()[:16] == expected
