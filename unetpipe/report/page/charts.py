"""Charts of what records hold: training, thresholds, calibration, sizes, seams."""

from collections.abc import Sequence

from markupsafe import Markup

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.metrics import OURS, Calibration, Curve, Metrics, Seams
from unetpipe.report.page.svg import (
    Estimate,
    Line,
    Mark,
    bar_chart,
    interval_chart,
    line_chart,
    thin,
)
from unetpipe.report.page.text import format_threshold
from unetpipe.training.history import HistoryRow

SHARES = ("v_rand", "v_info", "dice_class_1", "precision_class_1", "recall_class_1")
ERRORS = ("pixel_error", "rand_error", "warping_error")
LOOKS = {"z": "s2", "y": "s0", "x": "s1"}
NAMES = {"validate": "validation", "train": "training"}
MOST_CLASSES = 5
MOST_DOTS = 60
STEADY = 20  # steps from which on the first, huge losses no longer set the scale


def plot_training(
    history: Sequence[HistoryRow], *, metric: str, chosen: int
) -> list[Markup]:
    """Return charts of loss, validation score and learning rate over the steps.

    Parameters
    ----------
    history : list of HistoryRow
    metric : str
        Name of the validation score.
    chosen : int
        The step whose weights were kept.
    """
    losses = thin([(float(row.step), row.loss) for row in history])
    means = _running_mean([loss for _, loss in losses])
    smooth = [(x, y) for (x, _), y in zip(losses, means, strict=True)]
    steady = sorted(y for _, y in losses[len(losses) // STEADY :])
    top = 1.1 * steady[int(0.99 * (len(steady) - 1))] if steady else 1.0
    scores = [
        (float(row.step), row.validation)
        for row in history
        if row.validation is not None
    ]
    kept = [Mark(x, f"kept: step {chosen:,}", y) for x, y in scores if x == chosen]
    rates = thin([(float(row.step), row.learning_rate) for row in history])
    steps = (0.0, float(history[-1].step)) if history else None
    return [
        line_chart(
            "Training loss",
            [Line(losses, "mean of steps", "soft"), Line(smooth, "smoothed", "s0")],
            x_label="step",
            x=steps,
            y=(0.0, top) if top > 0 else None,
        ),
        line_chart(
            f"Validation: {metric}" if metric else "Validation",
            [Line(thin(scores), has_dots=len(scores) <= MOST_DOTS)],
            x_label="step",
            x=steps,
            marks=kept,
            note="no validation rows",
        ),
        line_chart("Learning rate", [Line(rates)], x_label="step", x=steps),
    ]


def plot_thresholds(metrics: Metrics, threshold: float | None) -> list[Markup]:
    """Return scores over thresholds of the leading role, marked where it was cut."""
    role = _leading_role(metrics)
    curves = {
        curve.metric: curve
        for curve in metrics.curves
        if curve.role == role and curve.predictor == OURS
    }
    charts = []
    used = (
        [Mark(threshold, f"used: {format_threshold(threshold)}")]
        if threshold is not None
        else []
    )
    for title, names in (("Scores", SHARES), ("Errors", ERRORS)):
        lines = [
            Line(_points(curves[name]), plain_metric_name(name), f"s{number}")
            for number, name in enumerate(names)
            if name in curves
        ]
        if lines:
            charts.append(
                line_chart(
                    f"{title} over thresholds, {role} sections",
                    lines,
                    x_label="threshold of the probability",
                    x=(0.0, 1.0),
                    y=(0.0, 1.0) if names is SHARES else None,
                    marks=used,
                )
            )
    return charts


def plot_calibration(metrics: Metrics) -> list[Markup]:
    """Return true against predicted frequency for each role, one line a class.

    The validation sections chose the threshold, so their curve flatters where the test
    sections differ; both are shown. They chose the temperature too, if there is one.
    """
    roles = dict.fromkeys(one.role for one in metrics.calibration)
    leading = _leading_role(metrics)
    ordered = sorted(roles, key=lambda role: role != leading)
    return [chart for role in ordered for chart in _plot_calibration(metrics, role)]


def _plot_calibration(metrics: Metrics, role: str) -> list[Markup]:
    of_role = [c for c in metrics.calibration if c.role == role]
    found = [c for c in of_role if c.temperature is None][:MOST_CLASSES]
    scaled = [c for c in of_role if c.temperature is not None]
    lines = [
        Line(
            [
                (p, s)
                for p, s in zip(c.probability, c.share, strict=True)
                if p is not None and s is not None
            ],
            _calibrated_as(c, len(found), is_scaled=bool(scaled)),
            f"s{number}",
            has_dots=True,
        )
        for number, c in enumerate([*found, *scaled])
    ]
    if not any(line.points for line in lines):
        return []
    before, after = (
        [c.expected_error for c in one if c.expected_error is not None]
        for one in (found, scaled)
    )
    told = f", error {max(before):.3f}" if before else ""
    told += f", scaled {max(after):.3f}" if after else ""
    return [
        line_chart(
            f"Calibration, {NAMES.get(role, role)}{told}",
            [Line([(0, 0), (1, 1)], "perfect", "soft"), *lines],
            x_label="predicted probability (up: share that is true)",
            x=(0.0, 1.0),
            y=(0.0, 1.0),
        )
    ]


def _calibrated_as(one: Calibration, num_classes: int, *, is_scaled: bool) -> str:
    if one.temperature is not None:
        return f"temperature {one.temperature:.2f}"
    if num_classes > 1:
        return f"class {one.class_}"
    return "as stored" if is_scaled else "network"


def plot_sizes(truth: Sequence[int], result: Sequence[int], where: str) -> list[Markup]:
    """Return how many true and found objects there are of each size."""
    octaves = [k for k, n in enumerate(zip(truth, result, strict=True)) if any(n)]
    if not octaves:
        return []
    shown = range(octaves[0], octaves[-1] + 1)
    return [
        bar_chart(
            f"Sizes of objects, {where}",
            [_octave(k) for k in shown],
            [
                ("true", [truth[k] for k in shown]),
                ("found", [result[k] for k in shown]),
            ],
            x_label="voxels, from",
        )
    ]


def plot_seams(seams: Seams) -> list[Markup]:
    """Return the mean jump near tile faces, and how faces compare with the inside.

    Dots are at the phase of the pooling grid that the faces have.
    """
    lines = []
    for axis, profile in seams.profiles.items():
        grid = seams.pooling_grid["zyx".index(axis)]
        jumps = list(zip(profile.distance, profile.jump, strict=True))
        same = [(float(d), jump) for d, jump in jumps if d % grid == 0]
        lines += [
            Line([(float(d), jump) for d, jump in jumps], look="soft"),
            Line(same, f"along {axis}", LOOKS[axis], has_dots=True),
        ]
    rows = [row for row in seams.rows if row.ratio is not None]
    return [
        line_chart(
            "Mean jump of probability",
            lines,
            x_label="voxels from the nearest tile face (dots: its phase)",
            marks=[Mark(0.0, "face")],
            note="one tile: no faces",
        ),
        interval_chart(
            "Across the face / inside",
            [
                Estimate(
                    f"{row.face} along {row.axis}, n = {row.n}",
                    row.ratio or 0.0,
                    row.interval,
                    LOOKS[row.axis],
                )
                for row in rows
            ],
            at=1.0,
            note="no faces to compare",
        ),
    ]


def _leading_role(metrics: Metrics) -> str:
    roles = [table.role for table in metrics.tables]
    return "test" if "test" in roles or not roles else str(roles[0])


def _points(curve: Curve) -> list[tuple[float, float]]:
    pairs = zip(curve.thresholds, curve.scores, strict=True)
    return thin([(t, s) for t, s in pairs if s is not None], most=64)


def _octave(k: int) -> str:
    size = 2**k
    return f"{size}" if size < 1024 else f"{size // 1024}k"


def _running_mean(values: Sequence[float]) -> list[float]:
    """Average over a centred window of a twentieth, shorter at both ends."""
    half = max(1, len(values) // 20) // 2
    return [
        sum(part) / len(part)
        for k in range(len(values))
        if (part := values[max(0, k - half) : k + half + 1])
    ]
