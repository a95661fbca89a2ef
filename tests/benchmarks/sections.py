"""Large sections: all stages on a hundred times the area, one of 4.3 GB brought in.

Each stage runs in a fresh process, on a small section first, which nobody measures, so
that all code is compiled. Its memory may not grow with the section, and what
it says that it will take at most is held against what it took. The smallest section
fills no block of any stage, so growth is told from the one between too, which fills
them.
"""

import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from tests.benchmarks import stages
from tests.benchmarks.figures import Figure
from tests.benchmarks.fresh import Used
from tests.benchmarks.inputs import describe_tiff, save_model
from tests.benchmarks.memory import Chain
from tests.benchmarks.settings import Settings
from tests.benchmarks.stages import WITHOUT_VOXELS, SectionChain, draw_prediction
from unetpipe.config import MeasureConfig
from unetpipe.measurement.volume import MeasureInputs
from unetpipe.network.unet import UNet
from unetpipe.records.prediction import PlannedMemory
from unetpipe.records.segmentation import Segmentation
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.unet_spec import UNetSpec

MEASURED = ("area", "centroid", "intensity_mean", "perimeter", "touches_border")
# Those of the other benchmark, and what measures the objects that were found.
MEASURING = stages.STAGES.index("finish_segmentation") + 1
STAGES = (
    *stages.STAGES[:MEASURING],
    "measure_objects",
    *stages.STAGES[MEASURING:],
)
TILE = 512
MOST_GIB = 1.0  # for one section of 4.3 GB
# Of these stages the promise is of what they take beside what lies there already.
BESIDE_LIBRARIES = ("ingest_volume", "compute_weight_map")


def measure(settings: Settings) -> list[Figure]:
    """Bring a huge section in, and run all stages on a small and a large one."""
    folder = settings.folder / "sections"
    spec = UNetSpec(base_channels=settings.choose(quick=1, cpu=2), depth=2)
    torch.manual_seed(0)
    model = save_model(folder / "model", UNet(spec))
    figures = [_bring_in(folder / "huge", model, settings)]
    sides = settings.choose(quick=[96], cpu=[1024, 4096, 10240])
    used: dict[str, list[Used]] = {stage: [] for stage in STAGES}
    projected: dict[str, int] = {}
    compiling = settings.choose(quick=[], cpu=[256])
    for side in [*compiling, *sides]:
        stride: Zyx = (1, *settings.choose(quick=(32, 32), cpu=(544, 544)))
        chain = _Measured(folder / str(side), (1, side, side), model, stride, settings)
        for stage in STAGES:
            if stage == "finish_segmentation":
                draw_prediction(chain.folder)
            used[stage].append(chain.measure(stage))
        projected = chain.projected({stage: used[stage][-1] for stage in STAGES})
        shutil.rmtree(chain.folder)
    used = {stage: of_stage[len(compiling) :] for stage, of_stage in used.items()}
    for stage in STAGES:
        if stage not in WITHOUT_VOXELS:
            figures += _growth(stage, used[stage], sides)
    figures.append(_bring_more_in(folder / "more", used["ingest_volume"][-1], settings))
    return figures + [
        _projection(stage, used[stage][-1], most) for stage, most in projected.items()
    ]


class _Measured(SectionChain):
    """One section, whose objects are measured too."""

    def arguments(self, stage: str) -> dict[str, Any]:
        """Return what a stage takes."""
        if stage != "measure_objects":
            return super().arguments(stage)
        home = self.folder
        return {
            "inputs": MeasureInputs(
                segmentation=home / "segmentation.json",
                ingest=home / "ingest.json",
                settings=MeasureConfig(properties=MEASURED),
            ),
            "parts": [],
            "table": home / "measurements.parquet",
            "text": home / "measurements.csv",
            "record": home / "measurements.json",
        }

    def projected(self, used: dict[str, Used]) -> dict[str, int]:
        """Return the bytes that each stage said it would take at most, if it did."""
        found = {
            stage: u.projected_bytes + u.before_bytes * (stage in BESIDE_LIBRARIES)
            for stage, u in used.items()
            if u.projected_bytes is not None
        }
        planned = PlannedMemory.read(self.folder / "plan.json")
        cut = Segmentation.read(self.folder / "segmentation.json")
        return found | {
            "predict_part": planned.projected.peak_rss_bytes,
            "finish_segmentation": cut.projected_peak_rss_bytes,
        }


class _Huge(Chain):
    """A section that is written tile by tile, and only brought in."""

    def draw(self, shape: Zyx) -> dict[str, Any]:
        """Write the image; return the row of the sheet."""
        tifffile.imwrite(
            self.folder / "image.tif",
            _tiles(shape),
            shape=shape,
            dtype="uint8",
            tile=(TILE, TILE),
            bigtiff=True,
            metadata={"axes": "ZYX"},
        )
        return describe_tiff("grown")


def _tiles(shape: Zyx) -> Iterator[NDArray[np.uint8]]:
    """Yield tiles of noise, each turned and shifted in its own way."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 128, (TILE, TILE), np.uint8)
    num_tiles = prod(-(-side // TILE) for side in shape[1:])
    for shift in rng.integers(0, TILE, num_tiles):
        yield np.roll(noise, int(shift), axis=int(shift) % 2) + np.uint8(shift % 100)


def _bring_in(folder: Path, model: Path, settings: Settings) -> Figure:
    """Return the peak of bringing one huge section in, coarser levels included."""
    side = settings.choose(quick=1024, cpu=65_536)
    chain = _Huge(folder, (1, side, side), model, (1, TILE, TILE), settings)
    used = chain.measure("ingest_volume")
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return Figure(
        f"ingest_volume: peak RSS of one section of {side} x {side}",
        used.peak_bytes / 2**30,
        "GiB",
        basis=f"tiled TIFF of {side**2 / 1e9:.3g} GB; {used.seconds:.0f} s, "
        f"{side**2 / 1e6 / used.seconds:.0f} MB/s; {stored / 1e9:.3g} GB on the disk",
        at_most=MOST_GIB,
        details={"seconds": used.seconds, "peak_bytes": used.peak_bytes},
    )


def _bring_more_in(folder: Path, full: Used, settings: Settings) -> Figure:
    """Return what four times the largest section takes, ids included."""
    side = settings.choose(quick=192, cpu=20_480)
    chain = SectionChain(folder, (1, side, side), folder, (1, TILE, TILE), settings)
    used = chain.measure("ingest_volume")
    shutil.rmtree(folder)
    peaks = full.peak_bytes / 2**20, used.peak_bytes / 2**20
    return Figure(
        f"ingest_volume: peak RSS, {side} squared over the largest before",
        peaks[1] / peaks[0],
        basis=f"{peaks[1]:.0f} over {peaks[0]:.0f} MiB; {used.seconds:.0f} s",
        at_most=1.1,
        details={"side": side, "peak_mib": peaks},
    )


def _growth(stage: str, used: list[Used], sides: list[int]) -> list[Figure]:
    """Return how much more the largest section takes than each smaller one."""
    peaks = [u.peak_bytes / 2**20 for u in used]
    listed = ", ".join(f"{peak:.0f}" for peak in peaks)
    bases = ", ".join(f"{u.base_bytes / 2**20:.0f}" for u in used)
    return [
        Figure(
            f"{stage}: peak RSS, {(sides[-1] / side) ** 2:.3g} times {side} squared",
            peaks[-1] / peak,
            basis=f"{listed} MiB for {'; '.join(map(str, sides))} squared, of which "
            f"libraries {bases}; {used[-1].seconds:.0f} s for the largest",
            at_most=1.1,
            details={"sides": sides, "peak_mib": peaks},
        )
        for side, peak in list(zip(sides, peaks, strict=True))[: len(sides) - 1 or 1]
    ]


def _projection(stage: str, used: Used, most_bytes: int) -> Figure:
    return Figure(
        f"{stage}: what it says it takes over what it takes",
        most_bytes / used.peak_bytes,
        basis=f"{most_bytes / 2**20:.0f} over {used.peak_bytes / 2**20:.0f} MiB",
        at_most=1.5,
        details={"projected_bytes": most_bytes, "peak_bytes": used.peak_bytes},
    )
