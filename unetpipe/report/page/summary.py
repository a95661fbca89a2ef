"""What a run's records say together: sentences, cards and tables of the report.

A *run* is a dictionary of records: ``name``, ``manifest``, ``volumes`` (by name),
``weight_maps``, ``trained`` (``model``, ``record``, ``description``, and ``members`` of
an ensemble) and ``predicted``
(``model``, ``volume``, ``probe``, ``plan``, ``prediction``, ``segmentation``,
``metrics``).
"""

from collections.abc import Iterator
from math import prod
from typing import Any

from markupsafe import Markup, escape

from unetpipe.report.page.members import about_members
from unetpipe.report.page.pooled import pool_scores
from unetpipe.report.page.tables import shown_score
from unetpipe.report.page.text import (
    OURS,
    PREDICTORS,
    count,
    format_range,
    format_score,
    format_seconds,
    format_sections,
    format_threshold,
    in_words,
    metric_label,
)
from unetpipe.tiling.unet_spec import UNetSpec

Run = dict[str, Any]
Record = dict[str, Any]

CARDS = (  # the first that were computed
    ("v_rand", "v_info", "rand_error", "pixel_error"),
    ("f1", "average_precision", "dice_class_1", "iou_class_1"),
)
OVERVIEW = (*CARDS[0], "warping_error", "f1", "average_precision", "ctc_seg")
LEADING = ("v_rand", "f1", "dice_class_1")


def summarise(run: Run) -> Markup:
    """Return the run in one paragraph: what was trained, how well, on what."""
    sentences = [_about_training(run), _about_scores(run), _about_results(run)]
    return Markup(" ").join(sentence for sentence in sentences if sentence)


def sections_by_role(run: Run, volume: str) -> dict[str, list[int]]:
    """Return the sections of a volume that networks learnt from and were scored on."""
    roles: dict[str, set[int]] = {}
    for training in run["trained"]:
        for role, numbers in _learnt(training, run["volumes"][volume]).items():
            roles.setdefault(role, set()).update(numbers)
    for predicted in run["predicted"]:
        if predicted["volume"] == volume and predicted["metrics"]:
            for role, numbers in predicted["metrics"]["role_sections"].items():
                roles.setdefault(role, set()).update(numbers)
    return {role: sorted(numbers) for role, numbers in roles.items()}


def _learnt(training: Record, volume: Record) -> dict[str, set[int]]:
    """Return the sections of these voxels that a network has seen, by role.

    By their content, where it is known: networks that were trained elsewhere may call
    other voxels by the same name, or the same voxels otherwise.
    """
    content = volume["image"]["content_sha256"]
    recipe = training["description"].get("recipe", {})
    seen: dict[str, set[int]] = {}
    for role in ("train", "validate"):
        for row in recipe.get(role, ()):
            known = row.get("image")
            if known == content or (
                known is None and row["volume"] == volume["volume"]
            ):
                seen.setdefault(role, set()).update(row["sections"])
    return seen


def highlights(run: Run) -> list[dict[str, Any]]:
    """Return the scores to see first, with the best baseline beside each."""
    pooled = pool_scores(run)
    if pooled is None:
        return []
    mean = "mean over " if pooled.volumes[1:] else ""
    where = f"{mean}{pooled.where}, {pooled.role} sections"
    metrics = next(
        (cards for cards in CARDS if set(cards) & pooled.rows.keys()), CARDS[-1]
    )
    return [
        _card(dict(rows), where)
        for metric in metrics
        if OURS in (rows := pooled.rows.get(metric, {}))
    ]


def _card(rows: dict[str, Record], where: str) -> dict[str, Any]:
    ours = rows.pop(OURS)
    higher = ours["better"] == "higher"
    others = [
        (score, name)
        for name, row in rows.items()
        if (score := shown_score(row)) is not None
    ]
    best = (max(others) if higher else min(others)) if others else None
    return {
        "metric": metric_label(ours["metric"]),
        "score": format_score(shown_score(ours)),
        "better": ours["better"],
        "where": where,
        "interval": format_range(ours["interval"]),
        "baseline": best
        and f"{PREDICTORS.get(best[1], best[1])}: {format_score(best[0])}",
    }


def overview(run: Run) -> dict[str, Any] | None:
    """Return one row of scores for each scored volume, None if there is only one.

    Test sections come first; scores that are not in ``OVERVIEW`` stand with the volume.
    """
    scored = [p for p in run["predicted"] if p["metrics"]]
    if len(scored) < 2:
        return None
    found: set[str] = set()
    rows = []
    for predicted in scored:
        objects = predicted["metrics"]["objects"]
        for table in predicted["metrics"]["tables"]:
            of_role = [table, *(t for t in objects if t["role"] == table["role"])]
            all_rows = [row for t in of_role for row in t["rows"]]
            ours = {r["metric"]: r for r in all_rows if r["predictor"] == OURS}
            found |= ours.keys()
            rows.append((predicted, table, ours))
    rows.sort(key=lambda row: row[1]["role"] != "test")
    dice = sorted(metric for metric in found if metric.startswith("dice_class_"))
    metrics = [metric for metric in (*OVERVIEW, *dice) if metric in found]
    return {
        "metrics": [metric_label(metric) for metric in metrics],
        "rows": [
            {
                "model": predicted["model"],
                "volume": predicted["volume"],
                "role": table["role"],
                "num_sections": len(table["sections"]),
                "scores": [
                    format_score(shown_score(ours[metric])) if metric in ours else ""
                    for metric in metrics
                ],
            }
            for predicted, table, ours in rows
        ],
    }


def collect_warnings(run: Run) -> list[str]:
    """Return everything that a stage found odd, with whom it concerns."""
    found: list[str] = []
    for name, volume in run["volumes"].items():
        found += [f"{name}: {text}" for text in volume.get("warnings", ())]
        if volume.get("num_nan"):
            found.append(
                f"{name}: {count(volume['num_nan'], 'voxel')} were NaN or infinite and "
                "got the mean of their channel"
            )
    for training in run["trained"]:
        texts = training["record"].get("warnings", ())
        found += [f"{training['model']}: {text}" for text in texts]
        found += [f"{training['model']}: {text}" for text in leaks(run, training)]
    for predicted in run["predicted"]:
        found += [
            f"{predicted['model']} on {predicted['volume']}: {text}"
            for text in _warnings_of(predicted)
        ]
    return found


def leaks(run: Run, training: Record) -> Iterator[str]:
    """Yield which test sections a network has learnt from, so that scores flatter.

    Of a network that was trained elsewhere no sheet has told it.
    """
    for predicted in run["predicted"]:
        if predicted["metrics"] and predicted["model"] == training["model"]:
            tested = set(predicted["metrics"]["role_sections"].get("test", ()))
            learnt = _learnt(training, run["volumes"][predicted["volume"]])
            for role, what in (("train", "trained on"), ("validate", "chosen by")):
                if both := tested & learnt.get(role, set()):
                    yield (
                        f"it was {what} the test sections "
                        f"{format_sections(sorted(both))} of {predicted['volume']}, so "
                        "their scores flatter"
                    )


def _is_origin_known(training: Record) -> bool:
    """Say whether it is known what a network, or each member, has learnt from."""
    members = training["members"] or [training]
    return all("recipe" in one["description"] for one in members)


def _warnings_of(predicted: Record) -> Iterator[str]:
    devices = predicted["prediction"].get("devices", ())
    if len(devices) > 1:
        yield (
            f"predicted on different kinds of device ({', '.join(devices)}), whose "
            "arithmetic differs in the last bits"
        )
    flips = predicted["plan"].get("flip_fraction", 0)
    if flips > 0:
        yield (
            f"{predicted['plan']['precision']} flips {100 * flips:.3g} % of the labels "
            "against fp32"
        )
    if predicted["segmentation"]["num_objects"] == 0:
        yield "no object was found; look at the probabilities and the threshold"
    if predicted["metrics"]:
        yield from _warnings_of_scores(predicted["metrics"])


def _warnings_of_scores(metrics: Record) -> Iterator[str]:
    if metrics["left_out"]:
        numbers = format_sections(metrics["left_out"])
        yield (
            f"sections {numbers} hold voxels that nobody annotated: they count for "
            "class overlap only"
        )
    for row in metrics["seams"]["rows"]:
        if row["is_like_inside"] is False:
            yield (
                f"{row['face']} faces along {row['axis']} show: the probability jumps "
                f"{row['ratio']:.3f} times as much across them as inside (interval "
                f"{format_range(row['interval'])})"
            )


def adopted_from(record: Record) -> list[str]:
    """Return the folder that a network was taken over from, if it was: one, or none."""
    return [place["folder"] for place in record.get("adopted", ())[:1]]


def _about_training(run: Run) -> Markup:
    if not run["trained"]:
        return Markup("")
    first = run["trained"][0]
    spec = UNetSpec.from_json(first["description"]["spec"])
    record = first["record"]
    learnt = {
        (row["volume"], z)
        for row in first["description"].get("recipe", {}).get("train", ())
        for z in row["sections"]
    }
    network = Markup(
        "A {}-dimensional U-Net of {} parameters ({} levels, {} channels in the first, "
        "{} convolutions)"
    ).format(
        {2: "two", 3: "three"}[spec.ndim],
        in_words(spec.num_parameters),
        spec.depth + 1,
        spec.base_channels,
        {"valid": "unpadded", "same": "padded"}[spec.padding],
    )
    if first["members"]:
        each = f"a{network[1:]}"
        return escape(about_members(len(first["members"]), each, learnt))
    if num_members := first["description"].get("num_members"):
        told = "An ensemble of {} networks, each a{}"
        network = Markup(told).format(num_members, network[1:])
    names = sorted({volume for volume, _ in learnt})
    found = "".join(f" was taken over from {place};" for place in adopted_from(record))
    if "steps" not in record:
        return network + f"{found} how it was trained is not known."
    return network + (
        f"{found}{' it' if found else ''} was trained for "
        f"{count(record['steps'], 'step')} on {count(len(learnt), 'section')} of "
        f"{names[0] if len(names) == 1 else f'{len(names)} volumes'}, in "
        f"{format_seconds(record['seconds'])} on "
        f"{record['circumstances'].get('device', 'this machine')}."
    )


def _about_scores(run: Run) -> Markup:
    pooled = pool_scores(run)
    metrics = (m for m in LEADING if pooled and OURS in pooled.rows.get(m, {}))
    metric = next(metrics, None)
    if pooled is None or metric is None:
        return Markup("No annotated section was scored.")
    rows = dict(pooled.rows[metric])
    ours = rows.pop(OURS)
    is_held_out = not any(True for t in run["trained"] for _ in leaks(run, t))
    is_held_out &= all(map(_is_origin_known, run["trained"]))
    kind = (
        ("held-out " * is_held_out + "test") if pooled.role == "test" else "validation"
    )
    text = Markup("On {} of {} it scores <strong>{}</strong> in {}{}").format(
        count(ours["num_sections"], f"{kind} section"),
        pooled.where,
        format_score(shown_score(ours)),
        metric_label(metric),
        " on average" if pooled.volumes[1:] else "",
    )
    if ours["chosen"] and ours["chosen"]["threshold"] is not None:
        is_joined = any(training["members"] for training in run["trained"])
        text += Markup(", at the threshold {}{} that validation sections chose").format(
            format_threshold(ours["chosen"]["threshold"]),
            ", the median of those" * is_joined,
        )
    baselines = [
        f"{PREDICTORS.get(name, name)} {format_score(shown_score(row))}"
        for name, row in rows.items()
    ]
    if baselines:
        text += Markup(" (for comparison: {})").format(", ".join(baselines))
    return text + Markup(".")


def _about_results(run: Run) -> Markup:
    if not run["predicted"]:
        return Markup("")
    segmented = [p["segmentation"] for p in run["predicted"]]
    voxels = sum(prod(run["volumes"][p["volume"]]["shape"]) for p in run["predicted"])
    return Markup("{}, {} voxels, {} segmented into {}.").format(
        count(len({p["volume"] for p in run["predicted"]}), "volume"),
        in_words(voxels),
        "was" if len(segmented) == 1 else "were",
        count(sum(s["num_objects"] for s in segmented), "object"),
    )
