"""A stranger's folder, the script, and what Snakemake makes of what it wrote."""

import subprocess
import sys

import numpy as np
import tifffile


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, photometric="minisblack")


def test_a_folder_is_three_commands_from_a_run(fresh):
    data, chance = fresh.folder / "data", np.random.default_rng(0)
    for k in range(5):
        write(data / "images" / f"{k}.tif", chance.integers(0, 255, (40, 40 + k), "u1"))
        cells = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((20, 20 + k // 2)))
        write(data / "masks" / f"{k}.tif", np.resize(cells, (40, 40 + k)).astype("u1"))
    subprocess.run(
        [sys.executable, "scripts/make_sheet.py", "data", "--name", "mine"],
        cwd=fresh.folder,
        env=fresh.environment,
        check=True,
    )
    done = fresh.snakemake("--dry-run", "--quiet", "rules", config="mine")
    jobs = dict(
        line.split() for line in done.stdout.splitlines() if len(line.split()) == 2
    )
    assert (jobs["ingest_volume"], jobs["compute_weight_map"]) == ("5", "4")
    assert jobs["evaluate_prediction"] == "2"
