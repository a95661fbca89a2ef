"""Arrays of a block on disk: as they were, and never read when damaged."""

import numpy as np
import pytest

from unetpipe.errors import IntegrityError
from unetpipe.segmentation.block_files import BlockFiles

ARRAYS = {
    "runs": np.arange(12, dtype=np.uint32).reshape(4, 3),
    "none": np.zeros((0, 2), np.uint64),
    "table": np.array([2**63, 1], np.uint64),
}


@pytest.fixture
def files(tmp_path):
    files = BlockFiles(tmp_path, "recipe")
    files.save((1, 2, 3), ARRAYS)
    return files


def test_arrays_are_read_as_they_were_saved_and_in_any_order(files):
    assert files.problem((1, 2, 3)) is None
    names = sorted(ARRAYS, reverse=True)
    found = files.read((1, 2, 3), *names)
    for name, array in zip(names, found, strict=True):
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
        assert np.array_equal(array, ARRAYS[name])
    assert files.map((1, 2, 3), "table").tolist() == [2**63, 1]


def test_each_changed_byte_of_an_array_is_found(files):
    (path,) = files.folder.rglob("*.arrays")
    whole = path.read_bytes()
    begins = whole.index(ARRAYS["runs"].tobytes())
    for place in (begins, begins + 47):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        assert "has other bytes" in str(files.problem((1, 2, 3)))
        with pytest.raises(IntegrityError, match="damaged"):
            files.read((1, 2, 3), "runs")


@pytest.mark.parametrize("length", [0, 5, 40, 100])
def test_a_file_cut_short_is_an_error_with_its_remedy(files, length):
    (path,) = files.folder.rglob("*.arrays")
    path.write_bytes(path.read_bytes()[:length])
    for read in (files.read, files.map):
        with pytest.raises(IntegrityError, match="--forcerun segment_part"):
            read((1, 2, 3), "table")


def test_a_block_that_was_never_saved_has_a_problem(files):
    assert files.problem((0, 0, 0)) == "has no receipt"
    with pytest.raises(IntegrityError, match="missing"):
        files.read((0, 0, 0), "runs")
