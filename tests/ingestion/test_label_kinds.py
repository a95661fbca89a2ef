"""What annotations become when they are stored, and what is refused."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.ingestion.test_slabs import reader_of
from unetpipe.errors import DataError
from unetpipe.ingestion import copying, slabs
from unetpipe.ingestion.copying import Layout, ingest_labels
from unetpipe.ingestion.label_kinds import AnnotationReader, check_label_dtype
from unetpipe.ingestion.palette import Palette


def reader(kind, *, unlabelled=None, num_classes=2, largest=2**32 - 1):
    return AnnotationReader(
        kind, unlabelled=unlabelled, num_classes=num_classes, largest=largest
    )


@given(
    hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 255])),
    st.sampled_from([1, 7, 255]),
)
def test_binary_labels_of_any_value_become_0_and_1(mask, value):
    annotation = reader("binary")
    stored = annotation.translate(np.where(mask, np.uint8(value), np.uint8(0)), "a")
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, mask // 255)
    assert annotation.problems() == []
    assert annotation.foreground == [np.count_nonzero(mask)]


def test_unlabelled_voxels_of_binary_labels_become_255():
    annotation = reader("binary", unlabelled=9)
    stored = annotation.translate(np.array([[0, 5, 9]], np.uint16), "a")
    assert stored.tolist() == [[0, 1, 255]]
    assert (annotation.kind, annotation.dtype) == ("binary", np.uint8)
    assert annotation.stored_unlabelled == 255
    assert annotation.num_ids == 1


def test_a_third_value_in_binary_labels_is_refused_with_all_values():
    annotation = reader("binary")
    annotation.translate(np.array([[0, 1]], np.uint8), "0.png")
    annotation.translate(np.array([[2, 200]], np.uint8), "1.png")
    (problem,) = annotation.problems()
    assert "binary labels hold the values 0, 1, 2, 200;" in problem
    assert "label_kind instances" in problem


def test_two_values_without_0_are_no_binary_labels():
    annotation = reader("binary")
    annotation.translate(np.array([[1, 2]], np.uint8), "0.png")
    (problem,) = annotation.problems()
    assert "hold the values 1, 2; use 0 for background" in problem


def test_classes_keep_their_ids_and_unlabelled_becomes_255():
    annotation = reader("classes", unlabelled=100, num_classes=3)
    stored = annotation.translate(np.array([[0, 1, 2, 100]], np.int32), "a")
    assert stored.tolist() == [[0, 1, 2, 255]]
    assert annotation.problems() == []


def test_a_class_beyond_the_configured_ones_is_named_with_its_file():
    annotation = reader("classes", num_classes=3)
    annotation.translate(np.array([[0, 2]], np.uint8), "fine.png")
    annotation.translate(np.array([[3, 300]], np.uint16), "odd.png")
    annotation.translate(np.array([[7, 0]], np.uint16), "odder.png")
    (problem,) = annotation.problems()
    assert "beyond 2 in odd.png (3, 300) and 1 more section" in problem
    assert "network.num_classes" in problem


@given(hnp.arrays(np.uint64, (3, 4), elements=st.integers(0, 2**63 - 1)))
def test_instances_keep_every_id(section):
    annotation = reader("instances", largest=int(section.max()))
    stored = annotation.translate(section, "a")
    np.testing.assert_array_equal(stored, section)
    assert stored.dtype == (np.uint64 if section.max() >= 2**32 else np.uint32)
    assert annotation.num_ids == len(set(section.ravel().tolist()) - {0})


def test_the_unlabelled_id_of_instances_is_kept_and_is_no_cell():
    annotation = reader("instances", unlabelled=77, largest=255)
    stored = annotation.translate(np.array([[0, 3, 77]], np.uint8), "a")
    assert stored.tolist() == [[0, 3, 77]]
    assert annotation.stored_unlabelled == 77
    assert (annotation.num_ids, annotation.foreground) == (1, [1])


def test_an_unlabelled_id_of_64_bits_widens_the_store():
    assert reader("instances", unlabelled=2**40, largest=9).dtype == np.uint64


def test_huge_ids_cost_no_memory():
    section = np.zeros((64, 64), np.uint64)
    section[0, :3] = (1, 2**31 + 5, 2**63 - 1)
    annotation = reader("instances", largest=2**63 - 1)
    tracemalloc.start()
    annotation.translate(section, "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert annotation.num_ids == 3
    assert peak < 1_000_000


def test_ids_are_counted_once_over_sections():
    annotation = reader("instances")
    annotation.translate(np.array([[1, 5, 2**30]], np.uint32), "a")
    annotation.translate(np.array([[5, 6, 2**30]], np.uint32), "b")
    assert annotation.num_ids == 4


def test_negative_ids_are_refused_with_their_file():
    annotation = reader("instances")
    annotation.translate(np.array([[0, -3]], np.int16), "a.tif, section 4")
    (problem,) = annotation.problems()
    assert problem.startswith("labels are negative in a.tif, section 4 (smallest -3);")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("instances", [[0, 3, 2**32 - 1]]), ("classes", [[0, 3, 255]])],
)
def test_a_negative_id_may_say_that_nobody_annotated_a_voxel(kind, expected):
    annotation = reader(kind, unlabelled=-1, num_classes=4, largest=9)
    stored = annotation.translate(np.array([[0, 3, -1]], np.int16), "a")
    assert stored.tolist() == expected
    assert annotation.stored_unlabelled == expected[0][2]
    assert annotation.problems() == []
    assert (annotation.num_ids, annotation.background) == (1, 1)


@pytest.mark.parametrize(("rows", "most"), [(1, 1 << 27), (16, 1 << 27), (99, 1)])
@pytest.mark.parametrize("palette", [None, Palette({"0": 0, "1": 1})])
def test_what_is_wrong_with_a_section_is_told_of_all_its_bands(
    tmp_path, monkeypatch, rows, most, palette
):
    voxels = np.zeros((3, 32, 40), np.int16)
    voxels[1, 3, 30:] = (-1, 7, 7, 5, 1, 0, 9, 9, 9, 1)
    voxels[1, 28] = np.tile((2, -9, 11, 0), 10)
    voxels[0, 30, 39] = voxels[2, 0, 0] = 4
    layout = Layout((1, 8, 8), (2, 8, 8), (1, 1, 1))
    monkeypatch.setattr(copying, "MEASURED_VOXELS", rows * 40)
    monkeypatch.setattr(slabs, "BOX_BYTES", most)
    banded, whole = (
        AnnotationReader(
            "classes", unlabelled=None, num_classes=2, largest=99, palette=palette
        )
        for _ in range(2)
    )
    with reader_of(voxels) as given:
        ingest_labels(given, tmp_path / "a.zarr", layout, banded)
        for z, section in enumerate(voxels):
            whole.translate(section[None] if palette else section, given.where(z))
    assert banded.problems() == whole.problems()
    text = " ".join(whole.problems())
    if palette:
        assert (
            "4 in a.npy, section 0 at z, y, x = 0, 30, 39 (1 voxel of the section)"
            in text
        )
    else:
        assert "(smallest -9)" in text


def test_one_single_id_looks_like_a_mask():
    annotation = reader("instances")
    annotation.translate(np.array([[0, 255]], np.uint8), "a")
    (warning,) = annotation.warnings()
    assert "label_kind binary" in warning


def test_labels_without_background_are_worth_a_warning():
    annotation = reader("binary")
    annotation.translate(np.array([[1, 1]], np.uint8), "a")
    assert annotation.warnings() == ["binary labels hold no background"]


def test_probabilities_are_no_labels():
    with pytest.raises(DataError, match=r"float32 and hold 0\.25 in p\.tif") as error:
        check_label_dtype(np.dtype("f4"), np.array([0, 0.25], "f4"), "p.tif")
    assert "not probabilities" in str(error.value)


def test_whole_numbers_stored_as_floats_get_a_remedy():
    with pytest.raises(DataError, match=r"astype\('uint32'\)"):
        check_label_dtype(np.dtype("f8"), np.array([0.0, 3.0]), "l.tif")


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "?"])
def test_integers_are_labels(dtype):
    check_label_dtype(np.dtype(dtype), np.zeros(2, dtype), "l.tif")
