"""All scores in one table, and records that obey their schema."""

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.stages.scored import Scored, find_row
from unetpipe.errors import DataError
from unetpipe.evaluation.score_rows import METRICS
from unetpipe.records.metrics import Metrics
from unetpipe.report.catalogue import SCORE_COLUMNS
from unetpipe.stages.collect_metrics import collect_metrics
from unetpipe.stages.compare_networks import compare_networks

SCHEMA = Path(__file__).resolve().parents[2] / "config" / "metrics.schema.json"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Return a produced record of instances, with its path."""
    labels = np.zeros((3, 32, 40), np.uint32)
    labels[:, 1:14, 2:18], labels[:, 1:14, 20:38], labels[:, 16:30, 4:30] = 1, 2, 7
    rng = np.random.default_rng(5)
    probability = np.clip((labels > 0) * 0.7 + rng.random(labels.shape) * 0.4, 0, 1)
    folder = tmp_path_factory.mktemp("scored")
    volume = Scored(folder, probability, labels, kind="instances")
    return volume.evaluate(("validate", [0]), ("test", [1, 2])), folder / "metrics.json"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_produced_record_obeys_the_schema_file(scored) -> None:
    record, _ = scored
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(record)
    assert set(schema["properties"]) == set(record)
    # What version 0.1 did not write: its records are read on.
    later = {"baselines", "leading", "not_computed", "warnings"}
    assert set(record) - set(schema["required"]) == later
    former = {key: value for key, value in record.items() if key != "warnings"}
    jsonschema.validate(former, schema)
    assert Metrics.model_validate(former).warnings == ()
    for key, value in (("schema_version", 2), ("surprise", 1), ("seconds", -1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(record | {key: value}, schema)


def test_every_field_of_the_schema_is_described_or_speaks_for_itself() -> None:
    schema = json.loads(SCHEMA.read_text())
    models = [schema, *schema["$defs"].values()]
    assert all(len(model["description"]) > 10 for model in models)
    plain = {
        *("role", "predictor", "metric", "rows", "definition", "axis", "face"),
        *("calibration", "curves", "seams", "picture", "num_shards_of_volume"),
    }
    silent = {
        name
        for model in models
        for name, field in model["properties"].items()
        if "description" not in field
    }
    assert silent <= plain


def test_a_record_defines_each_of_its_scores_once(scored) -> None:
    record, _ = scored
    rows = [r for t in record["tables"] + record["objects"] for r in t["rows"]]
    assert {row["metric"] for row in rows} == set(record["definitions"])
    for row in rows:
        told = record["definitions"][row["metric"]]
        assert all(row[key] == told[key] for key in ("definition", "better", "unit"))
    assert record["definitions"]["vi_split"]["version"] == METRICS["vi_split"].version
    assert Metrics.model_validate(record).volume == "vol"


def test_one_line_a_score_with_threshold_interval_and_version(
    scored, tmp_path: Path
) -> None:
    record, path = scored
    table = tmp_path / "out" / "metrics.csv"
    metrics = [{"model": "unet", "volume": "vol", "metrics": str(path)}]
    collect_metrics(name="mine", metrics=metrics, pooled=[], table=table)
    lines = read(table)
    assert list(lines[0]) == list(SCORE_COLUMNS)
    keys = ("run", "model", "volume", "role", "predictor", "metric", "rule")
    assert len({tuple(line[key] for key in keys) for line in lines}) == len(lines)
    rows = [r for t in record["tables"] + record["objects"] for r in t["rows"]]
    assert len(lines) == sum(
        (r["chosen"] is not None) + (r["best"] is not None) for r in rows
    )
    wanted = ("mine", "unet", "vol", "test", "unet", "v_rand")
    chosen, best = (
        next(line for line in lines if tuple(line[k] for k in keys) == (*wanted, rule))
        for rule in ("chosen", "best")
    )
    row = find_row(record["tables"], "test", "unet", "v_rand")
    assert float(chosen["value"]) == row["chosen"]["score"]
    assert float(chosen["threshold"]) == row["chosen"]["threshold"]
    assert [float(chosen["low"]), float(chosen["high"])] == row["interval"]
    assert (best["low"], best["high"]) == ("", ""), "the interval is of the other rule"
    assert float(best["value"]) == row["best"]["score"]
    assert (chosen["n"], chosen["n_of"], chosen["unit"]) == ("2", "sections", "1")
    assert chosen["definition_version"] == "1"


def test_scores_of_all_folds_come_last(scored, tmp_path: Path) -> None:
    _, path = scored
    network = {"volume": "vol", "variant": "", "seed": 0, "shared": []}
    network["is_joined"] = False
    compare_networks(
        networks=[network | {"model": f"fold-{f}", "fold": f} for f in "12"],
        variants={},
        sections=[path.with_name("section_scores.json")] * 2,
        record=tmp_path / "comparison.json",
    )
    table = tmp_path / "metrics.csv"
    pooled = [tmp_path / "comparison.json"]
    metrics = [{"model": "fold-1", "metrics": str(path)}]
    collect_metrics(name="mine", metrics=metrics, pooled=pooled, table=table)
    lines = read(table)
    assert [line["model"] for line in lines] == sorted(
        (line["model"] for line in lines), reverse=True
    )
    (ours,) = (
        line
        for line in lines
        if (line["model"], line["predictor"]) == ("all folds", "unet")
        and (line["metric"], line["rule"]) == ("v_rand", "chosen")
    )
    assert (ours["num_sections"], ours["volume"], ours["threshold"]) == ("4", "", "")


def test_without_scores_the_table_has_its_header_alone(tmp_path: Path) -> None:
    collect_metrics(name="mine", metrics=[], pooled=[], table=tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text() == ",".join(SCORE_COLUMNS) + "\n"


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    metrics = [{"model": "unet", "volume": "vol", "metrics": "gone/metrics.json"}]
    with pytest.raises(DataError, match=r"gone/metrics\.json does not exist"):
        collect_metrics(
            name="mine", metrics=metrics, pooled=[], table=tmp_path / "metrics.csv"
        )
