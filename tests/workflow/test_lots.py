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
