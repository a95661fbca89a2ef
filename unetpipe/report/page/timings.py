"""What took how long, at what rate, and how much disk; and on which machines."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from unetpipe.records.circumstances import Circumstances
from unetpipe.report.page.many import MOST_DETAILED, is_many
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.runtime.text import (
    count_in_words,
    count_noun,
    describe_quantity,
    describe_seconds,
)

Shown = dict[str, Any]


class Job(NamedTuple):
    """One job, or the parts of one prediction together."""

    rule: str
    of: str
    seconds: float | None
    num_voxels: int = 0
    stores: tuple[Path, ...] = ()
    note: str = ""


def list_jobs(run: Run) -> Iterator[Job]:
    """Yield what the records of a run tell of its jobs, in the order of the chain."""
    if run.manifest:
        yield Job("download_dataset", run.name, _seconds(run.manifest.circumstances))
    for name, volume in run.volumes.items():
        stores = [volume.image.store]
        if volume.labels and not volume.labels.store.is_relative_to(stores[0]):
            stores.append(volume.labels.store)
        spent = _seconds(volume.circumstances)
        yield Job("ingest_volume", name, spent, prod(volume.shape), tuple(stores))
    for record in run.weight_maps:
        name, stores = record.volume, [record.border_term.store, record.target.store]
        voxels, spent = prod(run.volumes[name].shape), _seconds(record.circumstances)
        yield Job("compute_weight_map", name, spent, voxels, tuple(stores))
    yield _network_job(run.network)
    for result in run.results:
        yield from _jobs_of(result, prod(run.volumes[result.volume].shape))


def _network_job(network: Network) -> Job:
    name, stores, spent = network.name, network.stores, _seconds(network.made)
    if network.adoption:
        return Job("adopt_network", name, spent, stores=stores)
    training = network.training
    if training is None:
        return Job("join_networks", name, spent, stores=stores)
    seconds, note = training.seconds, ""
    if training.steps and seconds:
        note = f"{training.steps / seconds:.3g} steps a second"
    return Job("train_unet", name, seconds, 0, stores, note)


def _jobs_of(result: Result, voxels: int) -> Iterator[Job]:
    of, parts = result.volume, result.prediction.parts
    if result.probe:
        yield Job("probe_prediction", of, _seconds(result.probe.circumstances))
    yield Job("plan_prediction", of, _seconds(result.plan.circumstances))
    done = sum(part.num_voxels for part in parts)
    computing = sum(part.seconds_computing for part in parts)
    note = count_noun(len(parts), "part")
    if done and computing:
        note += f", {count_in_words(done / computing)} voxels a second while computing"
    stores = tuple(result.plan.outputs.stores.values())
    seconds = sum(part.seconds for part in parts)
    yield Job("predict_part", of, seconds, done, stores, note)
    spent = _seconds(result.prediction.circumstances)
    yield Job("finish_prediction", of, spent, voxels)
    steps = result.segmentation.parts
    if steps:
        told = sum(step.seconds or 0 for step in steps)
        yield Job("segmentation, parts", of, told, note=count_noun(len(steps), "job"))
    spent = _seconds(result.segmentation.circumstances)
    yield Job("finish_segmentation", of, spent, voxels, (result.segmentation.store,))
    if result.metrics:
        yield Job("evaluate_prediction", of, result.metrics.seconds)


def show_timings(run: Run) -> list[Shown]:
    """Return time, rate and disk of each rule, and the jobs behind it."""
    by_rule: dict[str, list[Job]] = {}
    for job in list_jobs(run):
        if job.seconds is not None:
            by_rule.setdefault(job.rule, []).append(job)
    everything = [job for jobs in by_rule.values() for job in jobs]
    sizes = {store: stored_bytes(store) for job in everything for store in job.stores}
    rows = [_show_rule(rule, jobs, sizes) for rule, jobs in by_rule.items()]
    total = _show_rule("together", everything, sizes)
    note = "jobs may run side by side"
    return [*rows, {**total, "rate": "", "jobs": [], "note": note}]


def _show_rule(rule: str, jobs: list[Job], sizes: dict[Path, int]) -> Shown:
    seconds = sum(job.seconds or 0 for job in jobs)
    voxels = sum(job.num_voxels for job in jobs)
    disk = sum(sizes[store] for job in jobs for store in job.stores)
    return {
        "rule": rule,
        "num_jobs": len(jobs),
        "time": describe_seconds(seconds),
        "hours": f"{seconds / 3600:.3g}",
        "rate": count_in_words(voxels / seconds) if voxels and seconds else "",
        "disk": describe_quantity(disk, "B") if disk else "",
        "note": jobs[0].note if len(jobs) == 1 else "",
        "jobs": [
            {"of": job.of, "time": describe_seconds(job.seconds), "note": job.note}
            for job in _listed(jobs)
        ],
    }


def _listed(jobs: list[Job]) -> list[Job]:
    """Return jobs to show one by one: none of one, the longest of many."""
    if not is_many(len(jobs)):
        return jobs if len(jobs) > 1 else []
    return sorted(jobs, key=lambda job: -(job.seconds or 0))[:MOST_DETAILED]


def stored_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 if it is gone."""
    if path.is_file():
        return path.stat().st_size
    return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())


def describe_machines(run: Run) -> list[Shown]:
    """Return the different hosts and versions that records tell of, with stages."""
    found: dict[tuple[str, ...], Shown] = {}
    for stage, made in _made(run):
        versions = ", ".join(f"{k} {v}" for k, v in made.libraries.items() if v)
        key = (made.host, made.platform, made.python, versions)
        fields = dict(zip(("host", "platform", "python", "versions"), key, strict=True))
        entry = found.setdefault(key, {**fields, "stages": {}})
        entry["stages"][stage] = None
    return list(found.values())


def _made(run: Run) -> Iterator[tuple[str, Circumstances]]:
    """Yield stages and how their records came about, as far as they tell."""
    network = run.network
    if run.manifest and run.manifest.circumstances:
        yield "download_dataset", run.manifest.circumstances
    made = [("ingest_volume", v.circumstances) for v in run.volumes.values()]
    made += [("compute_weight_map", r.circumstances) for r in run.weight_maps]
    if network.training is None:
        made.append(("join_networks", network.made))
    elif network.training.steps is not None:
        made.append(("train_unet", network.trained))
    if network.adoption:
        made.append(("adopt_network", network.adoption.circumstances))
    for result in run.results:
        if result.probe:
            made.append(("probe_prediction", result.probe.circumstances))
        made.append(("finish_prediction", result.prediction.circumstances))
        made.append(("finish_segmentation", result.segmentation.circumstances))
        if result.metrics:
            made.append(("evaluate_prediction", result.metrics.circumstances))
    for stage, circumstances in made:
        if circumstances:
            yield stage, circumstances


def _seconds(made: Circumstances | None) -> float | None:
    return made.seconds if made else None
