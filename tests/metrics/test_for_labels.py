"""The metric that suits annotations."""

import pytest

from unetpipe.metrics.for_labels import metric_for_labels


@pytest.mark.parametrize(
    ("counts", "has_ids", "cells", "metric"),
    [
        ([22, 78], False, 100.0, "v_rand"),  # neurites as a mask, membranes black
        ([22, 78], True, 100.0, "v_rand"),  # the same with ids
        ([91, 9], False, 40.0, "dice"),  # vessels
        ([90, 10], False, 8.0, "dice"),  # mitochondria
        ([40, 60], False, 1.0, "dice"),  # one organ that fills the section
        ([89, 11], True, 9.0, "f1"),  # nuclei
        ([40, 60], True, 1.0, "f1"),  # one large cell
        ([0, 100], True, 3.0, "seg"),  # sparse gold masks without background
        ([50, 30, 20], False, 5.0, "dice"),
        ([0, 0], True, 0.0, "seg"),
    ],
)
def test_the_metric_follows_from_what_the_labels_are(
    counts: list[int], has_ids: bool, cells: float, metric: str
) -> None:
    found = metric_for_labels(counts, has_ids=has_ids, cells_per_section=cells)
    assert found.metric == metric
    assert found.why
