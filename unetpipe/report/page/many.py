"""Of which volumes a page tells everything where they are many, and what of the others.

::

    results --worst_first--> the worst scored, ..., the best, those without scores
            --detailed-----> the first few of these, with pictures, charts and commands
            --list_results-> a line for each
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.metrics import TEST, Metrics, Row
from unetpipe.report.page.run import Result, Run
from unetpipe.report.page.text import HEADLINE, format_score

Shown = dict[str, Any]

MOST_DETAILED = 32  # predictions; lines of tables before the others are folded away


def is_many(count: int) -> bool:
    """Tell whether a page cannot tell everything of so many."""
    return count > MOST_DETAILED


def leading_row(metrics: Metrics | None) -> Row | None:
    """Return the row of the score that counts most, of test sections if there are any.

    None of a volume without scores.
    """
    if metrics is None:
        return None
    by_role = sorted(metrics.all_tables, key=lambda table: table.role != TEST)
    for metric in metrics.leading or HEADLINE:
        for table in by_role:
            row = table.ours.get(metric)
            if row is not None and row.score is not None:
                return row
    return None


def worst_first(results: Sequence[Result]) -> tuple[Result, ...]:
    """Return predictions by their leading score: tested ones before validated ones."""
    return tuple(sorted(results, key=_rank))


def _rank(result: Result) -> tuple[bool, bool, float, str]:
    row = leading_row(result.metrics)
    if row is None or row.score is None:
        return True, True, 0.0, result.volume
    sign = 1 if row.better == "higher" else -1
    return False, not result.tested, sign * row.score, result.volume


def detailed(run: Run) -> tuple[Result, ...]:
    """Return the predictions of which everything is shown."""
    return run.results[:MOST_DETAILED]


def list_results(run: Run) -> list[Shown]:
    """Return a line for each prediction, where not all are shown in detail."""
    return [_line(run, one) for one in run.results] if is_many(len(run.results)) else []


def _line(run: Run, result: Result) -> Shown:
    row, made = leading_row(result.metrics), result.segmentation
    voxels = prod(run.volumes[result.volume].shape)
    return {
        "volume": result.volume,
        "role": "" if row is None else "test" if result.tested else "validate",
        "score": "" if row is None else format_score(row.score),
        "metric": "" if row is None else plain_metric_name(row.metric),
        "num_objects": f"{made.num_objects:,}",
        "foreground": f"{100 * made.num_foreground_voxels / voxels:.1f}",
        "folder": str(result.folder),
    }
