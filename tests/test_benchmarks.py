"""The benchmarks run, and say what they should; their figures are not looked at."""

import json
import math
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch

from tests.benchmarks.__main__ import BENCHMARKS, main
from tests.benchmarks.figures import Figure, Section, format_table
from tests.benchmarks.fresh import measure_fresh
from tests.benchmarks.gpu_load import command
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio

MAY_BE_LEFT_OUT = {
    "monai": "monai is not installed",
    "controller": "no SLURM is started for toy sizes",
    "remote": "obstore is not installed",
    "backends": "openvino is not installed",
    "fine_tuning": "there is no toy of two real sets",
    "proposing": "there is no toy of two real sets",
}


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    """Return (exit status, printed text, JSON record) of all benchmarks in small."""
    output = tmp_path_factory.mktemp("bench") / "benchmarks.json"
    with redirect_stdout(StringIO()) as printed:
        status = main(["--quick", "--output", str(output)])
    return status, printed.getvalue(), json.loads(output.read_text())


@pytest.mark.slow
def test_every_benchmark_finds_its_figures(toy_run):
    status, _, record = toy_run
    assert status == 0
    sections = {s["name"]: s for s in record["benchmarks"]}
    assert list(sections) == list(BENCHMARKS)
    for name, section in sections.items():
        if section["left_out"]:
            assert section["left_out"] == MAY_BE_LEFT_OUT[name]
            continue
        assert section["figures"]
        assert all(math.isfinite(f["value"]) for f in section["figures"])
        assert all(f["basis"] for f in section["figures"])


@pytest.mark.slow
def test_no_label_of_ours_differs_from_one_pass(toy_run):
    figures = [f for s in toy_run[2]["benchmarks"] for f in s["figures"]]
    ours = [f for f in figures if f["name"].startswith("labels of ours that differ")]
    if not ours:
        pytest.skip("MONAI is not installed: pip install -e '.[bench]'")
    assert [f["value"] for f in ours] == [0] * len(ours)


@pytest.mark.slow
def test_the_useful_efficiency_is_the_product_of_the_three(toy_run):
    (engine,) = [s for s in toy_run[2]["benchmarks"] if s["name"] == "engine"]
    *three, useful = [f["value"] for f in engine["figures"]]
    assert useful == pytest.approx(math.prod(three))


@pytest.mark.slow
def test_the_table_comes_last_and_names_machine_and_versions(toy_run):
    _, printed, record = toy_run
    about, bar, table = printed.partition("| benchmark ")
    assert about.startswith("Toy sizes")
    assert f"torch {torch.__version__}" in about
    assert record["machine"]["processor"] in about
    lines = (bar + table).splitlines()
    assert all(line.startswith("|") for line in lines)
    assert len(lines) == 2 + sum(len(s["figures"]) or 1 for s in record["benchmarks"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_cuda_it_says_what_would_work(capsys, tmp_path):
    output = tmp_path / "benchmarks.json"
    assert main(["--device", "cuda", "--output", str(output)]) == 2
    said = capsys.readouterr()
    assert "sees no CUDA device" in said.err
    assert "`make bench`" in said.err
    assert said.out == ""
    assert not output.exists()


def test_an_unknown_name_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["engines"])
    assert "no benchmark engines; use engine, " in capsys.readouterr().err


def test_a_benchmark_that_fails_leaves_the_others_their_turn(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("tests.benchmarks.weight_map.draw_cells", lambda side: 1 // 0)
    arguments = ["--quick", "--output", str(tmp_path / "b.json")]
    assert main([*arguments, "weight-map", "classifier"]) == 1
    table = capsys.readouterr().out
    assert "failed: ZeroDivisionError" in table
    assert "network over patch classifier" in table


def test_no_time_left_is_said(tmp_path, capsys):
    output = str(tmp_path / "b.json")
    assert main(["--quick", "--minutes", "-1", "--output", output, "engine"]) == 0
    assert "no time left" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_that_a_processor_has_no_arithmetic_for_are_missed_by_nobody(
    precision, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(Settings, "precision", precision)
    main(["--quick", "--minutes", "-1", "--output", str(tmp_path / "b.json"), "engine"])
    said = (
        "all figures are fp32, rows about bf16 are left out" in capsys.readouterr().out
    )
    assert said == (precision == "fp32")


def test_targets_are_held_against_real_sizes_only():
    figures = [
        Figure("slow", 0.5, at_least=0.9),
        Figure("small", 1.04, at_most=1.05),
        Figure("free", 12345.6, "x"),
    ]
    table = format_table([Section("a", 1.0, figures)], is_quick=False)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")
    ]
    assert rows[2:] == [
        ["a", "slow", "0.5", ">= 0.9 MISSED", ""],
        ["a", "small", "1.04", "<= 1.05 met", ""],
        ["a", "free", "12346 x", "", ""],
    ]
    assert "MISSED" not in format_table([Section("a", 1.0, figures)], is_quick=True)


def test_things_are_timed_in_turn_there_and_back():
    order: list[str] = []
    actions = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleave(actions, 3)
    assert "".join(order) == "abccbaabc"
    assert [len(seconds[name]) for name in "abc"] == [3, 3, 3]


def test_a_ratio_is_taken_within_rounds():
    assert median_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_memory_is_that_of_the_fresh_process_alone():
    ballast = b"x" * 300_000_000
    used = measure_fresh("tests.benchmarks.fresh", "peak_bytes")
    assert used.peak_bytes < len(ballast)


def test_a_failure_in_a_fresh_process_is_told():
    with pytest.raises(RuntimeError, match=r"time\.sleep failed"):
        measure_fresh("time", "sleep", nonsense=1)


def test_the_gpu_that_is_sampled_is_the_one_that_computes(monkeypatch):
    class Properties:
        uuid = "8a7b-42"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    assert command()[-1] == "--id=GPU-8a7b-42"
    assert command()[0] == "nvidia-smi"
