"""A folder is surveyed by the table that its files are opened by."""

import zipfile

import imagecodecs
import numpy as np
import pytest
import tifffile

from unetpipe.errors import DataError
from unetpipe.images import open_image
from unetpipe.images.endings import CONVERTED, HDF5, IMAGES, ZIPPED_ZARR, split_suffix
from unetpipe.images.files import HDF5_CELL
from unetpipe.images.formats import OPENERS
from unetpipe.survey.contents import list_contents
from unetpipe.survey.understanding import understand

GREY = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)


@pytest.mark.parametrize("ending", sorted({*IMAGES, *HDF5}))
@pytest.mark.parametrize("as_written", [str.lower, str.upper])
def test_every_ending_that_a_reader_opens_is_found(tmp_path, ending, as_written):
    path = tmp_path / as_written(f"a{ending}")
    path.write_bytes(b"no image")
    if ending in ZIPPED_ZARR:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("zarr.json", "{}")
    found = list_contents(tmp_path)
    assert [*found.files, *found.hdf5] == [path.name]
    assert split_suffix(path.name)[0].lower() == "a"
    # A reader takes it, and finds that it is damaged.
    with pytest.raises(DataError) as refused:
        open_image(path.name, tmp_path)
    assert "cannot be read as an image" not in str(refused.value)
    assert "which is not read" not in str(refused.value)


def test_what_opens_a_file_is_in_the_table():
    assert {*OPENERS} <= {*IMAGES}
    assert all(HDF5_CELL.match(f"a{ending}") for ending in HDF5)


@pytest.mark.parametrize("ending", sorted({*CONVERTED} - {".n5"}))
def test_what_needs_another_program_is_refused_in_the_words_of_the_survey(
    tmp_path, ending
):
    tifffile.imwrite(tmp_path / "b.tif", GREY)
    (tmp_path / f"a{ending}").write_bytes(b"something else")
    (note,) = list_contents(tmp_path).notes
    assert note == f"1 {ending} file cannot be read: {CONVERTED[ending].advice}"
    with pytest.raises(DataError, match="which is not read") as refused:
        open_image(f"a{ending}", tmp_path)
    assert str(refused.value).endswith(CONVERTED[ending].advice)


def test_a_preview_beside_its_image_is_left_out(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(imagecodecs.jpeg_encode(GREY))
    found = list_contents(tmp_path)
    assert found.files == ["a.tif", "b.jpg"]
    assert "a file of its name that loses nothing" in found.notes[0]


def test_photographs_and_drawings_in_folders_of_their_own_are_pairs(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k in range(3):
        grey = np.random.default_rng(k).integers(0, 255, (40, 50), np.uint8)
        (tmp_path / f"images/{k}.jpg").write_bytes(imagecodecs.jpeg_encode(grey))
        tifffile.imwrite(tmp_path / f"labels/{k}.tif", (grey > 200).astype(np.uint8))
    rows = understand(tmp_path, "m", "auto", "auto").rows
    found = {(row.volume.image, row.volume.labels) for row in rows}
    assert found == {(f"images/{k}.jpg", f"labels/{k}.tif") for k in range(3)}


def test_volumes_of_other_fields_are_paired_and_never_joined(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for k in range(3):
        image = np.random.default_rng(k).integers(0, 99, (30, 32, 4), np.uint8)
        for name, voxels in (
            (f"imagesTr/x_{k:03d}_0000.nii.gz", image),
            (f"labelsTr/x_{k:03d}.nii.gz", (image > 50).astype(np.uint8)),
        ):
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
    rows = understand(tmp_path, "m", "auto", "auto").rows
    found = {(row.volume.image, row.volume.labels) for row in rows}
    assert found == {
        (f"imagesTr/x_{k:03d}_0000.nii.gz", f"labelsTr/x_{k:03d}.nii.gz")
        for k in range(3)
    }
