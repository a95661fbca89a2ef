"""Scores of the Cell Tracking Challenge as py-ctcmetrics gives them."""

import contextlib
import io


def scores_of(result, gold, names):
    """Return scores by name, without what the library prints."""
    import ctc_metrics  # it brings scikit-learn: other tests need not wait

    with contextlib.redirect_stdout(io.StringIO()):
        return ctc_metrics.evaluate_sequence(
            str(result), str(gold), metrics=[*names, "Valid"], threads=1
        )
