"""Volumes that share a job have the results of jobs of their own, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest

PAGES = {"collect_catalogue", "collect_metrics", "report", "report_run"}
OTHER = "other\tphantom/image.tif\t\t\tpredict\t\tzyx\t50,4,4\t\t\n"
# What was measured as it ran: circumstances, under names of their own.
MEASURED = (
    *("circumstances", "circumstances_then", "seconds", "peak_rss_bytes"),
    *("seconds_per_tile", "voxels_per_second", "peak_bytes", "hours"),
    *("seconds_computing", "seconds_waiting", "candidates", "projected", "finished"),
)


def plain(value):
    """Return what a record says, without what was measured as it ran."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in MEASURED}
    return [plain(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, object]:
    return {
        path.relative_to(folder).as_posix(): (
            plain(json.loads(path.read_text()))
            if path.suffix == ".json"
            else path.read_bytes()
        )
        for place in ("volumes/cells", "unet/cells")
        for path in (folder / place).rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_run_with_lots_is_a_run_without_them(finished, tmp_path):
    alone = contents(finished.folder / "results/tiny")
    project = type(finished)(tmp_path / "project")
    (project.folder / "config/tiny.yaml").write_text(
        (finished.folder / "config/tiny.yaml").read_text() + "lots: 4\n"
    )
    first = project.snakemake().stdout
    assert "Segmentation of cells by unet" in first
    shared = contents(project.folder / "results/tiny")
    assert shared.keys() == alone.keys()
    assert [name for name in alone if alone[name] != shared[name]] == []
    assert any(isinstance(value, bytes) and value for value in shared.values())
    assert project.planned() == {}

    results = project.folder / "results/tiny"
    (results / "unet/cells/metrics.json").unlink()
    assert project.planned().keys() - PAGES == {"predict_lot"}
    with (project.folder / "config/tiny.tsv").open("a") as sheet:
        sheet.write(OTHER)
    before = (results / "unet/cells/plan.json").stat().st_mtime_ns
    assert project.planned().keys() - PAGES == {"ingest_lot", "predict_lot"}
    project.snakemake()
    assert (results / "unet/cells/plan.json").stat().st_mtime_ns == before
    assert (results / "unet/cells/metrics.json").exists()
    assert (results / "unet/other/segmentation.json").exists()
    shutil.rmtree(project.folder)


BROKEN = "broken\tphantom/broken.tif\t\t\tpredict\t\tzyx\t50,4,4\t\t\n"


@pytest.mark.slow
def test_the_page_of_a_run_tells_first_which_volume_of_a_lot_failed(finished, tmp_path):
    """The catalogue too; the others are there, and all goes as the row does."""
    shutil.copytree(finished.folder, tmp_path / "project")
    project = type(finished)(tmp_path / "project")
    results, table = project.folder / "results/tiny", project.folder / "config/tiny.tsv"
    with (project.folder / "config/tiny.yaml").open("a") as config:
        config.write("lots: 4\n")
    image = project.folder / "resources/tiny/originals/phantom/image.tif"
    image.with_name("broken.tif").write_bytes(image.read_bytes()[:3000])
    rows = table.read_text()
    table.write_text(rows + BROKEN)
    done = project.snakemake(check=False)
    assert done.returncode
    told = "Report of what is done, and first of what failed: results/tiny/report.html"
    assert told in done.stdout
    first, _, rest = (results / "report.html").read_text().partition("<h1>")
    _, _, first = first.partition("<header>")
    assert "1 of 2 volumes failed" in first
    for word in ("broken", "ingest_volume", "truncated", "config/tiny.tsv"):
        assert word in first
    assert "cells" in rest
    row, *others = (results / "catalogue.csv").read_text().splitlines()[1:]
    assert row.startswith('"tiny","broken","unet",false,"ingest_volume: DataError')
    assert any(other.startswith('"tiny","cells","unet",true,,') for other in others)
    table.write_text(rows)
    project.snakemake()
    assert "broken" not in (results / "catalogue.csv").read_text()
    assert 'class="failed"' not in (results / "report.html").read_text()
    shutil.rmtree(project.folder)
