"""A run that was renamed or copied."""

import os
import shutil
from pathlib import Path

import pytest

from unetpipe.runtime.files import read_record, write_record
from unetpipe.runtime.renamed_runs import take_over_records

PAST = 1_000_000_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    first = Path("results/first")
    volume, unet = first / "volumes/a", first / "unet/a"
    (volume / "image.ome.zarr").mkdir(parents=True)
    write_record(
        volume / "ingest.json", {"image": {"store": str(volume / "image.ome.zarr")}}
    )
    write_record(unet / "plan.json", {"receipts": str(unet / "prediction-1/receipts")})
    write_record(
        unet / "prediction-1/receipts/0.json", {"path": "results/first/unchanged"}
    )
    (first / "report.html").write_text(
        "<p>napari results/first/volumes/a, :8080/results/first/b, /c/results/first/d"
    )
    (first / "catalogue.csv").write_text("results/first/unet")
    (first / "lots/unet").mkdir(parents=True)
    (first / "lots/unet/0a1b2c.jsonl").write_text("hashes of records as they were")
    for path in first.rglob("*.json"):
        os.utime(path, (PAST, PAST))
    return first


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_renamed_or_copied_run_lives_from_its_own_stores(run, is_copied) -> None:
    second = Path("results/second")
    shutil.copytree(run, second, copy_function=shutil.copy2)
    if not is_copied:
        shutil.rmtree(run)
    assert "results/second named stores in results/first" in take_over_records(second)
    texts = [p.read_text() for p in second.rglob("*.json") if p.parent.name == "a"]
    assert len(texts) == 2
    assert not any("results/first" in text for text in texts)
    assert (second / "report.html").read_text() == (
        "<p>napari results/second/volumes/a, :8080/results/second/b, /c/results/first/d"
    )
    assert not (second / "catalogue.csv").exists()
    assert not [*second.glob("lots/**/*.jsonl")]  # then dates and settings tell
    plan = second / "unet/a/plan.json"
    assert read_record(plan) == {"receipts": f"{second}/unet/a/prediction-1/receipts"}
    assert plan.stat().st_mtime == PAST
    assert take_over_records(second) == ""
    if is_copied:
        assert take_over_records(run) == ""
        assert (run / "catalogue.csv").exists()


def test_a_store_of_another_run_that_is_used_in_place_is_let_be(run) -> None:
    second = Path("results/second")
    write_record(
        second / "volumes/a/ingest.json",
        {"image": {"store": str(run / "volumes/a/image.ome.zarr")}},
    )
    assert take_over_records(second) == ""


def test_a_run_that_has_not_begun_has_nothing_to_take_over(tmp_path) -> None:
    assert take_over_records(tmp_path / "nothing") == ""
