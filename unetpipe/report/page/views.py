"""Volumes, trainings and predictions as the template of the report shows them.

Each function takes records and returns a dictionary of strings, tables and pictures.
"""

import base64
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from unetpipe.report.page.commands import viewer_commands
from unetpipe.report.page.gallery import Budget
from unetpipe.report.page.members import show_members
from unetpipe.report.page.pictures import SectionViewer
from unetpipe.report.page.plots import (
    plot_calibration,
    plot_sizes,
    plot_thresholds,
    plot_training,
)
from unetpipe.report.page.summary import adopted_from, sections_by_role
from unetpipe.report.page.tables import show_tables
from unetpipe.report.page.text import (
    OURS,
    PLAIN_NAMES,
    format_bytes,
    format_quantity,
    format_range,
    format_score,
    format_seconds,
    format_sections,
    format_shape,
    format_threshold,
    in_words,
)
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.unet_spec import UNetSpec

Record = dict[str, Any]
Sizes = list[list[int]]  # of true and of found objects

FEW_VOLUMES = 4
MOST_SEAM_PICTURES = 12
SHORT_HASH = 12


def show_volume(run: Record, name: str) -> Record:
    """Return what a volume is, and pictures of sections if volumes are few."""
    volume = run["volumes"][name]
    labels = volume["labels"]
    cells = [r["num_cells"] for r in run["weight_maps"] if r["volume"] == name]
    return {
        "name": name,
        "shape": format_shape(volume["shape"]),
        "num_voxels": in_words(prod(volume["shape"])),
        "voxel_size": format_shape(volume["voxel_size_nm"]),
        "dtype": volume["dtype"],
        "num_channels": volume["num_channels"],
        "grey": [_show_grey(channel) for channel in volume["statistics"]],
        "label_kind": labels["label_kind"] if labels else None,
        "unlabelled": labels["unlabelled"] if labels else None,
        "num_cells": sum(cells[0]) if cells else None,
        "roles": {
            role: format_sections(numbers)
            for role, numbers in sections_by_role(run, name).items()
        },
        "files": _show_files(volume["image"]["files"]),
        "content_sha256": volume["image"]["content_sha256"],
        "fingerprint": volume["image"]["content_sha256"][:SHORT_HASH],
        "pictures": _show_raw(volume, len(run["volumes"])),
    }


def show_training(training: Record) -> Record:
    """Return a network's facts and the course of its training."""
    record, description = training["record"], training["description"]
    metric = record.get("metric") or ""
    made_from = description.get("recipe", {})
    if training["members"]:
        made_from = {key: description[key] for key in ("members", "thresholds")}
    return {
        "model": training["model"],
        "charts": plot_training(
            training["history"],
            metric=PLAIN_NAMES.get(metric, metric),
            chosen=description.get("step", 0),
        )
        if training["history"]
        else [],
        "members": show_members(training["members"]),
        "facts": dict(_facts_of_training(training)),
        "weights_sha256": description["weights_sha256"],
        "recipe": as_yaml(made_from),
    }


def show_predictions(run: Record) -> list[Record]:
    """Return scores, charts, pictures, recipe and commands of all predictions."""
    classes = {t["model"]: t["description"]["num_classes"] for t in run["trained"]}
    budget = Budget()
    shown = []
    for number, predicted in enumerate(run["predicted"]):
        volume = run["volumes"][predicted["volume"]]
        num_classes = classes.get(predicted["model"], 2)
        gallery = budget.show(
            volume,
            predicted,
            num_classes=num_classes,
            num_to_come=len(run["predicted"]) - number - 1,
        )
        shown.append(
            {
                "model": predicted["model"],
                "volume": predicted["volume"],
                "num_classes": num_classes,
                "tables": show_tables(predicted["metrics"]),
                "charts": _show_charts(predicted, gallery["sizes"]),
                "seams": _show_seams(predicted, number < MOST_SEAM_PICTURES),
                "segmentation": dict(_facts_of_segmentation(predicted)),
                "facts": dict(_facts_of_prediction(predicted)),
                "identity_sha256": predicted["plan"]["identity_sha256"],
                "content_sha256": predicted["prediction"]["content_sha256"],
                "recipe": as_yaml(predicted["prediction"]["identity"]),
                "commands": viewer_commands(volume, predicted),
                "gallery": gallery,
            }
        )
    return shown


def as_yaml(values: Any) -> str:
    """Return plain values as YAML, in their order; short lists stay on one line."""
    return yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=90
    )


def _show_raw(volume: Record, num_volumes: int) -> list[Record]:
    """Return first, middle and last section; of many volumes none here."""
    if num_volumes > FEW_VOLUMES:
        return []
    viewer = SectionViewer(volume)
    numbers = {viewer.middle}
    if num_volumes == 1:
        numbers |= {0, viewer.num_sections - 1}
    note = f" ({viewer.cropped})" if viewer.cropped else ""
    return [
        {**viewer.raw(z), "caption": f"{volume['volume']}, section {z}{note}"}
        for z in sorted(numbers)
    ]


def _show_charts(predicted: Record, shown_sizes: Sizes | None) -> list[Markup]:
    """Return curves over thresholds, calibration, and sizes of objects."""
    metrics = predicted["metrics"]
    if metrics is None:
        return []
    charts = plot_thresholds(metrics, predicted["segmentation"]["threshold"])
    charts += plot_calibration(metrics)
    tables = sorted(metrics["objects"], key=lambda t: t["role"] != "test")
    if tables:
        sizes = tables[0]["sizes"][OURS]
        charts += plot_sizes(
            sizes["truth"], sizes["result"], f"{tables[0]['role']} sections"
        )
    elif shown_sizes:
        truth, result = shown_sizes
        charts += plot_sizes(truth, result, "sections shown below")
    return charts


def _show_seams(predicted: Record, with_picture: bool) -> Record | None:
    """Return the jump across tile faces over that inside, and its picture."""
    if predicted["metrics"] is None:
        return None
    seams = predicted["metrics"]["seams"]
    picture = Path(predicted["folder"]) / seams["picture"]
    address = ""
    if with_picture and picture.exists():
        content = base64.b64encode(picture.read_bytes()).decode()
        address = f"data:image/png;base64,{content}"
    return {
        "definition": seams["definition"],
        "level": f"{100 * seams['level']:g}",
        "picture": address,
        "rows": [
            {
                "face": f"{row['face']} faces along {row['axis']}",
                "ratio": f"{row['ratio']:.4f}",
                "interval": format_range(row["interval"]) or "too few faces",
                "n": row["n"],
                "verdict": {True: "like inside", False: "shows", None: ""}[
                    row["is_like_inside"]
                ],
            }
            for row in seams["rows"]
            if row["ratio"] is not None
        ],
    }


def _show_grey(statistics: Record) -> str:
    if not statistics["count"]:
        return "no finite voxel"
    low, high = statistics["minimum"], statistics["maximum"]
    return f"{low:g} to {high:g}, mean {statistics['mean']:.4g}"


def _show_files(listed: list[Record]) -> str:
    """Return one file's name, or the first of many and how many follow."""
    if not listed:
        return ""
    more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return f"{listed[0]['path']}{more}"


def _facts_of_training(training: Record) -> Iterator[tuple[str, str]]:
    record, description = training["record"], training["description"]
    spec = UNetSpec.from_json(description["spec"])
    for place in adopted_from(record):
        yield "Taken over from", place
    num_members = description.get("num_members")
    times = f"{num_members} networks of " if num_members else ""
    yield "Parameters", f"{times}{spec.num_parameters:,}"
    yield "Halo", f"{spec.halo.before} before, {spec.halo.after} after"
    if "patch" in record:
        patch = as_zyx(record["patch"])
        output = format_shape(spec.output_shape(patch))
        yield "Patch", f"{format_shape(patch)} in, {output} out"
        yield "Class weights", ", ".join(f"{w:.3g}" for w in record["class_weights"])
    if "steps" in record:
        yield "Steps", f"{record['steps']:,}; kept: step {description['step']:,}"
    scores = [
        f"{PLAIN_NAMES.get(key, key)} {format_score(score)}"
        for key, score in description.get("validation", {}).items()
    ]
    if scores:
        yield "On validation sections", ", ".join(scores)
    if record.get("resumed_at"):
        yield "Resumed after step", ", ".join(f"{s:,}" for s in record["resumed_at"])
    if "seconds" in record:
        yield "Time", format_seconds(record["seconds"])


def _facts_of_segmentation(predicted: Record) -> Iterator[tuple[str, str]]:
    segmented = predicted["segmentation"]
    yield "Objects", f"{segmented['num_objects']:,}"
    yield "Foreground", f"{in_words(segmented['num_foreground_voxels'])} voxels"
    yield (
        "Threshold",
        f"{format_threshold(segmented['threshold'])} ({segmented['threshold_source']})",
    )


def _facts_of_prediction(predicted: Record) -> Iterator[tuple[str, str]]:
    probe, plan = predicted["probe"], predicted["plan"]
    geometry = plan["geometry"]
    dropped = "" if predicted.get("is_kept", True) else " (dropped after this page)"
    yield "Store", f"{plan['outputs']['probability']['store']}{dropped}"
    kept = format_shape(probe["stride"])
    yield "Tile", f"{format_shape(probe['input_shape'])} in, keeps {kept}"
    for key in ("chunk", "shard", "block"):
        if key in geometry:
            yield key.capitalize(), format_shape(geometry[key])
    yield (
        "Work",
        f"{plan['projected']['num_tiles']:,} tiles, "
        f"{format_quantity(plan['projected']['flop'], 'FLOP')}, of which "
        f"{100 * probe['tile_efficiency']:.0f} % would be needed without halos",
    )
    yield "Precision", f"{plan['precision']} on {', '.join(_devices(predicted))}"
    yield "Threads", str(plan["threads"])
    if "hours" in plan["projected"]:
        took = sum(p["seconds"] for p in predicted["prediction"]["parts"])
        projected = format_seconds(3600 * plan["projected"]["hours"])
        yield "Time of all parts", f"{format_seconds(took)}, {projected} projected"
    peaks = [p["peak_rss_bytes"] for p in predicted["prediction"]["parts"]]
    if peaks:
        yield (
            "Memory",
            f"{format_bytes(max(peaks))} at most, "
            f"{format_bytes(plan['projected']['peak_rss_bytes'])} projected",
        )


def _devices(predicted: Record) -> list[str]:
    return list(predicted["prediction"].get("devices", [predicted["probe"]["device"]]))
