"""A run that goes over to int8: one calibration, no training, a store of its own."""

import json
import shutil

import pytest

from tests.network.openvino_needed import needs_openvino
from tests.workflow.conftest import Project

INT8 = ["prediction={precision: int8, largest_flip_fraction: 1, largest_score_loss: 1}"]


@needs_openvino
@pytest.mark.slow
def test_going_over_to_int8_calibrates_and_trains_nothing(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "project")
    project = Project(tmp_path / "project")
    network = project.folder / "results/tiny/unet"
    before = (network / "model.safetensors").stat().st_mtime_ns
    jobs = project.planned("--config", *INT8)
    assert jobs["calibrate_network"] == 1
    assert "train_unet" not in jobs
    project.snakemake("--cores", "2", "--config", *INT8)
    assert (network / "model.safetensors").stat().st_mtime_ns == before
    made = json.loads((network / "calibration.json").read_text())
    assert [row["sections"] for row in made["rows"]] == [[0, 1]], "of training alone"
    assert made["score_fp32"] is not None
    prediction = json.loads((network / "cells/prediction.json").read_text())
    assert prediction["identity"]["calibration_sha256"] == [made["quantised_sha256"]]
    assert len([*(network / "cells").glob("prediction-*")]) == 2
    assert project.planned("--config", *INT8) == {}
    project.snakemake("--cores", "1", "verify", "--config", *INT8)
    told = json.loads((network.parent / "verify.json").read_text())
    blocks = told["predictions"][0]["blocks"]
    assert blocks
    assert all(block["differs_in"] is None for block in blocks), "every bit is compared"
