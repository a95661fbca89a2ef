"""The loop with people, by its own commands: propose, correct, train on."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from tests.workflow.conftest import HEADER, ROWS, TINY
from unetpipe.runtime.files import read_record

pytestmark = pytest.mark.slow

# Volumes are resampled: crops must come to the grid of the others again.
MORE = """
ingest: {scale: 0.5}
propose: {number: 1, side_vox: 24}
"""


def test_a_training_goes_on_with_what_was_corrected(fresh) -> None:
    config = fresh.folder / "config"
    (config / "tiny.yaml").write_text(TINY + MORE)
    unseen = ROWS[2].replace("\ttest\t", "\tpredict\t")
    (config / "tiny.tsv").write_text(HEADER + "".join([*ROWS[:2], unseen]))
    told = fresh.snakemake("--cores", "1", "propose_annotations").stdout
    assert "make_sheet.py --corrections" in told
    proposals = fresh.folder / "results/tiny/proposals"
    (predicted,) = proposals.glob("*/predicted.tif")
    ids = np.zeros_like(tifffile.imread(predicted))
    assert ids.shape == (48, 48)
    ids[4:20, 4:20], ids[4:20, 24:40] = 1, 2
    tifffile.imwrite(predicted.with_name("corrected.tif"), ids)
    script = ["scripts/make_sheet.py", "--corrections", str(proposals)]
    subprocess.run(
        [sys.executable, *script, "--name", "next"],
        cwd=fresh.folder,
        env=fresh.environment,
        check=True,
    )
    wanted = "results/next/unet/train.json"
    fresh.snakemake("--cores", "1", wanted, config="next")
    model = read_record(fresh.folder / "results/next/unet/model.json")
    trained = [(row["volume"], row["sections"]) for row in model["recipe"]["train"]]
    assert trained == [("cells", [0, 1]), ("cells-corrected", [3])]
    volumes = fresh.folder / "results/next/volumes"
    ingested = [
        read_record(volumes / name / "ingest.json")
        for name in ("cells", "cells-corrected")
    ]
    assert ingested[0]["statistics"] == ingested[1]["statistics"]
    weights = read_record(volumes / "cells-corrected/weight_map.json")
    assert sum(weights["class_counts"][3]) == 24 * 24
    parent = read_record(fresh.folder / "results/tiny/unet/model.json")
    assert model["recipe"]["parent"]["weights_sha256"] == parent["weights_sha256"]
