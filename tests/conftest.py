"""Fixtures for all tests."""

import os
import signal

# Small tensors: threads would only wait for each other. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.processor_time import (  # noqa: F401
    pytest_collection_finish,
    pytest_runtest_logreport,
    pytest_runtest_logstart,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.stored import make_model, make_volume  # noqa: F401

# Machines are shared: a slow example is no failure. The same cases in every run, few in
# the loop that people wait for, many in `make slow`.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unetpipe", patient, derandomize=True, max_examples=30)
settings.register_profile("many", patient, derandomize=True, max_examples=100)
settings.register_profile("deep", patient, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unetpipe"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with labelled microscopy; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNETPIPE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set UNETPIPE_DATA to test on it")
    return folder


@pytest.fixture(autouse=True)
def computes_in_any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a processor without bf16 emulate it: what a test finds is no machine's."""
    monkeypatch.setattr(
        "unetpipe.stages.probe_prediction.has_arithmetic", lambda *_: True
    )


@pytest.fixture(autouse=True, scope="session")
def writes_without_waiting() -> Iterator[None]:
    """Let no test wait for the disk: what a killed process wrote is there all the same.

    Tests of what is synchronised, and when, replace ``os.fsync`` by one that tells.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_counts() -> None:
    """Let Ctrl-C end what tests start: a shell has its background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""
    first = ("workflow", "network", "training")
    # OpenVINO's library and signals to a training, in one process of pytest, end it.
    last = ("test_openvino_network.py", "test_calibrate_network.py")

    def place(item: pytest.Item) -> int:
        if item.path.name == "test_outside.py":  # it waits for the run of test_chain.py
            return len(first) + 1
        if item.path.name in last:
            return len(first) + 2
        room = item.path.parent.name
        return first.index(room) if room in first else len(first)

    items.sort(key=place)
