"""The catalogue: what lies there, what is asked for now, what is there no more."""

from pathlib import Path

import pytest

from tests.stages.reported import (
    CIRCUMSTANCES,
    defined,
    ingested,
    metrics_of,
    prediction_of,
    row,
    segmentation_of,
)
from unetpipe.report.catalogue import CATALOGUE_COLUMNS, catalogue_rows, failed_rows
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.dropping import NOTE

OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture
def results(tmp_path, monkeypatch):
    """One volume with a former and a current result, in the folder of the run."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/run")
    image = folder / "volumes/v/image.ome.zarr"
    image.mkdir(parents=True)
    path = ingested(tmp_path, "v", None)
    stored = {"store": str(image), "content_sha256": "1" * 64}
    write_record(
        folder / "volumes/v/ingest.json", read_record(path) | {"image": stored}
    )
    for digest, day, score in ((OLD, "01", 0.5), (NEW, "02", 0.75)):
        make_result(folder / "unet/v", digest, f"2026-01-{day}T00:00:00Z", score)
    return folder


def make_result(home, digest, made, score):
    prediction = home / f"prediction-{digest[:8]}"
    segmentation = home / f"segmentation-{digest[:8]}"
    for store in (prediction / "p.zarr", segmentation / "s.zarr"):
        store.mkdir(parents=True)
        (store / "0").write_bytes(b"1234")
    predicted = prediction_of("v", prediction / "p.zarr", (2, 30, 40))
    predicted |= {"identity_sha256": digest}
    predicted["identity"] |= {
        "weights_sha256": f"weights of {digest[0]}",
        "input_sha256": "image",
    }
    store = segmentation / "s.zarr"
    segmented = segmentation_of("v", store, store / "labels/objects")
    segmented |= {"identity_sha256": digest[::-1], "num_objects": 7}
    segmented["identity"] |= {"prediction": digest, "voxel_size_nm": [50, 4, 5]}
    segmented["circumstances"] = CIRCUMSTANCES | {"finished": made}
    described = {"prediction": predicted, "segmentation": segmented}
    best, chosen = (row("unet", "v_rand", value) for value in (1.0, score))
    metrics = metrics_of(
        "v",
        definitions=defined([chosen]),
        tables=[
            {"role": "validate", "sections": [0, 1], "rows": [best]},
            {
                "role": "test",
                "sections": [2, 3],
                "rows": [chosen, row("Otsu", "v_rand", 0.0)],
            },
        ],
    )
    write_record(segmentation / "metrics.json", metrics)
    for kind, record in described.items():
        write_record(home / f"{kind}-{digest[:8]}" / f"{kind}.json", record)
        write_record(home / f"{kind}.json", record)


def rows(results, wanted=(("unet", "v"),)):
    return list(catalogue_rows("run", results, set(wanted)))


def test_a_threshold_is_told_of_two_classes_alone(results):
    """Of several classes the most probable one counts, or many thresholds."""
    path = results / f"unet/v/prediction-{NEW[:8]}/prediction.json"
    record = read_record(path)
    record["outputs"]["classes"] = record["outputs"]["probability"]
    for each in (path, results / "unet/v/prediction.json"):
        write_record(each, record)
    told = {row["prediction_id"]: row["threshold"] for row in rows(results)}
    assert told == {OLD: 0.4, NEW: None}


def test_each_recipe_has_a_row_and_the_newest_is_current(results):
    new, old = rows(results)
    assert list(new) == list(CATALOGUE_COLUMNS)
    assert (new["current"], old["current"]) == (True, False)
    assert (new["prediction_id"], old["prediction_id"]) == (NEW, OLD)
    assert (new["v_rand"], old["v_rand"]) == (0.75, 0.5)
    assert new["scores_of"] == "test"
    assert new["weights_sha256"] == "weights of b"
    assert new["made"] == "2026-01-02T00:00:00Z"
    assert [new[f"size_{axis}"] for axis in "zyx"] == [2, 30, 40]
    assert [new[f"voxel_size_{axis}_nm"] for axis in "zyx"] == [50, 4, 5]
    assert new["image"] == "results/run/volumes/v/image.ome.zarr"
    assert new["prediction"] == f"results/run/unet/v/prediction-{NEW[:8]}/p.zarr"
    folder = results / "unet/v" / f"prediction-{NEW[:8]}"
    record = (folder / "prediction.json").stat().st_size
    assert new["prediction_bytes"] == 4 + record


def test_a_volume_that_nobody_asks_for_is_a_former_result(results):
    assert [row["current"] for row in rows(results, wanted=())] == [False, False]


def test_what_was_deleted_is_not_named(results):
    home = results / "unet/v"
    (home / f"prediction-{OLD[:8]}/p.zarr/0").unlink()
    (home / f"prediction-{OLD[:8]}/p.zarr").rmdir()
    (results / "volumes/v/image.ome.zarr").rmdir()
    _, old = rows(results)
    assert (old["prediction"], old["image"]) == (None, None)
    assert old["segmentation"] == f"results/run/unet/v/segmentation-{OLD[:8]}/s.zarr"


def test_warnings_are_those_of_image_result_and_scores(results):
    path = results / "volumes/v/ingest.json"
    odd = [{"what": "blank", "sections": [1, 4, 5]}]
    write_record(path, read_record(path) | {"odd_sections": odd})
    for path in (results / "unet/v").glob("**/segmentation*/segmentation.json"):
        write_record(path, read_record(path) | {"warnings": ["unlike"]})
    write_record(
        results / f"unet/v/segmentation-{NEW[:8]}/metrics.json",
        metrics_of("v", warnings=["below"]),
    )
    new, old = rows(results)
    assert new["warnings"] == "blank sections 1, 4-5; unlike; below"
    assert old["warnings"] == "blank sections 1, 4-5; unlike"


def test_a_probability_that_was_dropped_is_not_named(results):
    home = results / f"unet/v/prediction-{NEW[:8]}"
    write_record(home / NOTE, {"num_bytes": 4})
    new, old = rows(results)
    assert new["prediction"] is None
    assert old["prediction"] is not None


def test_a_prediction_without_objects_is_listed_and_not_current(results):
    home = results / "unet/v"
    (home / f"segmentation-{NEW[:8]}/segmentation.json").unlink()
    (home / "segmentation.json").unlink()
    by_id = {row["prediction_id"]: row for row in rows(results)}
    assert by_id.keys() == {OLD, NEW}
    assert by_id[NEW]["segmentation_id"] is None
    assert not by_id[NEW]["current"]


def test_results_of_versions_that_kept_no_copies_are_read_too(results):
    home = results / "unet/v"
    for digest in (OLD, NEW):
        for kind in ("prediction", "segmentation"):
            (home / f"{kind}-{digest[:8]}" / f"{kind}.json").unlink()
        (home / f"segmentation-{digest[:8]}" / "metrics.json").replace(
            home / "metrics.json"
        )
    (only,) = rows(results)
    assert (only["prediction_id"], only["current"]) == (NEW, True)
    assert only["v_rand"] == 0.75


def test_a_volume_that_failed_has_a_row_that_says_where_and_why():
    one = {"volume": "v", "network": "unet", "step": "ingest_volume", "note": "cut off"}
    (line,) = failed_rows("run", [one])
    assert line.keys() == CATALOGUE_COLUMNS.keys()
    assert {name: value for name, value in line.items() if value is not None} == {
        "run": "run",
        "volume": "v",
        "model": "unet",
        "current": False,
        "failed": "ingest_volume: cut off",
    }
