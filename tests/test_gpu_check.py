"""The check of a first GPU runs, passes on a processor, and fails where it should."""

import json

import pytest
import torch

from tests.gpu_check import arithmetic
from tests.gpu_check.__main__ import SECTIONS, main
from unetpipe.network import transfer
from unetpipe.network.predictor import TilePredictor
from unetpipe.training.checkpoints import Checkpoints

DRY = ("--device", "cpu", "--quick")


@pytest.fixture
def check(tmp_path, capsys):
    """Run some sections; return the exit status and what failed."""

    def run(*names):
        output = tmp_path / "check.json"
        status = main([*names, *DRY, "--output", str(output)])
        assert "failed; see" in capsys.readouterr().out
        lines = json.loads(output.read_text())
        return status, [line["text"] for line in lines if line["kind"] == "FAIL"], lines

    return run


OTHER_PROCESSES = {"other_process", "together"}


@pytest.mark.slow
def test_every_section_runs_and_passes_on_a_processor(check):
    names = [name for name in SECTIONS if name not in OTHER_PROCESSES]
    status, failed, lines = check(*names)
    assert (status, failed) == (0, [])
    passed = {line["section"] for line in lines if line["kind"] == "PASS"}
    assert passed == set(names) - {"machine", "rates", "compiled"}
    ended = [line["section"] for line in lines if line["text"].startswith("took")]
    assert ended == names
    rate = next(line for line in lines if "Zarr to Zarr" in line["text"])
    assert rate["values"]["voxels_per_second"] > 0


@pytest.mark.slow
def test_other_processes_compute_the_same_and_train_together(check):
    status, failed, lines = check(*sorted(OTHER_PROCESSES))
    assert (status, failed) == (0, [])
    passed = {line["section"] for line in lines if line["kind"] == "PASS"}
    assert passed == OTHER_PROCESSES


def test_bits_that_depend_on_the_place_in_a_batch_are_found(check, monkeypatch):
    real = TilePredictor.quantised

    def quantised(self, tiles, stride, **grey):
        stored, is_finite = real(self, tiles, stride, **grey)
        stored = stored.clone()
        stored[1:] ^= 1
        return stored, is_finite

    monkeypatch.setattr(TilePredictor, "quantised", quantised)
    status, failed, _ = check("bits")
    assert status == 1
    assert "2-D, fp32: at any place of a batch" in failed
    assert "2-D, fp32: the same bits again" not in failed


def test_values_that_are_not_those_of_a_processor_are_found(check, monkeypatch):
    real = arithmetic._stored

    def stored(*arguments):
        return (real(*arguments).int() - 2).clamp(0).to(torch.uint8)

    monkeypatch.setattr(arithmetic, "_stored", stored)
    status, failed, _ = check("bits")
    assert status == 1
    assert {text.rsplit(": ", 2)[-2] for text in failed} == {"as on a processor"}


def test_a_buffer_that_is_used_again_too_early_is_found(check, monkeypatch):
    buffers = {}

    class Careless(transfer.HostLane):
        lag = 2

        def download(self, *results):
            (made,) = results
            kept = buffers.setdefault(
                made.shape, torch.empty(made.shape, dtype=made.dtype)
            )
            kept.copy_(made)
            return lambda: (kept.numpy(),)

    monkeypatch.setattr("tests.gpu_check.memory.choose_lane", lambda _: Careless())
    status, [failed], _ = check("transfer")
    assert status == 1
    assert failed.startswith("no buffer is used again too early")


def test_a_resume_that_loses_momentum_is_found(check, monkeypatch):
    real = Checkpoints.load_state

    def load_state(self, *, last_step):
        state = real(self, last_step=last_step)
        for values in state.optimizer["state"].values():
            values["momentum_buffer"].zero_()
        return state

    monkeypatch.setattr(Checkpoints, "load_state", load_state)
    status, failed, _ = check("training")
    assert status == 1
    assert failed == ["resumed, the bits of an uninterrupted training"]


def test_an_error_fails_its_section_and_leaves_the_others_their_turn(
    check, monkeypatch, caplog
):
    def broken(checked):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setitem(SECTIONS, "tf32", broken)
    status, [failed], lines = check("tf32", "transfer")
    assert status == 1
    assert (
        failed
        == "runs to its end: RuntimeError: CUDA error: unspecified launch failure"
    )
    assert any(x["kind"] == "PASS" and x["section"] == "transfer" for x in lines)


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "--device cpu --quick" in capsys.readouterr().err
