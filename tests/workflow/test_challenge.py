"""The shipped protocol of ISBI 2012, on a tiny zip laid out like the official one."""

import csv
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow

SECTIONS, SIDE = 4, 64
PLAIN = "minisblack"  # or tifffile takes four sections for colours
# The shipped sheet's rows of its first two folds, on fewer sections.
FEWER = {
    ("1", "train"): "2",
    ("1", "validate"): "3",
    ("1", "test"): "0-1",
    ("2", "train"): "0",
    ("2", "validate"): "1",
    ("2", "test"): "2-3",
}
SMALL = {
    "network": {"base_channels": 2, "depth": 2},
    "training": {"steps": 6, "patch": [1, 60, 60], "threads": 1},
    "prediction": {
        "parts": 1,
        "threads": 1,
        "stride": [1, 32, 32],
        "keep_probability": False,
    },
}


def write_stacks(folder: Path) -> None:
    """Write two stacks of cells and their labels; 0 is membrane."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stack in ("train", "test"):
        labels = np.full((SECTIONS, SIDE, SIDE), 255, np.uint8)
        for z in range(SECTIONS):
            y, x = rng.integers(20, 44, 2)
            labels[z, y : y + 3], labels[z, :, x : x + 3] = 0, 0
        noise = rng.integers(-30, 30, labels.shape)
        image = (60 + 0.5 * labels + noise).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(folder / f"{stack}-volume.tif", image, photometric=PLAIN)
        tifffile.imwrite(folder / f"{stack}-labels.tif", labels, photometric=PLAIN)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files on this computer; give their address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_small(project, source: str) -> None:
    """Make the shipped protocol one of seconds: two folds, few sections and steps."""
    path = project.folder / "config/isbi2012.yaml"
    config = yaml.safe_load(path.read_text()) | {"source": source, "pixel_sha256": {}}
    for section, values in SMALL.items():
        config[section] = config[section] | values
    path.write_text(yaml.safe_dump(config))
    sheet = project.folder / "config/isbi2012.tsv"
    header, *rows = [
        line.split("\t")
        for line in sheet.read_text().splitlines()
        if not line.startswith("#")
    ]
    role, fold, sections = map(header.index, ("role", "fold", "sections"))
    kept = [header]
    for row in rows:
        fewer = FEWER.get((row[fold], row[role]))
        if fewer or not row[fold]:
            row[sections] = fewer or row[sections]
            kept.append(row)
    assert len(kept) == 1 + len(FEWER) + 1, "the challenge's row has no fold"
    sheet.write_text("".join("\t".join(row) + "\n" for row in kept))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the project after the whole protocol with an ensemble."""
    folder = tmp_path_factory.mktemp("challenge")
    write_stacks(folder / "ISBI-2012-challenge")
    with zipfile.ZipFile(folder / "ISBI-2012-challenge.zip", "w") as archive:
        for path in sorted(folder.glob("ISBI-2012-challenge/*")):
            archive.write(path, path.relative_to(folder))
    project = Project(folder / "project")
    with served(folder) as address:
        make_small(project, f"{address}/ISBI-2012-challenge.zip")
        project.snakemake("--config", "ensemble=true", config="isbi2012")
        again = project.snakemake("--config", "ensemble=true", config="isbi2012")
    assert "Nothing to be done" in again.stderr
    return project


def own_row(run, model: str, volume: str) -> dict:
    """Return V_Rand of a network's test sections."""
    path = run.folder / "results/isbi2012" / model / volume / "metrics.json"
    (table,) = [
        t for t in json.loads(path.read_text())["tables"] if t["role"] == "test"
    ]
    return find(table["rows"])


def find(rows: list[dict]) -> dict:
    (row,) = [r for r in rows if (r["predictor"], r["metric"]) == ("unet", "v_rand")]
    return row


def test_the_challenges_stack_is_scored_by_all_networks_and_pooled_apart(run) -> None:
    results = run.folder / "results/isbi2012"
    record = json.loads((results / "comparison.json").read_text())
    (folds,), (shared,) = record["variants"], record["shared"]
    pooled = find(folds["rows"])
    single = [own_row(run, model, "isbi2012") for model in ("fold-1", "fold-2")]
    expected = [*single[0]["per_section"], *single[1]["per_section"]]
    assert len(expected) == SECTIONS
    assert pooled["per_section"] == pytest.approx(expected, abs=1e-12)
    assert shared["volumes"] == ["isbi2012-test"]
    assert shared["models"] == ["fold-1", "fold-2"]
    row = find(shared["rows"])
    scores = [
        own_row(run, model, "isbi2012-test")["chosen"]["score"]
        for model in ("fold-1", "fold-2")
    ]
    assert row["num_sections"] == SECTIONS
    assert row["chosen"]["score"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert (row["chosen"]["lowest"], row["chosen"]["highest"]) == pytest.approx(
        (min(scores), max(scores)), abs=1e-12
    )
    joined = own_row(run, "ensemble", "isbi2012-test")["chosen"]["score"]
    assert find(shared["ensemble"]["rows"])["chosen"]["score"] == pytest.approx(joined)
    assert not (results / "ensemble/isbi2012").exists(), "members learnt from it"


def test_the_table_of_scores_has_each_network_and_the_folds_alone(run) -> None:
    with (run.folder / "results/isbi2012/metrics.csv").open(newline="") as file:
        lines = [
            line
            for line in csv.DictReader(file)
            if (line["predictor"], line["metric"]) == ("unet", "v_rand")
            and (line["role"], line["rule"]) == ("test", "chosen")
        ]
    found = {(line["model"], line["volume"]): line["num_sections"] for line in lines}
    assert found == {
        ("fold-1", "isbi2012"): "2",
        ("fold-2", "isbi2012"): "2",
        ("fold-1", "isbi2012-test"): "4",
        ("fold-2", "isbi2012-test"): "4",
        ("ensemble", "isbi2012-test"): "4",
        ("all folds", ""): "4",
    }


def test_the_ensemble_has_a_page_and_a_line_before_its_probability_goes(run) -> None:
    results = run.folder / "results/isbi2012"
    first = (results / "report.html").read_text()
    assert 'href="ensemble/report.html"' in first
    assert "Sections that all networks were tested on" in first
    page = (results / "ensemble/report.html").read_text()
    assert "An ensemble of 2 networks, each a two-dimensional U-Net" in page
    assert '<a href="../fold-2/report.html">fold-2</a>' in page
    assert (results / "ensemble/isbi2012-test/dropped.json").exists()


def test_a_copy_without_the_challenges_labels_is_cross_validated_alone(run) -> None:
    folder = run.folder.parent / "copy/train"
    folder.mkdir(parents=True)
    (folder / "image").mkdir()
    (folder / "label").mkdir()
    for name in ("image", "label"):
        tifffile.imwrite(folder / name / "0.tif", np.zeros((SIDE, SIDE), np.uint8))
    source = f"source={folder.parent}"
    done = run.snakemake("-n", "--config", source, config="isbi2012")
    told = "Volume isbi2012-test, optional in the sheet, is left out: its image"
    assert (done.stdout + done.stderr).count(told) == 1
    refused = run.snakemake(
        "-n", "--config", source, "ensemble=true", config="isbi2012", check=False
    )
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "nothing is left for the ensemble" in said
    assert told in said
