"""Archives: what is inside comes out whole, or nothing comes out at all."""

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.errors import DataError
from unetpipe.images.archive_kind import archive_kind
from unetpipe.ingestion.archives import UnpackLimits, _safe_target, unpack_archive
from unetpipe.runtime.staging import partial_folder

CONTENT = {"data/0.txt": b"zero", "data/deep/1.txt": b"one" * 5000, "note.txt": b""}


def write_zip(path, entries=CONTENT):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def write_tar(path, entries=CONTENT, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def refuse(archive, folder, match, **limits):
    """Unpack, expect an error, and check that only the archive is left."""
    before = set(folder.rglob("*"))
    with pytest.raises(DataError, match=match) as error:
        unpack_archive(archive, folder / "out", limits=UnpackLimits(**limits))
    assert set(folder.rglob("*")) == before
    return str(error.value)


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_archive_unpacks_to_what_went_in(tmp_path, kind):
    archive = tmp_path / "download"  # the content counts, not the name
    if kind == "zip":
        write_zip(archive)
    else:
        write_tar(archive, mode=kind)
    assert archive_kind(archive) == ("zip" if kind == "zip" else "tar")
    unpack_archive(archive, tmp_path / "out")
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["download", "out"]


def test_one_gzipped_file_unpacks_to_its_name_without_gz(tmp_path):
    (tmp_path / "labels.h5.gz").write_bytes(gzip.compress(b"hello"))
    unpack_archive(tmp_path / "labels.h5.gz", tmp_path / "out")
    assert (tmp_path / "out" / "labels.h5").read_bytes() == b"hello"


@pytest.mark.parametrize("content", [b"", b"<html>", bz2.compress(b"x"), b"PKxx"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    assert archive_kind(tmp_path / "a.zip") is None
    refuse(tmp_path / "a.zip", tmp_path, r"a\.zip is no archive; use zip, tar")


@given(st.text(st.sampled_from("ab./\\:\x00 C"), min_size=1))
def test_no_name_whatever_leads_out_of_the_folder(name):
    root = PurePosixPath("/staging/root")
    try:
        target = _safe_target(PurePosixPath("a.zip"), name, root)
    except DataError:
        return
    assert PurePosixPath(os.path.normpath(target)).is_relative_to(root)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:evil.txt", "..\\e.txt"]
)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, write, name):
    folder = tmp_path / "inside"
    folder.mkdir()
    archive = write(folder / "bad", {"fine.txt": b"1", name: b"2"})
    message = refuse(archive, folder, "no plain path")
    assert repr(name) in message
    assert "hostile" in message
    assert list(tmp_path.iterdir()) == [folder]


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    refuse(tmp_path / "a.zip", tmp_path, "'link', a symbolic link; only files")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device or pipe"),
        (tarfile.FIFOTYPE, "device or pipe"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, text):
    member = tarfile.TarInfo("odd")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(member)
    refuse(tmp_path / "a.tar", tmp_path, f"'odd', a {text}; only files and folders")


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_zip_leaves_nothing(tmp_path, fraction):
    archive = write_zip(tmp_path / "a.zip", {"a": bytes(range(256)) * 300, "b": b"x"})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * fraction)])
    assert "fetch it again" in refuse(
        archive, tmp_path, r"a\.zip is damaged, truncated"
    )


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_truncated_tar_leaves_nothing(tmp_path, mode, fraction):
    rng = random.Random(0)
    noise = {f"{k}.bin": rng.randbytes(30_000) for k in range(3)}
    archive = write_tar(tmp_path / "a.tar", noise, mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * fraction)])
    refuse(archive, tmp_path, "a.tar is (damaged, truncated|no archive)")


def test_a_tar_cut_between_two_entries_is_truncated(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"a": b"x" * 512, "b": b"y" * 512}, "w")
    archive.write_bytes(archive.read_bytes()[:1024])
    refuse(archive, tmp_path, "stops before its end mark")


def test_a_flipped_byte_fails_the_checksum_of_a_zip(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.txt", b"x" * 1000)
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    archive.write_bytes(content)
    refuse(archive, tmp_path, "Bad CRC-32 for file 'a.txt'")


def test_a_decompression_bomb_is_stopped_by_its_ratio(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(5_000_000)})
    message = refuse(archive, tmp_path, "bomb", free_bytes=1_000_000)
    assert "unpacks to more than 1000000 bytes" in message
    assert f"({archive.stat().st_size} bytes)" in message


def test_too_many_files_are_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {str(k): b"" for k in range(12)})
    refuse(archive, tmp_path, "more than 10 files", num_files=10)


def test_the_same_entry_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for _ in range(2):
            file.addfile(tarfile.TarInfo("a.txt"))
    refuse(tmp_path / "a.tar", tmp_path, "holds 'a.txt' twice")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.txt": b"secret"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # flag of the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refuse(archive, tmp_path, "damaged, truncated or encrypted .*password")


def test_what_file_managers_leave_behind_is_skipped(tmp_path):
    archive = write_zip(
        tmp_path / "a.zip",
        {
            "__MACOSX/._a.tif": b"1",
            "d/.DS_Store": b"2",
            "d/._a.tif": b"3",
            "d/a.tif": b"4",
        },
    )
    unpack_archive(archive, tmp_path / "out")
    files = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert files == ["a.tif"]


def test_a_failed_unpacking_leaves_the_older_one_as_it_was(tmp_path):
    unpack_archive(write_zip(tmp_path / "a.zip"), tmp_path / "out")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(DataError):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "data" / "0.txt").read_bytes() == b"zero"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]


def test_a_new_unpacking_replaces_the_older_one(tmp_path):
    unpack_archive(write_zip(tmp_path / "a.zip"), tmp_path / "out")
    unpack_archive(write_zip(tmp_path / "a.zip", {"new.txt": b"1"}), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]


def test_what_a_killed_run_left_is_swept_away(tmp_path):
    (tmp_path / "out.partial" / "half").mkdir(parents=True)
    with partial_folder(tmp_path / "out") as partial:
        assert not partial.exists()
        partial.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_damaged_xz_is_no_silent_success(tmp_path):
    archive = tmp_path / "a.tar.xz"
    archive.write_bytes(lzma.compress(b"x" * 600)[:-8])
    refuse(archive, tmp_path, "damaged|no archive")
