"""Volumes, trainings and predictions as the template of the report shows them.

Each function takes records and returns a dictionary of strings, tables and pictures.
"""

from collections.abc import Iterator
from math import prod
from shlex import quote
from typing import Any

import yaml

from unetpipe.geometry import as_zyx
from unetpipe.page.figures import Curve, plot_training
from unetpipe.page.pictures import SectionViewer, choose_sections
from unetpipe.page.summary import sections_by_role
from unetpipe.page.text import (
    HEADLINE,
    OURS,
    PLAIN_NAMES,
    format_quantity,
    format_score,
    format_seconds,
    format_sections,
    format_shape,
    format_threshold,
    group_by_class,
    group_by_metric,
    in_words,
)
from unetpipe.unet_spec import UNetSpec

Record = dict[str, Any]

# A page stays small enough to send: further predictions are in the tables only.
MOST_PICTURED = 12
FEW_VOLUMES = 2


def show_volume(run: Record, name: str) -> Record:
    """Return what a volume is, and a picture of its middle section."""
    volume = run["volumes"][name]
    labels = volume["labels"]
    cells = [r["num_cells"] for r in run["weight_maps"] if r["volume"] == name]
    viewer = SectionViewer(volume)
    return {
        "name": name,
        "shape": format_shape(volume["shape"]),
        "num_voxels": in_words(prod(volume["shape"])),
        "voxel_size": format_shape(volume["voxel_size_nm"]),
        "dtype": volume["dtype"],
        "num_channels": volume["num_channels"],
        "label_kind": labels["label_kind"] if labels else None,
        "unlabelled": labels["unlabelled"] if labels else None,
        "num_cells": sum(cells[0]) if cells else None,
        "roles": {
            role: format_sections(numbers)
            for role, numbers in sections_by_role(run, name).items()
        },
        "files": _show_files(volume["image"]["files"]),
        "content_sha256": volume["image"]["content_sha256"],
        "pictures": _show_raw(viewer, len(run["volumes"])),
    }


def show_training(training: Record) -> Record:
    """Return a network's facts and the course of its training."""
    record, description = training["record"], training["description"]
    history = training["history"]
    metric = record.get("metric") or ""
    curve = Curve(
        steps=[row.step for row in history],
        losses=[row.loss for row in history],
        learning_rates=[row.learning_rate for row in history],
        validation=[
            (row.step, row.validation) for row in history if row.validation is not None
        ],
        metric=PLAIN_NAMES.get(metric, metric),
        chosen=description["step"],
    )
    return {
        "model": training["model"],
        "curves": plot_training(curve) if history else None,
        "facts": dict(_facts_of_training(record, description)),
        "weights_sha256": description["weights_sha256"],
        "recipe": as_yaml(description.get("recipe", {})),
    }


def show_predictions(run: Record) -> list[Record]:
    """Return scores and recipes of all predictions, pictures of the first ones."""
    classes = {t["model"]: t["description"]["num_classes"] for t in run["trained"]}
    shown = []
    for number, predicted in enumerate(run["predicted"]):
        volume = run["volumes"][predicted["volume"]]
        num_classes = classes.get(predicted["model"], 2)
        pictures: Record = {"panels": [], "objects": [], "cropped": None}
        if number < MOST_PICTURED:
            viewer = SectionViewer(volume, predicted["segmentation"], num_classes)
            pictures = _show_sections(viewer, predicted["metrics"])
        shown.append(
            {
                "model": predicted["model"],
                "volume": predicted["volume"],
                "num_classes": num_classes,
                "tables": _show_tables(predicted["metrics"]),
                "segmentation": dict(_facts_of_segmentation(predicted)),
                "facts": dict(_facts_of_prediction(predicted)),
                "identity_sha256": predicted["plan"]["identity_sha256"],
                "content_sha256": predicted["prediction"]["content_sha256"],
                "recipe": as_yaml(predicted["prediction"]["identity"]),
                "command": _command(predicted, volume),
                **pictures,
            }
        )
    return shown


def as_yaml(values: Any) -> str:
    """Return plain values as YAML, in their order; short lists stay on one line."""
    return yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=90
    )


def _show_raw(viewer: SectionViewer, num_volumes: int) -> list[Record]:
    """Return the middle section; of few volumes the first and the last one too."""
    numbers = {viewer.middle}
    if num_volumes <= FEW_VOLUMES:
        numbers |= {0, viewer.num_sections - 1}
    note = f" ({viewer.cropped})" if viewer.cropped else ""
    name = viewer.volume["volume"]
    return [
        {**viewer.raw(z), "caption": f"{name}, section {z}{note}"}
        for z in sorted(numbers)
    ]


def _show_files(listed: list[Record]) -> str:
    """Return one file's name, or the first of many and how many follow."""
    if not listed:
        return ""
    more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return f"{listed[0]['path']}{more}"


def _facts_of_training(
    record: Record, description: Record
) -> Iterator[tuple[str, str]]:
    spec = UNetSpec.from_json(description["spec"])
    yield "Parameters", f"{spec.num_parameters:,}"
    yield "Halo", f"{spec.halo.before} before, {spec.halo.after} after"
    patch = as_zyx(record["patch"])
    output = format_shape(spec.output_shape(patch))
    yield "Patch", f"{format_shape(patch)} in, {output} out"
    yield "Class weights", ", ".join(f"{w:.3g}" for w in record["class_weights"])
    yield "Steps", f"{record['steps']:,}; kept: step {description['step']:,}"
    scores = [
        f"{PLAIN_NAMES.get(key, key)} {format_score(score)}"
        for key, score in description.get("validation", {}).items()
    ]
    if scores:
        yield "On validation sections", ", ".join(scores)
    if record.get("resumed_at"):
        yield "Resumed after step", ", ".join(f"{s:,}" for s in record["resumed_at"])
    yield "Time", format_seconds(record["seconds"])


def _show_tables(metrics: Record | None) -> list[Record]:
    if metrics is None:
        return []
    return [
        {
            "role": table["role"],
            "sections": format_sections(table["sections"]),
            "num_sections": len(table["sections"]),
            "groups": group_by_metric(table["rows"]),
            "classes": group_by_class(table["rows"]),
        }
        for table in sorted(metrics["tables"], key=lambda t: t["role"] != "test")
    ]


def _show_sections(viewer: SectionViewer, metrics: Record | None) -> Record:
    panels = []
    if metrics:
        best, worst = choose_sections(
            metrics["sections_best"], metrics["sections_worst"]
        )
        panels = [
            {
                "title": f"{title}: section {z}",
                "score": _score_of_section(metrics["tables"], z),
                "pictures": viewer.compared(z),
            }
            for title, numbers in (("Best", best), ("Worst", worst))
            for z in numbers
        ]
    middle = viewer.middle
    return {
        "panels": panels,
        "objects": [viewer.raw(middle), viewer.numbered(middle)],
        "cropped": viewer.cropped,
    }


def _score_of_section(tables: list[Record], z: int) -> str:
    """Return the score of one section by the metric that ranked it."""
    for metric in HEADLINE:
        for table in tables:
            for row in table["rows"]:
                is_ours = row["predictor"] == OURS and row["metric"] == metric
                if is_ours and row["per_section"] and z in table["sections"]:
                    score = row["per_section"][table["sections"].index(z)]
                    return f"{PLAIN_NAMES[metric]} {format_score(score)}"
    return ""


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
    yield "Store", plan["outputs"]["probability"]["store"]
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
    peaks = [p["peak_rss_bytes"] for p in predicted["prediction"]["parts"]]
    if peaks:
        yield (
            "Memory",
            f"{format_quantity(max(peaks), 'B')} at most, "
            f"{format_quantity(plan['projected']['peak_rss_bytes'], 'B')} projected",
        )


def _devices(predicted: Record) -> list[str]:
    return list(predicted["prediction"].get("devices", [predicted["probe"]["device"]]))


def _command(predicted: Record, volume: Record) -> str:
    """Return what opens image, probability and segmentation in one window."""
    stores = [
        volume["image"]["store"],
        predicted["plan"]["outputs"]["probability"]["store"],
        predicted["segmentation"]["store"],
    ]
    return " \\\n  ".join(["napari --plugin napari-ome-zarr", *map(quote, stores)])
