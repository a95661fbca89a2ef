"""What every check needs: the device, sizes, a scratch folder, and a list of lines."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, TypeVar

import torch

from tests.benchmarks.settings import Settings
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec

Size = TypeVar("Size")
MEAN, STD = 128.0, 64.0


@dataclass(frozen=True)
class Line:
    """One thing that was checked (PASS, FAIL) or measured (INFO)."""

    kind: str
    section: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Checked:
    """One run: what it found so far, and what it runs on.

    Parameters
    ----------
    settings : Settings
        Device, toy or real sizes, scratch folder.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device, self.is_cuda = settings.device, settings.is_cuda
        self.lines: list[Line] = []
        self.section = ""

    @property
    def num_failed(self) -> int:
        """How many checks failed."""
        return sum(line.kind == "FAIL" for line in self.lines)

    def size(self, *, quick: Size, real: Size) -> Size:
        """Return a toy size for a dry run, or the real one."""
        return quick if self.settings.is_quick else real

    def tell(self, text: str, **values: Any) -> None:
        """Report a figure."""
        self._add("INFO", text, values)

    def check(self, what: str, is_right: bool, detail: object = "") -> bool:
        """Report whether something is as it has to be."""
        said = f"{what}: {detail}" if detail != "" else what
        self._add("PASS" if is_right else "FAIL", said, {})
        return is_right

    def failed(self, what: str, error: BaseException) -> None:
        """Report an error where something should have worked."""
        said = (str(error) or "no message").splitlines()[0][:200]
        self.check(what, False, f"{type(error).__name__}: {said}")

    def seconds(self, action: Callable[[], Any], *, times: int = 1) -> float:
        """Return the median seconds of an action on the device, once it is warm."""
        action()
        found = []
        for _ in range(3):
            self.settings.synchronise()
            began = time.perf_counter()
            for _ in range(times):
                action()
            self.settings.synchronise()
            found.append((time.perf_counter() - began) / times)
        return median(found)

    def to_json(self) -> list[dict[str, Any]]:
        """Return all lines as plain values."""
        return [asdict(line) for line in self.lines]

    def statistics(self) -> dict[str, torch.Tensor]:
        """Return mean and standard deviation of the grey values, on the device."""
        return {
            "mean": torch.full((1,), MEAN, device=self.device),
            "std": torch.full((1,), STD, device=self.device),
        }

    def _add(self, kind: str, text: str, values: dict[str, Any]) -> None:
        self.lines.append(Line(kind, self.section, text, values))
        print(f"{kind:4} {self.section:12} {text}", flush=True)


@dataclass(frozen=True)
class Setup:
    """A network and what it predicts, as users have them."""

    name: str
    spec: UNetSpec
    stride: Zyx
    orientations: tuple[int, ...] = (0,)
    num_members: int = 1

    def network(self) -> UNet | Ensemble:
        """Return it with the same random weights each time."""
        torch.manual_seed(0)
        if self.num_members > 1:
            return Ensemble(self.spec, self.num_members).eval()
        return UNet(self.spec).eval()


def setups(checked: Checked) -> list[Setup]:
    """Return one setup of each kind: 2-D, 3-D, padded, averaged, several members."""
    width = checked.size(quick=2, real=64)
    half, quarter = max(1, width // 2), max(1, width // 4)
    depth = checked.size(quick=2, real=4)
    side = checked.size(quick=16, real=256)
    flat: Zyx = (1, side, side)
    same = UNetSpec(
        base_channels=half,
        depth=depth,
        padding="same",
        normalization="batch",
        num_classes=3,
    )
    volumetric = UNetSpec(
        base_channels=quarter, ndim=3, depth=checked.size(quick=1, real=2)
    )
    narrow = UNetSpec(base_channels=half, depth=depth)
    return [
        Setup("2-D", UNetSpec(base_channels=width, depth=depth), flat),
        Setup("same padding, 3 classes", same, flat),
        Setup("8 orientations", narrow, flat, tuple(range(8))),
        Setup("ensemble", narrow, flat, num_members=2),
        Setup("3-D", volumetric, checked.size(quick=(4, 8, 8), real=(16, 32, 32))),
    ]
