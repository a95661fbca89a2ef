"""The chain as its users meet it: one command, again, edited, killed, mistyped."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
import yaml

from tests.figures.__main__ import read_panels
from tests.workflow.conftest import HEADER, ROWS
from unetpipe.storage.volumes import open_volume

CHAIN = [
    "download_dataset",
    "ingest_volume",
    "compute_weight_map",
    "train_unet",
    "probe_prediction",
    "plan_prediction",
    "predict_part",
    "finish_prediction",
    "finish_segmentation",
    "evaluate_prediction",
    "collect_metrics",
    "collect_catalogue",
    "report",
    "report_run",
]
CONFIGS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "config").glob("*.yaml")
    if path.stem != "gpu"  # single settings, which go behind another configuration
)

pytestmark = pytest.mark.chain


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_every_shipped_config_passes_a_dry_run(fresh, config):
    done = fresh.snakemake("--dry-run", "--quiet", "rules", config=config)
    for rule in CHAIN:
        assert rule in done.stdout


def test_the_chain_runs_to_a_report_and_says_where_it_is(finished):
    assert "Report: results/tiny/report.html" in finished.output
    assert "napari results/tiny/volumes/cells/image.ome.zarr" in finished.output
    assert (finished.folder / "results/tiny/report.html").stat().st_size > 10_000
    pages = ("results/tiny/report.html", "results/tiny/unet/report.html")
    first, own = ((finished.folder / page).read_bytes() for page in pages)
    assert first == own, "of one network the page to read first is its report"
    metrics = json.loads(
        (finished.folder / "results/tiny/unet/cells/metrics.json").read_text()
    )
    assert metrics["role_sections"] == {"validate": [2], "test": [3]}


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    for rule in CHAIN:
        for kind, suffix in (("logs", "log"), ("benchmarks", "tsv")):
            found = [
                *finished.folder.glob(f"{kind}/tiny/{rule}.{suffix}"),
                *finished.folder.glob(f"{kind}/tiny/{rule}/**/*.{suffix}"),
            ]
            assert found, f"{rule} left nothing in {kind}"


def test_the_picture_of_the_readme_can_be_drawn_from_a_run(finished):
    panels = read_panels(finished.folder / "results/tiny")
    assert [panel.shape for panel in panels] == [(64, 64, *c) for c in ((), (3,)) * 2]
    assert all(panel.dtype == np.uint8 and panel.max() > 0 for panel in panels)


def test_running_again_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake().stderr


@pytest.mark.slow
def test_a_comment_a_docstring_or_a_log_message_reruns_nothing(finished):
    edits = [
        ("unetpipe/network/predictor.py", '"""Tiles in,', '"""Some tiles in,'),
        ("unetpipe/targets/weight_map.py", "\nimport ", "\n# a comment\nimport "),
        ("unetpipe/stages/finish_prediction.py", "log.info(", "log.warning("),
        ("unetpipe/stages/finish_prediction.py", "shards verified", "shards are fine"),
    ]
    before = {name: (finished.folder / name).read_text() for name, _, _ in edits}
    for edit in edits:
        finished.edit(*edit)
    try:
        assert finished.planned() == {}
    finally:
        for name, text in before.items():
            (finished.folder / name).write_text(text)


@pytest.mark.slow
def test_moving_a_module_reruns_nothing(finished):
    package, aside = finished.folder / "unetpipe", finished.folder / "as_it_was"
    shutil.copytree(package, aside)
    try:
        (package / "corners").mkdir()
        (package / "corners" / "__init__.py").write_text('"""A room more."""\n')
        (package / "tiling" / "boxes.py").rename(package / "corners" / "zyx.py")
        for path in package.rglob("*.py"):
            text = path.read_text()
            path.write_text(
                text.replace("unetpipe.tiling.boxes", "unetpipe.corners.zyx")
            )
        assert finished.planned() == {}
    finally:
        shutil.rmtree(package)
        aside.rename(package)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("\t3\ttest\t", "\t3\tpredict\t", id="role"),
        pytest.param("\t0-1\ttrain\t", "\t0\ttrain\t", id="sections"),
        pytest.param("\t3\ttest\t\t", "\t3\ttest\t1\t", id="fold"),
    ],
)
def test_what_a_section_is_used_for_stores_no_volume_anew(finished, old, new):
    sheet = finished.folder / "config/tiny.tsv"
    before = finished.edit("config/tiny.tsv", old, new)
    if new.endswith("\t1\t"):  # a fold has all its roles
        sheet.write_text(
            sheet.read_text()
            .replace("train\t\t", "train\t1\t")
            .replace("validate\t\t", "validate\t1\t")
        )
    try:
        planned = finished.planned()
        assert planned
        assert not {"download_dataset", "ingest_volume"} & set(planned)
    finally:
        sheet.write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        (
            "unetpipe/evaluation/score_rows.py",
            "not math.isnan(interval.low)",
            "math.isfinite(interval.low)",
            {
                "evaluate_prediction",
                "collect_metrics",
                "collect_catalogue",
                "report",
                "report_run",
            },
        ),
        pytest.param(
            "unetpipe/segmentation/passes.py",
            "BASE_BYTES = 330 * 2**20",
            "BASE_BYTES = 331 * 2**20",
            {
                "finish_segmentation",
                "evaluate_prediction",
                "collect_metrics",
                "collect_catalogue",
                "report",
                "report_run",
            },
        ),
        pytest.param(
            "unetpipe/stages/report.py",
            "def report(",
            "EDITED = True\n\n\ndef report(",
            {"report", "report_run"},
        ),
    ],
)
def test_an_edit_reruns_exactly_the_rules_that_use_it(
    finished, module, old, new, expected
):
    before = finished.edit(module, old, new)
    try:
        assert set(finished.planned()) == expected
    finally:
        (finished.folder / module).write_text(before)


def test_changing_one_setting_reruns_exactly_what_depends_on_it(finished):
    before = finished.edit("config/tiny.yaml", "parts: 2", "parts: 3")
    try:
        assert set(finished.planned()) == {
            "plan_prediction",
            "predict_part",
            "finish_prediction",
            "finish_segmentation",
            "evaluate_prediction",
            "collect_metrics",
            "collect_catalogue",
            "report",
            "report_run",
        }
    finally:
        (finished.folder / "config/tiny.yaml").write_text(before)


@pytest.mark.slow
def test_all_problems_of_a_configuration_come_at_once_without_a_traceback(fresh):
    text = (fresh.folder / "config/tiny.yaml").read_text()
    (fresh.folder / "config/tiny.yaml").write_text(
        text.replace("steps:", "stepps:").replace("parts: 2", "parts: 0")
        + "phantom: {seed: 1}\n"
    )
    sheet = fresh.folder / "config/tiny.tsv"
    sheet.write_text(sheet.read_text().replace("\ttrain\t", "\ttrian\t"))
    done = fresh.snakemake("--dry-run", check=False)
    assert done.returncode != 0
    # Nothing of Snakemake's stands around what the user is to mend.
    assert done.stdout.splitlines() == [
        "config/tiny.yaml: 1 problem",
        "  phantom: on line 5 and again on line 10, and only the last would count; put "
        "all its keys below one",
        "config/tiny.yaml: 2 problems",
        "  training.stepps: unknown key; did you mean steps?",
        "  prediction.parts: 0: must be greater than or equal to 1",
        "config/tiny.tsv: 1 problem",
        "  line 2: role is 'trian'; use train, validate, test, predict",
    ]
    assert "Traceback" not in done.stderr
    assert "WorkflowError" not in done.stderr


@pytest.mark.slow
def test_a_sheet_without_training_or_files_is_refused_before_any_job(fresh):
    sheet = fresh.folder / "config/tiny.tsv"
    sheet.write_text(sheet.read_text().replace("\ttrain\t", "\ttest\t"))
    done = fresh.snakemake("--dry-run", check=False)
    assert (
        "no row has the role train; give it annotated sections"
        in done.stdout + done.stderr
    )
    (fresh.folder / "empty").mkdir()
    done = fresh.snakemake("--dry-run", "--config", "source=empty", check=False)
    said = done.stdout + done.stderr
    assert "volume cells: 'phantom/image.tif' is not in" in said
    assert "volume cells: 'phantom/labels.tif' is not in" in said
    assert done.returncode != 0


@pytest.mark.slow
def test_a_missing_source_stops_before_anything_is_written(fresh):
    done = fresh.snakemake("--config", "source=nowhere/at/all.zip", check=False)
    assert done.returncode != 0
    assert "nowhere/at/all.zip" in done.stdout + done.stderr
    assert not (fresh.folder / "resources/tiny/manifest.json").exists()


@pytest.mark.slow
def test_killing_snakemake_loses_nothing(fresh, finished):
    """SIGKILL to the whole run, twice; the same command, and nothing else, finishes."""
    for rule in ("train_unet", "finish_prediction"):
        run = subprocess.Popen(
            fresh.command(),
            cwd=fresh.folder,
            env=fresh.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        log = fresh.folder / "logs/tiny" / rule
        while run.poll() is None and not list(log.glob("**/*.log")):
            time.sleep(0.02)
        assert run.poll() is None, "it ended before it could be killed"
        subprocess.run(["pkill", "-KILL", "-s", str(run.pid)], check=False)
        run.wait()
        assert run.returncode == -signal.SIGKILL
    said = fresh.snakemake().stderr
    assert f"An earlier run (process {run.pid} on" in said
    assert "was killed. Its lock is removed; all finished work is kept" in said
    assert "Nothing to be done" in fresh.snakemake().stderr
    stored = [
        open_volume(
            next(p.folder.glob("results/tiny/unet/cells/prediction-*"))
            / "probability.ome.zarr"
        )[...]
        for p in (fresh, finished)
    ]
    assert np.array_equal(*stored)


@pytest.mark.slow
def test_a_stopped_run_says_so_and_asks_for_nothing_to_be_mended(fresh):
    large = "phantom={shape: [400, 512, 512], num_cells: 2000}"
    with subprocess.Popen(
        fresh.command("--config", large),
        cwd=fresh.folder,
        env=fresh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        # It draws as soon as a file is there.
        while not list((fresh.folder / "resources/tiny").rglob("image.tif")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        said = process.communicate()[0]
    assert process.returncode != 0
    _, _, told = said.partition("A job was stopped:\n")
    assert "Interrupted: stopped by Ctrl-C before it was done" in told
    assert "All finished work is kept. To go on, repeat" in told
    assert "mend" not in told


@pytest.mark.slow
def test_a_lock_that_may_be_anothers_is_kept_and_explained(finished):
    """Of a live run, of one on another machine, of one that left no note."""
    lock = finished.folder / ".snakemake/locks/0.output.lock"
    note = finished.folder / ".snakemake/unetpipe_run.json"
    assert not note.exists()
    me = psutil.Process()
    about = {
        "pid": me.pid,
        "host": socket.gethostname(),
        "created": me.create_time(),
        "started": "2026-01-02 03:04:05",
    }
    for values, expected in (
        (about, f"Another run is at work in this folder (process {me.pid} on"),
        (about | {"host": "node7"}, "by a run on another machine (process"),
        (None, "another run is just starting, or one was killed as it started"),
    ):
        lock.parent.mkdir(exist_ok=True)
        lock.write_text("results/tiny/report.html\n")
        if values:
            note.write_text(json.dumps(values))
        try:
            done = finished.snakemake("--cores", "1", "plan", check=False)
            assert lock.exists()
        finally:
            note.unlink(missing_ok=True)
            shutil.rmtree(lock.parent)
        assert done.returncode != 0
        assert expected in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_was_a_day_wrong_redoes_and_stops_nothing(finished, days):
    """Results dated a day off are up to date, and what is then missing can be made."""
    results = [p for p in (finished.folder / "results").rglob("*") if p.is_file()]
    results.append(finished.folder / "resources/tiny/manifest.json")
    dates = {path: path.stat().st_mtime for path in results}
    rng = np.random.default_rng(0)
    try:
        for path in results:
            wrong = dates[path] + days * 86_400 * rng.integers(2)
            os.utime(path, (wrong, wrong))
        assert finished.planned() == {}
        (finished.folder / "results/tiny/report.html").unlink()
        assert finished.planned() == {"report_run": 1}
        finished.snakemake()
        assert finished.planned() == {}
    finally:
        for path in results:
            os.utime(path, (dates[path], dates[path]))


@pytest.mark.slow
def test_a_new_date_of_a_script_reruns_nothing_but_an_edit_does(finished):
    script = finished.folder / "scripts/finish_prediction.py"
    script.touch()
    assert finished.planned() == {}
    before = finished.edit(
        "scripts/finish_prediction.py", "\nlog_to", "\nX = 1\nlog_to"
    )
    try:
        assert "finish_prediction" in finished.planned()
    finally:
        script.write_text(before)


@pytest.mark.slow
def test_a_finished_run_is_served_to_viewers_and_proposes_nothing(finished):
    refused = finished.snakemake("--cores", "1", "propose_annotations", check=False)
    assert refused.returncode
    assert "there is nothing to propose" in refused.stdout + refused.stderr
    with subprocess.Popen(
        finished.command("--cores", "1", "--nolock", "view"),
        cwd=finished.folder,
        env=finished.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        told = ""
        while "Control-C" not in told:
            line = process.stdout.readline()
            assert line, told
            told += line
        address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", told)[0]
        with urlopen(f"{address}volumes/cells/image/zarr.json") as answer:
            assert answer.status == 200
        os.killpg(process.pid, signal.SIGINT)
        process.wait()


@pytest.mark.slow
def test_results_without_the_notes_of_snakemake_tell_for_themselves(finished):
    """Copied results, or `.snakemake` deleted: no setting is taken for another."""
    aside = finished.folder / "notes"
    (finished.folder / ".snakemake").rename(aside)
    steps = ("--config", 'training={"steps": 8}')
    status, verify = ("--cores", "1", "status"), ("--cores", "1", "verify")
    try:
        assert finished.planned() == {}
        planned = finished.planned(*steps)
        assert {"train_unet", "predict_part", "report"} <= set(planned)
        assert "ingest_volume" not in planned
        assert set(finished.planned("--config", "segmentation={threshold: 0.4}")) == {
            *("finish_segmentation", "evaluate_prediction", "collect_metrics"),
            *("collect_catalogue", "report", "report_run"),
        }
        said = finished.snakemake(*status, *steps).stdout
        told = "train.json was made with other settings (training)"
        assert f"{told}: the next run makes it again" in said
        assert "outdated" in said
        assert told in finished.snakemake(*verify, *steps, check=False).stderr
        assert told not in finished.snakemake(*status).stdout
    finally:
        shutil.rmtree(finished.folder / ".snakemake", ignore_errors=True)
        aside.rename(finished.folder / ".snakemake")


@pytest.mark.slow
def test_what_needs_no_originals_fetches_none_where_they_are_gone(finished):
    """As in a run that was renamed: its results are, its `resources` are not."""
    resources = finished.folder / "resources"
    resources.rename(finished.folder / "aside")
    try:
        assert finished.planned() == {}
        planned = finished.planned("--config", "segmentation={threshold: 0.4}")
        assert {"finish_segmentation", "report"} <= set(planned)
        assert not {"download_dataset", "ingest_volume", "train_unet"} & set(planned)
    finally:
        (finished.folder / "aside").rename(resources)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("unet/model.safetensors", "train_unet"),
        ("unet/history.csv", "train_unet"),
        ("unet/cells/seams.svg", "evaluate_prediction"),
        ("volumes/cells/weight_map.json", "compute_weight_map"),
    ],
)
def test_a_deleted_file_of_a_finished_run_is_made_again(finished, name, rule):
    """As the documents and `verify` say: delete the file and repeat the command."""
    path = finished.folder / "results/tiny" / name
    path.rename(path.with_name("aside"))
    try:
        assert rule in finished.planned()
    finally:
        path.with_name("aside").rename(path)
    assert finished.planned() == {}


@pytest.mark.slow
def test_lint_finds_nothing(fresh):
    if shutil.which("snakemake", path=fresh.environment["PATH"]) is None:
        pytest.fail("snakemake is not on the path")
    done = fresh.snakemake("--lint", check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_workflow_reports_itself_with_captions_and_categories(finished):
    finished.snakemake("--report", "report.zip")
    with zipfile.ZipFile(finished.folder / "report.zip") as archive:
        names = archive.namelist()
        text = archive.read("report/report.html").decode()
    for told in (
        *("Reports", "Scores", "the page to read first", "network unet"),
        *("What the network <em>unet</em> learnt", "Jump of the probability of"),
        *("one a line", "trained on and applied to the volumes"),
        "Every segmentation that lies in the results",
    ):
        assert told in text, told
    data = [name for name in names if "/data/" in name]
    assert [sum(name.endswith(kind) for name in data) for kind in (".csv", ".svg")] == [
        *(2, 1)
    ]


@pytest.mark.slow
def test_an_earlier_run_is_compared_with(finished):
    text = (finished.folder / "config/tiny.yaml").read_text()
    changed = text.replace("name: tiny", "name: next\ncompare: [results/tiny/unet]")
    (finished.folder / "config/next.yaml").write_text(changed)
    (finished.folder / "config/bad.yaml").write_text(
        text.replace("name: tiny", "name: bad\ncompare: [results/nothing]")
    )
    done = finished.snakemake("--dry-run", config="bad", check=False)
    assert "compare: results/nothing holds no train.json" in done.stdout + done.stderr
    finished.snakemake(config="next")
    page = (finished.folder / "results/next/report.html").read_text()
    assert "next/unet against tiny/unet" in page
    assert 'href="../tiny/unet/report.html"' in page
    assert "no clear difference" in page, "the same network, trained twice"
    assert "Nothing to be done" in finished.snakemake(config="next").stderr


@pytest.mark.slow
def test_an_ensemble_of_folds_is_joined_once_and_scored_where_no_member_learnt(fresh):
    rows = [
        ("0", "train", "1"),
        ("1", "validate", "1"),
        ("1", "train", "2"),
        ("0", "validate", "2"),
        ("2", "test", "1"),
        ("3", "test", ""),
    ]
    base = ROWS[0].split("\t")
    sheet = fresh.folder / "config" / "tiny.tsv"

    def write(chosen):
        lines = [
            "\t".join([*base[:3], sections, role, fold, *base[6:]])
            for sections, role, fold in chosen
        ]
        sheet.write_text(HEADER + "".join(lines))

    write(rows)
    plain, joined = fresh.planned(), fresh.planned("--config", "ensemble=true")
    assert "join_networks" not in plain
    assert joined["join_networks"] == 1
    assert joined["train_unet"] == plain["train_unet"] == 2
    assert joined["finish_segmentation"] == plain["finish_segmentation"] + 1
    assert joined["evaluate_prediction"] == plain["evaluate_prediction"] + 1
    write(rows[:-1])
    refused = fresh.snakemake("--dry-run", "--config", "ensemble=true", check=False)
    assert "no row without a fold in the role predict or test" in refused.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "measure: {properties: all, parts: 2}\ntrack: {enabled: true}\n"
        "export_ctc: true\nexport_outlines: [geojson]\nexport_ngff04: [0]\n"
        "export_precomputed: {enabled: true}\n"
        "export_model: {enabled: true, authors: [A], licence: CC0-1.0}\n"
        "ingest: {chunk: [1, 64, 64], shard: [1, 64, 64], parts: 2}\n"
        "segmentation: {parts: 3}\npyramid: {parts: 2}\n"
        "prediction: {keep_probability: false, parts: 3}\n"
        "variants: {one: {}, two: {preset: same_padding}}\nensemble: true\n"
        "seeds: [1, 2]\n",
    ],
)
def test_the_plan_counts_the_jobs_that_the_run_will_have(fresh, wanted):
    path = fresh.folder / "config" / "tiny.yaml"
    ours = yaml.safe_load(path.read_text())
    for section, given in (yaml.safe_load(wanted) or {}).items():
        is_section = isinstance(given, dict)
        ours[section] = {**ours.get(section, {}), **given} if is_section else given
    path.write_text(yaml.safe_dump(ours))
    fresh.snakemake("--cores", "1", "plan")
    planned = json.loads((fresh.folder / "results/tiny/plan.json").read_text())
    assert planned["num_jobs"] == sum(fresh.planned().values())


@pytest.mark.slow
def test_an_image_is_stored_in_parts_and_then_rests(fresh, finished):
    with (fresh.folder / "config/tiny.yaml").open("a") as config:
        config.write("ingest: {chunk: [1, 64, 64], shard: [1, 64, 64], parts: 2}\n")
    target = "results/tiny/volumes/cells/ingest.json"
    arguments = ("--cores", "2", target)
    planned = fresh.planned(*arguments)
    assert planned == {"download_dataset": 1, "ingest_part": 2, "ingest_volume": 1}
    fresh.snakemake(*arguments)
    assert fresh.planned(*arguments) == {}
    stored, expected = (
        json.loads((project.folder / target).read_text())
        for project in (fresh, finished)
    )
    assert stored["image"]["pixel_sha256"] == expected["image"]["pixel_sha256"]
    assert stored["statistics"] == expected["statistics"]
