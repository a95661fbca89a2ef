"""What the workflow asks about a run, without the workflow."""

import json
from pathlib import Path

import pytest

from unetpipe.config.awaited import Awaited
from unetpipe.config.checked_run import check_run
from unetpipe.config.described import Described
from unetpipe.config.layout import Layout
from unetpipe.config.lookups import Lookups
from unetpipe.config.lots import Lots
from unetpipe.errors import DataError

HEADER = "volume\timage\tlabels\tsections\trole\tfold\taxes\n"
ROWS = (
    "a\ta.tif\tb.tif\t0-1\ttrain\t1\tzyx",
    "a\ta.tif\tb.tif\t2\tvalidate\t1\tzyx",
    "a\ta.tif\tb.tif\t2\ttrain\t2\tzyx",
    "a\ta.tif\tb.tif\t3\ttest\t\tzyx",
    "c\tc.tif\t\tall\tpredict\t\tzyx",
)


def lookups(
    folder: Path, *rows: str, header: str = HEADER, **values: object
) -> Lookups:
    """Return the lookups of a run whose originals lie in a folder."""
    for name in ("a.tif", "b.tif", "c.tif"):
        (folder / name).write_text(name)
    (folder / "sheet.tsv").write_text(header + "\n".join(rows or ROWS))
    given = {"source": str(folder), "volumes": str(folder / "sheet.tsv"), **values}
    return Lookups(check_run(given), Layout("demo"))


def test_a_network_has_the_rows_of_its_fold_and_those_of_none(tmp_path: Path) -> None:
    found = lookups(tmp_path)
    rows = found.rows_to_train("fold-1")
    assert [(row["role"], row["sections"]) for row in rows] == [
        ("train", (0, 1)),
        ("validate", (2,)),
    ]
    assert [r["sections"] for r in found.rows_to_train("fold-2")] == [(2,)]
    assert found.training_records("weight_map", "fold-1") == [
        "results/demo/volumes/a/weight_map.json"
    ]
    assert found.scored_rows("fold-2", "a") == [{"role": "test", "sections": (3,)}]


def test_a_sheet_sorted_anew_asks_for_nothing_else(tmp_path: Path) -> None:
    rows = (
        "a10\ta.tif\tb.tif\t0-2\ttrain\t\tzyx",
        "a10\ta.tif\tb.tif\t3\tvalidate\t\tzyx",
        "a2\tb.tif\ta.tif\tall\ttrain\t\tzyx",
        "a3\tc.tif\t\tall\tpredict\t\tzyx",
    )
    split = (
        "a10\ta.tif\tb.tif\t2\ttrain\t\tzyx",
        "a10\ta.tif\tb.tif\t0-1\ttrain\t\tzyx",
    )
    found = lookups(tmp_path, *rows)
    asked = found.rows_to_train("unet")
    assert [(row["ingest"].split("/")[-2], row["role"]) for row in asked] == [
        ("a2", "train"),
        ("a10", "train"),
        ("a10", "validate"),
    ]
    assert asked[1]["sections"] == (0, 1, 2)
    other = lookups(tmp_path, *reversed(rows[1:]), *split)
    assert other.rows_to_train("unet") == asked
    assert other.example_row("unet") == found.example_row("unet")


def test_an_ensemble_is_asked_where_no_member_learnt(tmp_path: Path) -> None:
    found = lookups(tmp_path, ensemble=True)
    assert found.member_names("ensemble") == ["fold-1", "fold-2"]
    assert found.scored_rows("ensemble", "a") == [{"role": "test", "sections": (3,)}]
    assert ("ensemble", "c") in found.predicted_pairs()
    assert ("ensemble", "c") not in found.trained_pairs("predict")


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((ROWS[0].replace("0-1", "1"), *ROWS[1:]), id="sections"),
        pytest.param((*ROWS, "a\ta.tif\tb.tif\t4\ttest\t1\tzyx"), id="a row more"),
        pytest.param(
            (*ROWS[:3], ROWS[3].replace("test", "predict"), ROWS[4]), id="role"
        ),
        pytest.param(tuple(r.replace("\t2\tzyx", "\t3\tzyx") for r in ROWS), id="fold"),
    ],
)
def test_what_a_section_is_used_for_decides_no_store(
    tmp_path: Path, rows: tuple[str, ...]
) -> None:
    before = lookups(tmp_path).cells_of_volume("a")
    assert lookups(tmp_path, *rows).cells_of_volume("a") == before
    other = lookups(tmp_path, *(row.replace("zyx", "cyx") for row in ROWS))
    assert other.cells_of_volume("a") != before


def test_an_original_that_is_written_anew_is_another_one(tmp_path: Path) -> None:
    found = lookups(tmp_path)
    before = found.local_originals("a")
    assert [Path(path).name for path in before] == ["a.tif", "b.tif"]
    assert found.local_originals("a") == before
    (tmp_path / "b.tif").write_text("longer than before")
    assert found.local_originals("a") != before


def test_a_folder_that_mixes_kinds_is_named_with_its_volume(tmp_path: Path) -> None:
    found = lookups(tmp_path)
    (tmp_path / "a.tif").unlink()
    (tmp_path / "a.tif").mkdir()
    for name in ("0.png", "1.tif"):
        (tmp_path / "a.tif" / name).touch()
    with pytest.raises(DataError, match="volume a: "):
        found.local_originals("a")


def test_steps_in_one_part_have_no_jobs_of_their_own(tmp_path: Path) -> None:
    one = lookups(tmp_path)
    assert one.ingested_parts() == one.steps_of_segmentation() == one.pyramids() == []
    two = {"parts": 2}
    more = lookups(tmp_path, ingest=two, segmentation=two, pyramid=two)
    assert [Path(path).name for path in more.ingested_parts()] == ["0.json", "1.json"]
    assert len(more.steps_of_segmentation()) == 5
    assert "{model}" in more.steps_of_segmentation()[0]
    assert more.pyramids_of("fold-1", "c") == [
        "results/demo/volumes/c/ingest-pyramid.json",
        "results/demo/fold-1/c/prediction-pyramid.json",
        "results/demo/fold-1/c/segmentation-pyramid.json",
    ]


def test_a_part_takes_the_memory_of_its_plan(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = lookups(tmp_path)
    assert found.planned_memory_mb("fold-1", "c") == 4096 + 300
    plan = Path("results/demo/fold-1/c/plan.json")
    plan.parent.mkdir(parents=True)
    plan.write_text(json.dumps({"projected": {"peak_rss_bytes": 2**30}}))
    assert found.planned_memory_mb("fold-1", "c") == 1024 + 300


def test_results_that_nobody_asks_for_are_left_over(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("fold-1/c", "fold-1/gone", "old/c"):
        Path(f"results/demo/{place}/prediction-1a2b").mkdir(parents=True)
    assert lookups(tmp_path).left_over_results() == [
        "results/demo/fold-1/gone",
        "results/demo/old/c",
    ]


def test_training_is_told_what_the_rule_of_objects_is_chosen_by(tmp_path) -> None:
    told = lookups(tmp_path).choosing("fold-1")
    assert {"choose_by", "method", "smallest_object_vox"} <= set(told)
    assert not {"parts", "block_shards", "threshold"} & set(told)


def test_pages_are_told_of_every_prediction_and_its_scores(tmp_path: Path) -> None:
    told = Described(lookups(tmp_path, ensemble=True))
    files = told.prediction_files("ensemble")
    assert [(f["volume"], f["metrics"]) for f in files] == [
        ("a", "results/demo/ensemble/a/metrics.json"),
        ("c", None),
    ]
    awaited = Awaited(told, Lots({}))
    assert awaited.reported("metrics", "ensemble") == [files[0]["metrics"]]
    assert told.comparison() == ["results/demo/comparison.json"]
    assert [n["rule"] for n in told.watched_networks()] == [
        *("train_unet", "train_unet", "join_networks")
    ]
    assert told.training_files("ensemble")["members"][0]["model"] == "fold-1"


def test_pages_are_told_what_int8_costs_each_network(tmp_path: Path) -> None:
    asked = lookups(tmp_path, ensemble=True, prediction={"precision": "int8"})
    files = Described(asked).training_files("ensemble")
    assert [one["calibration"] for one in files["members"]] == [
        f"results/demo/fold-{number}/calibration.json" for number in (1, 2)
    ]


def test_conditions_stand_in_tables_and_decide_nothing(tmp_path: Path) -> None:
    header = HEADER.replace("axes", "condition_drug")
    rows = (ROWS[0].replace("\t1\tzyx", "\t\tx"), ROWS[4].replace("zyx", "y"))
    asked = lookups(tmp_path, *rows, header=header, measure={"properties": "all"})
    assert "conditions" not in asked.cells_of_volume("c")
    assert "conditions" not in asked.rows_of_volume("c")[0]
    (one,) = asked.measured_volumes()
    assert one["about"]["condition_drug"] == "y"


def test_objects_are_measured_only_on_request(tmp_path: Path) -> None:
    rows = (ROWS[0].replace("\t1\tzyx", ""), ROWS[4])
    asked = lookups(tmp_path, *rows)
    assert asked.measurements() == asked.measured_tables() == []
    asked = lookups(tmp_path, *rows, measure={"properties": ["area"], "parts": 2})
    assert asked.measured_tables() == ["results/demo/measurements.csv"]
    assert asked.measurements() == ["results/demo/unet/c/measurements.json"]
    assert len(asked.measured_parts()) == 2


def tracks_awaited(asked: Lookups) -> list[str]:
    return Awaited(Described(asked), Lots({})).tracks()


def test_tracks_are_made_only_on_request(tmp_path: Path) -> None:
    rows = (ROWS[0].replace("\t1\tzyx", ""), ROWS[4])
    asked = lookups(tmp_path, *rows)
    assert asked.tracks_of("unet", "c") == tracks_awaited(asked) == []
    asked = lookups(tmp_path, *rows, track={"enabled": True})
    assert asked.tracks_of("unet", "c") == ["results/demo/unet/c/tracks.json"]
    assert tracks_awaited(asked) == ["results/demo/unet/c/tracks.json"]
    (files,) = Described(asked).prediction_files()
    assert files["tracks"] == "results/demo/unet/c/tracks.json"


@pytest.mark.parametrize(("scale", "records"), [("keep", 0), (0.5, 0), ("match", 1)])
def test_only_what_is_matched_waits_for_the_scale_of_others(
    tmp_path: Path, scale: str | float, records: int
) -> None:
    found = lookups(tmp_path, ingest={"scale": scale})
    assert len(found.scale_records("c")) == records
    assert found.scale_records("a") == []
