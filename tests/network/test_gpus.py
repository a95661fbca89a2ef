"""One card for one job, on a machine whose cards are only played."""

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch

from unetpipe.errors import ResourceError
from unetpipe.network import gpus
from unetpipe.network.gpus import gpu_claim_file, take_gpu
from unetpipe.runtime.locks import hold_lock
from unetpipe.runtime.machine import GIB

TOTAL = 80 * GIB


class Cards:
    """Cards by number: what of their memory is free, or the error of a broken one."""

    def __init__(self, monkeypatch, *free):
        self.free, self.current, self.slept = list(free), None, 0
        cuda, ones = torch.cuda, torch.ones

        def used(number):
            if isinstance(self.free[number], str):
                raise torch.AcceleratorError(f"CUDA error: {self.free[number]}\nlong")
            return self.free[number] * GIB, TOTAL

        def put(*shape, device):
            used(device.index)
            return ones(*shape)

        def sleep(seconds):
            self.slept += 1
            self.while_waiting()

        monkeypatch.setattr(cuda, "device_count", lambda: len(self.free))
        monkeypatch.setattr(cuda, "mem_get_info", used)
        monkeypatch.setattr(cuda, "get_device_name", lambda n: "H100")
        monkeypatch.setattr(
            cuda, "get_device_properties", lambda n: SimpleNamespace(uuid=f"uuid-{n}")
        )
        monkeypatch.setattr(cuda, "set_device", lambda n: setattr(self, "current", n))
        monkeypatch.setattr(torch, "ones", put)
        monkeypatch.setattr(
            gpus, "time", SimpleNamespace(monotonic=lambda: self.slept, sleep=sleep)
        )

    def while_waiting(self):
        """Nothing happens."""


@pytest.fixture(autouse=True)
def own_claims(monkeypatch, tmp_path):
    """Each test's own folder of claims, which end with the test."""
    opened = []

    def noted(path):
        claim = hold_lock(path)
        opened.append(claim)
        return claim

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpus, "_held", {})
    monkeypatch.setattr(gpus, "hold_lock", noted)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    yield
    for claim in filter(None, opened):
        claim.close()


def is_free(number):
    claim = hold_lock(gpu_claim_file(number))
    if claim:
        claim.close()
    return claim is not None


@pytest.fixture
def cards(monkeypatch):
    return lambda *free: Cards(monkeypatch, *free)


def in_another_process(monkeypatch):
    """Take a card as a process that holds none would."""
    mine = dict(gpus._held)
    gpus._held.clear()
    number = take_gpu()
    theirs = dict(gpus._held)
    gpus._held.clear()
    gpus._held.update(mine)
    return number, theirs


def test_each_process_takes_a_card_of_its_own(cards, monkeypatch):
    played = cards(79, 79, 79)
    assert take_gpu() == 0
    assert played.current == 0
    others = [in_another_process(monkeypatch) for _ in range(2)]
    assert [number for number, _ in others] == [1, 2]
    assert take_gpu() == 0, "asked again, the same"


def test_a_card_is_free_again_when_its_process_has_ended(cards, monkeypatch):
    cards(79, 79)
    _, claims = in_another_process(monkeypatch)
    claims[0].close()
    assert take_gpu() == 0


def test_a_claim_holds_between_real_processes(cards):
    cards(79, 79)
    code = """
        import sys
        from pathlib import Path
        from unetpipe.runtime.locks import hold_lock
        held = hold_lock(Path(sys.argv[1]))
        print(held is not None, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), gpu_claim_file(0)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "True\n"
        assert take_gpu() == 1
        process.kill()
    gpus._held.popitem()[1].close()
    assert take_gpu() == 0, "also where it was killed"


def test_a_broken_card_is_named_and_passed_over(cards, caplog):
    played = cards("uncorrectable ECC error encountered", 79)
    assert take_gpu() == 1
    assert played.current == 1
    assert "GPU 0 (H100): CUDA error: uncorrectable ECC error" in caplog.text
    assert is_free(0), "its claim is given back"


def test_a_card_that_a_program_without_claims_uses_is_named_and_passed_over(
    cards, caplog
):
    cards(3, 79)
    assert take_gpu() == 1
    assert "GPU 0 (H100) has 3.0 of 80.0 GiB free: another program is on it" in (
        caplog.text
    )
    assert is_free(0)


def test_of_cards_that_are_all_in_use_the_emptiest_is_taken(cards):
    cards(3, 30, 20)
    assert take_gpu() == 1
    assert [is_free(number) for number in range(3)] == [True, False, True]


def test_where_no_card_works_each_is_named_with_its_error(cards):
    cards("device is busy", "unknown error")
    with pytest.raises(ResourceError) as raised:
        take_gpu()
    said = str(raised.value)
    assert "GPU 0 (H100): CUDA error: device is busy; GPU 1 (H100): CUDA error" in said
    assert "CUDA_VISIBLE_DEVICES" in said


def test_a_job_waits_for_a_card_that_is_given_back(cards, monkeypatch, caplog):
    played = cards(79, 79)
    others = [in_another_process(monkeypatch)[1] for _ in range(2)]
    played.while_waiting = lambda: played.slept == 3 and others[1][1].close()
    assert take_gpu() == 1
    assert played.slept == 3
    assert "all GPUs are taken (GPU 0 (H100) by process " in caplog.text
    assert "going on beside it" not in caplog.text


def test_after_the_wait_it_goes_on_beside_the_other_and_says_so(
    cards, monkeypatch, caplog
):
    cards("broken", 79)
    kept = in_another_process(monkeypatch)
    assert kept[0] == take_gpu() == 1
    assert "GPU 1 (H100) stays taken; going on beside it" in caplog.text


def test_processes_that_train_together_begin_with_the_card_of_their_rank(
    cards, monkeypatch
):
    cards(79, 79, 79)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert take_gpu() == 2
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert in_another_process(monkeypatch)[0] == 1
    assert in_another_process(monkeypatch)[0] == 0
