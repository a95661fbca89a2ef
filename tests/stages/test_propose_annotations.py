"""Proposed crops, and the way back: corrected labels become rows of a sheet."""

import ast

import numpy as np
import pytest
import tifffile
import yaml

from tests.records.whole import whole
from tests.stages.segmented import Segmented, store_prediction
from unetpipe.config.proposals import ProposeConfig
from unetpipe.config.sheet import load_sheet
from unetpipe.errors import ConfigError, DataError
from unetpipe.records.proposals import Proposals, crops_of_labels
from unetpipe.runtime.files import write_record
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


def test_corrected_crops_stay_and_are_not_proposed_again(proposed, tmp_path):
    record, _ = proposed()
    names = [one.name for one in record.proposals]
    kept = tmp_path / "proposals" / names[1] / "corrected.tif"
    tifffile.imwrite(kept, np.zeros((20, 20), np.uint8))
    again, _ = proposed(number=2)
    assert kept.exists()
    assert [one.name for one in again.proposals].count(names[1]) == 1
    assert len(again.proposals) == 3


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
