"""Volumes, trainings and predictions as the template of the report shows them.

Each function takes records and returns a dictionary of strings, tables and pictures.
"""

import json
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import yaml
from markupsafe import Markup

from unetpipe.metrics.names import CHOOSING, PREDICTORS, plain_metric_name
from unetpipe.records.calibration import Calibration
from unetpipe.records.metrics import OURS, TEST, Baseline, Seams
from unetpipe.records.suggestions import Suggestions
from unetpipe.records.tracks import LinkedObjects
from unetpipe.records.volume import ChannelStatistics, IngestedVolume, OriginalFile
from unetpipe.records.weight_map import WeightMap
from unetpipe.report.page.charts import (
    plot_calibration,
    plot_seams,
    plot_sizes,
    plot_thresholds,
    plot_training,
)
from unetpipe.report.page.commands import viewer_commands
from unetpipe.report.page.gallery import Budget
from unetpipe.report.page.measured import plot_measured
from unetpipe.report.page.members import show_members
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.report.page.section_viewer import (
    NUM_COLOURS,
    SectionViewer,
    told_voxel_size,
)
from unetpipe.report.page.summary import sections_by_role
from unetpipe.report.page.tables import show_tables
from unetpipe.report.page.text import (
    format_range,
    format_score,
    format_shape,
    format_threshold,
)
from unetpipe.runtime.text import (
    count_in_words,
    count_noun,
    describe_quantity,
    describe_seconds,
    format_sections,
)
from unetpipe.tiling.boxes import Roi

Shown = dict[str, Any]
Sizes = list[list[int]]  # of true and of found objects

FEW_VOLUMES = 4
MOST_SEAM_PICTURES = 12
LISTED = 12  # volumes with suggestions
SHORT_HASH = 12


def show_volume(run: Run, name: str) -> Shown:
    """Return what a volume is, and pictures of sections if volumes are few."""
    volume = run.volumes[name]
    labels, content = volume.labels, volume.image.content_sha256
    maps = [record for record in run.weight_maps if record.volume == name]
    cells = [sum(record.num_cells) for record in maps]
    size = told_voxel_size(volume)
    return {
        "name": name,
        "shape": format_shape(volume.shape),
        "num_voxels": count_in_words(prod(volume.shape)),
        "voxel_size": format_shape(size) if size else "unknown",
        "dtype": volume.dtype,
        "num_channels": volume.num_channels,
        "colours": _tell_colours(volume),
        "grey": [_show_grey(channel) for channel in volume.statistics],
        "label_kind": labels.label_kind if labels else None,
        "unlabelled": _told_of_unlabelled(volume, maps),
        "boxes": _told_of_boxes(labels.rois if labels else None),
        "num_cells": cells[0] if cells else None,
        "roles": {
            role: format_sections(numbers)
            for role, numbers in sections_by_role(run, name).items()
        },
        "files": _show_files(volume.image.files),
        "content_sha256": content,
        "fingerprint": content[:SHORT_HASH],
        "pictures": _show_raw(volume, len(run.volumes)),
    }


def _tell_colours(volume: IngestedVolume) -> str:
    """Return which channels pictures show, and how; of one channel nothing."""
    names, count = volume.channel_names, volume.num_channels
    if count == 1:
        return ""
    if count == NUM_COLOURS:
        named = f"channels {', '.join(names)}" if names else "three channels"
        return f"Pictures show the {named} in red, green and blue."
    named = f", {names[0]}," if names else ""
    return f"Pictures show the first of {count} channels{named} in grey."


def _told_of_unlabelled(volume: IngestedVolume, maps: Sequence[WeightMap]) -> str:
    """Return whether voxels are not annotated, as far as that was counted."""
    if volume.labels is None or volume.labels.unlabelled is None:
        return ""
    if not maps:
        return f"{volume.labels.unlabelled} stands for voxels that are not annotated"
    known = sum(map(sum, maps[0].class_counts))
    return "some voxels not annotated" if known < prod(volume.shape) else ""


def _told_of_boxes(boxes: Sequence[Roi] | None) -> str:
    """Return where the boxes of labels lie, half-open, z, y, x; empty: everywhere."""
    if boxes is None:
        return ""
    listed = [f"{box.start} to {box.stop}" for box in boxes[:LISTED]]
    more = f" and {len(boxes) - LISTED} more" if len(boxes) > LISTED else ""
    some = f"{len(boxes)} boxes" if len(boxes) > 1 else "one box"
    return f"labels in {some}: {'; '.join(listed)}{more}"


def _what_chose(network: Network, metric: str) -> str:
    """Return the name of the score that is drawn; version 0.1 took one alone."""
    recipe = network.description.recipe
    is_joined = recipe is not None and recipe.foreground_fraction is not None
    return (CHOOSING if is_joined else {}).get(metric, plain_metric_name(metric))


def show_training(network: Network) -> Shown:
    """Return a network's facts and the course of its training."""
    description, training = network.description, network.training
    metric = (training.metric if training else None) or ""
    made_from: Any = description.recipe.to_json() if description.recipe else {}
    if network.members:
        told = description.to_json()
        made_from = {key: told[key] for key in ("members", "thresholds")}
    return {
        "model": network.name,
        "charts": plot_training(
            network.history,
            metric=_what_chose(network, metric),
            chosen=description.step or 0,
        )
        if network.history
        else [],
        "members": show_members(network.members),
        "has_thresholds": bool(description.thresholds),
        "facts": dict(_facts_of_training(network)),
        "weights_sha256": description.weights_sha256,
        "recipe": yaml_text(made_from),
    }


def show_predictions(run: Run, results: Sequence[Result]) -> list[Shown]:
    """Return scores, charts, pictures, recipe and commands of some predictions."""
    num_classes = run.network.num_classes
    budget = Budget()
    shown = []
    for number, result in enumerate(results):
        volume = run.volumes[result.volume]
        gallery = budget.show(
            volume,
            result,
            num_classes=num_classes,
            num_to_come=len(results) - number - 1,
        )
        shown.append(
            {
                "model": result.model,
                "volume": result.volume,
                "num_classes": num_classes,
                "tables": show_tables(result.metrics),
                "charts": _show_charts(result, gallery["sizes"]),
                "seams": result.metrics
                and _show_seams(result.metrics.seams, number < MOST_SEAM_PICTURES),
                "baselines": dict(_facts_of_baselines(result)),
                "not_computed": result.metrics.not_computed if result.metrics else (),
                "segmentation": dict(_facts_of_segmentation(result)),
                "facts": dict(_facts_of_prediction(result)),
                "identity_sha256": result.plan.identity_sha256,
                "content_sha256": result.prediction.content_sha256,
                "recipe": yaml_text(result.prediction.identity.to_json()),
                "commands": viewer_commands(volume, result),
                "gallery": gallery,
            }
        )
    return shown


def show_suggestions(record: Suggestions) -> Shown:
    """Return what ``suggestions.html`` shows: settings as JSON, few volumes."""
    told = record.to_json()
    rows = [
        {**s, "now": json.dumps(s["now"]), "suggested": json.dumps(s["suggested"])}
        for s in told["suggestions"]
    ]
    return {**told, "volumes": told["volumes"][:LISTED], "rows": rows}


def yaml_text(values: Any) -> str:
    """Return plain values as YAML, in their order; short lists stay on one line."""
    plain = json.loads(json.dumps(values, default=str))
    return yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=90
    )


def _show_raw(volume: IngestedVolume, num_volumes: int) -> list[Shown]:
    """Return first, middle and last section; of many volumes none here."""
    if num_volumes > FEW_VOLUMES:
        return []
    viewer = SectionViewer(volume)
    numbers = {viewer.middle}
    if num_volumes == 1:
        numbers |= {0, viewer.num_sections - 1}
    note = f" ({viewer.cropped})" if viewer.cropped else ""
    return [
        {**viewer.raw(z), "caption": f"{volume.volume}, section {z}{note}"}
        for z in sorted(numbers)
    ]


def _show_charts(result: Result, shown_sizes: Sizes | None) -> list[Markup]:
    """Return curves over thresholds, calibration, sizes and shapes of objects."""
    metrics, measured = result.metrics, plot_measured(result.measured)
    if metrics is None:
        return measured
    charts = plot_thresholds(metrics, result.segmentation.threshold)
    charts += plot_calibration(metrics)
    tables = sorted(metrics.objects, key=lambda table: table.role != TEST)
    if tables:
        sizes = tables[0].sizes[OURS]
        charts += plot_sizes(sizes.truth, sizes.result, f"{tables[0].role} sections")
    elif shown_sizes:
        truth, found = shown_sizes
        charts += plot_sizes(truth, found, "sections shown below")
    return charts + measured


def _show_seams(seams: Seams, with_charts: bool) -> Shown:
    """Return the jump across tile faces over that inside, and charts of it."""
    verdicts = {True: "like inside", False: "shows", None: ""}
    return {
        "definition": seams.definition,
        "level": f"{100 * seams.level:g}",
        "charts": plot_seams(seams) if with_charts else [],
        "rows": [
            {
                "face": f"{row.face} faces along {row.axis}",
                "ratio": f"{row.ratio:.4f}",
                "interval": format_range(row.interval) or "too few faces",
                "n": row.n,
                "verdict": verdicts[row.is_like_inside],
            }
            for row in seams.rows
            if row.ratio is not None
        ],
    }


def _show_grey(statistics: ChannelStatistics) -> str:
    if not statistics.count:
        return "no finite voxel"
    low, high = statistics.minimum, statistics.maximum
    return f"{low:g} to {high:g}, mean {statistics.mean:.4g}"


def _show_files(listed: Sequence[OriginalFile]) -> str:
    """Return one file's name, or the first of many and how many follow."""
    if not listed:
        return ""
    more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
    return f"{listed[0].path}{more}"


def _facts_of_training(network: Network) -> Iterator[tuple[str, str]]:
    description, training = network.description, network.training
    spec = description.spec
    if network.adoption:
        yield "Taken over from", network.adoption.folder
    times = f"{description.num_members} networks of " * description.is_ensemble
    yield "Parameters", f"{times}{spec.num_parameters:,}"
    yield "Halo", f"{spec.halo.before} before, {spec.halo.after} after"
    if training and training.patch:
        output = format_shape(spec.output_shape(training.patch))
        yield "Patch", f"{format_shape(training.patch)} in, {output} out"
        yield "Class weights", ", ".join(f"{w:.3g}" for w in training.class_weights)
    if training and training.steps is not None:
        yield "Steps", f"{training.steps:,}; kept: step {description.step or 0:,}"
    scores = [
        f"{plain_metric_name(key)} {format_score(score)}"
        for key, score in description.validation.items()
    ]
    if scores:
        yield "On validation sections", ", ".join(scores)
    for name, made in network.calibrations:
        of = f" ({name})" if network.members else ""
        yield f"In int8{of}", _told_of_int8(made)
    if training and training.resumed_at:
        yield "Resumed after step", ", ".join(f"{s:,}" for s in training.resumed_at)
    if training and training.seconds is not None:
        yield "Time", describe_seconds(training.seconds)


def _told_of_int8(made: Calibration) -> str:
    """Return what int8 costs on the validation rows, and what its scales are from."""
    scales = f"scales from {made.num_patches} patches of training rows"
    if made.score_loss is None:
        return f"no validation row tells what it costs; {scales}"
    metric = plain_metric_name(made.metric or "")
    return (
        f"{metric} {made.score_int8:.4f} on validation sections, in fp32 "
        f"{made.score_fp32:.4f}; {scales}"
    )


def _facts_of_segmentation(result: Result) -> Iterator[tuple[str, str]]:
    made = result.segmentation
    yield "Objects", f"{made.num_objects:,}"
    yield "Foreground", f"{count_in_words(made.num_foreground_voxels)} voxels"
    if result.prediction.outputs.classes is None:
        threshold = format_threshold(made.threshold)
        yield "Threshold", f"{threshold} ({made.threshold_source})"
    elif made.class_thresholds:
        cuts = made.class_thresholds.items()
        listed = ", ".join(f"{format_threshold(n)} of class {k}" for k, n in cuts)
        yield "Thresholds", f"{listed} ({made.threshold_source})"
    else:
        yield "Class of a voxel", "the most probable one"
    if result.linked:
        yield "Tracks", _told_of_tracks(result.linked)


def _told_of_tracks(linked: LinkedObjects) -> str:
    """Return how many tracks there are, and what happened to them."""
    return (
        f"{linked.num_tracks:,} over {count_noun(linked.num_frames, 'frame')}, "
        f"{count_noun(linked.num_divisions, 'division')}, "
        f"{count_noun(linked.num_gaps, 'gap')} closed"
    )


def _facts_of_baselines(result: Result) -> Iterator[tuple[str, str]]:
    for one in result.metrics.baselines if result.metrics else ():
        yield PREDICTORS.get(one.predictor, one.predictor), _told_of_baseline(one)


def _told_of_baseline(one: Baseline) -> str:
    """Return how a baseline was made, and what chose it."""
    told = f"cells are {'bright' if one.is_bright else 'dark'}"
    told += f" in channel {one.channel}, counted from 0" if one.channel else ""
    told += f", smoothed by {one.sigma_vox:g} voxels"
    if one.block_vox:
        told += f", against the mean of {one.block_vox} voxels around"
    chose = f"chosen on {count_noun(one.num_sections, 'validation section')}"
    return f"{told} ({chose if one.num_sections else 'defaults: nothing chose them'})"


def _facts_of_prediction(result: Result) -> Iterator[tuple[str, str]]:
    probe, plan, parts = result.probe, result.plan, result.prediction.parts
    geometry, projected = plan.geometry, plan.projected
    dropped = "" if result.is_kept else " (dropped after this page)"
    yield "Store", f"{plan.outputs.probability.store}{dropped}"
    if probe:
        kept = format_shape(probe.stride)
        yield "Tile", f"{format_shape(probe.input_shape)} in, keeps {kept}"
    yield "Chunk", format_shape(geometry.chunk)
    yield "Shard", format_shape(geometry.shard)
    yield "Block", format_shape(geometry.block)
    work = f"{projected.num_tiles:,} tiles, {describe_quantity(projected.flop, 'FLOP')}"
    if probe:
        share = 100 * probe.tile_efficiency
        work += f", of which {share:.0f} % would be needed without halos"
    yield "Work", work
    yield "Precision", f"{plan.precision} on {', '.join(result.devices)}"
    if plan.precision != "fp32":
        flips = f"{100 * plan.flip_fraction:.3g} % of those of a tile"
        yield "Labels unlike those of fp32", flips
    yield "Threads", str(plan.threads)
    took = sum(part.seconds for part in parts)
    hours = describe_seconds(3600 * projected.hours)
    yield "Time of all parts", f"{describe_seconds(took)}, {hours} projected"
    peaks = [part.peak_rss_bytes for part in parts]
    if peaks:
        yield (
            "Memory",
            f"{describe_quantity(max(peaks), 'B')} at most, "
            f"{describe_quantity(projected.peak_rss_bytes, 'B')} projected",
        )
