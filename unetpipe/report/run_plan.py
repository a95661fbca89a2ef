"""What a run takes, known from records, headers and shapes: before it, or half-way.

::

    look_at_volumes     rows of the sheet  -> how large each volume is
    plan_run            volumes, networks  -> RunPlan
    as_table            RunPlan            -> lines for people
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from unetpipe.config import Config, NetworkConfig, TrainingConfig
from unetpipe.config.sheet import Row
from unetpipe.errors import UnetpipeError
from unetpipe.images import ImageReader, Reading, open_image
from unetpipe.ingestion.opening import find_label_boxes
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.probe import Probe
from unetpipe.records.run_plan import (
    Disk,
    PlannedPrediction,
    PlannedTraining,
    PlannedVolume,
    RunPlan,
    WholeRun,
)
from unetpipe.records.volume import IngestedVolume, Manifest
from unetpipe.runtime.machine import (
    has_bf16_instructions,
    has_cuda_driver,
    job_threads,
    num_processors,
)
from unetpipe.runtime.text import (
    count_noun,
    describe_quantity,
    describe_seconds,
    format_table,
)
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
from unetpipe.tiling.run_costs import (
    Cost,
    cost_of_jobs,
    cost_of_predicting,
    cost_of_storing,
    wall_seconds,
)
from unetpipe.tiling.scale import common_voxel_size, describe_scale
from unetpipe.training.history import read_history

HEADER = (
    *("network", "volume", "known from", "voxels", "tile", "blocks", "FLOP"),
    *("read", "write", "memory", "disk", "time", "rate from"),
)
LARGE_PIECE = 1 << 27  # bytes that are decoded at once: as much as ingest holds anyway


class WantedVolume(TypedDict):
    """A volume of the sheet: its rows, and whether a network learns from it."""

    rows: list[dict[str, Any]]
    is_trained_on: bool


class WantedNetwork(TypedDict):
    """A network: its name, its sections of the configuration, and its volumes.

    ``folder`` is where one lies that is not trained here.
    """

    model: str
    network: dict[str, Any]
    training: dict[str, Any]
    volumes: list[str]
    trained_on: list[str]
    members: NotRequired[list[str]]
    folder: NotRequired[str | None]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where a run keeps its files.

    Attributes
    ----------
    results : Path
        Folder of the run.
    manifest : Path
        Of the originals, if they are here.
    command : str
        With which the user runs Snakemake.
    """

    results: Path
    manifest: Path
    command: str

    @property
    def free_bytes(self) -> int:
        """Room on the disk of the results."""
        folders = (self.results, *self.results.absolute().parents)
        return shutil.disk_usage(next(p for p in folders if p.exists())).free

    def originals(self, config: Config) -> Path | None:
        """Return the folder of the originals, if they are here."""
        folder = Path(config.source).expanduser()
        if folder.is_dir():
            return folder
        manifest = Manifest.read_if_there(self.manifest)
        return Path(manifest.root) if manifest else None


@dataclass(slots=True)
class KnownVolumes:
    """How large volumes are, as far as anybody can tell.

    Attributes
    ----------
    known : dict
        Name -> volume.
    missing : dict
        Name -> why it is not known.
    problems : list of str
        What has to be mended before the run.
    needed_bytes : float
        What is still to be stored.
    warnings : list of str
        What costs more than it need.
    """

    known: dict[str, Volume] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    needed_bytes: float = 0.0
    warnings: list[str] = field(default_factory=list)


class Account:
    """What the whole run takes, added up as volumes and predictions are met.

    Parameters
    ----------
    config : Config
    results : Path
        Folder of the run: what lies there costs nothing more.
    volumes : sequence of WantedVolume
    known : dict
        How large they are.
    """

    def __init__(
        self,
        config: Config,
        results: Path,
        volumes: Sequence[WantedVolume],
        known: dict[str, Volume],
    ) -> None:
        self._config, self._known, self._cost = config, known, Cost()
        self._num_volumes = 0
        self._scored: dict[str, float] = {}
        for wanted in volumes:
            rows = [Row(**row) for row in wanted["rows"]]
            name = rows[0].volume
            if name not in known:
                continue
            self._num_volumes += 1
            self._scored[name] = _share_scored(rows, known[name].shape[0])
            if not (results / "volumes" / name / "ingest.json").exists():
                labels = bool(rows[0].labels)
                self._cost += cost_of_storing(known[name], has_labels=labels)

    def predict(self, name: str, forecast: Forecast) -> None:
        """Add a prediction, its objects and scores."""
        settings = self._config.prediction
        self._cost += cost_of_predicting(
            forecast,
            self._known[name],
            scored_share=self._scored[name],
            device=_device(settings.used_device),
            threads=job_threads(settings.threads, settings.used_device),
        )

    def whole(
        self, num_jobs: int, trainings: Sequence[PlannedTraining], num_predicting: int
    ) -> WholeRun:
        """Return the sum, with what starting jobs takes."""
        cores = num_processors()
        cost = self._cost + cost_of_jobs(num_jobs, num_predicting, self._num_volumes)
        training = sum(one.seconds for one in trainings)
        settings = self._config.training
        is_gpu = _device(settings.device) == "cuda"
        threads = 1 if is_gpu else job_threads(settings.threads, settings.device)
        return WholeRun(
            processor_seconds=cost.processor_seconds + threads * training,
            gpu_seconds=cost.gpu_seconds + is_gpu * training,
            wall_seconds=wall_seconds(cost, training, cores),
            num_cores=cores,
            num_files=cost.num_files,
        )


def _share_scored(rows: Sequence[Row], num_sections: int) -> float:
    """Return the share of a volume's sections that have a score to come."""
    numbers: set[int] = set()
    for row in rows:
        if row.role in ("validate", "test"):
            with suppress(UnetpipeError):  # told as a problem
                numbers.update(row.section_numbers(num_sections))
    return len(numbers) / num_sections


def look_at_volumes(
    config: Config, volumes: Sequence[WantedVolume], files: RunFiles
) -> KnownVolumes:
    """Find out how large volumes are: from records, else from headers of files."""
    found = KnownVolumes()
    for wanted in volumes:
        rows = [Row(**row) for row in wanted["rows"]]
        name = rows[0].volume
        record = files.results / "volumes" / name / "ingest.json"
        try:
            volume = _look_at(config, rows[0], files, record, found.warnings)
        except (UnetpipeError, OSError) as error:
            found.problems.append(f"volume {name}: {error}")
            found.missing[name] = "cannot be read, see below"
            continue
        if volume is None:
            found.missing[name] = f"not here yet: {files.command} -- {files.manifest}"
            continue
        found.known[name] = volume
        for problem in _problems_of_sections(rows, volume.shape[0]):
            if problem not in found.problems:  # folds repeat sections
                found.problems.append(problem)
        if not record.exists():
            found.needed_bytes += volume.bytes_to_store(
                has_labels=bool(rows[0].labels), is_trained_on=wanted["is_trained_on"]
            )
    return found


def plan_run(
    config: Config,
    volumes: Sequence[WantedVolume],
    networks: Sequence[WantedNetwork],
    files: RunFiles,
    jobs: Mapping[str, bool] = {},
) -> RunPlan:
    """Return what a whole run takes, less what lies on the disk already.

    Parameters
    ----------
    config : Config
    volumes : sequence of WantedVolume
    networks : sequence of WantedNetwork
    files : RunFiles
    jobs : mapping
        Of each job of the run a file that it leaves -> whether it predicts a lot.
    """
    began = time.monotonic()
    found = look_at_volumes(config, volumes, files)
    trainings, predictions = [], []
    needed_bytes = found.needed_bytes
    account = Account(config, files.results, volumes, found.known)
    for network in networks:
        folder = files.results / network["model"]
        if training := _plan_training(network, found.known, folder):
            trainings.append(training)
        for name in network["volumes"]:
            if name in found.known and not _is_segmented(folder / name):
                forecast = _forecast(config, network, found.known[name], folder / name)
                predictions.append(_planned(network["model"], name, forecast))
                account.predict(name, forecast)
                done = _share_done(folder / name)
                needed_bytes += forecast.disk_bytes * (1 - done)
    num_jobs = _count_left(jobs)
    num_predicting = _count_left(path for path, predicts in jobs.items() if predicts)
    return RunPlan(
        volumes=tuple(PlannedVolume(**asdict(v)) for v in found.known.values()),
        missing=found.missing,
        problems=(
            *found.problems,
            *_problems_of_channels(networks, found.known, files),
        ),
        trainings=tuple(trainings),
        predictions=tuple(predictions),
        num_jobs=num_jobs,
        whole=account.whole(num_jobs, trainings, num_predicting),
        warnings=(
            *found.warnings,
            *_warn_of_scales(config, networks, found.known, files),
        ),
        disk=Disk(needed_bytes=needed_bytes, free_bytes=files.free_bytes),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    )


def as_table(plan: RunPlan, config: Config, results: Path) -> str:
    """Return a plan as lines for people."""
    settings, volumes = config.prediction, {v.name: v for v in plan.volumes}
    rows = [_row(one, volumes[one.volume]) for one in plan.predictions]
    rows += [
        ("", name, why, *[""] * (len(HEADER) - 3)) for name, why in plan.missing.items()
    ]
    seconds = sum(one.seconds for one in plan.predictions)
    files = sum(one.num_files for one in plan.predictions)
    shared, parts = "", settings.parts
    if parts > 1:
        shared = f" in {parts} parts a volume, {describe_seconds(seconds / parts)} if "
        shared += "all of them run at once"
    lines = [format_table(HEADER, rows), ""] if rows else []
    lines += [
        f"training {one.model}: {one.steps} steps, "
        f"{describe_quantity(one.flop, 'FLOP')}, {describe_seconds(one.seconds)} "
        f"({one.rate_from}), validation not counted"
        for one in plan.trainings
    ]
    lines += [
        f"predicting: {describe_seconds(seconds)} of computing{shared}",
        f"jobs left: {plan.num_jobs}; files of shards: about {files}",
        *_tell_whole(plan.whole),
        f"disk: about {_bytes(plan.disk.needed_bytes)} still needed, "
        f"{_bytes(plan.disk.free_bytes)} free in {results}",
    ]
    if settings.mask or settings.empty_value is not None:
        lines.append("what the mask or the grey values leave out is not known yet")
    lines += [f"warning: {text}" for text in plan.warnings]
    return "\n".join(lines)


def _tell_whole(whole: WholeRun | None) -> Iterator[str]:
    """Yield what all jobs take together, with what they take beside computing."""
    if whole is None:
        return
    hours = describe_seconds(whole.processor_seconds)
    on = count_noun(whole.num_cores, "core")
    if whole.gpu_seconds:
        hours += f" and {describe_seconds(whole.gpu_seconds)} of a GPU"
        on += " and a GPU"
    yield (
        f"the whole: about {hours} of processor time, "
        f"{describe_seconds(whole.wall_seconds)} on {on}; "
        f"files: about {whole.num_files}"
    )


def _look_at(
    config: Config, row: Row, files: RunFiles, record: Path, warnings: list[str]
) -> Volume | None:
    """Return what is known of a volume; None if its originals are not here yet."""
    if record.exists():
        return _from_record(IngestedVolume.read(record))
    found: Volume | None
    if config.source.startswith("phantom:"):
        found = Volume(row.volume, config.phantom.shape, 1, 1, "configuration")
    else:
        root = files.originals(config)
        found = _from_header(row, root, warnings) if root else None
    scale = config.ingest.scale
    if found is None or not isinstance(scale, float):
        return found
    return found.at_scale(scale, config.network.ndim)


def _problems_of_sections(rows: Sequence[Row], num_sections: int) -> list[str]:
    problems = []
    for row in rows:
        try:
            row.section_numbers(num_sections)
        except UnetpipeError as error:
            problems.append(str(error))
    return problems


def _problems_of_channels(
    networks: Sequence[WantedNetwork], known: dict[str, Volume], files: RunFiles
) -> list[str]:
    """Return which volumes have not as many channels as the networks learn from."""
    problems = dict[str, None]()
    for network in networks:
        model = _described(network, files)
        taught = [v for v in network["trained_on"] if v in known]
        if model:
            wanted, of = model.spec.in_channels, f"network {network['model']}"
        elif taught:
            wanted, of = known[taught[0]].num_channels, f"volume {taught[0]}"
        else:
            continue
        for name in dict.fromkeys((*taught, *network["volumes"])):
            if name in known and known[name].num_channels != wanted:
                found = count_noun(known[name].num_channels, "channel")
                problems[
                    f"volume {name}: {found}, where {of} has {wanted}; name fitting "
                    "ones in the column channels, or, of a picture whose red, green "
                    "and blue are equal, the axes yxc"
                ] = None
    return [*problems]


def _described(network: WantedNetwork, files: RunFiles) -> Model | None:
    """Return what is told of a network that is there already, taken over or trained."""
    folders = (Path(network.get("folder") or ""), files.results / network["model"])
    found = (Model.read_if_there(folder / "model.json") for folder in folders)
    return next((model for model in found if model), None)


def _warn_of_scales(
    config: Config,
    networks: Sequence[WantedNetwork],
    known: dict[str, Volume],
    files: RunFiles,
) -> Iterator[str]:
    """Yield which volumes lie at another scale than a network has learnt at."""
    if config.ingest.scale == "match":
        return
    for network in networks:
        model = _described(network, files)
        learnt = (
            model.voxel_size_nm
            if model
            else common_voxel_size(
                known[name].voxel_size_nm
                for name in network["trained_on"]
                if name in known
            )
        )
        ndim = NetworkConfig(**network["network"]).ndim
        for name in network["volumes"]:
            own = known[name].voxel_size_nm if name in known else None
            if text := describe_scale(learnt, own, ndim):
                yield f"{network['model']} on {name}: {text}"


def _count_left(records: Iterable[str]) -> int:
    """Count the jobs of which the record is not there."""
    return sum(not Path(record).exists() for record in records)


def _is_trained(folder: Path) -> bool:
    """Say whether a network is trained, taken over or joined already."""
    return any((folder / name).exists() for name in ("train.json", "model.json"))


def _is_segmented(folder: Path) -> bool:
    """Say whether a prediction is made already, and its objects."""
    return (folder / "segmentation.json").exists()


def _plan_training(
    network: WantedNetwork, known: dict[str, Volume], folder: Path
) -> PlannedTraining | None:
    """Return what a network's training takes; None where nobody knows its volumes."""
    seen = [known[name] for name in network["trained_on"] if name in known]
    if not seen or _is_trained(folder):
        return None
    settings = TrainingConfig(**network["training"])
    spec = NetworkConfig(**network["network"]).spec(seen[0].num_channels)
    sections = [(1, *v.shape[1:]) if spec.ndim == 2 else v.shape for v in seen]
    flop = training_flop(spec, settings.patch, settings.batch_size, sections)
    histories = sorted(folder.glob("state/*/history.csv"), key=_modified)
    rows = read_history(histories[-1]) if histories else []
    if rows:
        seconds = rows[-1].seconds / rows[-1].step * settings.steps
        rate_from = "its own history"
    else:
        # Of the job that trains; the one that plans has a single thread.
        threads = job_threads(settings.threads, settings.device)
        rate = _assume_rate(settings.device, threads, settings.precision)
        seconds = settings.steps * flop / rate.flop_per_second
        rate_from = rate.known_from
    return PlannedTraining(
        model=network["model"],
        steps=settings.steps,
        flop=settings.steps * flop,
        seconds=seconds,
        rate_from=rate_from,
    )


def _forecast(
    config: Config, network: WantedNetwork, volume: Volume, folder: Path
) -> Forecast:
    """Return what a prediction takes, whose records lie in a folder, or will."""
    settings = config.prediction
    wanted = Wanted(
        precision=settings.precision,
        device=_device(settings.used_device),
        memory_gb=None if settings.memory_gb == "auto" else settings.memory_gb,
        stride=settings.stride,
        average=settings.average,
        block_shards=settings.block_shards,
        num_parts=settings.parts,
        roi=settings.roi,
    )
    return forecast_prediction(
        volume,
        NetworkConfig(**network["network"]).spec(volume.num_channels),
        wanted,
        _rate(config, folder),
        Probe.read_if_there(folder / "probe.json"),
        num_members=len(network.get("members", ())) or 1,
    )


def _rate(config: Config, folder: Path) -> Rate:
    """Return the rate of this prediction, or else of another one of the run."""
    if probe := Probe.read_if_there(folder / "probe.json"):
        done = Prediction.read_if_there(folder / "prediction.json")
        parts = [
            (part.num_tiles, part.seconds_computing)
            for part in (done.parts if done else ())
        ]
        return measured_rate(probe.flop_per_tile, probe.seconds_per_tile, parts)
    others = sorted(folder.parents[1].glob("*/*/probe.json"), key=_modified)
    if others:
        probe = Probe.read(others[-1])
        rate = measured_rate(probe.flop_per_tile, probe.seconds_per_tile)
        return Rate(rate.flop_per_second, f"probe of {others[-1].parent.name}")
    settings = config.prediction
    device = settings.used_device
    threads = job_threads(settings.threads, device)
    return _assume_rate(device, threads, settings.precision)


def _assume_rate(device: str, threads: int, precision: str) -> Rate:
    in_bf16 = precision in ("auto", "bf16") and has_bf16_instructions()
    return assume_rate(_device(device), threads, in_bf16=in_bf16)


def _planned(model: str, volume: str, forecast: Forecast) -> PlannedPrediction:
    return PlannedPrediction(model=model, volume=volume, **forecast.to_json())


def _row(planned: PlannedPrediction, volume: PlannedVolume) -> tuple[str, ...]:
    return (
        *(planned.model, planned.volume, volume.known_from),
        "x".join(map(str, volume.shape)),
        "x".join(map(str, planned.stride)),
        str(planned.num_blocks),
        describe_quantity(planned.flop, "FLOP"),
        _bytes(planned.bytes_read),
        _bytes(planned.bytes_written),
        _bytes(planned.peak_rss_bytes),
        _bytes(planned.disk_bytes),
        describe_seconds(planned.seconds),
        planned.rate_from,
    )


def _from_record(ingest: IngestedVolume) -> Volume:
    boxes = ingest.labels.rois if ingest.labels else None
    return Volume(
        ingest.volume,
        ingest.shape,
        ingest.num_channels,
        np.dtype(ingest.dtype).itemsize,
        "record",
        ingest.known_size_nm,
        None if boxes is None else sum(box.num_voxels for box in boxes),
    )


def _from_header(row: Row, root: Path, warnings: list[str]) -> Volume:
    """Return what a file's header says; its voxels are not read."""
    how = Reading(axes=row.axes, time=row.time, channels=row.channels, level=row.level)
    with open_image(row.image, root, how) as image:
        if text := _decoded_whole(image):
            warnings.append(f"volume {row.volume}: {text}")
        warnings += [f"volume {row.volume}: {told}" for told in image.source.remarks]
        boxes = find_label_boxes(row, root, image)
        return Volume(
            row.volume,
            image.zyx,
            image.shape[0],
            image.dtype.itemsize,
            "file header",
            row.voxel_size_nm or image.voxel_size_nm,
            None if boxes is None else sum(box.num_voxels for box in boxes),
        )


def _decoded_whole(image: ImageReader) -> str | None:
    """Say of a large file that it can be decoded in large pieces alone."""
    deep, high, wide = image.granule
    size = deep * high * wide * image.shape[0] * image.dtype.itemsize
    if size < LARGE_PIECE or high == 1:
        return None
    name = image.files[0]
    command = f"tiffcp -t -w 512 -l 512 -c zlib {name.name} tiled.tif"
    return (
        f"{name} is packed in pieces of {high} x {wide} voxels, each of which is "
        f"decoded as a whole, {_bytes(size)} in each of some threads; save it in "
        f"tiles (`{command}`), or as OME-Zarr"
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
