"""Labels whose fragments and objects are listed apart; HDF5 that is packed."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.files import find_image_files


def store(folder, table, *, packed=False):
    stack = np.arange(2 * 3 * 4, dtype=np.int32).reshape(2, 3, 4) % 5
    path = folder / "truth.h5"
    with h5py.File(path, "w") as file:
        file["stack"] = stack
        file["transforms"] = np.asarray(table)
    if packed:
        (folder / "truth.h5.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return stack


def read(cell, folder):
    with open_image(cell, folder, Reading(is_labels=True, axes="zyx")) as reader:
        return reader.read_sections(0, reader.zyx[0])[0]


TABLE = [[4, 7], [0, 0], [1, 70000], [2, 7], [3, 9]]


@pytest.mark.parametrize("packed", [False, True])
def test_each_piece_becomes_its_object(tmp_path, packed):
    stack = store(tmp_path, TABLE, packed=packed)
    cell = f"truth.h5{'.gz' if packed else ''}:stack->transforms"
    objects = read(cell, tmp_path)
    assert np.array_equal(objects, np.array([0, 70000, 7, 9, 7])[stack])
    assert objects.dtype == np.uint32
    (found,) = find_image_files(cell, tmp_path)
    assert found.exists()


def test_a_packed_file_is_read_without_a_table_too(tmp_path):
    stack = store(tmp_path, TABLE, packed=True)
    assert np.array_equal(read("truth.h5.gz:stack", tmp_path), stack)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE[:-1], "holds the fragment 3, which .* does not list"),
        ([*TABLE, [4, 8]], "lists a fragment twice"),
        ([[1.5, 2.0]], "two columns of integers"),
    ],
)
def test_a_table_that_does_not_fit_is_told(tmp_path, table, said):
    store(tmp_path, table)
    with pytest.raises(DataError, match=said):
        read("truth.h5:stack->transforms", tmp_path)


def test_a_packed_file_that_is_cut_is_told(tmp_path):
    store(tmp_path, TABLE, packed=True)
    file = tmp_path / "truth.h5.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated or no HDF5 file"):
        read("truth.h5.gz:stack", tmp_path)


@pytest.mark.slow
def test_fib25_has_the_bodies_that_its_readme_tells(real_data):
    root = real_data / "fib25-medulla"
    labels = read("training_sample2/groundtruth.h5.gz:stack->transforms", Path(root))
    assert labels.shape == (250, 250, 250)
    assert len(np.unique(labels)) == 526
