"""What a run's records say together: facts for sentences, cards and tables."""

from math import prod
from typing import Any

from unetpipe.metrics.names import PREDICTORS
from unetpipe.records.metrics import OURS, TEST, Row
from unetpipe.report.page.pooled import Pooled, pool_scores
from unetpipe.report.page.run import Network, Run
from unetpipe.report.page.text import (
    format_range,
    format_score,
    format_threshold,
    metric_label,
)
from unetpipe.report.page.warnings import warn_of_leaks

Shown = dict[str, Any]

MEMBRANES = ("v_rand", "dice_class_1", "v_info", "rand_error")
OBJECTS = ("f1", "ctc_seg", "average_precision", "dice_class_1")
VOXELS = (
    "dice_mean",
    "dice_class_1",
    "iou_class_1",
    "precision_class_1",
    "recall_class_1",
)
CARDS = {  # by what chose the checkpoint, which comes first
    "v_rand": MEMBRANES,
    "f1": OBJECTS,
    "seg": ("ctc_seg", "f1", "ctc_det", "dice_class_1"),
    "dice": VOXELS,
    "loss": VOXELS,
}
OVERVIEW = (
    "v_rand",
    "v_info",
    "rand_error",
    "pixel_error",
    "warping_error",
    "f1",
    "average_precision",
    "ctc_seg",
)


def summarise(run: Run) -> Shown:
    """Return what ``summary.html`` says: what was trained, how well, on what."""
    return {
        "network": _about_network(run.network),
        "scores": _about_scores(run),
        "results": _about_results(run),
    }


def sections_by_role(run: Run, volume: str) -> dict[str, list[int]]:
    """Return the sections of a volume that the network saw, or was scored on."""
    roles = run.network.seen_sections(run.volumes[volume])
    for result, metrics in run.scored:
        if result.volume == volume:
            for role, numbers in metrics.role_sections.items():
                roles.setdefault(role, set()).update(numbers)
    return {role: sorted(numbers) for role, numbers in roles.items()}


def highlights(run: Run) -> list[Shown]:
    """Return the scores to see first, with the best baseline beside each."""
    pooled = pool_scores(run)
    if pooled is None:
        return []
    mean = "mean over " if pooled.volumes[1:] else ""
    chose = "" if pooled.role == TEST else ", which chose it, so these scores flatter"
    where = f"{mean}{pooled.where}, {pooled.role} sections{chose}"
    return [_card(pooled.rows[metric], where) for metric in _shown(run, pooled)]


def _shown(run: Run, pooled: Pooled) -> list[str]:
    """Return the metrics to see first: what chose the network, then what it tells of.

    Those that nobody knows at the threshold of the masks are none of them.
    """
    members = run.network.members or (run.network,)
    chose = next((m.training.metric for m in members if m.training), None)
    known = {
        metric
        for metric, rows in pooled.rows.items()
        if OURS in rows and rows[OURS].score is not None
    }
    # Of several classes the first one is no summary.
    known -= set(VOXELS[1:]) if "dice_mean" in known else set()
    sets = (CARDS.get(chose or "", ()), MEMBRANES, OBJECTS, VOXELS)
    return next(
        ([m for m in cards if m in known] for cards in sets if known & set(cards[:2])),
        [],
    )


def _card(rows: dict[str, Row], where: str) -> Shown:
    ours = rows[OURS]
    best = _best_baseline(rows)
    return {
        "metric": metric_label(ours.metric),
        "score": format_score(ours.score),
        "better": ours.better,
        "where": where,
        "interval": format_range(ours.interval),
        "baseline": best and ": ".join(best),
    }


def _best_baseline(rows: dict[str, Row]) -> tuple[str, str] | None:
    """Return name and score of what did best without a network, None without any."""
    others = [
        (row.score, name)
        for name, row in rows.items()
        if name != OURS and row.score is not None
    ]
    if not others:
        return None
    score, name = (max if rows[OURS].better == "higher" else min)(others)
    return PREDICTORS.get(name, name), format_score(score)


def overview(run: Run) -> Shown | None:
    """Return one row of scores for each scored volume, None if there is only one.

    Test sections come first, else in the order of the results; scores that are not in
    ``OVERVIEW`` stand with the volume.
    """
    if len(run.scored) < 2:
        return None
    rows = []
    for result, metrics in run.scored:
        objects = {table.role: table.ours for table in metrics.objects}
        rows += [
            (result, table, {**table.ours, **objects.get(table.role, {})})
            for table in metrics.tables
        ]
    rows.sort(key=lambda row: row[1].role != TEST)
    found = {metric for *_, ours in rows for metric in ours}
    dice = sorted(metric for metric in found if metric.startswith("dice_class_"))
    shown = [metric for metric in (*OVERVIEW, *dice) if metric in found]
    return {
        "metrics": [metric_label(metric) for metric in shown],
        "rows": [
            {
                "model": result.model,
                "volume": result.volume,
                "role": table.role,
                "num_sections": len(table.sections),
                "scores": [
                    format_score(ours[metric].score) if metric in ours else ""
                    for metric in shown
                ],
            }
            for result, table, ours in rows
        ],
    }


def _about_network(network: Network) -> Shown:
    """Return what was trained, on what, for how long; as far as it is known."""
    training = network.training
    learnt = {(row.volume, z) for row in network.learnt("train") for z in row.sections}
    return {
        "spec": network.description.spec,
        "members": len(network.members),
        "has_thresholds": bool(network.description.thresholds),
        "joined_elsewhere": network.description.num_members
        if network.description.is_ensemble and not network.members
        else 0,
        "adopted_from": network.adoption.folder if network.adoption else "",
        "parent": training.parent if training else None,
        "volumes": sorted({volume for volume, _ in learnt}),
        "num_sections": len(learnt),
        "steps": training.steps if training else None,
        "seconds": training.seconds if training else None,
        "device": (network.trained.device if network.trained else None)
        or "this machine",
    }


def _about_scores(run: Run) -> Shown | None:
    """Return the leading score, and what it is worth; None where nothing was scored."""
    pooled = pool_scores(run)
    shown = _shown(run, pooled) if pooled else []
    if pooled is None or not shown:
        return None
    rows = pooled.rows[shown[0]]
    ours = rows[OURS]
    is_held_out = run.network.is_origin_known and not any(
        warn_of_leaks(run.network, run.results, run.volumes)
    )
    threshold = ours.chosen.threshold if ours.chosen else None
    return {
        "num_sections": ours.num_sections,
        "is_test": pooled.role == TEST,
        "is_held_out": is_held_out,
        "where": pooled.where,
        "is_mean": len(pooled.volumes) > 1,
        "score": format_score(ours.score),
        "metric": metric_label(ours.metric),
        "threshold": format_threshold(threshold),
        "threshold_from": _threshold_from(run),
        "baseline": _best_baseline(rows),
    }


def _threshold_from(run: Run) -> str:
    """Return what chose the threshold of the delivered masks: it ends a sentence."""
    sources = {result.segmentation.threshold_source for result, _ in run.scored}
    if sources == {"validation rows"}:
        many = ", the median of those" if run.network.members else ""
        return f"{many} that validation sections chose"
    return f" ({', '.join(sorted(sources))})"


def _about_results(run: Run) -> Shown | None:
    if not run.results:
        return None
    return {
        "num_volumes": len({result.volume for result in run.results}),
        "num_results": len(run.results),
        "num_voxels": sum(prod(run.volumes[r.volume].shape) for r in run.results),
        "num_objects": sum(r.segmentation.num_objects for r in run.results),
        "num_tracks": sum(r.linked.num_tracks for r in run.results if r.linked),
        "num_divisions": sum(r.linked.num_divisions for r in run.results if r.linked),
    }
