"""Labels of some frames of a sequence, matched by number."""

import numpy as np
import pytest

from tests.stages.ctc import drawn_sequence, write, write_sequence
from unetpipe.errors import DataError
from unetpipe.images import Reading, open_image
from unetpipe.images.files import find_image_files, label_companions
from unetpipe.images.frames import LARGEST_ID, FrameSource, spread_labelled_frames
from unetpipe.ingestion.agreement import compare_file_numbers


@pytest.fixture
def root(tmp_path):
    write_sequence(tmp_path, drawn_sequence())
    return tmp_path


def spread(root, labels="01_GT/SEG", image="01", unlabelled=None):
    with open_image(image, root) as frames:
        found = open_image(labels, root, Reading(is_labels=True))
        return spread_labelled_frames(found, frames, unlabelled)


def read(reader):
    return reader.read_sections(0, reader.zyx[0])[0]


def test_labels_are_matched_to_frames_by_their_number(root):
    labels, cells = read(spread(root)), drawn_sequence()
    assert labels.shape == cells.shape
    np.testing.assert_array_equal(labels[1], cells[1])
    for t in (0, 2, 3, 5):
        assert (labels[t] == LARGEST_ID).all(), "nobody annotated this frame"


def test_in_a_sparse_frame_only_cells_and_what_silver_calls_background_are_known(root):
    labels, cells = read(spread(root))[4], drawn_sequence()[4]
    assert (labels[cells == 1] == 1).all()
    assert (labels[cells == 3] == LARGEST_ID).all(), "silver holds a cell there"
    assert (labels[cells == 0] == 0).all(), "silver holds none there"
    assert (labels[cells == 4] == 0).all()


def test_without_silver_the_background_of_a_sparse_frame_is_unknown(tmp_path):
    cells = drawn_sequence()
    write_sequence(tmp_path, cells, silver=False)
    labels = read(spread(tmp_path))
    np.testing.assert_array_equal(labels[4] == LARGEST_ID, ~np.isin(cells[4], (1, 2)))
    np.testing.assert_array_equal(labels[1], cells[1])


def test_without_markers_no_frame_is_held_for_sparse(root):
    for path in (root / "01_GT" / "TRA").iterdir():
        path.unlink()
    labels = read(spread(root))[4]
    np.testing.assert_array_equal(labels == 0, ~np.isin(drawn_sequence()[4], (1, 2)))


def test_silver_labels_are_taken_as_they_are_and_have_markers(root):
    reader = spread(root, labels="01_ST/SEG")
    cells = drawn_sequence()
    expected = np.where(cells == 4, 0, cells)
    np.testing.assert_array_equal(read(reader)[4], expected[4])
    np.testing.assert_array_equal(read(reader)[:4], cells[:4])
    assert reader.source.marker_paths()[5].endswith("01_GT/TRA/man_track005.tif")
    assert reader.source.warnings() == []


def test_the_id_of_the_sheet_stands_for_unknown(root):
    labels = read(spread(root, unlabelled=0))
    assert (labels[0] == 0).all()
    np.testing.assert_array_equal(labels[4] == 0, ~np.isin(drawn_sequence()[4], (1, 2)))


@pytest.mark.parametrize("digits", [3, 4])
def test_numbers_may_have_three_or_four_digits(tmp_path, digits):
    write_sequence(tmp_path, drawn_sequence(), digits=digits)
    assert (read(spread(tmp_path))[1] == drawn_sequence()[1]).all()


def test_the_record_learns_of_all_files_and_of_what_is_unknown(root):
    source = spread(root).source
    assert isinstance(source, FrameSource)
    names = {path.relative_to(root).as_posix() for path in source.files}
    assert {"01_GT/SEG/man_seg001.tif", "01_GT/TRA/man_track000.tif"} <= names
    assert "01_ST/SEG/man_seg004.tif" in names
    assert "01_ST/SEG/man_seg001.tif" not in names
    missing, sparse = source.warnings()
    assert missing.startswith("4 of 6 frames have no labels")
    assert sparse.startswith("frames 4 have fewer gold cells")
    assert source.where(1).endswith("man_seg001.tif")
    assert source.where(0) == "frame 0, which has no labels"


def test_a_changed_marker_is_a_changed_file_of_the_labels(root):
    names = {
        path.relative_to(root).as_posix()
        for path in find_image_files("01_GT/SEG", root)
    }
    assert {"01_GT/SEG/man_seg001.tif", "01_GT/TRA/man_track000.tif"} <= names
    assert "01_ST/SEG/man_seg004.tif" in names
    assert len(find_image_files("01", root)) == 6


def test_labels_of_a_frame_that_is_not_there_are_refused(root):
    write(root / "01_GT" / "SEG" / "man_seg099.tif", drawn_sequence()[0])
    with pytest.raises(DataError, match="annotates frame 99, but the image has 6"):
        spread(root)


def test_a_box_of_some_frames_is_a_part_of_the_whole(root):
    source = spread(root).source
    whole = source.read((slice(0, 6), slice(0, 32), slice(0, 32)))
    box = (slice(3, 5), slice(4, 20), slice(16, 32))
    np.testing.assert_array_equal(source.read(box), whole[box])


def test_other_sequences_of_equal_length_stay_as_they_are(root):
    for t, frame in enumerate(drawn_sequence()):
        write(root / "masks" / f"{t}.tif", frame)
    assert not isinstance(spread(root, labels="masks").source, FrameSource)
    assert label_companions((root / "masks" / "0.tif",)) == (False, {}, {})


def test_partial_labels_of_any_name_are_matched_too(root):
    write(root / "masks" / "cells_3.tif", drawn_sequence()[3])
    labels = read(spread(root, labels="masks"))
    np.testing.assert_array_equal(labels[3], drawn_sequence()[3])
    assert (labels[2] == LARGEST_ID).all()


def test_the_sparse_gold_frames_of_the_hela_sequences_are_found(real_data):
    root = real_data / "ctc-dic-c2dh-hela"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    expected = {"01": [34, 39, 67], "02": [7, 14, 42, 61, 67]}
    for sequence, sparse in expected.items():
        with open_image(sequence, root) as image:
            gold = open_image(f"{sequence}_GT/SEG", root, Reading(is_labels=True))
            source = spread_labelled_frames(gold, image, None).source
        assert source.sparse == sparse
        assert len(source.marker_paths()) == 84
    labels = source.read((slice(67, 68), slice(0, 512), slice(0, 512)))[0]
    assert set(np.unique(labels)) > {0, LARGEST_ID}


def write_numbered(root, place, numbers, name="s{}"):
    for n in numbers:
        write(root / place / f"{name.format(n)}.tif", np.full((8, 8), n, np.uint16))


def test_gaps_at_different_places_are_matched_by_number_or_refused(tmp_path):
    write_numbered(tmp_path, "raw", set(range(12)) - {4})
    write_numbered(tmp_path, "labels", set(range(12)) - {4, 7})
    labels = read(spread(tmp_path, "labels", "raw"))
    shown = [n if n != 7 else LARGEST_ID for n in range(12) if n != 4]
    assert labels[:, 0, 0].tolist() == shown
    write_numbered(tmp_path, "labels", [4])
    with pytest.raises(DataError, match=r"s4.tif annotates frame 4, but the image"):
        spread(tmp_path, "labels", "raw")


def test_as_many_labels_with_other_gaps_are_not_paired_in_order(tmp_path):
    write_numbered(tmp_path, "raw", [0, 1, 2, 3])
    write_numbered(tmp_path, "labels", [0, 1, 3, 4])
    with pytest.raises(DataError, match="annotates frame 4"):
        spread(tmp_path, "labels", "raw")


@pytest.mark.parametrize(("start", "count"), [(1, 1), (0, 0)])
def test_counting_from_another_start_is_said_and_pairs_in_order(tmp_path, start, count):
    write_numbered(tmp_path, "raw", range(4))
    write_numbered(tmp_path, "labels", range(start, 4 + start))
    with open_image("raw", tmp_path) as image:
        labels = spread(tmp_path, "labels", "raw")
        assert read(labels)[:, 0, 0].tolist() == list(range(start, 4 + start))
        said = compare_file_numbers(image, labels)
    assert len(said) == count
    assert all("numbers are 1 above the image's" in text for text in said)


def test_a_number_that_is_the_same_in_all_names_tells_nothing(tmp_path):
    """As the channel in the names of nnU-Net, or a version."""
    write_numbered(tmp_path, "imagesTr", range(4), "case_{:03}_0000")
    write_numbered(tmp_path, "labelsTr", range(4), "case_{:03}")
    with open_image("imagesTr", tmp_path) as image:
        labels = spread(tmp_path, "labelsTr", "imagesTr")
        assert compare_file_numbers(image, labels) == []
    for k in range(4):
        one = f"imagesTr/case_{k:03}_0000.tif"
        two = f"labelsTr/case_{k:03}.tif"
        with (
            open_image(one, tmp_path) as image,
            open_image(two, tmp_path, Reading(is_labels=True)) as labels,
        ):
            assert compare_file_numbers(image, labels) == []
