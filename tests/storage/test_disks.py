"""Stores on a disk that knows no hard links."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype

from unetpipe.storage.disks import DiskStore
from unetpipe.storage.keeping import link_or_copy
from unetpipe.storage.levels import create_levels
from unetpipe.storage.ngff04 import copy_store
from unetpipe.storage.volumes import (
    create_labels_group,
    create_volume,
    open_volume,
    set_attributes,
    write_shard,
)

FORM = {"chunk": (1, 32, 32), "shard": (2, 64, 64), "voxel_size_nm": (50.0, 4.0, 4.0)}


as_buffer = default_buffer_prototype().buffer.from_bytes


def refuse(*_paths: object, **_options: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def make(path: Path) -> dict[str, bytes]:
    """Write a store with labels, a level and a copy; return all its files."""
    image = create_volume(path, shape=(2, 64, 64), dtype="u1", channels=["a"], **FORM)
    write_shard(image, (0, 0, 0), np.ones((1, 2, 64, 64), "u1"))
    set_attributes(path, {"identity": 1})
    create_labels_group(path, ("annotated",))
    labels = path / "labels" / "annotated"
    create_volume(labels, shape=(2, 64, 64), dtype="u2", unlabelled=0, **FORM)
    create_levels(path)
    copy_store(
        path, path.parent / "copy", [0], receipts=path.parent / "told", identity="a"
    )
    files = (p for p in path.parent.rglob("*") if p.is_file())
    return {
        p.relative_to(path.parent).as_posix(): p.read_bytes()
        for p in files
        if "told" not in p.parts
    }


def test_a_disk_without_links_holds_the_same_stores(tmp_path, monkeypatch) -> None:
    expected = make(tmp_path / "with" / "image.ome.zarr")
    monkeypatch.setattr(os, "link", refuse)
    assert make(tmp_path / "without" / "image.ome.zarr") == expected
    assert len(expected) > 5
    assert open_volume(tmp_path / "without/image.ome.zarr")[0, 0, 0, 0] == 1


def test_what_is_there_stays_and_another_fault_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    store, first, second = DiskStore(tmp_path), *map(as_buffer, (b"1", b"2"))
    asyncio.run(store.set_if_not_exists("zarr.json", first))
    asyncio.run(store.set_if_not_exists("zarr.json", second))
    assert (tmp_path / "zarr.json").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["zarr.json"]
    monkeypatch.setattr("unetpipe.storage.disks.write_bytes_atomic", refuse)
    with pytest.raises(PermissionError):
        asyncio.run(store.set_if_not_exists("0/zarr.json", first))


def test_a_second_name_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
