"""Ours against MONAI's ``sliding_window_inference``: same network, weights, precision.

Theirs gets what makes it fast: the image in memory, no padding around it, the window
size that is fastest here. Ours reads and writes stores. Speed is measured on
sections that are much larger than tiles and windows, as volumes are; on a GPU on many
of them, because a few are read and written in too few pieces to keep it busy. For the
labels both see a smaller one mirror-padded alike, and what counts is one pass over the
whole of it.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil, prod
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import Prediction, save_model, store_volume
from tests.benchmarks.peer_networks import trained_network
from tests.benchmarks.settings import Settings
from tests.benchmarks.timing import interleave, median_ratio, time_once
from tests.oracles import whole_section_input
from unetpipe.network.predictor import DTYPES
from unetpipe.network.unet import UNet, activate
from unetpipe.runtime.files import read_record
from unetpipe.runtime.machine import GIB
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import Zyx, as_zyx
from unetpipe.tiling.intensity import normalise
from unetpipe.tiling.mirroring import mirror_take
from unetpipe.tiling.unet_spec import UNetSpec

# A label counts as flipped where the whole image's probability is no tie: law 1.
TIE = 1e-5


@dataclass(frozen=True, slots=True)
class Way:
    """One way of theirs to blend windows."""

    name: str
    overlap: float
    mode: str


DEFAULT = Way("overlap 0.25", 0.25, "constant")
GAUSSIAN = Way("overlap 0.5 Gaussian", 0.5, "gaussian")
WAYS = (DEFAULT, GAUSSIAN)


def measure(settings: Settings) -> list[Figure]:
    """Measure speed in turn, then count labels that differ from one pass."""
    network = trained_network(settings)
    folder = settings.folder / "monai"
    model = save_model(folder / "model", network)
    torch.set_num_threads(settings.threads)
    network = network.to(settings.device, memory_format=torch.channels_last)
    large = settings.choose(
        quick=(1, 80, 90), cpu=(1, 3072, 3072), cuda=(64, 2048, 2048)
    )
    small = settings.choose(
        quick=(1, 80, 90), cpu=(1, 1536, 1536), cuda=(1, 3072, 3072)
    )

    def compare(name: str, shape: Zyx) -> list[_Comparison]:
        home = folder / name
        ingest = store_volume(home / "volume", shape)
        image = _normalised(ingest)
        return [
            _Comparison(
                network,
                image,
                Prediction(
                    home / precision,
                    ingest=ingest,
                    model=model,
                    settings=settings,
                    precision=precision,
                ),
                precision,
                settings,
            )
            for precision in dict.fromkeys((settings.precision, "fp32"))
        ]

    compared = compare("large", large)
    figures = [figure for each in compared for figure in each.speed_figures()]
    if len(compared) == 2:
        figures.append(_reduced_figure(*compared))
    compared = compare("small", small)
    figures += [each.our_labels() for each in compared]
    return figures + [compared[0].their_labels(way) for way in WAYS]


class _Comparison:
    """Ours and theirs at one precision."""

    def __init__(
        self,
        network: UNet,
        image: NDArray[np.float32],
        ours: Prediction,
        precision: str,
        settings: Settings,
    ) -> None:
        self.image, self.ours, self.precision = image, ours, precision
        self.spec, self.settings = network.spec, settings
        self._forward = partial(forward, network, precision)
        self.windows = {way: self._fastest_window(way) for way in WAYS}

    @cached_property
    def seconds(self) -> dict[str, list[float]]:
        """Measure ours and both ways of theirs, in turn.

        Reduced precision is what people run; fp32 takes long and is measured once.
        """
        actions = {"ours": self._predict} | {
            way.name: partial(self._slide_all, way) for way in WAYS
        }
        rounds = 2 if self.precision == self.settings.precision else 1
        return interleave(actions, min(rounds, self.settings.rounds))

    def speed_figures(self) -> list[Figure]:
        """Return how much faster ours is than each way of theirs."""
        return [
            self._speed_figure(*pair) for pair in zip(WAYS, (1.15, 2.5), strict=True)
        ]

    def our_labels(self) -> Figure:
        """Return how many labels of ours are not those of one pass."""
        self._predict()
        flipped = self._num_flipped(self.ours.stored()[0, 0] > 127)
        is_promised = self.precision == "fp32" or not self.settings.is_cuda
        return Figure(
            f"labels of ours that differ from one pass, {self.precision}",
            flipped,
            basis=f"of {self.expected.size}; {self.ours.describe()}",
            at_most=0 if is_promised else None,
        )

    def their_labels(self, way: Way) -> Figure:
        """Return how many labels of theirs are not those of one pass."""
        mirrored = self._slide(_mirrored(self.image, self.spec), way)
        flipped = self._num_flipped(_labels(self._crop(mirrored)))
        size, side = self.expected.size, self.windows[way][0]
        return Figure(
            f"labels of theirs that differ, {way.name}, {self.precision}",
            flipped,
            basis=f"of {size} ({1e6 * flipped / size:.0f} in a million); windows "
            f"{side} x {side}",
        )

    @cached_property
    def expected(self) -> NDArray[np.float32]:
        """Return probabilities (y, x) of one forward over the whole mirrored image."""
        seen = torch.from_numpy(_mirrored(self.image, self.spec))[None]
        with torch.inference_mode():
            whole = self._forward(seen.to(self.settings.device))
        return self._crop(whole[0, 0].cpu().numpy())

    def _speed_figure(self, way: Way, target: float) -> Figure:
        side, batch = self.windows[way]
        ratio = median_ratio(self.seconds[way.name], self.seconds["ours"])
        ours, theirs = self._our_work, self._their_work(way)
        return Figure(
            f"ours over theirs, {way.name}, {self.precision}",
            ratio,
            "x",
            basis=f"pixels/s; {self.ours.describe()}; windows {side} x {side}, batch "
            f"{batch}; width {self.spec.base_channels}; computed for a pixel: theirs "
            f"{theirs:.3f}, ours {ours:.3f}, at least {self._least_work:.3f} in one "
            f"tile: {theirs / ours:.2f} x, and at most {theirs / self._least_work:.2f} "
            f"x, is work; {ratio * ours / theirs:.2f} x is the rate",
            at_least=target,
            details={
                "seconds": self.seconds,
                "window": side,
                "batch": batch,
                "geometry": self.ours.record["geometry"],
                "computed a pixel": {"ours": ours, "theirs": theirs},
            },
        )

    @property
    def _our_work(self) -> float:
        """Pixels that the network sees for one of the image: halos, edges of tiles."""
        grids = self.ours.geometry
        seen = grids.num_tiles * prod(grids.input_shape)
        return seen / prod(grids.volume_shape)

    @property
    def _least_work(self) -> float:
        """The same, were each section one tile."""
        sections = [n + h for n, h in zip(self._sides, self._halos, strict=True)]
        return prod(sections) / prod(self._sides)

    def _their_work(self, way: Way) -> float:
        """Pixels that windows cover for one of the image: overlaps, shifted ends."""
        side, _ = self.windows[way]
        count = prod(_num_windows(n, side, way.overlap) for n in self._sides)
        return count * side**2 / prod(self._sides)

    @property
    def _sides(self) -> tuple[int, ...]:
        return self.image.shape[1:]

    @property
    def _halos(self) -> tuple[int, ...]:
        return self.spec.halo.total[1:]

    def _predict(self) -> None:
        self.ours.plan()
        self.ours.predict()

    def _slide_all(self, way: Way) -> None:
        """Let theirs predict one section after another."""
        for section in self.image:
            self._slide(section[None], way)

    def _slide(self, image: NDArray[np.float32], way: Way) -> NDArray[np.float32]:
        """Return their probabilities (y, x) of an image (1, y, x) in memory."""
        side, batch = self.windows[way]
        with torch.inference_mode():
            result = sliding_window_inference(
                torch.from_numpy(image)[None],
                (side, side),
                batch,
                self._forward,
                overlap=way.overlap,
                mode=way.mode,
                sw_device=self.settings.device,
                device=self.settings.device,
            )
            return np.asarray(result[0, 0].cpu().numpy())

    def _fastest_window(self, way: Way) -> tuple[int, int]:
        """Return side and batch of the windows that cover the image soonest.

        By a timed forward of each size, times the windows that the overlap asks for;
        as large as tiles of ours may be.
        """
        choose = self.settings.choose
        sides = choose(
            quick=(64, 80),
            cpu=(256, 384, 512, 640, 768, 1024),
            cuda=(256, 512, 768, 1024, 2048),
        )
        seconds = {}
        for side in (s for s in sides if s <= min(self.image.shape[1:])):
            values = self.spec.peak_activation_values((1, side, side))
            lengths = self.image.shape[1:]
            count = prod(_num_windows(n, side, way.overlap) for n in lengths)
            for batch in choose(quick=(1,), cpu=(1,), cuda=(1, 4)):
                if 4 * values * batch <= choose(quick=4, cpu=4, cuda=24) * GIB:
                    passes = ceil(count / batch)
                    seconds[side, batch] = passes * self._time_windows(side, batch)
        return min(seconds, key=lambda window: seconds[window])

    def _time_windows(self, side: int, batch: int) -> float:
        windows = torch.randn(batch, 1, side, side).to(self.settings.device)

        def run() -> None:
            with torch.inference_mode():
                self._forward(windows)
            self.settings.synchronise()

        run()
        return time_once(run)

    def _num_flipped(self, labels: NDArray[np.bool_]) -> int:
        clear = np.abs(self.expected - 127.5 / 255) > TIE
        return int(np.count_nonzero((labels != _labels(self.expected)) & clear))

    def _crop(self, whole: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image's own pixels of what was made of the mirrored one."""
        (_, y, x), (height, width) = self.spec.halo.before, self.image.shape[1:]
        return whole[y : y + height, x : x + width]


def forward(network: UNet, precision: str, windows: Tensor) -> Tensor:
    """Return float32 probabilities (n, 1, y, x); both sides run this arithmetic."""
    dtype = DTYPES[precision]
    windows = windows.contiguous(memory_format=torch.channels_last)
    with (
        torch.autocast(windows.device.type, dtype, enabled=dtype != torch.float32),
        # TF32, the default, would be less than fp32.
        torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
    ):
        logits = network(windows)
    return activate(logits, network.spec)


def _num_windows(length: int, side: int, overlap: float) -> int:
    return ceil((length - side) / max(1, int(side * (1 - overlap)))) + 1


def _normalised(ingest: Path) -> NDArray[np.float32]:
    """Return the stored image as both sides see it: float32 (z, y, x)."""
    record = read_record(ingest)
    stored = np.asarray(open_volume(Path(record["image"]["store"]))[...])
    mean, std = (
        np.array([channel[key] for channel in record["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    return normalise(stored, mean=mean, std=std)[0]


def _mirrored(image: NDArray[np.float32], spec: UNetSpec) -> NDArray[np.float32]:
    """Return the image (1, y, x) mirror-padded by the halo, of a legal size."""
    shape = as_zyx((1, *image.shape[1:]))
    seen = whole_section_input(shape, spec)
    taken = mirror_take(image[:, None], (0, 0, 0), seen, shape)[:, 0]
    return np.ascontiguousarray(taken)


def _labels(probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return labels decided on the quantised probability, as they are stored."""
    return np.asarray(np.round(probability * 255) > 127)


def _reduced_figure(reduced: _Comparison, full: _Comparison) -> Figure:
    ours, theirs = reduced.seconds["ours"], full.seconds[DEFAULT.name]
    num = min(len(ours), len(theirs))
    return Figure(
        f"ours in {reduced.precision} over theirs in fp32, {DEFAULT.name}",
        median_ratio(theirs[:num], ours[:num]),
        "x",
        basis="pixels/s; tiles and windows as above",
        at_least=2.0,
    )
