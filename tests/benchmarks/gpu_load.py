"""How busy the GPU is while something runs, as nvidia-smi counts it."""

import statistics
import subprocess
from types import TracebackType

import torch

COMMAND = (
    *("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"),
    "--loop-ms=200",
)


def command() -> tuple[str, ...]:
    """Return what samples the GPU that torch computes on.

    By its UUID: nvidia-smi numbers all GPUs of the machine, torch those that
    ``CUDA_VISIBLE_DEVICES`` leaves, in an order of its own.
    """
    return (*COMMAND, f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}")


class GpuLoad:
    """Samples while entered; without nvidia-smi there are none.

    Parameters
    ----------
    is_wanted : bool
        False: sample nothing.
    """

    def __init__(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self.samples: list[float] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def mean(self) -> float:
        """Mean share of the time in which a kernel ran."""
        return statistics.fmean(self.samples)

    def __enter__(self) -> "GpuLoad":
        if self.is_wanted:
            try:
                self._process = subprocess.Popen(
                    command(), stdout=subprocess.PIPE, text=True
                )
            except OSError:
                self._process = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        text, _ = self._process.communicate()
        self._process = None
        lines = [line.strip() for line in text.splitlines()]
        self.samples += [int(line) / 100 for line in lines if line.isdigit()]
