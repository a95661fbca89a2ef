"""Rule plan: what a whole run will take, before it runs or in the middle of it."""

import logging
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.config import Config, NetworkConfig, PredictionConfig, TrainingConfig
from unetpipe.config.sheet import Row
from unetpipe.errors import DataError, ResourceError, UnetpipeError
from unetpipe.images import open_image
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.probe import Probe
from unetpipe.records.run_plan import Disk, PlannedVolume, RunPlan
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.runtime.files import (
    write_bytes_atomic,
)
from unetpipe.runtime.machine import GIB, choose_threads, has_cuda_driver
from unetpipe.runtime.text import describe_quantity, describe_seconds, format_table
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.forecast import (
    Forecast,
    Rate,
    Volume,
    Wanted,
    assume_rate,
    forecast_prediction,
    measured_rate,
    training_flop,
)
from unetpipe.training.history import read_history

log = logging.getLogger(__name__)

HEADER = (
    *("network", "volume", "known from", "voxels", "tile", "blocks", "FLOP"),
    *("read", "write", "memory", "disk", "time", "rate from"),
)


def plan(
    *,
    config: dict[str, Any],
    volumes: list[dict[str, Any]],
    networks: list[dict[str, Any]],
    manifest: Path,
    results: Path,
    command: str,
    record: Path,
) -> None:
    """Print and record what a run takes; refuse what cannot fit on the disk.

    Volumes that are not stored yet are known from their files' headers; what is not
    fetched yet is named and left out. No voxel is read, no network runs.

    Parameters
    ----------
    config : dict
        The configuration.
    volumes : list of dict
        ``rows`` (those of the sheet) and ``is_trained_on`` of each.
    networks : list of dict
        ``model``, ``network``, ``training`` (sections of the configuration),
        ``volumes`` it predicts, ``trained_on`` of each; ``members`` of an ensemble.
    manifest : Path
        Of the originals, if they are here.
    results : Path
        Folder of the run.
    command : str
        With which the user runs Snakemake.
    record : Path
        Where to write ``plan.json``; the table lies beside it as ``plan.txt``.

    Raises
    ------
    DataError
        If a volume cannot be read, or lacks sections that the sheet names; lists all.
    ResourceError
        If the disk has too little room for what is left to be done.
    """
    began = time.monotonic()
    planner = _Planner(Config(**config), results, manifest, command)
    for volume in volumes:
        planner.look_at(volume)
    for network in networks:
        planner.add_network(network)
    table = planner.table()
    print(table)
    write_bytes_atomic(record.with_suffix(".txt"), f"{table}\n".encode())
    made = Circumstances.here(seconds=time.monotonic() - began)
    planner.as_record(made).write(record)
    if planner.problems:
        raise DataError("\n  ".join(["problems of volumes:", *planner.problems]))
    if planner.needed_bytes > planner.free_bytes:
        raise ResourceError(
            f"{results} has {planner.free_bytes / GIB:.2f} GiB "
            f"({planner.free_bytes} bytes) free, about "
            f"{planner.needed_bytes / GIB:.2f} GiB are needed; free some, predict less "
            "(prediction.roi, prediction.mask), or run in a folder on another disk"
        )


@dataclass(slots=True)
class _Training:
    """What the training of one network takes."""

    model: str
    steps: int
    flop: int
    seconds: float
    rate_from: str


@dataclass
class _Planner:
    """Collects what is known, volume by volume and network by network."""

    config: Config
    results: Path
    manifest: Path
    command: str
    known: dict[str, Volume] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    predictions: list[tuple[str, str, Forecast]] = field(default_factory=list)
    trainings: list[_Training] = field(default_factory=list)
    needed_bytes: float = 0.0
    num_jobs: int = 2  # download_dataset, report

    @property
    def free_bytes(self) -> int:
        """Room on the disk of the results."""
        folders = (self.results, *self.results.absolute().parents)
        return shutil.disk_usage(next(p for p in folders if p.exists())).free

    def look_at(self, about: dict[str, Any]) -> None:
        """Find out how large a volume is."""
        rows = [Row(**row) for row in about["rows"]]
        name = rows[0].volume
        record = self.results / "volumes" / name / "ingest.json"
        try:
            if record.exists():
                self.known[name] = _from_record(IngestedVolume.read(record))
            elif self.config.source.startswith("phantom:"):
                self.known[name] = Volume(
                    name, self.config.phantom.shape, 1, 1, "configuration"
                )
            elif root := self._root():
                self.known[name] = _from_header(rows[0], root)
            else:
                self.missing[name] = f"not here yet: {self.command} -- {self.manifest}"
        except (UnetpipeError, OSError) as error:
            self.problems.append(f"volume {name}: {error}")
            self.missing[name] = "cannot be read, see below"
        parts = self.config.ingest.parts
        self.num_jobs += 1 + parts * (parts > 1) + about["is_trained_on"]
        if name in self.known:
            self._check_sections(rows, self.known[name].shape[0])
        if name in self.known and not record.exists():
            self.needed_bytes += self.known[name].bytes_to_store(
                has_labels=bool(rows[0].labels), is_trained_on=about["is_trained_on"]
            )

    def _check_sections(self, rows: list[Row], num_sections: int) -> None:
        for row in rows:
            try:
                row.section_numbers(num_sections)
            except UnetpipeError as error:
                if str(error) not in self.problems:  # folds repeat sections
                    self.problems.append(str(error))

    def add_network(self, network: dict[str, Any]) -> None:
        """Forecast a network's training and predictions."""
        model = network["model"]
        self._add_training(network)
        for name in network["volumes"]:
            self.num_jobs += 5 + self.config.prediction.parts
            if name not in self.known:
                continue
            volume = self.known[name]
            folder = self.results / model / name
            probe = Probe.read_if_there(folder / "probe.json")
            spec = NetworkConfig(**network["network"]).spec(volume.num_channels)
            forecast = forecast_prediction(
                volume,
                spec,
                self._wanted(),
                self._rate(folder),
                probe,
                num_members=len(network.get("members", ())) or 1,
            )
            self.predictions.append((model, name, forecast))
            if not (folder / "segmentation.json").exists():
                self.needed_bytes += forecast.disk_bytes * (1 - _share_done(folder))

    def table(self) -> str:
        """Return all of it as lines."""
        rows = [self._row(*entry) for entry in self.predictions]
        rows += [
            ("", name, why, *[""] * (len(HEADER) - 3))
            for name, why in self.missing.items()
        ]
        parts = self.config.prediction.parts
        hours = sum(f.seconds for *_, f in self.predictions)
        files = sum(f.num_files for *_, f in self.predictions)
        shared = f" in {parts} parts a volume, {describe_seconds(hours / parts)} if all"
        shared = f"{shared} of them run at once" if parts > 1 else ""
        lines = [format_table(HEADER, rows), ""]
        lines += [
            f"training {one.model}: {one.steps} steps, "
            f"{describe_quantity(one.flop, 'FLOP')}, {describe_seconds(one.seconds)} "
            f"({one.rate_from}), validation not counted"
            for one in self.trainings
        ]
        lines += [
            f"predicting: {describe_seconds(hours)} of computing{shared}",
            f"jobs: {self.num_jobs}, a second or two each besides; "
            f"files: about {files}",
            f"disk: about {_bytes(self.needed_bytes)} still needed, "
            f"{_bytes(self.free_bytes)} free in {self.results}",
        ]
        if (
            self.config.prediction.mask
            or self.config.prediction.empty_value is not None
        ):
            lines.append("what the mask or the grey values leave out is not known yet")
        return "\n".join(lines)

    def as_record(self, circumstances: Circumstances) -> RunPlan:
        """Return all of it."""
        return RunPlan(
            volumes=tuple(PlannedVolume(**asdict(v)) for v in self.known.values()),
            missing=self.missing,
            problems=tuple(self.problems),
            trainings=tuple(asdict(training) for training in self.trainings),
            predictions=tuple(
                {"model": model, "volume": name} | forecast.to_json()
                for model, name, forecast in self.predictions
            ),
            num_jobs=self.num_jobs,
            disk=Disk(needed_bytes=self.needed_bytes, free_bytes=self.free_bytes),
            circumstances=circumstances,
        )

    def _add_training(self, network: dict[str, Any]) -> None:
        self.num_jobs += 1
        seen = [self.known[n] for n in network["trained_on"] if n in self.known]
        if not seen:
            return
        settings = TrainingConfig(**network["training"])
        spec = NetworkConfig(**network["network"]).spec(seen[0].num_channels)
        sections = [
            (1, *v.shape[1:]) if spec.ndim == 2 else as_zyx(v.shape) for v in seen
        ]
        flop = training_flop(spec, settings.patch, settings.batch_size, sections)
        folder = self.results / network["model"]
        histories = sorted(folder.glob("state/*/history.csv"), key=_modified)
        rows = read_history(histories[-1]) if histories else []
        if rows:
            seconds = rows[-1].seconds / rows[-1].step * settings.steps
            rate_from = "its own history"
        else:
            rate = assume_rate(
                _device(settings.device), choose_threads(settings.threads)
            )
            seconds, rate_from = (
                settings.steps * flop / rate.flop_per_second,
                rate.known_from,
            )
        self.trainings.append(
            _Training(
                network["model"],
                settings.steps,
                settings.steps * flop,
                seconds,
                rate_from,
            )
        )

    def _wanted(self) -> Wanted:
        settings: PredictionConfig = self.config.prediction
        return Wanted(
            precision=settings.precision,
            device=_device(settings.device),
            memory_gb=None if settings.memory_gb == "auto" else settings.memory_gb,
            stride=settings.stride,
            average=settings.average,
            block_shards=settings.block_shards,
            num_parts=settings.parts,
            roi=settings.roi,
        )

    def _rate(self, folder: Path) -> Rate:
        """Return the rate of this prediction, or else of another one of the run."""
        if probe := Probe.read_if_there(folder / "probe.json"):
            done = Prediction.read_if_there(folder / "prediction.json")
            parts = [
                (part.num_tiles, part.seconds_computing)
                for part in (done.parts if done else ())
            ]
            return measured_rate(probe.flop_per_tile, probe.seconds_per_tile, parts)
        others = sorted(self.results.glob("*/*/probe.json"), key=_modified)
        if others:
            probe = Probe.read(others[-1])
            rate = measured_rate(probe.flop_per_tile, probe.seconds_per_tile)
            return Rate(rate.flop_per_second, f"probe of {others[-1].parent.name}")
        settings = self.config.prediction
        return assume_rate(_device(settings.device), choose_threads(settings.threads))

    def _root(self) -> Path | None:
        """Return the folder of the originals, if they are here."""
        folder = Path(self.config.source).expanduser()
        if folder.is_dir():
            return folder
        manifest = Manifest.read_if_there(self.manifest)
        return Path(manifest.root) if manifest else None

    def _row(self, model: str, name: str, forecast: Forecast) -> tuple[str, ...]:
        volume = self.known[name]
        return (
            *(model, name, volume.known_from),
            "x".join(map(str, volume.shape)),
            "x".join(map(str, forecast.stride)),
            str(forecast.num_blocks),
            describe_quantity(forecast.flop, "FLOP"),
            _bytes(forecast.bytes_read),
            _bytes(forecast.bytes_written),
            _bytes(forecast.peak_rss_bytes),
            _bytes(forecast.disk_bytes),
            describe_seconds(forecast.seconds),
            forecast.rate_from,
        )


def _from_record(ingest: IngestedVolume) -> Volume:
    return Volume(
        ingest.volume,
        ingest.shape,
        ingest.num_channels,
        np.dtype(ingest.dtype).itemsize,
        "record",
    )


def _from_header(row: Row, root: Path) -> Volume:
    """Return what a file's header says; its voxels are not read."""
    with open_image(
        *(row.image, root),
        axes=row.axes,
        time=row.time,
        channels=row.channels,
        level=row.level,
    ) as image:
        return Volume(
            row.volume,
            image.zyx,
            image.shape[0],
            image.dtype.itemsize,
            "file header",
        )


def _share_done(folder: Path) -> float:
    """Return how much of a planned prediction lies on the disk already."""
    planned = PredictionPlan.read_if_there(folder / "plan.json")
    if planned is None:
        return 0.0
    done = sum(1 for _ in planned.receipts.rglob("*.json"))
    return min(1.0, done / planned.geometry.num_shards)


def _device(wanted: str) -> str:
    """Return the kind of device, without loading torch."""
    if wanted == "auto":
        return "cuda" if has_cuda_driver() else "cpu"
    return wanted


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _bytes(count: float) -> str:
    return describe_quantity(count, "iB", base=1024)
