"""What strangers may send: refused in words, in little memory, and never executed."""

import gzip
import hashlib
import json
import os
import pickle
import resource
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
import yaml
import zarr

from unetpipe.config import check_config
from unetpipe.config.sheet import load_sheet, parse_sheet
from unetpipe.errors import ConfigError, DataError
from unetpipe.images import open_image
from unetpipe.ingestion.archives import unpack_archive
from unetpipe.training.checkpoints import Checkpoints, TrainingState

HEADER = "volume\timage\trole\n"
NAMES = [
    *("../../escape", "..", ".", ".hidden", "/etc/passwd", "a/b", "a\\b", "C:evil"),
    *("x;touch pwned", "$(touch pwned)", "`id`", "a b", "a|b", "a&b", "a>b", "-rf"),
    *(
        "{wildcard}",
        "a*",
        "a?",
        "~root",
        "%2e%2e",
        "<b>x</b>",
        "a'b",
        'a"b',
        "a\u202eb",
    ),
    *("\u00e9", "a" * 65, "a\x00b", "a\x7fb", "\uff0e\uff0e", "\U0001f9e0"),
]


class Gadget:
    """Writes a file when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_of_a_volume_is_refused(name) -> None:
    with pytest.raises(ConfigError, match="volume is"):
        parse_sheet(f"{HEADER}{name}\ta.tif\tpredict\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_of_a_run_is_refused(name) -> None:
    with pytest.raises(ConfigError, match="name: "):
        check_config({"name": name})


def test_a_fold_leaves_room_for_the_name_of_its_network() -> None:
    header = "volume\timage\tlabels\trole\tfold\n"
    row = "v\ta.tif\tb.tif\ttrain\t"
    parse_sheet(f"{header}{row}{('abcdefg' * 9)[:59]}\n")
    with pytest.raises(ConfigError, match="at most 59"):
        parse_sheet(f"{header}{row}{('abcdefg' * 9)[:60]}\n")


def test_a_billion_laughs_are_told_in_one_line() -> None:
    lines = ["training:", "  steps: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    values = yaml.safe_load("\n".join([*lines, "volumes: *a9"]))
    with pytest.raises(ConfigError, match="volumes: ") as error:
        check_config(values)
    assert len(str(error.value)) < 10_000


def test_a_pickle_in_a_training_state_is_never_run(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "state", {"recipe": 1})
    checkpoints.save_state(TrainingState(1, {}, {}))
    checkpoints.save_state(TrainingState(2, {}, {}))
    (path,) = checkpoints.folder.glob("state-00000002-*")
    path.unlink()
    torch.save({"step": Gadget(tmp_path / "pwned")}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(path.with_name(f"state-00000002-{digest[:16]}.pt"))
    kept = checkpoints.load_state(last_step=9)
    assert kept is not None
    assert kept.step == 1
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "codecs",
    [
        {"compressor": {"id": "pickle"}, "filters": None},
        {"compressor": None, "filters": [{"id": "pickle"}]},
        {"compressor": {"id": "zlib"}, "filters": [{"id": "pickle"}]},
    ],
)
@pytest.mark.parametrize("dtype", ["|u1", "|O"])
def test_a_pickle_in_a_zarr_store_is_never_run(tmp_path, codecs, dtype) -> None:
    store = tmp_path / "a.zarr"
    store.mkdir()
    grids = {"shape": [2, 2, 2], "chunks": [2, 2, 2], "order": "C", "fill_value": 0}
    metadata = {"zarr_format": 2, "dtype": dtype, **grids, **codecs}
    (store / ".zarray").write_text(json.dumps(metadata))
    content = pickle.dumps(Gadget(tmp_path / "pwned"))
    packed = (
        zlib.compress(content) if codecs["compressor"] == {"id": "zlib"} else content
    )
    (store / "0.0.0").write_bytes(packed)
    with (
        pytest.raises(DataError, match=r"a\.zarr"),
        open_image("a.zarr", tmp_path) as image,
    ):
        image.read_sections(0, 2)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("level", ["../../other.zarr", "/etc", "..", "missing"])
def test_a_zarr_group_cannot_lead_out_of_itself(tmp_path, level) -> None:
    zarr.create_array(tmp_path / "other.zarr", shape=(2, 4, 4), dtype="u1")
    group = zarr.create_group(tmp_path / "in" / "a.zarr")
    axes = [{"name": a, "type": "space"} for a in "zyx"]
    datasets = [{"path": level, "coordinateTransformations": []}]
    multiscales = [{"axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    with pytest.raises(DataError, match=r"a\.zarr"):
        open_image("a.zarr", tmp_path / "in")


@pytest.mark.parametrize(
    "attributes", [{"multiscales": 3}, {"multiscales": [{}]}, {"multiscales": [[]]}]
)
def test_odd_metadata_of_a_zarr_group_are_named(tmp_path, attributes) -> None:
    zarr.create_group(tmp_path / "a.zarr").attrs["ome"] = attributes
    with pytest.raises(DataError, match=r"a\.zarr is not a Zarr store of images"):
        open_image("a.zarr", tmp_path)


def test_hdf5_may_not_read_other_files_as_voxels(tmp_path) -> None:
    (tmp_path / "secret").write_bytes(b"root:x:0:0")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        external = [(str(tmp_path / "secret"), 0, 9)]
        file.create_dataset("raw", (3, 3), "u1", external=external)
    with pytest.raises(DataError, match=r"a\.h5:raw keeps its voxels in other files"):
        open_image("a.h5", tmp_path)


def test_hdf5_links_to_other_files_are_not_followed(tmp_path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = np.zeros((3, 3), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("other.h5", "raw")
    with pytest.raises(DataError, match=r"a link to 'raw' in the file 'other\.h5'"):
        open_image("a.h5:raw", tmp_path)


def test_odd_attributes_of_hdf5_are_named(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((3, 3), np.uint8)
        file["raw"].attrs["axistags"] = "{no json"
    with pytest.raises(DataError, match=r"a\.h5 cannot be understood"):
        open_image("a.h5", tmp_path)


@pytest.mark.parametrize("size", [60_000, 2**31 - 1])
def test_a_png_of_a_few_bytes_cannot_ask_for_gigabytes(tmp_path, size) -> None:
    content = bytearray(imagecodecs.png_encode(np.zeros((4, 4), np.uint8)))
    content[16:24] = size.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    refused_in_little_memory(tmp_path, "a.png", "decompression bomb")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_a_few_bytes_cannot_ask_for_gigabytes(tmp_path, compression) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression=compression)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(60_000)
    refused_in_little_memory(tmp_path, "a.tif", "decompression bomb")


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_a_strip_that_unpacks_to_more_than_its_page_is_refused(tmp_path, codec) -> None:
    path = tmp_path / "a.tif"
    page = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    tifffile.imwrite(path, page, compression=codec)
    bomb = getattr(imagecodecs, f"{codec}_encode")(bytes(1 << 27))
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        tags["StripOffsets"].overwrite(path.stat().st_size)
        tags["StripByteCounts"].overwrite(len(bomb))
    with path.open("ab") as file:
        file.write(bomb)
    refused_in_little_memory(tmp_path, "a.tif", "page 0, is corrupt")


def test_a_tar_header_cannot_ask_for_gigabytes(tmp_path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 27
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="declares a header of 134217728 bytes"):
            unpack_archive(tmp_path / "a.tar.gz", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_nothing_that_a_job_leaves_can_be_written_by_everybody(tmp_path) -> None:
    code = f"""
import os
from pathlib import Path
from unetpipe.runtime.logs import log_to
from unetpipe.runtime.files import write_record
os.umask(0)
folder = Path({str(tmp_path)!r})
log_to(folder / "logs" / "job.log")
write_record(folder / "results" / "record.json", {{}})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    left = [path for path in tmp_path.rglob("*") if path.stat().st_mode & stat.S_IWOTH]
    assert [p.name for p in tmp_path.rglob("*.json")] == ["record.json"]
    assert left == []


def refused_in_little_memory(folder: Path, name: str, match: str) -> None:
    """Open and read an image within 1 GiB of address space beyond what is in use."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    try:
        with pytest.raises(DataError, match=match), open_image(name, folder) as image:
            image.read_sections(0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", ["", "a\0b", "/proc/self/mem"])
def test_a_sheet_that_is_no_file_is_named(tmp_path, name) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_sheet(tmp_path / name)
