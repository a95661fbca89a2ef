"""The small files of a run."""

import os
import shutil
import time
from pathlib import Path

import pytest

from unetpipe.runtime.files import write_record
from unetpipe.runtime.killed_runs import mend_dates
from unetpipe.runtime.renamed_runs import take_over_records
from unetpipe.runtime.run_files import list_small_files

MANY = (
    *("volumes/a/image.ome.zarr/zarr.json", "volumes/a/ingest-1/receipts/0.json"),
    *("unet/state/step-2.json", "unet/a/prediction-1/receipts/z0/0.json"),
    *("unet/a/prediction-1/probability.ome.zarr/zarr.json",),
    "volumes/a/ngff04-1/image.ome.zarr.receipts/0.json",
)
# Names of volumes and networks that end as those of stores and their like do.
NAMES = ("solid-state", "receipts", "a.zarr")
NETWORKS = (*NAMES, "state")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of volumes and networks of such names; return its folder."""
    monkeypatch.chdir(tmp_path)
    first = Path("results/first")
    for path in MANY:
        write_record(first / path, {"at": "results/first/b"})
    for name in NAMES:
        store = first / f"volumes/{name}/image.ome.zarr"
        store.mkdir(parents=True)
        write_record(store.parent / "ingest.json", {"image": {"store": str(store)}})
        write_record(first / "unet" / f"{name}1" / "plan.json", {"at": str(first)})
    for name in NETWORKS:
        write_record(first / name / "model.json", {"at": "results/first/b"})
    return first


def test_they_are_all_but_those_of_stores_receipts_and_states(run: Path) -> None:
    found = {path.relative_to(run).as_posix() for path in list_small_files(run)}
    everything = {p.relative_to(run).as_posix() for p in run.rglob("*.json")}
    assert everything - found == set(MANY)


def test_a_renamed_run_lives_from_its_own_stores_whatever_names_it_has(run) -> None:
    second = Path("results/second")
    shutil.move(run, second)
    assert "named stores in results/first" in take_over_records(second)
    records = [f"volumes/{name}/ingest.json" for name in NAMES]
    for record in (*records, *(f"{name}/model.json" for name in NETWORKS)):
        assert "results/second/" in (second / record).read_text()


def test_dates_to_come_are_mended_whatever_names_there_are(run: Path) -> None:
    tomorrow = time.time() + 86_400
    for path in run.rglob("*.json"):
        os.utime(path, (tomorrow, tomorrow))
    mend_dates(run)
    left = [p for p in run.rglob("*.json") if p.stat().st_mtime > time.time()]
    assert {path.relative_to(run).as_posix() for path in left} == set(MANY)
