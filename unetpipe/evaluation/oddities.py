"""What of a volume's scores looks like a mistake, in sentences."""

from collections.abc import Iterator, Sequence

from unetpipe.metrics.choosing import notes_on_chosen_metric
from unetpipe.metrics.names import PREDICTORS, plain_metric_name
from unetpipe.records.metrics import OURS, ObjectTable, Row, Sizes, Table
from unetpipe.runtime.text import count_noun

# In which a network should beat whatever needs no training.
COMPARED = (
    *("v_rand", "v_info", "rand_error", "dice_mean", "dice_class_1"),
    *("f1", "average_precision", "ctc_seg", "ctc_det"),
)
# Objects of a bin so far above that of the largest true one are 8 times as large.
FAR_DOUBLINGS = 4
# A map of foreground alone that scores so much: cells as drawn leave nothing between.
ALL_FOREGROUND = 0.95


def find_oddities(
    tables: Sequence[Table], objects: Sequence[ObjectTable]
) -> tuple[str, ...]:
    """Return what is odd about the scores of one network on one volume.

    Parameters
    ----------
    tables, objects : sequences of tables
        Scores of voxels and of objects, of every role.
    """
    found = [*_below_baselines((*tables, *objects))]
    for table in (*tables, *objects):
        found += _never_predicted(table, f"the {table.role} sections")
    for of_role in objects:
        sizes = of_role.sizes[OURS]
        found += notes_on_chosen_metric(
            sum(sizes.result), sum(sizes.truth), f"the {of_role.role} sections"
        )
        found += _far_too_large(sizes, f"the {of_role.role} sections")
    return tuple(found)


def _far_too_large(sizes: Sizes, where: str) -> Iterator[str]:
    """Say that objects are found that no true one comes near: sizes are doublings."""
    true = [k for k, number in enumerate(sizes.truth) if number]
    large = sum(sizes.result[true[-1] + FAR_DOUBLINGS :]) if true else 0
    if large:
        yield (
            f"{count_noun(large, 'object')} in {where} of {2 ** (FAR_DOUBLINGS - 1)} "
            "times the size of any annotated one, or more: background that is taken "
            "for objects, or many that run together; look at them, raise "
            "segmentation.threshold, or annotate such places"
        )


def _below_baselines(tables: Sequence[Table]) -> Iterator[str]:
    """Say for each role, in a sentence, in which scores a baseline is better."""
    for role in dict.fromkeys(table.role for table in tables):
        lost = [text for t in tables if t.role == role for text in _losses(t)]
        if lost:
            yield (
                f"in the {role} sections methods that need no training beat the "
                f"network: {'; '.join(lost)}; train longer, look at the probabilities "
                "and the threshold, or annotate more"
            )


def _losses(table: Table) -> Iterator[str]:
    for metric in COMPARED:
        ours = table.ours.get(metric)
        if ours is None or ours.score is None:
            continue
        others = [row for row in table.rows if _beats(row, ours)]
        if "v_rand" in table.ours:  # which tells more where there is no background
            others = [row for row in others if not _is_all_foreground(row)]
        if others:
            sign = 1 if ours.better == "higher" else -1
            best = max(others, key=lambda row: sign * (row.score or 0.0))
            yield (
                f"{PREDICTORS.get(best.predictor, best.predictor)} has "
                f"{plain_metric_name(metric)} {best.score:.3f}, the network "
                f"{ours.score:.3f}"
            )


def _beats(row: Row, ours: Row) -> bool:
    if row.metric != ours.metric or row.predictor == OURS:
        return False
    if row.score is None or ours.score is None:
        return False
    gained = row.score - ours.score
    return gained > 0 if ours.better == "higher" else gained < 0


def _is_all_foreground(row: Row) -> bool:
    return row.predictor == "constant" and (row.score or 0.0) > ALL_FOREGROUND


def _never_predicted(table: Table, where: str) -> Iterator[str]:
    for metric, row in table.ours.items():
        name, _, class_ = metric.rpartition("_")
        if name == "recall_class" and class_ != "0" and row.score == 0:
            yield f"class {class_} is annotated in {where} and never predicted there"
