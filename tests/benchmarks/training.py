"""The training loop against forward, backward and step alone on data in memory."""

import shutil
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import VOXEL_SIZE_NM, store_volume
from tests.benchmarks.settings import Settings
from tests.benchmarks.step_phases import Step, measure_phases
from tests.benchmarks.timing import median_ratio, time_once
from unetpipe.config import AugmentationConfig
from unetpipe.network.unet import UNet
from unetpipe.runtime.files import read_record
from unetpipe.storage.volumes import create_volume, open_volume
from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.checkpoints import Checkpoints
from unetpipe.training.history import read_history
from unetpipe.training.journal import Place
from unetpipe.training.loop import layout_of_maps, train
from unetpipe.training.optimiser import Optimisation
from unetpipe.training.sampling import Batch, Patch, PatchSampler


class InMemory(PatchSampler):
    """Draws one batch, resamples it once, and gives it out at every step."""

    _patches: list[Patch] | None = None
    _batch: Batch | None = None

    def batch(self, step: int, indices: Iterable[int]) -> list[Patch]:
        """Return the first step's patches."""
        self._patches = self._patches or super().batch(0, indices)
        return self._patches

    def render(self, patches: list[Patch], device: torch.device) -> Batch:
        """Return the first step's batch."""
        self._batch = self._batch or super().render(patches, device)
        return self._batch


@dataclass
class Loops:
    """The same network and patches in three loops; seconds a step of each."""

    settings: Settings
    spec: UNetSpec
    volume: AnnotatedVolume
    patch: Zyx
    steps: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def measure(self) -> None:
        """Time the loops in turn, every other round backwards."""
        loops = {
            "real": lambda: self._train(PatchSampler),
            "in memory": lambda: self._train(InMemory),
            "bare": lambda: self._bare(self.layout),
            "other layout": lambda: self._bare(self._other_layout),
        }
        self.seconds = {name: [] for name in loops}
        for number in range(self.settings.rounds):
            names = list(loops)
            for name in names if number % 2 == 0 else reversed(names):
                self.seconds[name].append(loops[name]())

    def sampler(self, kind: type[PatchSampler]) -> PatchSampler:
        """Return what draws patches, each deformed as usual."""
        usual = Augmentation(**AugmentationConfig().model_dump())
        return kind([self.volume], self.spec, self.patch, usual, seed=0)

    def _train(self, kind: type[PatchSampler]) -> float:
        """Return the seconds of a step of ``train`` once it is under way."""
        folder = self.settings.folder / "state"
        checkpoints = Checkpoints(folder, {})
        train(
            UNet(self.spec),
            self.sampler(kind),
            None,
            checkpoints,
            Optimisation(
                steps=self.steps + 1,
                learning_rate=1e-6,
                precision=self._precision,
                checkpoint_every=10**6,
            ),
            class_weights=torch.ones(2),
            place=Place(self.settings.device),
        )
        rows = read_history(checkpoints.folder / "history.csv")
        shutil.rmtree(folder)
        return (rows[-1].seconds - rows[0].seconds) / self.steps

    def _bare(self, layout: torch.memory_format) -> float:
        """Return the seconds of a step that anybody would write first."""
        device = self.settings.device
        sampler = self.sampler(PatchSampler)
        batch = sampler.render(sampler.batch(0, [0]), device)
        image = batch.image.contiguous(memory_format=layout)
        target = batch.target.long()
        network = UNet(self.spec).to(device, memory_format=layout).train()  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.99)
        reduced = self._precision == "bf16"

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                logits = network(image)
            loss = torch.nn.functional.cross_entropy(logits.float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        def steps() -> None:
            for _ in range(self.steps):
                step()
            self.settings.synchronise()

        step()
        self.settings.synchronise()
        return time_once(steps) / self.steps

    @property
    def layout(self) -> torch.memory_format:
        """How the loop lays maps out."""
        return layout_of_maps(self.spec, self.settings.device, self._precision)

    @property
    def _other_layout(self) -> torch.memory_format:
        usual, other = torch.channels_last, torch.contiguous_format
        return usual if self.layout == other else other

    @property
    def _precision(self) -> Any:
        return self.settings.precision


def measure(settings: Settings) -> list[Figure]:
    """Train the paper's network and its half for a few steps."""
    torch.set_num_threads(settings.threads)
    side = settings.choose(quick=60, cpu=412, cuda=572)
    steps = settings.choose(quick=2, cpu=3, cuda=100)
    volume = _annotate(settings.folder / "annotated", settings)
    figures: list[Figure] = []
    for width in settings.choose(quick=(2,), cpu=(32, 64)):
        depth = settings.choose(quick=2, cpu=4)
        spec = UNetSpec(base_channels=width, depth=depth)
        loops = Loops(settings, spec, volume, _patch(spec, side), steps)
        loops.measure()
        figures += _figures(loops, width)
        step = Step(settings, spec, loops.sampler(PatchSampler), loops.patch)
        figures += measure_phases(step, width, settings.rounds)
    return figures


def _figures(loops: Loops, width: int) -> list[Figure]:
    seconds = loops.seconds
    each = {name: statistics.median(found) for name, found in seconds.items()}
    side = loops.patch[1]
    basis = (
        f"{loops.settings.precision}, patch {side}, {loops.steps} steps, "
        f"{loops.settings.rounds} rounds: {each['real']:.3g} s a step"
    )
    return [
        Figure(
            f"width {width}: real over bare loop",
            median_ratio(seconds["bare"], seconds["real"]),
            basis=f"{basis}, bare {each['bare']:.3g} s",
            at_least=0.75,
            details={"seconds a step": seconds},
        ),
        Figure(
            f"width {width}: with over without data",
            median_ratio(seconds["in memory"], seconds["real"]),
            basis=f"{basis}, on one patch in memory {each['in memory']:.3g} s",
        ),
        Figure(
            f"width {width}: bare step over one in the other layout of maps",
            median_ratio(seconds["bare"], seconds["other layout"]),
            basis=f"{loops.layout}, {basis}, the other {each['other layout']:.3g} s",
        ),
    ]


def _patch(spec: UNetSpec, side: int) -> Zyx:
    kept = side - spec.halo.total[1]
    return spec.input_shape_for((1, max(1, kept), max(1, kept)))


def _annotate(folder: Path, settings: Settings) -> AnnotatedVolume:
    """Store an image, targets and border terms as Zarr, as for large volumes."""
    side = settings.choose(quick=96, cpu=1024)
    shape: Zyx = (2, side, side)
    record = read_record(store_volume(folder, shape))
    rng = np.random.default_rng(0)
    target = (rng.random(shape) < 0.5).astype(np.uint8)
    border = rng.random(shape, dtype=np.float32)
    arrays = {}
    for name, values in (("target", target), ("border", border)):
        store = folder / f"{name}.ome.zarr"
        chunk: Zyx = (1, min(256, side), min(256, side))
        create_volume(
            store,
            shape=shape,
            dtype=values.dtype,
            chunk=chunk,
            shard=shape,
            voxel_size_nm=VOXEL_SIZE_NM,
        )
        open_volume(store, mode="r+")[:] = values
        arrays[name] = open_volume(store)
    return AnnotatedVolume(
        name="annotated",
        image=open_volume(Path(record["image"]["store"])),
        target=arrays["target"],
        border=arrays["border"],
        mean=np.array([64.0], np.float32),
        std=np.array([32.0], np.float32),
        sections=(0, 1),
        num_known=(side * side,) * 2,
    )
