"""What took how long, at what rate, and how much disk; and on which machines."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from unetpipe.report.page.text import count, format_bytes, format_seconds, in_words

Run = dict[str, Any]
Record = dict[str, Any]


class Job(NamedTuple):
    """One job, or the parts of one prediction together."""

    rule: str
    of: str
    seconds: float | None
    num_voxels: int = 0
    stores: tuple[str, ...] = ()
    note: str = ""


def list_jobs(run: Run) -> Iterator[Job]:
    """Yield what the records of a run tell of its jobs, in the order of the chain."""
    yield Job("download_dataset", run["name"], _seconds(run["manifest"]))
    for name, volume in run["volumes"].items():
        stores = [volume["image"]["store"]]
        labels = volume["labels"]["store"] if volume["labels"] else stores[0]
        if not Path(labels).is_relative_to(stores[0]):
            stores.append(labels)
        voxels = prod(volume["shape"])
        yield Job("ingest_volume", name, _seconds(volume), voxels, tuple(stores))
    for record in run["weight_maps"]:
        voxels = prod(run["volumes"][record["volume"]]["shape"])
        stores = [record[key]["store"] for key in ("border_term", "target")]
        name = record["volume"]
        yield Job("compute_weight_map", name, _seconds(record), voxels, tuple(stores))
    for training in run["trained"]:
        yield _training_job(training)
    for predicted in run["predicted"]:
        voxels = prod(run["volumes"][predicted["volume"]]["shape"])
        yield from _jobs_of(predicted, voxels)


def _training_job(training: Record) -> Job:
    record, stores = training["record"], tuple(training["stores"])
    for place in record.get("adopted", ())[:1]:
        return Job("adopt_network", training["model"], _seconds(place), stores=stores)
    if training["members"]:
        return Job("join_networks", training["model"], _seconds(record), stores=stores)
    note = f"{record['steps'] / record['seconds']:.3g} steps a second"
    return Job("train_unet", training["model"], _seconds(record), 0, stores, note)


def _jobs_of(predicted: Record, voxels: int) -> Iterator[Job]:
    of = predicted["volume"]
    plan, parts = predicted["plan"], predicted["prediction"]["parts"]
    yield Job("probe_prediction", of, _seconds(predicted["probe"]))
    yield Job("plan_prediction", of, _seconds(plan))
    done = sum(part["num_voxels"] for part in parts)
    computing = sum(part["seconds_computing"] for part in parts)
    note = count(len(parts), "part")
    if done and computing:
        note += f", {in_words(done / computing)} voxels a second while computing"
    stores = tuple(output["store"] for output in plan["outputs"].values())
    seconds = sum(part["seconds"] for part in parts)
    yield Job("predict_part", of, seconds, done, stores, note)
    yield Job("finish_prediction", of, _seconds(predicted["prediction"]), voxels)
    store = (predicted["segmentation"]["store"],)
    parts = predicted["segmentation"].get("parts", [])
    if parts:
        told = sum(part["seconds"] for part in parts)
        yield Job("segmentation, parts", of, told, note=count(len(parts), "job"))
    spent = _seconds(predicted["segmentation"])
    yield Job("finish_segmentation", of, spent, voxels, store)
    if predicted["metrics"]:
        yield Job("evaluate_prediction", of, _seconds(predicted["metrics"]))


def show_timings(run: Run) -> list[Record]:
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


def _show_rule(rule: str, jobs: list[Job], sizes: dict[str, int]) -> Record:
    seconds = sum(job.seconds or 0 for job in jobs)
    voxels = sum(job.num_voxels for job in jobs)
    disk = sum(sizes[store] for job in jobs for store in job.stores)
    return {
        "rule": rule,
        "num_jobs": len(jobs),
        "time": format_seconds(seconds),
        "hours": f"{seconds / 3600:.3g}",
        "rate": in_words(voxels / seconds) if voxels and seconds else "",
        "disk": format_bytes(disk) if disk else "",
        "note": jobs[0].note if len(jobs) == 1 else "",
        "jobs": [
            {"of": job.of, "time": format_seconds(job.seconds), "note": job.note}
            for job in jobs
            if len(jobs) > 1
        ],
    }


def stored_bytes(store: str) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 if it is gone."""
    path = Path(store)
    if path.is_file():
        return path.stat().st_size
    return sum(inside.stat().st_size for inside in path.rglob("*") if inside.is_file())


def describe_machines(run: Run) -> list[dict[str, Any]]:
    """Return the different hosts and versions that records tell of, with stages."""
    records = [("download_dataset", run["manifest"])]
    records += [("ingest_volume", v) for v in run["volumes"].values()]
    records += [("compute_weight_map", r) for r in run["weight_maps"]]
    for training in run["trained"]:
        record = training["record"]
        if training["members"]:
            records.append(("join_networks", record))
        if "steps" in record:
            records.append(("train_unet", record))
        records += [("adopt_network", place) for place in record.get("adopted", ())[:1]]
    for predicted in run["predicted"]:
        records += [
            ("probe_prediction", predicted["probe"]),
            ("finish_prediction", predicted["prediction"]),
            ("finish_segmentation", predicted["segmentation"]),
        ]
        if predicted["metrics"]:
            records.append(("evaluate_prediction", predicted["metrics"]))
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for stage, record in records:
        told = record["circumstances"]
        versions = ", ".join(f"{k} {v}" for k, v in told["libraries"].items() if v)
        key = (told["host"], told["platform"], told["python"], versions)
        fields = dict(zip(("host", "platform", "python", "versions"), key, strict=True))
        entry = found.setdefault(key, {**fields, "stages": {}})
        entry["stages"][stage] = None
    return list(found.values())


def _seconds(record: Record) -> float | None:
    seconds = record.get("seconds", record.get("circumstances", {}).get("seconds"))
    return None if seconds is None else float(seconds)
