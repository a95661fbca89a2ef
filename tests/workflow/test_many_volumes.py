"""A sheet of several volumes: one fails, is mended, another comes and one goes."""

import csv
import shutil

import numpy as np
import pytest
import tifffile

from tests.benchmarks.many_volumes import CONFIG as MANY
from tests.workflow.conftest import HEADER, Project

# Of all volumes; the scores are those of the annotated ones, which have not changed.
PAGES = {"collect_catalogue", "report", "report_run"}
OF_A_VOLUME = {
    "ingest_volume",
    "probe_prediction",
    "plan_prediction",
    "predict_part",
    "finish_prediction",
    "finish_segmentation",
}


@pytest.fixture
def many(tmp_path) -> Project:
    """Two annotated sections to learn from, and two volumes; one file is cut off."""
    project = Project(tmp_path / "project")
    data = project.folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 33).reshape(2, 4, 4), np.ones((1, 16, 16)))
    labels[:, ::16], labels[:, :, ::16] = 0, 0
    for name in ("taught", "first", "second", "third"):
        image = np.where(labels > 0, 180, 60) + rng.normal(0, 9, labels.shape)
        write(data / f"{name}.tif", image.clip(0, 255).astype(np.uint8))
    write(data / "labels.tif", labels.astype(np.uint16))
    row = "taught\ttaught.tif\tlabels.tif\t{}\t{}\t\tzyx\t50,4,4\tinstances\tnone\n"
    taught = row.format("0", "train") + row.format("1", "validate")
    project.volume = "{0}\t{0}.tif\t\t\tpredict\t\tzyx\t50,4,4\t\t\n"
    rows = [project.volume.format(name) for name in ("first", "second")]
    project.sheet = project.folder / "config/many.tsv"
    project.sheet.write_text(HEADER + taught + "".join(rows))
    (project.folder / "config/many.yaml").write_text(MANY)
    project.broken = data / "first.tif"
    project.whole = project.broken.read_bytes()
    project.broken.write_bytes(project.whole[:3000])
    return project


def write(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")


def planned(project):
    return project.planned(config="many")


def segmented(project):
    found = project.folder.glob("results/many/unet/*/segmentation.json")
    return sorted(path.parent.name for path in found)


@pytest.mark.slow
def test_a_volume_fails_is_mended_another_comes_and_two_go_and_the_rest_stays(many):
    done = many.snakemake("--cores", "2", config="many", check=False)
    assert done.returncode != 0
    assert segmented(many) == ["second", "taught"]
    _, _, told = done.stdout.partition("A job failed:\n")
    head, line, *rest = told.splitlines()
    assert head.split() == ["volume", "network", "rule", "cause"]
    assert line.split()[:2] == ["first", "ingest_volume"]
    assert "DataError: volume first: data/first.tif is truncated" in line
    assert "(logs/many/ingest_volume/first.log)" in line
    assert "  snakemake --configfile config/many.yaml --cores 2" in rest
    assert any("write # before its rows in config/many.tsv" in line for line in rest)
    assert rest[-1].endswith("results/many/report.html")  # of what is done

    many.broken.write_bytes(many.whole)
    assert planned(many) == dict.fromkeys(OF_A_VOLUME | PAGES, 1)
    before = many.sheet.read_text()
    many.sheet.write_text(before + many.volume.format("third"))
    assert planned(many) == dict.fromkeys(OF_A_VOLUME, 2) | dict.fromkeys(PAGES, 1)

    out = before.replace("\nfirst", "\n#first").replace("\nsecond", "\n#second")
    many.sheet.write_text(out)
    assert planned(many) == dict.fromkeys(PAGES, 1)
    done = many.snakemake("--cores", "2", config="many")
    assert "No more in config/many.tsv: second; the results stay" in done.stdout
    assert "  rm -r results/many/*/second" in done.stdout.splitlines()
    table = (many.folder / "results/many/catalogue.csv").read_text().splitlines()
    current = {row["volume"]: row["current"] for row in csv.DictReader(table)}
    assert current == {"second": "false", "taught": "true"}
    assert planned(many) == {}

    for folder in (many.folder / "results/many").glob("*/second"):
        shutil.rmtree(folder)
    assert planned(many) == {"collect_catalogue": 1}
    assert "No more in" not in many.snakemake(config="many").stdout
    table = (many.folder / "results/many/catalogue.csv").read_text()
    assert "second" not in table
    assert planned(many) == {}
