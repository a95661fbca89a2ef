"""Which device computes, what it says where it cannot, and when memory did not do."""

import logging

import numpy as np
import pytest
import torch

from unetpipe.errors import ResourceError
from unetpipe.network import devices
from unetpipe.network.devices import (
    activation_budget,
    choose_device,
    device_like,
    enough_device_memory,
    has_arithmetic,
    has_kernels,
    is_out_of_memory,
)
from unetpipe.runtime import machine

TOO_LITTLE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 160.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might ..."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("NCCL error: unhandled cuda error\nCuda failure 2 'out of memory'"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12"),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
    MemoryError("Unable to allocate 1.2 TiB for an array"),
]
OTHERS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: no kernel image is available for execution"),
    RuntimeError("Pin memory thread exited unexpectedly"),
    OSError(28, "No space left on device"),
    ValueError("out of memory"),
]


@pytest.mark.parametrize("error", TOO_LITTLE, ids=str)
def test_all_ways_to_run_out_of_memory_are_known(error):
    assert is_out_of_memory(error)
    with (
        pytest.raises(ResourceError, match=r"out of memory with tiles of 7.*; take 5"),
        enough_device_memory("tiles of 7 voxels", "take 5"),
    ):
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_stay_what_they_are(error):
    assert not is_out_of_memory(error)
    with (
        pytest.raises(type(error)) as raised,
        enough_device_memory("tiles", "take less"),
    ):
        raise error
    assert raised.value is error


class FakeCuda:
    """A build of torch, a driver and a GPU, as far as one asks for them."""

    def __init__(self, monkeypatch, tmp_path):
        self._patch, self._folder = monkeypatch, tmp_path
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(devices, "take_gpu", lambda: 2)
        self(driver=False)

    def __call__(self, *, driver=True, build="13.0", sees=0, capability=(9, 0)):
        path = self._folder / "driver"
        path.touch() if driver else path.unlink(missing_ok=True)
        self._patch.setattr(machine, "NVIDIA_DRIVERS", (path,))
        self._patch.setattr(torch.version, "cuda", build)
        self._patch.setattr(torch.cuda, "is_available", lambda: sees > 0)
        self._patch.setattr(torch.cuda, "device_count", lambda: sees)
        self._patch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla V100")
        self._patch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        built = ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "compute_120"]
        self._patch.setattr(torch.cuda, "get_arch_list", lambda: built)


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    return FakeCuda(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"build": None}, "a build without CUDA"),
        ({"sees": 0}, "sees no CUDA device; install a driver that knows CUDA 13.0"),
        ({"sees": 1, "capability": (7, 0)}, "no kernels for Tesla V100"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told_of(cuda, caplog, state, said):
    cuda(**state)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == torch.device("cpu")
    [record] = caplog.records
    assert said in record.getMessage()
    with pytest.raises(ResourceError, match=said):
        choose_device("cuda")


def test_hidden_gpus_are_named_as_the_reason(cuda, caplog, monkeypatch):
    cuda(sees=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == torch.device("cpu")
    assert "CUDA_VISIBLE_DEVICES hides all GPUs" in caplog.text


def test_a_machine_without_a_gpu_says_nothing(cuda, caplog):
    cuda(driver=False, build=None)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    assert not caplog.records


def test_a_gpu_that_works_is_taken_without_a_word(cuda, caplog):
    cuda(sees=3)
    for wanted in ("auto", "cuda"):
        assert choose_device(wanted) == torch.device("cuda", 2)
        assert choose_device(wanted, is_shared=True) == torch.device("cuda", 0)
    assert choose_device("cpu") == torch.device("cpu")
    assert not caplog.records


def test_the_driver_is_found_in_linux_and_in_windows_subsystem(monkeypatch, tmp_path):
    drivers = tuple(tmp_path / name for name in ("linux", "windows"))
    monkeypatch.setattr(machine, "NVIDIA_DRIVERS", drivers)
    assert not devices.has_cuda_driver()
    for path in drivers:
        path.touch()
        assert devices.has_cuda_driver()
        path.unlink()


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 0), ["sm_80"], True),
        ((8, 9), ["sm_80"], True),
        ((9, 0), ["sm_80"], False),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120"], True),
        ((10, 3), ["sm_100f"], True),
        ((10, 3), ["sm_100a"], False),
        ((12, 1), ["compute_90"], True),
        ((7, 0), ["sm_75", "compute_120"], False),
        ((9, 0), ["gfx90a"], True),
        ((9, 0), [], True),
    ],
)
def test_kernels_run_on_later_minors_and_translated_ones_everywhere(
    capability, built, runs
):
    assert has_kernels(capability, built) is runs


@pytest.mark.parametrize(
    ("free", "total", "expected", "words"),
    [(79, 80, 56.0, 0), (63, 80, 56.0, 0), (60, 80, 54.0, 1), (1, 80, 0.9, 1)],
)
def test_a_gpu_that_others_use_gets_smaller_tiles(
    cuda, monkeypatch, caplog, free, total, expected, words
):
    cuda(sees=1)
    told = (free * 2**30, total * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: told)
    budget = activation_budget(torch.device("cuda"))
    assert budget == pytest.approx(expected * 2**30)
    assert len(caplog.records) == words


def test_memory_that_the_process_keeps_for_its_next_volume_is_free(
    cuda, monkeypatch, caplog
):
    """Else a lot would plan the tiles of a volume by those of the one before."""
    cuda(sees=1)
    told = {"mem_get_info": (10, 80), "memory_reserved": 65, "memory_allocated": 5}
    for name, gib in told.items():
        value = np.array(gib) * 2**30
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    budget = activation_budget(torch.device("cuda"))
    assert budget == pytest.approx(56 * 2**30)
    assert not caplog.records


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, 4), ("", 0), ("-1", 0), ("2", 1), ("1, 3", 2), ("GPU-8a,GPU-9b,-1,0", 2)],
)
def test_gpus_are_counted_as_the_process_may_use_them(
    monkeypatch, tmp_path, visible, expected
):
    driver, cards = tmp_path / "version", tmp_path / "gpus"
    monkeypatch.setattr(machine, "NVIDIA_DRIVERS", (driver,))
    monkeypatch.setattr(machine, "NVIDIA_GPUS", cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.num_gpus() == 0
    driver.touch()
    assert machine.num_gpus() == 1, "Windows' driver lists none"
    for number in range(4):
        (cards / f"0000:0{number}:00.0").mkdir(parents=True)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.num_gpus() == expected


@pytest.mark.parametrize(
    ("described", "sees", "kind"),
    [
        (["cpu (AVX512)"], 1, "cpu"),
        (["cuda (NVIDIA H100)"], 1, "cuda"),
        (["cpu (AVX2)", "cuda (NVIDIA H100)"], 1, "cuda"),
        (["cuda (NVIDIA H100)"], 0, "cpu"),
        (["None"], 1, "cpu"),
    ],
)
def test_bits_are_compared_on_the_kind_of_device_that_made_them(
    cuda, described, sees, kind
):
    cuda(sees=sees)
    assert device_like(described).type == kind


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "expected"),
    [
        ("auto", "auto", 4, 4),
        ("auto", "cuda", 4, 4),
        ("auto", "cpu", 4, 16),
        ("auto", "auto", 0, 16),
        ("auto", "auto", 1, 16),
        ("auto", "auto", 64, 1),
        (5, "auto", 4, 5),
    ],
)
def test_jobs_of_several_gpus_share_the_processors(
    monkeypatch, wanted, device, gpus, expected
):
    monkeypatch.setattr(machine, "num_gpus", lambda: gpus)
    monkeypatch.setattr(machine, "num_processors", lambda: 16)
    assert machine.job_threads(wanted, device) == expected


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bf16_that_the_library_emulates_in_avx512_is_no_arithmetic(
    monkeypatch, has_instructions
):
    """oneDNN says that it supports it on every processor with AVX-512."""
    monkeypatch.setattr(
        torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False
    )
    monkeypatch.setattr(
        "unetpipe.network.devices.has_bf16_instructions", lambda: has_instructions
    )
    assert has_arithmetic(torch.device("cpu"), "bf16") is has_instructions
