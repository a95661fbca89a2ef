"""A network of an earlier run on new volumes, of which probabilities are not kept."""

import json
import re

import pytest

pytestmark = pytest.mark.slow

APPLIED = """
name: applied
trained: results/tiny/unet
source: phantom:cells
volumes: config/applied.tsv
phantom: {shape: [4, 64, 64], num_cells: 12}
prediction: {parts: 1, threads: 1, stride: [1, 32, 32], keep_probability: false}
"""
SHEET = "volume\timage\trole\taxes\ncells\tphantom/image.tif\tpredict\tzyx\n"


@pytest.fixture(scope="module")
def applied(finished):
    """The finished project, after its network was applied in a second run."""
    (finished.folder / "config/applied.yaml").write_text(APPLIED)
    (finished.folder / "config/applied.tsv").write_text(SHEET)
    finished.output = finished.snakemake("--verbose", config="applied")
    return finished


def rules_of(done) -> set[str]:
    return set(re.findall(r"[(]Rule: (\w+)[)]", done.stderr))


def record(project, name, run="applied"):
    path = project.folder / "results" / run / "unet/cells" / name
    return json.loads(path.read_text())


def shards(project) -> list:
    found = project.folder.glob("results/applied/unet/cells/prediction-*/*.zarr/*/c/**")
    return [path for path in found if path.is_file()]


def test_a_network_is_applied_without_training_or_annotations(applied):
    ran = rules_of(applied.output)
    assert "adopt_network" in ran
    assert not ran & {"train_unet", "compute_weight_map", "suggest_settings"}
    ours, theirs = (
        record(applied, "prediction.json", run) for run in ("applied", "tiny")
    )
    assert ours["content_sha256"] == theirs["content_sha256"]
    page = (applied.folder / "results/applied/report.html").read_text()
    assert "was taken over from results/tiny/unet" in page
    status = applied.snakemake("--cores", "1", "status", config="applied").stdout
    assert re.search(r"unet +adopt_network +done", status)


def test_a_used_probability_is_dropped_and_comes_again_where_it_is_needed(applied):
    dropped = record(applied, "dropped.json")
    told = f"keep_probability: false saves {dropped['num_bytes']} bytes"
    assert told in applied.output.stdout
    assert shards(applied) == []
    assert "Nothing to be done" in applied.snakemake(config="applied").stderr
    anew = applied.snakemake("-n", "--forcerun", "report", config="applied")
    assert "collect_catalogue" in anew.stdout + anew.stderr
    before = record(applied, "prediction.json")
    (applied.folder / "config/applied.yaml").write_text(
        APPLIED + "segmentation: {threshold: 0.45}\n"
    )
    again = applied.snakemake("--verbose", config="applied")
    assert {"predict_part", "finish_segmentation", "drop_probability"} <= rules_of(
        again
    )
    assert not rules_of(again) & {"plan_prediction", "adopt_network"}
    after = record(applied, "prediction.json")
    assert after["content_sha256"] == before["content_sha256"]
    assert record(applied, "segmentation.json")["threshold"] == 0.45
    assert shards(applied) == []
    verified = applied.snakemake("--cores", "1", "verify", config="applied")
    assert "blocks computed again, bit by bit" in verified.stderr
    assert "Report: " not in verified.stdout, "its verdict comes last"
