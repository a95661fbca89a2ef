"""Records: whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unetpipe.errors import DataError, ResourceError
from unetpipe.runtime.files import (
    hash_file,
    hash_of,
    process_circumstances,
    read_record,
    write_bytes_atomic,
    write_record,
)

KILLED = """
import os, sys
from pathlib import Path
from unetpipe.runtime import files as records
step = sys.argv[2]
def die(*arguments):
    os.kill(os.getpid(), 9)
if step == "sync":
    os.fsync = die
else:
    Path.replace = die
records.write_record(Path(sys.argv[1]), {"new": 2})
"""


@pytest.mark.parametrize("step", ["sync", "rename"])
def test_a_kill_before_the_rename_leaves_the_old_record(
    tmp_path: Path, step: str
) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"old": 1})
    run = subprocess.run([sys.executable, "-c", KILLED, path, step], check=False)
    assert run.returncode == -9
    assert read_record(path) == {"old": 1}
    write_record(path, {"new": 2})
    assert read_record(path) == {"new": 2}


def test_a_failed_write_leaves_neither_a_record_nor_a_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan is no JSON number"):
        write_record(tmp_path / "record.json", {"score": float("nan")})
    with pytest.raises(TypeError, match="cannot write object into a record"):
        write_record(tmp_path / "record.json", {"score": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"file \(No space left .* MB free\)"):
        write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_numpy_values_become_plain(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "record.json"
    write_record(
        path,
        {"n": np.int64(3), "m": np.array([1.5, 2]), "p": Path("x/y"), "t": (1, 2)},
    )
    assert read_record(path) == {"n": 3, "m": [1.5, 2.0], "p": "x/y", "t": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; run the rule that writes it"),
        ("{", "is not JSON"),
        ("[1]", "holds no JSON object; delete it and run again"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    one = {"a": 1, "b": {"c": [1, 2], "d": None}}
    two = {"b": {"d": None, "c": [1, 2]}, "a": 1}
    assert hash_of(one) == hash_of(two)
    assert hash_of(one) != hash_of({"a": 1, "b": {"c": [2, 1], "d": None}})


def test_a_file_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(path) == expected


def test_circumstances_tell_host_versions_and_what_the_caller_knows() -> None:
    told = process_circumstances(device="cpu", seconds=1.5)
    assert told["device"] == "cpu"
    assert told["seconds"] == 1.5
    assert told["host"]
    assert told["libraries"]["numpy"] == np.__version__


def test_circumstances_tell_cuda_and_cudnn_of_a_job_that_may_use_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = SimpleNamespace(
        version=SimpleNamespace(cuda="13.0"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 92400)),
    )
    monkeypatch.setitem(sys.modules, "torch", built)
    libraries = process_circumstances()["libraries"]
    assert (libraries["cuda"], libraries["cudnn"]) == ("13.0", "92400")
    built.version.cuda = None
    assert not {"cuda", "cudnn"} & process_circumstances()["libraries"].keys()
    monkeypatch.delitem(sys.modules, "torch")
    assert "torch" not in sys.modules
    assert not {"cuda", "cudnn"} & process_circumstances()["libraries"].keys()
    assert "torch" not in sys.modules, "asking does not load it"
