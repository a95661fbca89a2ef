"""Documents of stores have the bytes that the library writes, and are never stale."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from unetpipe.storage.documents import (
    create_array,
    open_zarr_array,
    read_zarr_group,
    update_group,
    write_group,
)

ABOUT = {"ome": {"version": "0.5", "name": "é", "empty": [], "scale": [1.0, 0.5]}}
SETTINGS = {
    "shape": (2, 4, 64, 64),
    "chunks": (1, 1, 32, 32),
    "shards": (2, 2, 64, 64),
    "dtype": "uint16",
    "compressors": ZstdCodec(level=0),
    "fill_value": 0,
    "dimension_names": ["c", "z", "y", "x"],
}


def test_a_group_has_the_bytes_of_the_library(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "library", zarr_format=3)
    group.attrs.update(ABOUT | {"unetpipe": {}})
    group.attrs["unetpipe"] = {"identity": 1}
    write_group(tmp_path / "own", ABOUT | {"unetpipe": {}})
    update_group(tmp_path / "own", unetpipe={"identity": 1})
    one, other = (tmp_path / name / "zarr.json" for name in ("library", "own"))
    assert other.read_bytes() == one.read_bytes()
    assert read_zarr_group(tmp_path / "library") == dict(group.attrs)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["zarr.json"]


def test_what_is_said_already_is_not_written_again(tmp_path: Path) -> None:
    write_group(tmp_path, ABOUT)
    before = (tmp_path / "zarr.json").stat()
    update_group(tmp_path, **ABOUT)
    assert (tmp_path / "zarr.json").stat().st_ino == before.st_ino


def test_an_array_has_the_bytes_of_the_library(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "library", **SETTINGS)
    for name in ("first", "second"):  # asked of the library, and known
        create_array(tmp_path / name, **SETTINGS)
        assert (tmp_path / name / "zarr.json").read_bytes() == (
            tmp_path / "library" / "zarr.json"
        ).read_bytes()
    create_array(tmp_path / "other", **SETTINGS | {"fill_value": 7})
    assert open_zarr_array(tmp_path / "other").fill_value == 7


def test_an_array_is_opened_once_and_anew_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "0"
    create_array(path, **SETTINGS)
    array = open_zarr_array(path, "r+")
    assert open_zarr_array(path, "r+") is array
    assert open_zarr_array(path) is not array
    array[...] = 1
    assert np.all(open_zarr_array(path)[...] == 1)
    # As large, in the same place of the disk, within the same tick of the clock.
    document = path / "zarr.json"
    date = document.stat().st_mtime_ns
    text = document.read_text()
    document.write_text(text.replace('"fill_value": 0', '"fill_value": 7'))
    os.utime(document, ns=(date, date))
    assert open_zarr_array(path, "r+").fill_value == 7
    shutil.rmtree(path)
    with pytest.raises(FileNotFoundError):
        open_zarr_array(path)
