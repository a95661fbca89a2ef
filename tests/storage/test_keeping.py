"""A new network never overwrites an old one; an old record stays with its store."""

import os
from pathlib import Path

import pytest

from unetpipe.records import Record
from unetpipe.runtime.files import read_record, write_bytes_atomic, write_record
from unetpipe.storage.keeping import (
    NETWORK_FILES,
    keep_network,
    keep_networks,
    kept_networks,
    write_with_copy,
)
from unetpipe.tiling.unet_spec import UNetSpec

ONE, TWO = "1a2b3c4d" + "0" * 56, "5e6f7a8b" + "0" * 56


class Numbered(Record):
    WHAT = "a numbered record"

    number: int


def finish(folder: Path, digest: str, **more) -> None:
    """Write a network as a training does: files beside their names, then renamed."""
    write_bytes_atomic(folder / "model.safetensors", digest.encode())
    described = {"spec": UNetSpec().to_json(), "weights_sha256": digest}
    write_record(folder / "model.json", described | more)
    write_bytes_atomic(folder / "history.csv", b"step\n")
    write_record(folder / "train.json", {"steps": 3})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_network_is_kept_as_links_that_cost_no_disk(tmp_path):
    finish(tmp_path, ONE)
    before = content(tmp_path)
    home = keep_network(tmp_path)
    assert home == tmp_path / "weights-1a2b3c4d"
    assert content(home) == before
    assert all((home / name).samefile(tmp_path / name) for name in before)


def test_the_next_network_leaves_the_kept_one_as_it_is(tmp_path):
    finish(tmp_path, ONE)
    before = content(keep_network(tmp_path))
    for name in before:  # as a workflow engine does before a job
        (tmp_path / name).unlink()
    finish(tmp_path, TWO)
    keep_network(tmp_path)
    assert [p.name for p in kept_networks(tmp_path)] == [
        "weights-1a2b3c4d",
        "weights-5e6f7a8b",
    ]
    assert content(tmp_path / "weights-1a2b3c4d") == before


def test_keeping_again_changes_nothing_and_adds_what_is_missing(tmp_path):
    finish(tmp_path, ONE)
    (tmp_path / "train.json").rename(tmp_path / "aside")
    home = keep_network(tmp_path)
    assert not (home / "train.json").exists()
    (tmp_path / "aside").rename(tmp_path / "train.json")
    assert keep_network(tmp_path) == home
    before = content(home)
    assert set(before) == {"model.safetensors", "model.json", *("train.json",)} | {
        "history.csv"
    }
    write_record(tmp_path / "train.json", {"steps": 3, "repeated": True})
    assert keep_network(tmp_path) == home
    assert content(home) == before


def test_the_same_weights_with_other_thresholds_are_kept_beside(tmp_path):
    finish(tmp_path, ONE, thresholds={"v_rand": 0.4})
    first = keep_network(tmp_path)
    finish(tmp_path, ONE, thresholds={"v_rand": 0.6})
    second = keep_network(tmp_path)
    assert second.name.startswith("weights-1a2b3c4d-")
    assert read_record(first / "model.json")["thresholds"] == {"v_rand": 0.4}
    assert read_record(second / "model.json")["thresholds"] == {"v_rand": 0.6}
    assert keep_network(tmp_path) == second


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    finish(tmp_path, ONE)
    before = content(tmp_path)
    assert content(keep_network(tmp_path)) == before


def test_copies_are_on_disk_before_they_have_their_names(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    synced = set()
    fsync, replace = os.fsync, Path.replace

    def note(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def rename(path, target):
        assert path.stat().st_ino in synced, path
        return replace(path, target)

    finish(tmp_path, ONE)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", rename)
    home = keep_network(tmp_path)
    assert {path.stat().st_ino for path in home.iterdir()} < synced


def test_a_kill_while_keeping_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    finish(tmp_path, ONE)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *a: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            keep_network(tmp_path)
    assert kept_networks(tmp_path) == []
    keep_network(tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"weights-1a2b3c4d"}


def test_networks_of_versions_that_kept_none_are_kept_before_a_run(tmp_path):
    finish(tmp_path / "unet", ONE)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.json").write_text("{}")
    keep_networks(tmp_path, ["unet", "half", "none"])
    assert len(kept_networks(tmp_path / "unet")) == 1
    assert kept_networks(tmp_path / "half") == []


def test_a_record_has_a_copy_beside_its_store_that_the_next_one_leaves(tmp_path):
    record = tmp_path / "prediction.json"
    for number in (1, 2):
        values = Numbered(number=number)
        write_with_copy(record, values, tmp_path / f"prediction-{number}")
    assert read_record(record) == {"number": 2}
    assert read_record(tmp_path / "prediction-1" / "prediction.json") == {"number": 1}


def test_where_there_are_no_links_a_kill_leaves_no_half_a_copy(tmp_path, monkeypatch):
    finish(tmp_path, ONE)
    (tmp_path / "train.json").rename(tmp_path / "aside")
    home = keep_network(tmp_path)
    (tmp_path / "aside").rename(tmp_path / "train.json")

    def refuse(*_):
        raise PermissionError("no links here")

    def die(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", refuse)
    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            keep_network(tmp_path)
    keep_network(tmp_path)
    assert read_record(home / "train.json") == {"steps": 3}
    assert set(content(home)) == {*NETWORK_FILES}
