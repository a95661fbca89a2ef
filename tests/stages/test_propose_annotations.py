"""Proposed crops, and the way back: corrected labels become rows of a sheet."""

import ast
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from tests.records.whole import whole
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config.proposals import ProposeConfig
from unetpipe.config.sheet import load_sheet, parse_sheet
from unetpipe.errors import ConfigError, DataError
from unetpipe.records.proposals import Proposals, crops_of_labels
from unetpipe.report.proposal_viewer import SCRIPT, VIEWER
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.make_sheet import make_sheet
from unetpipe.stages.propose_annotations import propose_annotations
from unetpipe.storage.volumes import create_volume, open_volume

SHAPE = (4, 40, 60)
SHEET = (
    "# mine\n"
    "volume\timage\tlabels\tsections\trole\n"
    "cells\ta.tif\tb.tif\t0\ttrain\n"
    "cells\ta.tif\tb.tif\t1-3\tpredict\n"
)


def sections_of(image):
    """Return what ingest tells of the sections of an image."""
    planes = image.reshape(len(image), -1).astype(float)
    nothing = [0.0] * len(image)
    grey = {
        **{"mean": planes.mean(axis=1).tolist(), "std": planes.std(axis=1).tolist()},
        **{"low": nothing, "high": nothing, "sharpness": nothing},
        **{"least_share": nothing, "greatest_share": nothing},
    }
    return {
        **{"channels": [grey], "likeness": nothing, "displaced_likeness": nothing},
        "displacement": [[0, 0]] * len(image),
    }


@pytest.fixture
def proposed(tmp_path, monkeypatch):
    """Return how to propose, from a volume that is unsure in one corner."""
    monkeypatch.chdir(tmp_path)
    probability = np.full((1, *SHAPE), 250, np.uint8)
    probability[:, :, :, 28:32] = 0
    probability[:, 2, 20:, 40:] = 128
    predicted = store_prediction(tmp_path / "p", probability, (2, 16, 16))
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    store = tmp_path / "image.ome.zarr"
    create_volume(
        store,
        shape=SHAPE,
        dtype="uint8",
        chunk=SHAPE,
        shard=SHAPE,
        voxel_size_nm=(50, 4, 4),
        channels=("image",),
    )
    open_volume(store, mode="r+")[0] = image
    ingest = {"shape": SHAPE, "num_channels": 1, "voxel_size_nm": (50, 4, 4)}
    ingest |= {"voxel_size_from": "sheet", "image": {"store": str(store)}}
    ingest |= {"sections": sections_of(image)}
    grid = {"shape": (4, 80, 120), "voxel_size_nm": (50, 2, 2)}
    scaled = whole("ingest", ingest | {"original": grid})
    write_record(predicted / "ingest.json", whole("ingest", ingest))
    Segmented(predicted, tmp_path / "s", connectivity="2d").run()
    (tmp_path / "sheet.tsv").write_text(SHEET)
    volume = {
        "volume": "cells",
        "ingest": predicted / "ingest.json",
        "models": [predicted / "model.json"],
        "predictions": [predicted / "prediction.json"],
        "segmentations": [tmp_path / "s/segmentation.json"],
        "annotated": [0],
    }
    made_from = {
        "sheet": "sheet.tsv",
        "config": {"name": "old", "source": "data", "training": {"steps": 9}},
        "network": "results/old/unet",
        "known": ["cells"],
    }

    def propose(scale=None, **settings):
        if scale:
            made_from["config"]["ingest"] = {"scale": scale}
            write_record(predicted / "ingest.json", scaled)
        propose_annotations(
            volumes=[volume],
            settings=ProposeConfig(**({"number": 3, "side_vox": 20} | settings)),
            made_from=made_from,
            folder=tmp_path / "proposals",
        )
        return Proposals.read(tmp_path / "proposals/proposals.json"), image

    return propose


def test_sections_without_contrast_are_not_proposed(proposed, tmp_path):
    """Of an image of one value no section is odd, but there is nothing to annotate."""
    path = tmp_path / "p/ingest.json"
    record = read_record(path)
    for told, wanted in (([1.0, 1.0, 0.0, 1.0], {1, 3}), ([0.0] * 4, None)):
        record["sections"]["channels"][0]["std"] = told
        write_record(path, record)
        if wanted is None:
            with pytest.raises(DataError, match="there is nothing to propose"):
                proposed()
        else:
            assert {one.start[0] for one in proposed()[0].proposals} == wanted


def test_crops_show_image_and_predicted_ids(proposed, tmp_path, capsys):
    record, image = proposed()
    first = record.proposals[0]
    assert (first.name, first.start, first.shape) == (
        "cells_z2_y20_x40",
        (2, 20, 40),
        (1, 20, 20),
    )
    assert len(record.proposals) == 3
    assert all(one.start[0] > 0 for one in record.proposals)
    folder = tmp_path / "proposals" / first.name
    crop = tifffile.imread(folder / "image.tif")
    np.testing.assert_array_equal(crop, image[2, 20:40, 40:60])
    labels = tifffile.imread(folder / "predicted.tif")
    assert labels.shape == (20, 20)
    assert labels.dtype == np.uint16
    told = capsys.readouterr().out
    assert f"napari {tmp_path / 'proposals/open_proposals.py'}" in told
    assert "--corrections" in told
    ast.parse((tmp_path / "proposals/open_proposals.py").read_text())


@pytest.mark.parametrize("num_channels", [1, 3])
def test_image_and_ids_of_a_crop_lie_in_one_cell_of_the_grid(
    tmp_path, monkeypatch, num_channels
):
    """The script as napari runs it, with a viewer that only counts its layers."""

    class Viewer:
        def __init__(self):
            self.layers, self.grid = [], SimpleNamespace()

        def add_image(self, image, channel_axis=None, **_):
            self.layers += list(image) if channel_axis == 0 else [image]

        def add_labels(self, labels, **_):
            self.layers.append(labels)

        def bind_key(self, *_, **__):
            return lambda function: function

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        crop = np.zeros((num_channels, 8, 9)[num_channels == 1 :], np.uint8)
        tifffile.imwrite(tmp_path / name / "image.tif", crop, photometric="minisblack")
        tifffile.imwrite(tmp_path / name / "predicted.tif", np.zeros((8, 9), np.uint16))
    (tmp_path / SCRIPT).write_text(VIEWER)
    viewer = Viewer()
    napari = SimpleNamespace(current_viewer=lambda: viewer)
    monkeypatch.setitem(sys.modules, "napari", napari)
    runpy.run_path(str(tmp_path / SCRIPT))
    assert len(viewer.layers) == 2 * (num_channels + 1)
    assert viewer.grid.stride == num_channels + 1


@pytest.mark.parametrize(("scale", "factor"), [(0.5, 2), ("match", 1)])
def test_crops_are_of_the_grid_that_the_next_training_resamples(
    proposed, tmp_path, scale, factor
):
    """A number brings crops to half the resolution again, ``match`` leaves them."""
    record, image = proposed(scale)
    folder = tmp_path / "proposals" / record.proposals[0].name
    crop = image[2, 20:40, 40:60].repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(tifffile.imread(folder / "image.tif"), crop)
    assert tifffile.imread(folder / "predicted.tif").shape == crop.shape
    assert record.voxel_sizes_nm == {"cells": (50, 4 / factor, 4 / factor)}
    assert record.proposals[0].labels_at == ((2, 40, 80) if factor == 2 else None)
    tifffile.imwrite(folder / "corrected.tif", np.zeros(crop.shape, np.uint8))
    make_sheet(corrections=tmp_path / "proposals", name="new", config_dir=tmp_path)
    row = load_sheet(tmp_path / "new.tsv").rows[-1]
    # What was resampled to fit the network goes on as it is.
    assert (row.image == str(folder / "image.tif")) == (scale == "match")


def test_chance_proposes_by_its_seed(proposed):
    names = {
        seed: tuple(p.name for p in proposed(by="chance", seed=seed)[0].proposals)
        for seed in (1, 2, 3)
    }
    assert len(set(names.values())) > 1
    again = tuple(p.name for p in proposed(by="chance", seed=1)[0].proposals)
    assert again == names[1]


def test_corrections_become_rows_and_the_training_goes_on(proposed, tmp_path):
    record, _ = proposed()
    with pytest.raises(DataError, match="no crop"):
        make_sheet(corrections=tmp_path / "proposals", name="new")
    names = [one.name for one in record.proposals]
    for name in names[:2]:
        path = tmp_path / "proposals" / name / "corrected.tif"
        tifffile.imwrite(path, np.eye(20, dtype=np.uint16))
    make_sheet(corrections=tmp_path / "proposals", name="new", config_dir=tmp_path)
    config = yaml.safe_load((tmp_path / "new.yaml").read_text())
    assert config["training"] == {"steps": 9, "start_from": "results/old/unet"}
    assert (config["name"], config["source"]) == ("new", "data")
    *old, row = load_sheet(tmp_path / "new.tsv").rows
    assert [one.role for one in old] == ["train", "predict"]
    assert (row.volume, row.image) == ("cells-corrected", "a.tif")
    assert (row.role, row.label_kind) == ("train", "instances")
    assert row.sections == tuple(sorted({p.start[0] for p in record.proposals[:2]}))
    assert row.labels_at == tuple(p.start for p in record.proposals[:2])
    assert crops_of_labels([row.labels]) == set(names[:2])


def test_what_other_rounds_corrected_stays_in_the_sheet(proposed, tmp_path):
    """The first round's crops are in the sheet that the second goes on from."""
    record, _ = proposed()
    first, second = (tmp_path / "proposals" / one.name for one in record.proposals[:2])
    for number, folder in enumerate((first, second)):
        tifffile.imwrite(folder / "corrected.tif", np.eye(20, dtype=np.uint16))
        name = f"round-{number}"
        make_sheet(corrections=tmp_path / "proposals", name=name, config_dir=tmp_path)
        (tmp_path / "sheet.tsv").write_text((tmp_path / f"{name}.tsv").read_text())
    row = load_sheet(tmp_path / "round-1.tsv").rows[-1]
    assert row.labels.count("corrected.tif") == len(row.labels_at) == 2


@pytest.fixture
def correct(proposed, tmp_path):
    """Return how to correct the proposal of a number, and what is made of a sheet."""
    record, _ = proposed()
    folder = tmp_path / "proposals"

    def correct(sheet, number=0, **changed):
        one = record.proposals[number].model_copy(update=changed)
        told = {"proposals": (one,)}
        record.model_copy(update=told).write(folder / "proposals.json")
        labels = np.eye(20, dtype=np.uint16)
        tifffile.imwrite(folder / one.name / "corrected.tif", labels)
        (tmp_path / "sheet.tsv").write_text(sheet)
        make_sheet(corrections=folder, name="new", config_dir=tmp_path, force=True)
        made = tmp_path / "new.tsv"
        return one, load_sheet(made).rows, made.read_text()

    return correct


def test_a_crop_that_overlaps_a_corrected_one_is_a_volume_of_its_own(correct):
    one, _, sheet = correct(SHEET)
    z, y, x = one.labels_at
    other, rows, _ = correct(sheet, 1, labels_at=(z, y - 19, x + 19))
    assert rows[-2].labels_at == (one.labels_at,)
    assert (rows[-1].volume, rows[-1].labels_at) == (other.name, ())
    assert rows[-1].image.endswith(f"{other.name}/image.tif")
    _, rows, _ = correct(sheet, 1, labels_at=(z, y - 20, x + 19))
    assert rows[-1].labels_at == (one.labels_at, (z, y - 20, x + 19))


def test_labels_stay_with_their_image_where_names_are_cut(correct):
    """A name has 64 letters: these two are one where it is cut for the ending."""
    a, b = f"{'v' * 63}a", f"{'v' * 63}b"
    sheet = SHEET.replace("cells\t", f"{a}\t")
    sheet += f"{b}\tother.tif\t\t1-3\tpredict\n"
    _, _, sheet = correct(sheet, volume=a)
    _, _, sheet = correct(sheet, 1, volume=b)
    _, rows, _ = correct(sheet, 2, volume=b)  # finds the row of the round before
    boxes = [(row.image, len(row.labels_at)) for row in rows if row.labels_at]
    assert boxes == [("a.tif", 1), ("other.tif", 2)]


@pytest.mark.parametrize(
    "theirs",
    [
        "other.tif\tcorrected.tif\t0\ttrain\t0,0,0\t",
        "a.tif\tc.tif\t0\tvalidate\t\t",
        "a.tif\tcorrected.tif\t0\ttrain\t0,0,0\t3",
        "a.tif\t\t0\tpredict\t\t",
    ],
    ids=["image", "role", "level", "unlabelled"],
)
def test_a_volume_of_the_user_keeps_its_labels(correct, theirs):
    head, *rest = SHEET.splitlines()[1:]
    sheet = f"{head}\tlabels_at\tlevel\n" + "\n".join(rest[1:])
    sheet += f"\ncells-corrected\t{theirs}\n"
    one, rows, made = correct(sheet)
    assert rows[1] == parse_sheet(sheet).rows[1]
    assert (rows[2].image, rows[2].labels_at) == ("a.tif", (one.labels_at,))
    assert rows[2].volume.endswith("-corrected")
    assert len(correct(made, 1)[1][2].labels_at) == 2


def test_a_crop_of_a_long_name_is_a_volume_of_a_shorter_one(correct, tmp_path):
    one, _, _ = correct(SHEET)
    name = f"{'v' * 60}_z2_y20_x40"
    (tmp_path / "proposals" / one.name).rename(tmp_path / "proposals" / name)
    _, rows, sheet = correct(SHEET, name=name, labels_at=None)
    assert rows[-1].image.endswith(f"{name}/image.tif")
    _, again, _ = correct(sheet, name=name, labels_at=None)
    assert again == rows


def test_every_voxel_of_a_correction_counts(correct):
    sheet = SHEET.replace("\trole", "\trole\tfield_of_view")
    sheet = sheet.replace("\ttrain", "\ttrain\tmask.tif")
    sheet = sheet.replace("\tpredict", "\tpredict\tmask.tif")
    _, rows, _ = correct(sheet)
    assert [row.field_of_view for row in rows] == ["mask.tif", "mask.tif", ""]


@pytest.mark.parametrize(
    ("edited", "sections"), [("0-2", (0, 1, 2, 3)), ("all", None), (" 2 ", (2, 3))]
)
def test_a_sheet_that_was_edited_is_read_as_by_a_run(correct, edited, sections):
    padded = SHEET.replace("cells\ta.tif\tb.tif\t0\ttrain\n", "")
    _, _, sheet = correct(padded.replace("cells\ta", "cells \t a"))
    *others, line = sheet.splitlines()
    line = line.replace("\t2\t", f"\t{edited}\t")
    _, rows, _ = correct("\n".join([*others, line]), 1, labels_at=(3, 0, 0))
    assert rows[-1].sections == sections
    assert len(rows[-1].labels_at) == 2


@pytest.mark.parametrize(
    ("sheet", "said"),
    [
        ("volume\timage\trole\nother\tb.tif\tpredict\n", "no row of volume cells"),
        (SHEET.replace("1-3", "one"), "sections is 'one'"),
        ("", "no rows"),
    ],
)
def test_a_sheet_that_fits_the_crops_no_more_is_told(correct, sheet, said):
    with pytest.raises((DataError, ConfigError), match=said) as error:
        correct(sheet)
    assert "sheet.tsv" in str(error.value)


def test_corrected_crops_stay_and_are_not_proposed_again(proposed, tmp_path):
    record, _ = proposed()
    names = [one.name for one in record.proposals]
    kept = tmp_path / "proposals" / names[1] / "corrected.tif"
    tifffile.imwrite(kept, np.zeros((20, 20), np.uint8))
    again, _ = proposed(number=2)
    assert kept.exists()
    assert [one.name for one in again.proposals].count(names[1]) == 1
    assert len(again.proposals) == 3


def save_in_place(folder, ids):
    tifffile.imwrite(folder / "predicted.tif", ids)


def save_as_png(folder, ids):
    Image.fromarray(ids.astype(np.uint8)).save(folder / "corrected.PNG")


def save_as_another_ending(folder, ids):
    tifffile.imwrite(folder / "corrected.tiff", ids)


@pytest.mark.parametrize(
    "save",
    [save_in_place, save_as_png, save_as_another_ending],
    ids=lambda f: f.__name__,
)
def test_work_that_was_saved_otherwise_is_told_and_never_removed(
    proposed, tmp_path, save
):
    """Editors save over the file that they opened, or by names of their own."""
    record, _ = proposed()
    place = tmp_path / "proposals"
    first, second = (place / one.name for one in record.proposals[:2])
    save(first, np.eye(20, dtype=np.uint16))
    (second / ".DS_Store").touch()
    tifffile.imwrite(second / "corrected.tif", np.eye(20, dtype=np.uint16))
    work = {path: path.read_bytes() for path in first.iterdir()}
    again, _ = proposed(number=2)
    assert {path: path.read_bytes() for path in first.iterdir()} == work
    assert [one.name for one in again.proposals].count(first.name) == 1
    with pytest.raises(DataError, match=r"save them as TIFF by that name") as error:
        make_sheet(corrections=place, name="new", config_dir=tmp_path)
    assert str(first) in str(error.value)
    assert str(second) not in str(error.value)
    tifffile.imwrite(first / "corrected.tif", np.eye(20, dtype=np.uint16))
    make_sheet(corrections=place, name="new", config_dir=tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.ones((20, 20), np.float32), "save them as integers"),
        (np.full((20, 20), 0.5, np.float32), "give annotations"),
        (np.ones((20, 20, 3), np.uint8), "holds colours, not ids"),
    ],
)
def test_corrections_that_hold_no_ids_are_refused_before_any_job(
    proposed, tmp_path, labels, said
):
    record, _ = proposed()
    path = tmp_path / "proposals" / record.proposals[0].name / "corrected.tif"
    tifffile.imwrite(path, labels)
    with pytest.raises(DataError, match=said) as error:
        make_sheet(corrections=tmp_path / "proposals", name="new")
    assert str(path) in str(error.value)


def test_labels_of_another_size_are_refused(proposed, tmp_path):
    record, _ = proposed()
    path = tmp_path / "proposals" / record.proposals[0].name / "corrected.tif"
    tifffile.imwrite(path, np.zeros((20, 19), np.uint8))
    with pytest.raises(DataError, match="19"):
        make_sheet(corrections=tmp_path / "proposals", name="new")


def test_one_of_two_folders_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="--corrections"):
        make_sheet()
    with pytest.raises(ConfigError, match="--corrections"):
        make_sheet(folder=tmp_path, corrections=tmp_path)


def test_a_folder_that_holds_no_proposals_is_named_with_the_one_that_does(
    proposed, tmp_path
):
    proposed()
    right = tmp_path / "proposals"
    crop = next(path for path in right.iterdir() if path.is_dir())
    for wrong, said in (
        (tmp_path, f"name {right}"),
        (crop, f"name {right}"),
        (tmp_path.parent, "the folder proposals of a run"),
        (tmp_path / "nowhere", "there is no folder"),
    ):
        with pytest.raises(DataError, match=r"^--corrections: ") as error:
            make_sheet(corrections=wrong, name="new")
        assert said in str(error.value)
