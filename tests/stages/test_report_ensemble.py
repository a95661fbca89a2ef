"""An ensemble's page: its members where another network has its training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stages.reported import (
    SHAPE,
    Links,
    arguments,
    cells,
    joined,
    made_up_run,
    predicted,
    scored,
    trained,
)
from unetpipe.errors import DataError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.report import report
from unetpipe.tiling.unet_spec import UNetSpec


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> dict[str, Any]:
    """Return the arguments of the page of two networks' ensemble on one volume."""
    monkeypatch.chdir(tmp_path)
    made_up_run(Path())
    trained(Path(), "fold-2", steps=60)
    description = read_record(Path("fold-2/model.json"))
    description["recipe"]["train"] = [{"volume": "brain", "sections": [0, 3]}]
    description["recipe"]["validate"] = [{"volume": "brain", "sections": [1]}]
    description["thresholds"] = {"segmentation": 0.5}
    write_record(Path("fold-2/model.json"), description)
    mask = (cells(SHAPE) > 0).astype(np.uint8)
    files = predicted(Path(), "brain", mask, scored(v_rand=0.95), model="ensemble")
    return arguments(Path()) | {
        "ingests": [Path("brain/ingest.json")],
        "training": joined(Path(), "unet", "fold-2"),
        "predictions": [files],
        "output": Path("ensemble/report.html"),
    }


def test_the_page_shows_members_instead_of_a_training_curve(run) -> None:
    report(**run)
    links = Links(run["output"].read_text())
    pages = [link for link in links.links if not link.startswith(("#", "data:image/"))]
    assert pages == ["../unet/report.html", "../fold-2/report.html"]
    columns = "Steps Kept step Its threshold On its validation sections"
    assert f"{columns} unet brain: 0-1 brain: 2 30 20 0.4 V-Rand 0.9000" in links.text
    assert "fold-2 brain: 0, 3 brain: 1 60 20 0.5 V-Rand 0.9000" in links.text
    assert "Loss" not in links.text
    assert "made-up: ensemble" in links.text
    assert "Data Members Scores and sections" in links.text


def test_it_begins_with_what_an_ensemble_is_and_how_good(run) -> None:
    report(**run)
    text = Links(run["output"].read_text()).text
    assert (
        "An ensemble of 2 networks, each a two-dimensional U-Net of 122 thousand "
        "parameters (5 levels, 4 channels in the first, unpadded convolutions): the "
        "mean of their probabilities, cut at the median of their thresholds. Together "
        "they learnt from 3 sections of brain." in text
    )
    assert (
        "it scores 0.9500 in V Rand , at the threshold 0.4, the median of those" in text
    )
    parameters = UNetSpec(base_channels=4).num_parameters
    assert f"Parameters 2 networks of {parameters:,}" in text
    assert "join_networks" in text


def test_what_any_member_has_learnt_from_is_not_held_out(run) -> None:
    report(**run)
    text = Links(run["output"].read_text()).text
    assert "ensemble: it was trained on the test sections 3 of brain" in text
    assert "ensemble: it was chosen by the test sections 2 of brain" in text
    assert "train: 0-1, 3" in text


def test_the_same_records_give_the_same_bytes(run) -> None:
    report(**run)
    first = run["output"].read_bytes()
    report(**run)
    assert run["output"].read_bytes() == first


def test_a_members_missing_record_is_named(run) -> None:
    Path("fold-2/train.json").unlink()
    with pytest.raises(DataError, match=r"fold-2/train\.json does not exist"):
        report(**run)
    assert not run["output"].exists()
